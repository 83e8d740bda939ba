"""``ramet.here()``: what code in a node sees of the tree. Late part of the kernel, for every Python.

Calls go down only: a node may call functions in itself and in nodes below it. They carry what the call has left in which they
are made: its time, and the lanes that wait for it; and they end with it. Any thread; ``call`` and ``result`` block.
"""

from ramet.kernel import cancelling, compat, descent, fragments, frames, jobs, lanes, limits, remote_errors, values
from ramet.kernel import core as core_module
from ramet.kernel.calls import COROUTINE
from ramet.kernel.errors import CallCancelled, CallTimeout, Error, NodeLostError, ProtocolError, ServiceError
from ramet.kernel.errors import ValueNotPortableError as NotPortable
from ramet.kernel.frames import DEAD, ERROR
from ramet.kernel.proxies import NONE, SERVICE, ServiceProxy

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

# Stands for this node where it sends to itself: no node has this number.
ITSELF = 0xFFFFFFFF


class Loopback(object):
    """The link to this node itself, for calls of its own functions into its lanes. Only this node's frames get through."""

    dead = False
    borrower = None
    borrow = staticmethod(lambda waiter: False)     # nothing is read here

    def __init__(self, core):
        # type: (Any) -> None
        self.core = core

    def send(self, _, flags, sent, later=False):
        # type: (Any, int, Any, bool) -> None
        """Deliver a frame, or a long message (``fragments.Outgoing``) at once."""
        core = self.core
        if isinstance(sent, bytes):
            _, flags, flow, _, src, _, handle, reply_to, _ = frames.unpack_header(sent)
            body = sent[frames.HEADER_BYTES:]
        elif isinstance(sent, fragments.Outgoing):
            flow, _, src, _, handle, reply_to = sent.fields
            body = b"".join([piece.tobytes() for piece, _ in reversed(sent.pieces)])
        else:
            src = -1
        if src != core.id:
            core.refused += 1       # of a node below, which knows this node's number for itself
        elif handle >= limits.first_free_handle:
            core.resolve(handle, flags & ERROR, body)
        else:
            core.handlers[handle](core_module.Message(ITSELF, core.id, handle, reply_to, flow, self, body))


