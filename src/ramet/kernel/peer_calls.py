"""A call that code in a node has made: of a function in this node or below it, or of a service. Late part of the kernel, of
``peers``, for every Python.

It ends with the call in which it was made, and has no more time than that has left. Any thread; ``wait`` and ``result`` block.
"""

from ramet.kernel import awaiting, cancelling, circles, compat, fragments, frames, lanes, limits, remote_errors, values
from ramet.kernel import core as core_module
from ramet.kernel.compat_late import wait
from ramet.kernel.errors import CallCancelled, CallTimeout, Error, NodeLostError, ProtocolError, ValueNotPortableError
from ramet.kernel.flow import FairQueue
from ramet.kernel.frames import DEAD, ERROR
from ramet.kernel.handles import ITSELF
from ramet.kernel.proxies import SERVICE

MYPY = False
if MYPY:
    from typing import Any, List, Optional

    from ramet.kernel.peers import Peer


class Loopback(object):
    """The link to this node itself, for calls of its own functions into its lanes. Only this node's frames get through."""

    dead = False
    borrower = None
    borrow = staticmethod(lambda waiter: False)     # nothing is read here
    queue = FairQueue()     # nothing waits here

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
            core.resolve(handle, flags & (ERROR | DEAD), body)
        elif handle in core.handlers:
            core.handlers[handle](core_module.Message(ITSELF, core.id, handle, reply_to, flow, self, body))
            if handle == core_module.CALL:
                calls = core.handlers[handle].__self__
                calls.waiter.wake()     # who reads a link may be in ``arrive``, too: then each takes the other for the first
                if calls.aside:
                    lanes.made(calls).drain()
        else:
            core.resolve(reply_to, DEAD, b"refused: %d" % handle)   # as ``Core.on_frame`` says it


