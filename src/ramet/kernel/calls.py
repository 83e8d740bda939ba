"""Calls in a node: find the function, run it, send what came of it.

Calls run in order on the node's main thread (the main lane); other lanes come with the late part ``lanes``,
``cancelling`` ends calls. Must not know how modules get here or messages travel. ``arrive`` and ``cancel`` run on whichever
thread reads the link, ``serve`` is the main thread.
"""
import os
import sys

from ramet.kernel import compat, values
from ramet.kernel.faults import CallCancelled
from ramet.kernel.frames import DEAD, ERROR
from ramet.kernel.importer import find_class

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional

    from ramet.kernel.core import Core, Message

COROUTINE = 0x80    # CO_COROUTINE
WHOLE = {}  # type: Dict[str, Any]      # modules of functions that were called
SIGURG = compat.signal.SIGURG   # ignored unless somebody handles it, and nearly nobody does


class Interrupt(BaseException):
    """Raised in a function whose call was cancelled. Not an Exception: ``except Exception`` must not swallow it."""


def resolve(target):
    # type: (Any) -> Any
    """The function that a call names.

    Args:
        target: "module:qualname"; or [function, args, kwargs] for a ``functools.partial``; or [instance, name] for a
            bound method; or the function itself, that came by value.
    """
    if callable(target):
        return target
    if isinstance(target, list):
        if len(target) == 2:
            return getattr(target[0], target[1])
        import functools
        return functools.partial(resolve(target[0]), *target[1], **target[2])
    module, _, path = target.partition(":")
    return find_class(module, path, WHOLE)      # calls begin where nothing is being imported


