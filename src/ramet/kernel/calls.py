"""Calls in a node: find the function, run it, send what came of it.

Calls run in order on the node's main thread (the main lane); other lanes come with the late part ``lanes``. Must not
know how modules get here or messages travel. ``arrive`` and ``cancel`` run on whichever thread reads the link, ``serve``
is the main thread.
"""
import sys

from ramet.kernel import compat, values
from ramet.kernel.errors import CallCancelled, ValueNotPortableError
from ramet.kernel.frames import DEAD, ERROR

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional, Tuple

    from ramet.kernel.core import Core, Message

COROUTINE = 0x80    # CO_COROUTINE
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
    module = compat.local_module(module)
    if module not in sys.modules:
        __import__(module)
    found = sys.modules[module]
    for name in path.split("."):
        found = getattr(found, name)
    return found


class Calls(object):
    """The calls of one node.

    Args:
        context: makes the values.Context for what an authority sent.
        on_idle: called on the main thread when there is nothing to do after a call.
    """

    def __init__(self, core, context, on_idle):
        # type: (Core, Any, Any) -> None
        self.core = core
        self.on_idle = on_idle
        self.context = context
        self.waiting = compat.deque()  # type: Any
        self.waiter = core.waiter()
        self.lock = compat.new_lock()
        self.current = None  # type: Optional[Tuple[int, int]]      # (source, reply handle) of the call on the main lane
        self.interrupted = None  # type: Optional[Tuple[int, int]]
        self.running = False    # is the main lane in the function itself?
        self.failed = {}  # type: Dict[Any, bool]
        self.closing = self.served = False
        compat.signal.signal(SIGURG, self._on_signal)

    def arrive(self, message):
        # type: (Message) -> None
        """Take a CALL. Only an ancestor may run code here."""
        if not self.core.routes.commands(message.authority):
            self.core.refused += 1
            self.core.reply(message, [b"refused: only an ancestor of a node may call functions in it"], DEAD)
            return
        self.waiting.append(message)
        self.waiter.wake()

    def cancel(self, message):
        # type: (Message) -> None
        """Take a CANCEL: [reply handle of the call]. What waits is dropped, what runs is interrupted."""
        key = message.src, values.decode(message.body)[0]
        with self.lock:
            for waiting in list(self.waiting):
                if (waiting.src, waiting.reply_to) == key:
                    self.waiting.remove(waiting)
            if self.current == key:
                self.interrupt()

    def interrupt(self):
        # type: () -> None
        """End the current call, now or as soon as its function begins."""
        self.interrupted = self.current
        if self.running:
            compat.signal_main(SIGURG)

    def _on_signal(self, *_):
        # type: (*Any) -> None
        compat.import_threading()
        if self.running and self.current == self.interrupted:
            self.interrupted = None
            raise Interrupt

    def serve(self):
        # type: () -> None
        """Be the main lane until ``closing``."""
        core = self.core
        parent = core.routes.parent

        def ready():
            # type: () -> Any
            return self.waiting or self.closing
        while not self.closing:
            if not self.waiting:
                parent.borrow(self.waiter)
                parent.flush()
                if self.served:
                    self.on_idle()
                core.wait(ready, parent)
            parent.give_back(self.waiter)       # the keeper looks after it while the call runs
            with self.lock:
                if not self.waiting:
                    continue
                message = self.waiting.popleft()
                self.current = message.src, message.reply_to
            reply = self.run(message)
            self.served = True
            if reply:
                if not self.waiting:
                    parent.borrow(self.waiter)      # before the next call can come, so that it doesn't wake the keeper
                self.finish(message, *reply)
        parent.give_back(self.waiter)

    def run(self, message):
        # type: (Message) -> Any
        """Run one call in this thread. Returns the reply: (chunks, flags), or None if there is none yet."""
        flags = 0
        options = {}  # type: Dict[str, Any]
        try:
            context = self.context(message.authority)
            target, args, kwargs, options = values.decode(message.body, context)
            group = options.get("pipeline")
            if group in self.failed:
                raise CallCancelled("an earlier call of the same pipeline failed")
            fn = resolve(target)
            lane = options.get("lane")
            if lane is None and getattr(getattr(fn, "__code__", None), "co_flags", 0) & COROUTINE:
                lane = "asyncio"
            if lane is not None:
                from ramet.kernel import lanes
                lanes.start(self, lane, message, fn, args, kwargs)
                return None
            chunks = values.encode(self._run(fn, args, kwargs), context, "result")
        except BaseException:
            if self.closing and isinstance(sys.exc_info()[1], Interrupt):
                return None     # who closes this node tells the caller
            chunks = self.failure(message)
            flags = ERROR
            if options.get("pipeline"):
                self.failed[options["pipeline"]] = True
        return chunks, flags

    def _run(self, fn, args, kwargs):
        # type: (Any, Any, Any) -> Any
        self.running = True
        try:
            if self.interrupted == self.current:
                raise Interrupt
            return fn(*args, **kwargs)
        finally:
            self.running = False

    def failure(self, message):
        # type: (Message) -> List[Any]
        """The current exception as a reply's body."""
        error = sys.exc_info()[1]
        if isinstance(error, Interrupt):
            error = CallCancelled("cancelled while it ran")
        if not message.reply_to:
            sys.excepthook(*sys.exc_info())     # a cast: nobody but the node's stderr will hear of it
        from ramet.kernel import failures
        return failures.pack(error)

    def finish(self, message, chunks, flags):
        # type: (Message, List[Any], int) -> None
        """Send a reply; output that was written before goes first."""
        if not self.waiting:
            for stream in sys.stdout, sys.stderr:
                try:
                    stream.flush()
                except (AttributeError, ValueError, EnvironmentError):
                    pass    # replaced or closed by the function
        try:
            self.core.reply(message, chunks, flags, bool(self.waiting))
        except ValueNotPortableError:
            self.core.reply(message, self.failure(message), ERROR)

    def end(self):
        # type: () -> None
        """Interrupt the running call, drop those that wait, and let ``serve`` return. Any thread."""
        self.closing = True
        self.waiting.clear()
        self.interrupt()
        self.waiter.wake()