class PeerCall(object):
    """A call that code in a node has made.

    Attributes:
        peer: where it runs.
    """

    def __init__(self, peer, body, flow=0, seconds=None, given=None, handle=core_module.CALL):
        # type: (Peer, List[Any], int, Optional[float], Optional[float], int) -> None
        self.peer = peer
        self._given = given     # the timeout that it was given, or None: its caller has one
        node = peer._node
        self._core = node.core
        self._answer = []  # type: List[Any]
        self._waiters = []  # type: List[Any]
        self._job = cancelling.current_job(node.calls)
        self._lane = flow if handle == core_module.CALL and flow != lanes.ANY_FLOW else None     # which may be waiting for us
        self._end = None if seconds is None else compat.monotonic() + seconds
        left = self._job.leave() if self._job else False
        try:
            self._handle = self._core.ask(peer._address(), handle, body, self._done, 0, flow)
            if self._job and not self._answer and handle in (core_module.CALL, SERVICE):
                self._job.nested[self._handle] = peer._address()
        finally:
            if self._job:
                self._job.back(left)

    def _done(self, flags, body):
        # type: (int, Any) -> None
        self._answer.append((flags, body))
        for waiter in self._waiters:
            waiter.wake()

    def done(self):
        # type: () -> bool
        """Whether it was answered, or ended from here."""
        return bool(self._answer)

    def cancel(self):
        # type: () -> bool
        """Stop the work over there. Returns False if the call was answered already."""
        return self._stop("cancelled", CallCancelled("the call in %s was cancelled" % self.peer.name))

    def _stop(self, how, error):
        # type: (str, Error) -> bool
        if self._answer:
            return False
        self._answer.append((how, error))
        self._core.tell(self.peer._address(), core_module.CANCEL, [self._handle])
        for waiter in self._waiters:
            waiter.wake()
        return True

    def result(self, timeout=None):
        # type: (Optional[float]) -> Any
        """Wait for the result.

        Args:
            timeout: seconds to wait at most. ``options(timeout=)`` bounds the work.

        Raises:
            RemoteError: what the function raised. NodeLostError: the node can't answer.
            CallTimeout: the work, or this wait, took too long. ProtocolError: that node isn't below this one.
            DeadlockError: the lane over there waits for the call in which this is called.
        """
        self.wait(timeout)
        return self._value()

    def wait(self, timeout=None):
        # type: (Optional[float]) -> None
        """Wait for the answer. Raises CallTimeout."""
        core, job, waiter = self._core, self._job, self._core.waiter()
        if job is not None and job is not cancelling.current_job(self.peer._node.calls):
            job = None      # another thread waits
        if job and self._lane is not None and not self._answer and timeout != 0:
            jobs.check_cycle(job.chain, self.peer.id, self._lane)
        left = job.leave() if job else False
        end = None if timeout is None else compat.monotonic() + timeout
        ends = [at for at in (self._end, end) if at is not None]
        try:
            self._waiters.append(waiter)
            if job:
                job.waiter = waiter
            seconds = max(0, min(ends) - compat.monotonic()) if ends else None
            address = self.peer._address()
            link = None if address == ITSELF else core.routes.link_to(address)
            core.wait(lambda: self._answer or job and job.cancelled, link, seconds)
            self._waiters.remove(waiter)
            if job:
                if self._answer:
                    job.nested.pop(self._handle, None)
                elif job.cancelled:
                    job.raise_now()
        finally:
            if job:
                job.back(left)
        if not self._answer:
            if self._end is None or end is not None and end < self._end:
                raise CallTimeout("no result from %s within %g s; the work goes on" % (self.peer.name, timeout or 0))
            self._stop("timeout", CallTimeout(
                "the call in %s took longer than %s and was ended" % (self.peer.name, "its timeout of %g s" % self._given
                                                                      if self._given else "what its caller had left")))

    def _value(self):
        # type: () -> Any
        flags, body = self._answer[0]
        if isinstance(body, Error):
            raise body
        if flags & DEAD:
            text = bytes(body).decode("utf-8", "replace")
            kind = ProtocolError if text.startswith("refused: ") else NodeLostError
            raise kind("%s doesn't answer: %s" % (self.peer.name, text))
        if flags & ERROR:
            raise remote_errors.unpack(values.decode(body), self.peer.name)
        return values.decode(body, self.peer._node.context(self.peer.id))

    def __repr__(self):
        # type: () -> str
        return "<PeerCall in %s: %s>" % (self.peer.name, "done" if self._answer else "running")


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
        chain = job.chain if job else []
        self._check_cycle(chain)
        return self._start(fn, args, kwargs, job, chain).result()

    def start(self, fn, *args, **kwargs):
        # type: (Callable[..., Any], *Any, **Any) -> PeerCall
        """Run a function there. Returns at once; ends with the call in which this is called, if that is cancelled."""
        return self._start(fn, args, kwargs, cancelling.current_job(self._node.calls), [])

    def cast(self, fn, *args, **kwargs):
        # type: (Callable[..., Any], *Any, **Any) -> None
        """Run a function there; nothing comes back."""
        lane = lane_of(fn, self._options)
        options = {"lane": lane} if lane else {}
        self._node.core.send(self._address(), core_module.CALL, values.encode([_name(fn), list(args), kwargs, options]), 0, 0,
                             lanes.flow_of(lane))

    def _start(self, fn, args, kwargs, job, chain):
        # type: (Callable[..., Any], Any, Any, Any, List[Any]) -> PeerCall
        lane = lane_of(fn, self._options)
        seconds, given = self._time(job)
        options = {"lane": lane, "timeout": seconds, "chain": chain}
        options = dict([(key, value) for key, value in options.items() if value])
        return PeerCall(self, values.encode([_name(fn), list(args), kwargs, options]), lanes.flow_of(lane), seconds, given)

    def _time(self, job):
        # type: (Any) -> Any
        """The seconds that a call may take, or None; and those that it was given, or None if its caller hasn't more left."""
        given = self._options.get("timeout")
        left = job.left() if job else None
        seconds = given if left is None else left if given is None else min(left, given)
        if seconds is not None and seconds <= 0:
            raise CallTimeout("no time is left for a call in %s: its caller has used up its own" % self.name)
        return seconds, given if seconds == given else None

    def _check_cycle(self, chain):
        # type: (List[Any]) -> None
        """Raise DeadlockError if the lane is one that waits."""
        flow = lanes.flow_of(self._options.get("lane") or "")
        if flow != lanes.ANY_FLOW:
            jobs.check_cycle(chain, self.id, flow)

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
            return self._serve([name, method, list(args), kwargs])
        return ServiceProxy(name, self.name, request)

    def _serve(self, asked):
        # type: (List[Any]) -> Any
        """Ask a service of that node, and wait."""
        job = cancelling.current_job(self._node.calls)
        seconds, given = self._time(job)
        options = {"timeout": seconds, "chain": job.chain if job else []}
        options = dict([(key, value) for key, value in options.items() if value])
        request = PeerCall(self, values.encode(asked + [options]), 0, seconds, given, SERVICE)
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
        at_end.append(cancelling.register(job, stream.intake.stop))
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
        if flags & ERROR:
            raise remote_errors.unpack(values.decode(body), self.name)
        return values.decode(body, self._node.context(self.id))

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