class PeerCall(object):
    """A call that code in a node has made.

    Attributes:
        peer: where it runs.
    """

    _handle = 0     # at which it is answered
    _beside = False     # while its caller waits, the caller's lane goes on
    _task = None  # type: Any   # which waits for it, if that isn't its caller's own

    def __init__(self, peer, body, flow=0, seconds=None, given=None, handle=core_module.CALL):
        # type: (Peer, List[Any], int, Optional[float], Optional[float], int) -> None
        self.peer = peer
        self._given = given     # the timeout that it was given, or None: its caller has one
        self._flow = flow
        # The lanes that wait, as far as whoever runs it knows; None where that isn't asked.
        self._chain = [] if handle in (core_module.CALL, SERVICE) else None  # type: Optional[List[Any]]
        node = peer._node
        self._core = node.core
        self._answer = []  # type: List[Any]
        self._waiters = []  # type: List[Any]
        self._job = cancelling.current_job(node.calls)
        self._lane = flow if handle == core_module.CALL and flow != lanes.ANY_FLOW else None     # which may be waiting for us
        self._end = None if seconds is None else compat.monotonic() + seconds
        left = self._job.leave() if self._job else False
        ends = self._job is not None and self._job.cancelled    # what it calls to clean up goes on
        try:
            self._handle = self._core.ask(peer._address(), handle, body, self._done, 0, flow)
            if self._job and not self._answer and handle in (core_module.CALL, SERVICE):
                self._job.nested[self._handle] = peer._address()
                if self._answer:        # meanwhile
                    self._job.nested.pop(self._handle, None)
                if self._job.cancelled and not ends:    # meanwhile: who ended it has looked there before, maybe
                    self._core.tell(peer._address(), core_module.CANCEL, [self._handle])
        finally:
            if self._job:
                self._job.back(left)

    def _done(self, flags, body):
        # type: (int, Any) -> None
        self._answer.append((flags, body))
        self._settled()

    def _settled(self):
        # type: () -> None
        """It has its answer: its caller's end needn't end it any more."""
        if self._job:
            self._job.nested.pop(self._handle, None)
        for waiter in list(self._waiters):      # who is woken takes itself out of it meanwhile
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
        self._settled()
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
            circles.check(job, self.peer.id, self._lane)
        left = job.leave() if job else False
        waits = job.waits if job and timeout is None else []
        self._beside = job is not None and not job.holds_lane()
        self._task = awaiting.other_task(job) if job else None
        waits.append(self)
        end = None if timeout is None else compat.monotonic() + timeout
        ends = [at for at in (self._end, end) if at is not None]
        try:
            self._waiters.append(waiter)
            if job:
                job.waiter = waiter
            if job and timeout is None and not self._answer:
                self._pass_on()
            seconds = max(0, min(ends) - compat.monotonic()) if ends else None
            address = self.peer._address()
            link = None if address == ITSELF else core.routes.link_to(address)
            wait(core, lambda: self._answer or job and job.cancelled, link, seconds)
            self._waiters.remove(waiter)
            if job and not self._answer and job.cancelled:
                job.raise_now()
        finally:
            waits.remove(self)
            if job:
                job.back(left)
        if not self._answer:
            if self._end is None or end is not None and end < self._end:
                raise CallTimeout("no result from %s within %g s; the work goes on" % (self.peer.name, timeout or 0))
            self._stop("timeout", CallTimeout(
                "the call in %s took longer than %s and was ended" % (self.peer.name, "its timeout of %g s" % self._given
                                                                      if self._given else "what its caller had left")))

    def _pass_on(self):
        # type: () -> None
        """Tell whoever runs it who waits for it, if that isn't known there. Behind the call itself: in its flow."""
        chain = self._job.chain if self._job else []
        chain = chain[:-1] if self._beside else chain
        if self._chain is not None and chain != self._chain and (self._task is None or self._closes(chain)):
            self._chain = chain
            self._core.send(self.peer._address(), core_module.CANCEL, values.encode([self._handle, chain]), 0, 0, self._flow)

    def _closes(self, chain):
        # type: (List[Any]) -> bool
        """Whether it is in a circle. Whether its caller waits may change where another task does: nothing else is told then."""
        try:
            circles.check_cycle(chain, self.peer.id, -1 if self._lane is None else self._lane)
            return False
        except Error:
            return awaiting.waits_for(self._job, self._task) != awaiting.NOT

    def _value(self):
        # type: () -> Any
        flags, body = self._answer[0]
        if isinstance(body, Error):
            raise body
        if flags & DEAD:
            text = bytes(body).decode("utf-8", "replace")
            kind = ProtocolError if text.startswith("refused: ") else NodeLostError
            raise kind("%s doesn't answer: %s" % (self.peer.name, text))
        said = values.decode(body, self.peer._node.context(self.peer.id))
        if flags & ERROR:
            raise remote_errors.unpack(said, self.peer.name)
        return said

    def __repr__(self):
        # type: () -> str
        return "<PeerCall in %s: %s>" % (self.peer.name, "done" if self._answer else "running")


def encoded(named, args, kwargs, options):
    # type: (List[Any], Any, Any, Any) -> List[Any]
    """The body of a call or request: what is asked for, the arguments, what is said of the caller.

    Raises:
        ValueNotPortableError: something in it can't travel: its text names the path as who calls knows it.
    """
    try:
        return values.encode(named + [list(args), kwargs, options], None, "arguments")
    except ValueNotPortableError as error:
        path = error.args[0]    # what is raised behind this has no context: it would be shown twice
    for at in len(named), len(named) + 1:
        ours = "arguments[%d]" % at
        if path.startswith(ours):
            path = "arguments" + path[len(ours):]
            break
    raise ValueNotPortableError(path)


def chain_of(job):
    # type: (Any) -> List[Any]
    """The lanes that surely wait while the calling thread does, which belongs to that job."""
    if not job or awaiting.waits(job) != awaiting.SURELY:
        return []
    return job.chain if job.holds_lane() else job.chain[:-1]  # type: ignore[no-any-return]
