"""``ramet.here()``: what code in a node sees of the tree. Late part of the kernel, for every Python.

Calls go down only: a node may call functions in itself and in nodes below it. They carry what the call has left in which they
are made: its time, and the lanes that wait for it; and they end with it. Any thread; ``call`` and ``result`` block.
"""

from ramet.kernel import cancelling, circles, compat, descent, lanes, remote_errors, values
from ramet.kernel import core as core_module
from ramet.kernel.calls import COROUTINE
from ramet.kernel.errors import CallCancelled, CallTimeout, Error, NodeLostError, ServiceError
from ramet.kernel.errors import ValueNotPortableError as NotPortable
from ramet.kernel.frames import DEAD, ERROR
from ramet.kernel.handles import ITSELF
from ramet.kernel.peer_calls import Loopback, PeerCall, chain_of, encoded
from ramet.kernel.proxies import NONE, SERVICE, ServiceProxy

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

class Peer(object):
    """Another node, as seen from this one; or this one itself, for calls into its other lanes."""

    def __init__(self, node, id, name="", options=None):
        # type: (Any, int, str, Optional[Dict[str, Any]]) -> None
        self._node = node
        self._options = options or {}
        self.id = id
        self.name = name or "node %d" % id

    def options(self, timeout=None, lane=None):
        # type: (Optional[float], Optional[str]) -> Peer
        """The same node, with options for the calls that are made through what is returned. As ``Node.options``."""
        if timeout is not None and not timeout > 0:
            raise ValueError("timeout must be a number of seconds above 0, not %r" % (timeout,))
        new = dict(self._options)
        new.update([(key, value) for key, value in (("timeout", timeout), ("lane", lane)) if value is not None])
        return Peer(self._node, self.id, self.name, new)

    def call(self, fn, *args, **kwargs):
        # type: (Callable[..., Any], *Any, **Any) -> Any
        """Run a function there and wait for its result. Only in this node and below: elsewhere it is refused by who is called.

        Its time is bounded by what is left of the call in which this is called; that one's end is its end, too.

        Raises:
            What ``PeerCall.result`` raises. DeadlockError: the lane over there waits for this very call.
        """
        job = cancelling.current_job(self._node.calls)
        flow = lanes.flow_of(lane_of(fn, self._options))
        if job and flow != lanes.ANY_FLOW:
            circles.check(job, self.id, flow)
        return self._start(fn, args, kwargs, job, chain_of(job)).result()

    def start(self, fn, *args, **kwargs):
        # type: (Callable[..., Any], *Any, **Any) -> PeerCall
        """Run a function there. Returns at once; ends with the call in which this is called, if that is cancelled."""
        return self._start(fn, args, kwargs, cancelling.current_job(self._node.calls), [])

    def cast(self, fn, *args, **kwargs):
        # type: (Callable[..., Any], *Any, **Any) -> None
        """Run a function there; nothing comes back."""
        lane = lane_of(fn, self._options)
        options = {"lane": lane} if lane else {}
        self._node.core.send(self._address(), core_module.CALL, encoded([_name(fn)], args, kwargs, options), 0, 0,
                             lanes.flow_of(lane))

    def _start(self, fn, args, kwargs, job, chain):
        # type: (Callable[..., Any], Any, Any, Any, List[Any]) -> PeerCall
        lane = lane_of(fn, self._options)
        seconds, given = self._time(job)
        options = {"lane": lane, "timeout": seconds, "chain": chain}
        options = dict([(key, value) for key, value in options.items() if value])
        call = PeerCall(self, encoded([_name(fn)], args, kwargs, options), lanes.flow_of(lane), seconds, given)
        call._chain = chain
        return call

    def _time(self, job):
        # type: (Any) -> Any
        """The seconds that a call may take, or None; and those that it was given, or None if its caller hasn't more left."""
        given = self._options.get("timeout")
        left = job.left() if job else None
        seconds = given if left is None else left if given is None else min(left, given)
        if seconds is not None and seconds <= 0:
            raise CallTimeout("no time is left for a call in %s: its caller has used up its own" % self.name)
        return seconds, given if seconds == given else None

    def _address(self):
        # type: () -> int
        if self.id != self._node.core.id:
            return self.id
        self._node.core.routes.down.setdefault(ITSELF, Loopback(self._node.core))
        return ITSELF

    def service(self, name):
        # type: (str) -> Any
        """A service of that node: an object whose methods are requests to it, which block. What one yields comes as a stream.

        Requests raise RemoteError: what the method raised. ServiceError: there is no such service for this node, or it is busy.
        NodeLostError: that node is gone, or this tree lets nodes talk up and down only. CallTimeout: as ``options(timeout=)``
        says, or the call in which this is called. DeadlockError: the service waits for this very call.
        """
        def request(method, args, kwargs):
            # type: (Any, Any, Any) -> Any
            return self._serve([name, method], args, kwargs)
        return ServiceProxy(name, self.name, request)

    def _serve(self, asked, args, kwargs):
        # type: (List[Any], Any, Any) -> Any
        """Ask a service of that node, and wait."""
        job = cancelling.current_job(self._node.calls)
        ends = job is not None and job.cancelled    # what it asks for to clean up goes on
        seconds, given = self._time(job)
        chain = chain_of(job)
        options = {"timeout": seconds, "chain": chain}
        options = dict([(key, value) for key, value in options.items() if value])
        request = PeerCall(self, encoded(asked, args, kwargs, options), 0, seconds, given, SERVICE)
        request._chain = chain
        reply = self._answer_of(request)
        from ramet.kernel import results, streams
        number = results.stream_number(reply)
        if number is None:
            return reply[0]

        def why(reason):
            # type: (Any) -> Error
            return NodeLostError("%s doesn't answer: %s" % (self.name, bytes(reason).decode("utf-8", "replace")))
        ours, at_end = streams.of(self._node.core), []  # type: Any, List[Callable[[], Any]]
        stream = results.ResultStream(
            results.intake_of(ours, self._address(), number, self._node.context(self.id), why, at_end), request._handle)

        def stop():
            # type: () -> None
            stream.intake.stop(CallCancelled("the call that reads this stream was cancelled"))  # not as if it were all
        at_end.append(cancelling.register(None if ends else job, stop))
        stream.intake.grant()
        return stream

    def _ask(self, handle, value):
        # type: (int, Any) -> Any
        """Ask that node's kernel for something, and wait."""
        return self._answer_of(PeerCall(self, values.encode(value), handle=handle))

    def _answer_of(self, request):
        # type: (PeerCall) -> Any
        request.wait()
        flags, body = request._answer[0]
        if isinstance(body, Error):     # its time was up
            raise body
        if flags & DEAD:
            if bytes(body) == NONE:
                raise ServiceError("%s has no services" % self.name)
            raise NodeLostError("%s doesn't answer: %s" % (self.name, bytes(body).decode("utf-8", "replace")))
        said = values.decode(body, self._node.context(self.id))
        if flags & ERROR:
            raise remote_errors.unpack(said, self.name)
        return said

    def __repr__(self):
        # type: () -> str
        return "<Peer %d %s>" % (self.id, self.name)


