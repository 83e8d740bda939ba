"""Objects to be served by nodes, and what uses them from others."""
import threading

import ramet

GATE = threading.Event()
RAN = []


class Shelf(object):
    """Holds things."""

    def __init__(self):
        self.things = {"tea": 3}
        self._secret = "hidden"

    def find(self, name, otherwise=None):
        """How many there are."""
        return self.things.get(name, otherwise)

    def put(self, name, count):
        self.things[name] = count

    def fail(self, text):
        raise KeyError(text)

    def slow(self, number):
        RAN.append(number)
        assert GATE.wait(30)
        return len(RAN)

    def running(self):
        return len(RAN)

    def unportable(self):
        return threading.Lock()

    def exit(self):
        raise SystemExit("enough")

    def _private(self):
        return self._secret

    def ordered(self, number):
        RAN.append(("begin", number))
        threading.Event().wait(0.01)
        RAN.append(("end", number))

    def what_ran(self):
        return list(RAN)


def stocked(count):
    """An instance that is made over there."""
    shelf = Shelf()
    shelf.things["tea"] = count
    return shelf


def open_gate():
    GATE.set()


def serve_it(name, allow):
    ramet.here().serve(name, Shelf(), allow)
    return ramet.here().id


def ask(id, service, method, *args):
    """What a node gets that asks another one."""
    return getattr(ramet.here().peer(id).service(service), method)(*args)


def try_asking(id, service, method, *args):
    try:
        return ask(id, service, method, *args)
    except ramet.Error as error:
        return "%s: %s" % (type(error).__name__, error)


def try_asking_the_controller(service, method, *args):
    try:
        return ramet.here().controller.service(service)._request(method, args, {})
    except ramet.Error as error:
        return "%s: %s" % (type(error).__name__, error)


def looks(id, service):
    """dir and help of a service, as another node sees them."""
    there = ramet.here().peer(id).service(service)
    return dir(there), there.find.__doc__, str(there.find.__signature__)


def places_of_what_can_not_travel():
    """What a node's calls and requests say of it, where it is an argument: there it is [2], and a request's [3]."""
    here, lock = ramet.here().itself.options(lane="other"), threading.Lock()
    asks = [lambda *args, **kwargs: here.call(repr, *args, **kwargs), lambda *args, **kwargs: here.start(repr, *args, **kwargs),
            lambda *args, **kwargs: here.cast(repr, *args, **kwargs), here.service("shelf").find]
    found = []
    for ask in asks:
        for args, kwargs in (([1, 2, [1, {"a": lock}]], {}), ([[1, 2, 3, lock]], {}), ([], {"key": [lock]}), ([lock], {})):
            try:
                ask(*args, **kwargs)
            except TypeError as error:
                found.append(str(error).split(":")[0])
    return found
