"""Exceptions of the program's own, for every Python from 2.7 on."""


class OutOfStock(LookupError):
    """One that holds more than its arguments, and wants two."""

    made = []

    def __init__(self, item, left):
        LookupError.__init__(self, "%s: %d left" % (item, left))
        self.item = item
        self.left = left
        self.shelf = object()       # can't travel: arrives as its text
        self.made.append(item)


class Closed(OutOfStock):
    """Below one of one's own."""


class Hooked(ValueError):
    """One that wants to know of its subclasses: that would be code of the program's, run by whoever is below."""

    known = []

    def __init_subclass__(cls, **kwargs):
        Hooked.known.append(cls.__name__)


class Leaving(StopIteration):
    """Never mixed in: it would end somebody's loop."""


class Group(OSError):
    """With an odd layout."""


class Tight(Exception):
    """Holds what it holds in slots, and one thing beside them."""

    __slots__ = ("code", "shelf", "__secret", "description", "unset")

    def __init__(self, code):
        Exception.__init__(self, "tight")
        self.code = code
        self.shelf = object()       # can't travel: arrives as its text
        self.__secret = [1, {"deep": code}]
        self.description = "its own"
        self.beside = "not in a slot"

    def secret(self):
        return self.__secret


class Tighter(Tight):
    """Has a slot more, and one again that is there already."""

    __slots__ = ("reason", "code")

    def __init__(self, code):
        Tight.__init__(self, code)
        self.reason = "none"


class Watched(Tight):
    """Hides a slot behind a property, and wants to know of whatever is set."""

    ran = []

    @property
    def code(self):
        return "by the property"

    @code.setter
    def code(self, value):
        self.ran.append(value)

    def __setattr__(self, name, value):
        self.ran.append(name)
        Exception.__setattr__(self, name, value)


class Shop(object):
    """Holds one inside."""

    class Burnt(Exception):
        """Found by its qualified name."""


def raise_one(name):
    if name == "OutOfStock" or name == "Closed":
        raise globals()[name]("tea", 0)
    if name in ("Tight", "Tighter", "Watched"):
        raise globals()[name](7)
    if name == "Group":
        raise Group(2, "gone", "/shelf")
    if name == "Burnt":
        raise Shop.Burnt("down")
    if name == "chain":
        try:
            raise_one("Closed")
        except OutOfStock as error:
            outer = Shop.Burnt("outer")
            outer.__cause__ = error
            raise outer
    raise globals()[name](name)


def raise_ours(name, text):
    """Raise one of ramet's own, as a function that calls ramet may do."""
    import ramet
    raise getattr(ramet, name)(text)


def raise_connect_error():
    import ramet
    error = ramet.HostKeyError("it has changed", "authenticate", "the last line")
    error.command, error.status, error.remedy = "ssh web1", 255, "look at it"
    raise error


def raise_below(id, name, *args):
    """The same in a node below this one, whose error isn't caught here."""
    import ramet
    peer = ramet.here().peer(id)
    return peer.call(globals()[name], *args)


def raise_own_busy():
    import ramet

    class Mine(ramet.BusyError):
        pass
    raise Mine("of a class of its own")


def wait_for_itself():
    """A call of its own lane."""
    import os

    import ramet
    return ramet.here().itself.call(os.getpid)


def raise_missing(path):
    with open(path):
        pass


def caught_as_ioerror(id, path):
    """On 2.7 that is another class than OSError."""
    try:
        raise_below(id, "raise_missing", path)
    except IOError as error:
        return error.filename == path