def lane_of(fn, options):
    # type: (Any, Dict[str, Any]) -> str
    """The lane in which a function runs; "" is the main one."""
    code = getattr(fn, "__code__", None)
    return options.get("lane") or (lanes.ASYNCIO if code and code.co_flags & COROUTINE else "")


class Here(object):
    """This node.

    Attributes:
        id, name: of this node.
        itself: this node as a Peer, for calls into its other lanes.
        parent, controller: Peers above it.
    """

    def __init__(self, node):
        # type: (Any) -> None
        self._node = node
        if not node.core.descendants:
            descent.Losses(node.core)       # so that it hears of the loss of those that it talks to
        self.id = node.core.id
        self.name = node.name
        self.itself = Peer(node, self.id, self.name)
        self.parent = Peer(node, node.core.routes.ancestors[0])
        self.controller = Peer(node, 0, "controller")

    def channel(self, size=1000):
        # type: (int) -> Any
        """Make a channel, held by this node: see ``channels.Channel``.

        Args:
            size: how many items it holds before who sends waits.
        """
        from ramet.kernel import channels
        return channels.of(self._node.core).open(size)

    def peer(self, id):
        # type: (int) -> Peer
        """Any node, by its id."""
        return Peer(self._node, id)

    def local(self, **options):
        # type: (**Any) -> Peer
        """Grow a child on this machine; waits until it is up. Options as for ``Node.local``."""
        return self._wish("local", options)

    def ssh(self, host, **options):
        # type: (str, **Any) -> Peer
        """Grow a child on another host, by the OpenSSH program of this machine. Options as for ``Node.ssh``."""
        return self._wish("ssh", dict(options, host=host))

    def grow(self, connector, **options):
        # type: (str, **Any) -> Peer
        """Grow a child by any of ramet's connectors, "sudo" say; waits until it is up. Options as for its ``plan``, by name."""
        return self._wish(connector, options)

    def serve(self, name, thing, allow, **options):
        # type: (str, Any, Any, **Any) -> None
        """Let other nodes call methods of an object. Options as for ``Node.serve``."""
        from ramet.kernel import services
        services.serve(self._node, name, thing, services.ids_of(allow), **options)

    def withdraw(self, name):
        # type: (str) -> None
        """Serve it no longer. Raises KeyError."""
        from ramet.kernel import services
        services.of_node(self._node).remove(name)

    def _wish(self, connector, options):
        # type: (str, Dict[str, Any]) -> Peer
        id, name = self.controller._ask(core_module.WISH, [connector, options])
        return Peer(self._node, id, name)

    def __repr__(self):
        # type: () -> str
        return "<ramet.here(): node %d %s>" % (self.id, self.name)


def _name(fn):
    # type: (Any) -> str
    name = getattr(fn, "__qualname__", getattr(fn, "__name__", "<"))
    module = fn.__module__
    if "<" in name or module is None:
        raise NotPortable("%r can't be found by name in another interpreter: give a function of a module" % (fn,))
    return "%s:%s" % ("__main__" if module == compat.MAIN else module, name)
