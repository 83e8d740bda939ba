"""Objects whose methods yield, take their time or ask on, to be served by nodes; loads on 2.7."""
import threading
import time

import ramet
from support.remote_streams import LOG, noted, wait_for  # noqa: F401

GATE = threading.Event()


class Source(object):
    """Yields, and waits."""

    def rows(self, to, size=0):
        """So many numbers."""
        for n in range(to):
            yield (n, b"x" * size) if size else n

    def noted(self, to, fail_at=-1, size=0):
        return noted(to, fail_at, size)

    def unportable(self):
        yield 1
        yield GATE

    def spin(self, tag=0):
        """At its work until it is interrupted."""
        LOG.append(["begun", tag])
        try:
            while not GATE.is_set():
                time.sleep(0.001)
            return tag
        finally:
            LOG.append(["ended", tag])

    def spinning_rows(self):
        yield 1
        self.spin()

    def in_lane(self, to):
        for n in range(to):
            LOG.append(n)
            yield n

    def plain_in_lane(self):
        LOG.append("plain")
        return list(LOG)

    def log(self):
        return list(LOG)

    def wait_for(self, entry):
        return wait_for(entry)

    def iterator(self):
        return iter([1, 2])

    def channel(self):
        return ramet.here().channel()

    # Asks on, in a circle.

    def again(self, id, name, method, *args):
        """Ask a service of a node again, of which this may be one."""
        return getattr(ramet.here().peer(id).service(name), method)(*args)

    def same(self, id, name):
        """Ask for just the same."""
        return ramet.here().peer(id).service(name).same(id, name)

    def start_down(self, id, lane=None, waits=True):
        """Like ``call_down``, in two steps."""
        peer = ramet.here().peer(id)
        call = peer.options(lane=lane).start(one)
        return call.result() if waits else call.done()

    def call_down(self, id, lane=None):
        return ramet.here().peer(id).options(lane=lane).call(one)

    def noted_down(self, id):
        LOG.append("asked")
        return self.call_down(id)

    def rows_from_below(self, id):
        yield 0
        yield ramet.here().peer(id).call(one)

    def time_left(self, id):
        """How a call below ends that would last for ever."""
        return ramet.here().peer(id).call(spin_here)


def askers_of(name):
    """How many wait for what runs of a service of this node."""
    from ramet.kernel import services, start
    ours = services.of_node(start.node)
    return sum([len(request.askers) for request in list(ours.served[name].twins.values())])


def accounts():
    """What this node's services keep of requests, and for how many nodes they look out."""
    from ramet.kernel import services, start
    ours = services.of_node(start.node)
    return [len(ours.asked), len(ours.running), ours.streams, len(ours.watches)]


def one():
    return 1


def spin_here():
    return Source().spin("below")


def clear():
    del LOG[:]
    GATE.clear()


def open_gate():
    GATE.set()


def ask(id, service, method, *args):
    return getattr(ramet.here().peer(id).service(service), method)(*args)


def start_asking(lane, *args):
    """The same in another lane of this node, and wait for that."""
    return ramet.here().itself.options(lane=lane).start(ask, *args).result()


def wait_when_asked(lane, id, below):
    """The same, and wait for it only when the service is at its work: so it began when nobody waited."""
    call = ramet.here().itself.options(lane=lane).start(ask, id, "source", "noted_down", below)
    while "asked" not in ask(id, "source", "log"):
        time.sleep(0.005)
    return call.result()


def call_main():
    """Call into the main lane of this node."""
    return ramet.here().itself.call(one)


def read(id, service, method, *args):
    """All that comes, and what the generator returned."""
    stream = ask(id, service, method, *args)
    return list(stream), stream.value


def read_some(id, service, count, *args):
    with ask(id, service, "noted", *args) as stream:
        return [next(stream) for _ in range(count)]


def how_it_ends(id, service, method, *args):
    """The items, and what ended them."""
    got = []
    try:
        for item in ask(id, service, method, *args):
            got.append(item)
    except Exception as error:
        return got, "%s: %s" % (type(error).__name__, error)
    return got, ""


def try_asking(id, service, method, *args):
    try:
        return ask(id, service, method, *args)
    except ramet.Error as error:
        return "%s: %s" % (type(error).__name__, error)


def ask_within(seconds, id, service, method, *args):
    try:
        return getattr(ramet.here().peer(id).options(timeout=seconds).service(service), method)(*args)
    except ramet.Error as error:
        return "%s: %s" % (type(error).__name__, error)
