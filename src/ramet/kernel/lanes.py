"""Lanes other than the main one: a thread for each name, a thread for each call. Late part of the kernel.

A named lane runs its calls in order, and always in the same thread; only when there are more than ``threads_max`` lanes, a
thread goes over to a lane that has none. Calls of lane ANY that find no room wait, and callers take turns. So what reads a
link never waits for a lane. The asyncio lane is in ``tasks``. Must not know how messages travel.

All but the running of calls may be done by any thread.
"""
import sys
import time
from zlib import crc32

from ramet.kernel import compat, main_thread

main_thread.look_out()

import threading  # noqa: E402

from ramet.kernel import cancelling, importer, lines, unforeseen  # noqa: E402
from ramet.kernel.faults import Error  # noqa: E402
from ramet.kernel.frames import DEAD, ERROR  # noqa: E402
from ramet.kernel.jobs import Job, ThreadJob  # noqa: E402

MYPY = False
if MYPY:
    from typing import Any, Dict, Optional, Tuple

    from ramet.kernel.calls import Calls
    from ramet.kernel.core import Message

threads_max = 256       # of lane ANY at once, and of named lanes; more wait

# How long is waited for a thread to begin, before another one is started in its place; after the last, none can be had.
begin_waits_s = 0.5, 1.0, 2.0, 4.0, 8.0

ANY, ASYNCIO = "*", "asyncio"
ANY_FLOW, ASYNCIO_FLOW = 14798, 40855   # by the rule below; no named lane has these, for it would be taken for one of the two


def flow_of(lane):
    # type: (str) -> int
    """The flow in which calls for a lane travel; 0 is the main lane's. So lanes are told apart before a call is decoded."""
    flow = 1 + (crc32(lane.encode("utf-8")) & 0xFFFFFFFF) % 0xFFFE if lane else 0
    return flow + (flow in (ANY_FLOW, ASYNCIO_FLOW) and lane not in (ANY, ASYNCIO))


def take(calls, _):
    # type: (Calls, Message) -> None
    """Take over the calls that were laid aside for this part, and all that follow."""
    made(calls).drain()


def start(calls, message, lane):
    # type: (Calls, Message, str) -> None
    """Run a call in a lane that was found out when the call was decoded; returns at once. The main lane."""
    made(calls).place(message, flow_of(lane))


def begin(target, args, name):
    # type: (Any, Any, str) -> None
    """Start a daemon thread and wait until it has begun. ``Thread.start`` waits for ever if it has no memory for its first
    step, and so is gone. Raises what that raises: there is no room for a thread, the target isn't called.
    """
    for wait_s in begin_waits_s:
        claim, begun = {0: target}, compat.new_lock()      # who takes the target out has won: this thread or the new one
        begun.acquire()
        thread = threading.Thread(target=_first_step, args=(claim, begun, args), name="ramet-" + name)
        thread.daemon = True
        started = getattr(thread, "_started", None)     # 2.7 has it by another name; there a lock can't be waited for in time
        if started:
            started.wait = lambda *_: True
        try:
            thread.start()
            if not started or begun.acquire(True, wait_s):  # type: ignore[call-arg,unused-ignore]
                return
        except Exception:
            if claim.pop(0, None):
                raise
        if not claim.pop(0, None):
            return
    raise RuntimeError("threads end before they have begun")


def _first_step(claim, begun, args):
    # type: (Any, Any, Any) -> None
    target = claim.pop(0, None)
    if target:      # else it comes too late
        begun.release()
        target(*args)


MAKING = threading.Lock()


def made(calls):
    # type: (Calls) -> Lanes
    """The lanes of a node, made when they are first needed."""
    with MAKING:
        if calls.lanes is None:
            _protect(calls)
            calls.lanes = Lanes(calls)
            lines.keep_apart()
        return calls.lanes  # type: ignore[no-any-return]


def _protect(calls):
    # type: (Calls) -> None
    """Keep interrupts away from ramet's own code that functions run without knowing it: by an import. ``logs`` does so, too."""
    def whole(fn):
        # type: (Any) -> Any
        def run(*args):
            # type: (*Any) -> Any
            job = getattr(calls.core.threads, "job", None)
            left = job.leave() if job else False
            try:
                return fn(*args)
            finally:
                if job:
                    job.back(left)
        return run
    for finder in sys.meta_path:  # type: Any
        if isinstance(finder, importer.Finder):
            finder.obtain = whole(finder.obtain)  # type: ignore[method-assign]
    unforeseen._ask = whole(unforeseen._ask)    # it reads the link and writes it: other calls would lack what is lost there