class Calls(object):
    """The calls of one node.

    Args:
        context: the values.Context for what they are given: all come from ancestors.
        on_idle: called on the main thread with the link to the parent when there is nothing to do after a call.

    Attributes:
        current: the message of the call on the main lane, ``options`` its options, ``began`` when it was taken.
        running: is the main lane in the function itself? Interrupts are raised there only.
        interrupted: the message whose function is to be interrupted.
        aside: messages for other lanes; ``lanes`` is what takes them, once that part is here.
        cancels: CANCELs that no thread has taken yet, in the order in which they came.
        early: (source, reply handle) of calls that were cancelled before they came.
    """

    def __init__(self, core, context, on_idle):
        # type: (Core, Any, Any) -> None
        self.core = core
        self.on_idle = on_idle
        self.context = context
        self.waiting = compat.deque()  # type: Any
        self.aside = compat.deque()  # type: Any
        self.cancels = compat.deque()  # type: Any
        self.lanes = None  # type: Any
        self.early = ()  # type: Any
        self.waiter = core.waiter()
        self.lock = compat.new_lock()
        self.current = self.interrupted = None  # type: Optional[Message]
        self.options = {}  # type: Dict[str, Any]
        self.began = 0.0
        self.failed = {}  # type: Dict[Any, bool]
        self.running = self.closing = False
        self.pid = os.getpid()
        compat.signal.signal(SIGURG, self._on_signal)
        compat.signal.signal(compat.signal.SIGCHLD, 0)      # it may have been ignored: then no subprocess had a status

    def arrive(self, message):
        # type: (Message) -> None
        """Take a CALL. Only an ancestor may run code here."""
        if not self.core.routes.commands(message.authority):
            self.core.refused += 1
            self.core.reply(message, [b"refused: ancestors only"], DEAD)
        elif message.flow or self.early and (message.src, message.reply_to) in self.early:
            self.aside.append(message)
            if self.lanes:
                self.lanes.drain()
            elif len(self.aside) == 1:
                self.late("lanes", message)
        else:
            self.waiting.append(message)
            if len(self.waiting) < 2:       # else it was woken for the first of them; one thread at a time is here
                self.waiter.wake()

    def cancel(self, message):
        # type: (Message) -> None
        """Take a CANCEL: [reply handle of the call]. Whose calls are refused has none to end: no thread is started for it."""
        if self.core.routes.commands(message.authority):
            self.cancels.append(message)
            self.late("cancelling", message)

    def late(self, part, message, start=1):
        # type: (str, Message, int) -> Any
        """Let a late part take a message. In a thread of its own: who reads a link can't wait for a part that isn't here."""
        try:
            if start:
                return compat.start_thread(self.late, (part, message, 0))
            __import__("ramet.kernel." + part)
        except Exception:
            self.core.loop.call_later(1, self.late, part, message)      # a CANCEL waits for it
            while self.aside:   # the main lane will fail to start other lanes, too, and say so
                self.waiting.append(self.aside.popleft())
            self.waiter.wake()
        else:
            sys.modules["ramet.kernel." + part].take(self, message)

    def _on_signal(self, _, frame):
        # type: (Any, Any) -> None
        """Interrupt the function, but not what it has called in the kernel, nor the import system, whose locks it would
        keep from being released: ``cancelling`` tries again.
        """
        compat.urgent(frame)
        code = frame.f_code
        if self.running and self.current is self.interrupted and (
                code.co_name in ("_enter", "write", "content")
                or code.co_filename[:13] not in ("ramet/kernel/", "<frozen impor")):
            self.interrupted = None
            raise Interrupt

    def serve(self):
        # type: () -> None
        """Be the main lane until ``closing``."""
        core = self.core
        parent = core.routes.parent
        while not self.closing:
            if not self.waiting:
                parent.borrow(self.waiter)      # unless it was, before the last reply
                parent.flush()
                if self.began:      # there was a call
                    self.on_idle(parent)
                core.wait(lambda: self.waiting or self.closing, parent)
            parent.give_back(self.waiter)       # the keeper looks after it while the call runs
            with self.lock:
                if not self.waiting:
                    continue
                self.current = message = self.waiting.popleft()
                self.began = compat.monotonic()
            reply = self.run(message)
            self.current = None
            if reply:
                self.finish(message, reply, parent)
            del message, reply      # what they hold may be large, and the next call far
        parent.give_back(self.waiter)

    def run(self, message, job=None):
        # type: (Message, Any) -> Any
        """Run one call in this thread. Returns the reply: (chunks, flags), or None if there is none yet.

        Args:
            job: what ``lanes`` knows of it, if this is another lane than the main one.
        """
        options = {}  # type: Dict[str, Any]
        try:
            target, args, kwargs, options = values.decode(message.body, self.context)
            if options.get("pipeline") in self.failed:
                raise CallCancelled("an earlier call of the pipeline failed")
            fn = resolve(target)
            lane = options.get("lane")
            if lane is None and getattr(getattr(fn, "__code__", None), "co_flags", 0) & COROUTINE:
                lane = "asyncio"
            if lane is not None and not job:
                from ramet.kernel import lanes
                lanes.start(self, message, lane)
                return None
            value = (job or self).enter(fn, args, kwargs, options)
            return None if value is self else (message.reply_to and values.encode(value, self.context, "result"), 0)
        except BaseException:
            error = [sys.exc_info()[1]]     # not described here: see ``compat_late.cut_circle``
        if self.closing and isinstance(error[0], Interrupt):
            return None     # who closes this node tells the caller
        return self.failure(message, error, options), ERROR

    def enter(self, fn, args, kwargs, options):
        # type: (Any, Any, Any, Any) -> Any
        """Run a function on the main lane, where it may be interrupted. Nothing can be interrupted in this frame itself."""
        try:
            self.options = options
            self.running = True
            if self.interrupted is self.current:
                raise Interrupt
            return _enter(fn, args, kwargs)
        finally:
            self.running = False

    def failure(self, message, *how):
        # type: (Message, *Any) -> List[Any]
        """An exception as a reply's body: see ``failures.of_call``."""
        from ramet.kernel import failures
        return failures.of_call(self, message, *how)

    def finish(self, message, reply, link=None):
        # type: (Message, Any, Any) -> None
        """Send a reply; output that was written before goes first, and nobody borrows the link ahead of it: it brings room."""
        if not self.waiting:
            for stream in sys.stdout, sys.stderr:
                try:
                    getattr(stream, "partial", 1) and stream.flush()
                except Exception:
                    pass    # replaced or closed by the function: whatever it says, the reply must go
        if os.getpid() != self.pid:
            os._exit(bool(reply[1]))   # the function has forked, and this is the child: the link isn't its own
        if link and not self.waiting:
            link.borrow(self.waiter)    # before the next call can come, so that it doesn't wake the keeper
        try:
            self.core.reply(message, reply[0], reply[1], bool(self.waiting))
        except Exception:       # too large, or no memory for it
            self.core.reply(message, self.failure(message), ERROR)

    def end(self):
        # type: () -> None
        """Drop the calls that wait, and let ``serve`` return when what runs has been ended (``cancelling``). Any thread."""
        self.closing = True
        self.waiting.clear()
        self.interrupted = self.current
        if self.running:
            compat.signal_main(SIGURG)
        self.waiter.wake()


def _enter(fn, args, kwargs):
    # type: (Any, Any, Any) -> Any
    """The one frame of the kernel in which interrupts are raised: a function may be C code, without a frame of its own."""
    return fn(*args, **kwargs)
