"""The asyncio lane: coroutine functions run as tasks of one loop, in a thread of its own. Late part of the kernel.

``Tasks`` is a part of ``lanes``, whose lock guards it. Calls begin in the order in which they came, and run at the same time.
"""
import sys
import threading

from ramet.kernel import awaiting, compat, lines, values
from ramet.kernel.calls import Interrupt
from ramet.kernel.faults import Error
from ramet.kernel.frames import ERROR
from ramet.kernel.jobs import Job

MYPY = False
if MYPY:
    from typing import Any, List

    from ramet.kernel.core import Message
    from ramet.kernel.lanes import Lanes


class Tasks(object):
    """The loop and what waits for it.

    Args:
        lanes: that it is one of.
    """

    def __init__(self, lanes):
        # type: (Lanes) -> None
        self.lanes = lanes
        self.queue = compat.deque()  # type: Any
        self.loop = None  # type: Any
        self.started = False
        self.thread = 0
        self.settled = threading.Event()    # there is a loop, or can't be one

    def job(self, message):
        # type: (Message) -> TaskJob
        """A call that is to run here."""
        return TaskJob(self, message)

    def wake(self):
        # type: () -> None
        """Something was put into the queue. The lanes' lock is held."""
        if self.loop:
            self.loop.call_soon_threadsafe(self._next)
        elif not self.started:
            self.started = True
            self.settled.clear()
            if not self.lanes.thread(self._serve, (), "asyncio"):
                self.started = False
                self.settled.set()

    def running_loop(self):
        # type: () -> Any
        """The loop, when it is there. Raises Error: there is none on this Python."""
        self.settled.wait()
        if not self.loop:
            raise Error("this node has no asyncio loop")
        return self.loop

    def _serve(self):
        # type: () -> None
        """Be the loop. It goes on when a task raises SystemExit, which asyncio lets through."""
        try:
            import asyncio
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            if awaiting.OWNER:
                loop.set_task_factory(awaiting.make_task)
        except Exception:       # the smallest Pythons lack it; there are no descriptors left
            error = sys.exc_info()[1]
            with self.lanes.lock:
                jobs, self.started = list(self.queue), False
                self.queue.clear()
            self.settled.set()
            for job in jobs:
                self.lanes.fail(job, "this node has no asyncio loop: %s" % error)
            return
        with self.lanes.lock:
            self.loop = loop
            self.thread = compat.thread_id()
            for _ in self.queue:
                loop.call_soon(self._next)
        self.settled.set()
        while True:
            try:
                loop.run_forever()
            except BaseException:
                pass

    def _next(self):
        # type: () -> None
        with self.lanes.lock:
            job = self.lanes.taken(self.queue)
        self.lanes.run(job)


class TaskJob(Job):
    """A call on the asyncio loop: its task can be cancelled."""

    goes_on = True

    def __init__(self, tasks, message):
        # type: (Tasks, Message) -> None
        Job.__init__(self, tasks.lanes.calls, message, "asyncio")
        self.tasks = tasks
        self.running = None  # type: Any

    def holds_lane(self):
        # type: () -> bool
        """See ``Job``. A task may have another thread wait for it, by ``asyncio.to_thread``: the loop goes on meanwhile."""
        return compat.thread_id() == self.tasks.thread

    def enter(self, fn, args, kwargs, options):
        # type: (Any, Any, Any, Any) -> Any
        """Make the task. The reply comes when it has ended: until then, the calls themselves stand for the result."""
        self.options = options
        self.began = compat.monotonic()

        self.running = awaiting.begin(self, lambda: self.tasks.loop.create_task(fn(*args, **kwargs)))
        self.running.add_done_callback(self._finished)
        if self.cancelled:
            self.running.cancel()
        return self.calls

    def _finished(self, task):
        # type: (Any) -> None
        self.tasks.lanes.ended(self)
        try:
            reply = self._reply(task)
            if not (self.calls.closing and self.cancelled):
                lines.flush()
                self.calls.finish(self.message, reply)
        except Exception:       # as in ``Lanes.run``
            self.tasks.lanes.tell(self, sys.exc_info()[1])

    def _reply(self, task):
        # type: (Any) -> Any
        calls, message = self.calls, self.message
        error = []  # type: Any
        try:
            if task.cancelled() and self.cancelled:
                raise Interrupt
            value = task.result()
            return message.reply_to and values.encode(value, calls.context, "result"), 0
        except BaseException:
            error = [sys.exc_info()[1]]     # not described here: see ``compat_late.cut_circle``
        return calls.failure(message, error, self.options), ERROR

    def interrupt(self):
        # type: () -> None
        """See ``Job``."""
        if self.running and not self.interrupted:
            self.tasks.loop.call_soon_threadsafe(self._interrupt)

    def _interrupt(self):
        # type: () -> None
        if not self.interrupted:
            self.interrupted = True
            self.running.cancel()

    def why(self):
        # type: () -> str
        """See ``Job``."""
        return "its coroutine blocks the node's asyncio loop, or goes on although it was cancelled"

    def frames(self):
        # type: () -> List[Any]
        """See ``Job``."""
        found = []
        at = getattr(self.running, "get_coro", lambda: getattr(self.running, "_coro", None))()
        while at is not None:
            frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None)
            if frame:
                found.append(frame)
            at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None)
        return found[::-1]
