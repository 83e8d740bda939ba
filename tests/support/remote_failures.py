"""Functions that fail in odd ways, for nodes of every Python."""
# ruff: noqa: F821
import threading
import time

BEGUN = threading.Event()


class Liar(Exception):
    """Everything that is asked of it ends the program, or tries to."""

    def __str__(self):
        raise SystemExit("str")

    __unicode__ = __repr__ = __str__

    @property
    def args(self):
        raise SystemExit("args")

    @property
    def errno(self):
        raise SystemExit("errno")

    __cause__ = 7
    exceptions = ("these", "are", "none")


class Meta(type):
    """A class that lies about itself."""

    @property
    def __mro__(cls):
        raise SystemExit("mro")

    @property
    def __module__(cls):
        raise SystemExit("module")

    def __instancecheck__(cls, other):
        raise SystemExit("isinstance")


LyingClass = Meta("LyingClass", (Exception,), {})


class Unportable(object):
    """Raises whatever is asked of it."""

    def __repr__(self):
        raise SystemExit("repr")

    def __reduce__(self):
        raise SystemExit("reduce")

    @property
    def __class__(self):
        raise SystemExit("class")

    def __getattr__(self, name):
        raise KeyboardInterrupt(name)


def raise_liar():
    raise Liar("x")


def raise_lying_class():
    raise LyingClass("x")


def raise_group():
    inner = ExceptionGroup("inner", [KeyError("k")])
    error = ExceptionGroup("many", [ValueError(1), FileNotFoundError(2, "gone", "/f"), inner])
    error.add_note("a note")
    raise error


def raise_base_group():
    raise BaseExceptionGroup("fatal", [KeyboardInterrupt(), SystemExit(3)])


def raise_base(name):
    raise {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit, "GeneratorExit": GeneratorExit}[name]("why")


def unportable():
    return [Unportable()]


def generator():
    yield 1


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def noted():
    error = ValueError("outer")
    error.__notes__ = ["one", "two"]
    raise error


class Circles(object):
    """A service that raises them."""

    def one(self):
        raise_circle()

    def many(self):
        return yield_circle()


class Unheard(Exception):
    """Holds what its program knows, and what that doesn't."""

    reason = known = signal = own = None


def raise_around():
    """As urllib does: around an exception of a module that the program may not have sent."""
    import datetime
    import signal
    import socket
    reason = socket.gaierror(-2, "no such name")
    error = Unheard(reason, datetime.date(2020, 2, 29))
    error.reason, error.known = reason, ValueError("known")
    error.signal = getattr(signal, "Signals", int)(15)      # an enum's member
    error.own = Unheard("inside")
    error.__cause__ = reason
    raise error


def yield_around():
    yield 1
    raise_around()


class Around(object):
    """A service that does so."""

    def one(self):
        raise_around()

    def many(self):
        return yield_around()


def around_below(id):
    """The same from a node below this one, as what it holds here."""
    import ramet
    try:
        ramet.here().peer(id).call(raise_around)
    except ramet.RemoteError as error:
        assert not isinstance(error, ramet.ValueNotPortableError), str(error)
        return [error.type_name, "in raise_around" in error.traceback_text, [str(arg) for arg in error.args]]


def raise_circle():
    """Before 3.9 the interpreter goes round in it when anything is raised while it is being handled."""
    one, two, three = ValueError("one"), KeyError("two"), TypeError("three")
    one.__context__, two.__context__, three.__context__ = two, three, two
    raise one


def yield_circle():
    yield 1
    raise_circle()


def raise_circle_when_cancelled():
    try:
        BEGUN.set()
        while True:
            time.sleep(0.01)
    except BaseException:
        pass
    raise_circle()


def has_begun():
    return BEGUN.wait(60)