class Lane(object):
    """A named lane: its calls that wait, and what its thread sleeps on."""

    def __init__(self, flow, lock):
        # type: (int, Any) -> None
        self.flow = flow
        self.queue = compat.deque()  # type: Any
        self.bell = threading.Condition(lock)


class Lanes(object):
    """All lanes of a node but the main one.

    Attributes:
        jobs: (source, reply handle) -> the job, of calls that run or wait here.
        running: how many calls run.
        last_end: when one ended last.
    """

    def __init__(self, calls):
        # type: (Calls) -> None
        self.calls = calls
        self.lock = threading.Lock()
        self.jobs = {}  # type: Dict[Tuple[int, int], Job]
        self.running = 0
        self.last_end = 0.0
        self.named = {}  # type: Dict[int, Lane]
        self.named_threads = 0
        self.idle = compat.deque()  # type: Any         # lanes whose threads sleep, the longest first
        self.starved = compat.deque()  # type: Any      # lanes that have calls and no thread
        self.queues = {}  # type: Dict[int, Any]        # of lane ANY, by source
        self.turns = compat.deque()  # type: Any        # sources that have calls there
        self.any_threads = 0
        self.tasks = None  # type: Any

    def drain(self):
        # type: () -> None
        """Take what was laid aside. Who lays aside calls this then, so nothing stays."""
        aside = self.calls.aside
        while aside:
            with self.lock:     # else two threads that read links could swap two calls
                message = aside.popleft() if aside else None
                if message and not message.flow and not self._is_early(message):
                    self.calls.waiting.append(message)
                    self.calls.waiter.wake()
                elif message and message.flow:
                    self._place(message, message.flow)

    def place(self, message, flow):
        # type: (Message, int) -> None
        """Put a call in line."""
        with self.lock:
            self._place(message, flow)

    def _is_early(self, message):
        # type: (Message) -> bool
        """Whether its cancel has come before it. It is answered then."""
        early = self.calls.early and self.calls.early.pop((message.src, message.reply_to), False)
        if early:
            cancelling.refuse(self.calls, message)
        return bool(early)

    def _place(self, message, flow):
        # type: (Message, int) -> None
        if self._is_early(message):
            return
        if flow == ASYNCIO_FLOW:
            if not self.tasks:
                from ramet.kernel import tasks
                self.tasks = tasks.Tasks(self)
            self._note(self.tasks.job(message), self.tasks.queue)
            self.tasks.wake()
            return
        job = ThreadJob(self.calls, message, ANY if flow == ANY_FLOW else "")
        if flow == ANY_FLOW:
            if message.src not in self.queues:
                self.queues[message.src] = compat.deque()
                self.turns.append(message.src)
            self._note(job, self.queues[message.src])
            if self.any_threads < threads_max:
                self.any_threads += 1
                if not self.thread(self._serve_any, (), "any"):
                    self.any_threads -= 1
        else:
            lane = self.named.get(flow)
            if not lane:
                lane = self.named[flow] = Lane(flow, self.lock)
                self._note(job, lane.queue)
                self._give_thread(lane)
            else:
                self._note(job, lane.queue)
                lane.bell.notify()

    def asyncio_loop(self):
        # type: () -> Any
        """The loop of the asyncio lane, which is started if need be. For threads that may block."""
        with self.lock:
            if not self.tasks:
                from ramet.kernel import tasks
                self.tasks = tasks.Tasks(self)
            if not self.tasks.loop:
                self.tasks.wake()
        return self.tasks.running_loop()

    def _note(self, job, queue):
        # type: (Job, Any) -> None
        job.queue = queue
        queue.append(job)
        if job.message.reply_to:
            self.jobs[job.message.src, job.message.reply_to] = job

    def _give_thread(self, lane):
        # type: (Lane) -> None
        """Let a new lane have a thread: a new one, or that of a lane that is idle, or the first that has time."""
        if self.named_threads < threads_max:
            self.named_threads += 1
            if self.thread(self._serve_lane, (lane,), "lane"):
                return
            self.named_threads -= 1
        if self.named_threads:
            self._starve(lane)

    def _starve(self, lane):
        # type: (Lane) -> None
        self.starved.append(lane)
        if self.idle:
            self.idle.popleft().bell.notify()

    def thread(self, target, args, name):
        # type: (Any, Any, str) -> bool
        """Start a thread. If none can be had, those that there are must do; if there are none, all that waits fails."""
        try:
            begin(target, args, name)
            return True
        except (RuntimeError, threading.ThreadError, MemoryError):
            waiting = []  # type: Any
            if name == "any" and self.any_threads == 1:
                waiting = list(self.queues.values())
                self.queues.clear()
                self.turns.clear()
            elif name == "lane" and self.named_threads == 1:
                waiting = [lane.queue for lane in self.named.values()]
                self.named.clear()
            elif name == "asyncio":
                waiting = [self.tasks.queue]
            for queue in waiting:
                while queue:
                    self.fail(queue.popleft(), "this node can't start a thread: its system has no room for another one")
            return False

    def fail(self, job, text):
        # type: (Job, str) -> None
        """Answer a call that can't begin."""
        self.jobs.pop((job.message.src, job.message.reply_to), None)
        job.ended = True
        try:
            raise Error(text)
        except Error:
            self.calls.finish(job.message, (self.calls.failure(job.message), ERROR))

    # ------------------------------------------------------------------ in the threads of lanes

    def _serve_any(self):
        # type: () -> None
        while True:
            with self.lock:
                if not self.turns:
                    self.any_threads -= 1
                    return
                source = self.turns.popleft()
                queue = self.queues[source]
                job = self.taken(queue)
                if queue:
                    self.turns.append(source)
                else:
                    del self.queues[source]
            self.run(job)

    def _serve_lane(self, lane):
        # type: (Lane) -> None
        while True:
            with self.lock:
                while not lane.queue or self.starved:
                    if self.starved:
                        if lane.queue:
                            self._starve(lane)
                        else:
                            del self.named[lane.flow]
                        lane = self.starved.popleft()
                        break
                    self.idle.append(lane)
                    lane.bell.wait()
                    if lane in self.idle:
                        self.idle.remove(lane)
                job = self.taken(lane.queue) if lane.queue else None
            self.run(job)

    def taken(self, queue):
        # type: (Any) -> Optional[Job]
        """The next call of a queue, which begins now. The lock is held."""
        if not queue:
            return None     # it was cancelled meanwhile
        job = queue.popleft()
        job.queue = None
        self.running += 1
        return job  # type: ignore[no-any-return]

    def run(self, job):
        # type: (Any) -> None
        """Run a call in this thread and send its reply."""
        if not job:
            return
        try:
            reply = self.calls.run(job.message, job)
            if reply or not job.goes_on:
                self.ended(job)
            if reply:
                lines.flush()       # ``finish`` does it for the main lane, and only when that has the time
                self.calls.finish(job.message, reply)
                if type(job.message.body) is list:
                    self.calls.core.longs().let_go(job.message)
        except Exception:       # no memory or no descriptor to say what was raised: this thread goes on, its caller is told
            self.tell(job, sys.exc_info()[1])

    def tell(self, job, error):
        # type: (Any, Any) -> None
        """Answer a call whose reply couldn't be made, when there is memory for that much."""
        while True:
            try:
                if not job.ended:
                    self.ended(job)
                self.calls.core.reply(job.message, [("refused: " + repr(error)).encode("utf-8")], DEAD)
                return
            except MemoryError:
                time.sleep(0.001)

    def ended(self, job):
        # type: (Job) -> None
        """A call's function has ended."""
        job.ended = True
        with self.lock:
            self.running -= 1
            self.last_end = compat.monotonic()
            self.jobs.pop((job.message.src, job.message.reply_to), None)

    # ------------------------------------------------------------------ ending

    def end(self, key):
        # type: (Tuple[int, int]) -> bool
        """End a call, or don't let it begin. Returns whether there is such a one."""
        with self.lock:
            job = self.jobs.get(key)
            waits = job is not None and job.queue is not None
            if job and waits:
                job.queue.remove(job)
                job.queue, job.ended = None, True
                del self.jobs[key]
        if job and waits:
            cancelling.refuse(self.calls, job.message)
        elif job:
            cancelling.end(job)
        return job is not None

    def end_all(self):
        # type: () -> None
        """End what runs, and forget what waits: the node ends."""
        with self.lock:
            for lane in self.named.values():
                lane.queue.clear()
            for queue in list(self.queues.values()) + ([self.tasks.queue] if self.tasks else []):
                queue.clear()
            running = [job for job in self.jobs.values() if job.queue is None]
        for job in running:
            cancelling.end(job)
