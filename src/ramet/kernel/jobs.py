"""What is known of a call while it runs, so that it can be ended: one class for each way of running. Late part of the kernel.

A ``Job`` is told to end by ``cancelling``, from another thread than its own. Must not know of subprocesses or messages.

How a thread is interrupted: by an exception that the interpreter raises in it at its next bytecode. It must be sure that it
is in the function that was called, and neither in ramet's own code, which holds locks, nor in the next call. Therefore each
job has a *permit*, a list that holds one item while the thread is in that function; who takes the item out (``list.pop`` is
one step) has the right to go on: the thread, out of the function, or the other one, to send the exception. It is sent once at
most. A thread that comes too late waits until it was sent, and takes what hasn't been raised yet back. That may be
interrupted itself, by that one exception: then it is done again.

Nor may it be in the import system, whose locks would stay held. A module's code is let come to its end for some time: another
thread that waits for it would be given half a module, and some can't be imported twice. Then it may be interrupted: the import
system cleans up behind that. So it is sent only to the very frame that was seen to be none of these; else another time.
"""
import sys
import time

from ramet.kernel import compat, compat_late, offspring, raising, swallowed
from ramet.kernel.calls import Interrupt

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

    from ramet.kernel.calls import Calls
    from ramet.kernel.core import Message

MAIN_LANE = ""


# How often in a row a thread is looked at, which may go on from one frame to another meanwhile.
LOOKS = 10


class Job(object):
    """One call that runs, or waits for its turn in another lane than the main one.

    Attributes:
        goes_on: it runs on when ``enter`` has returned.
        importing: it wasn't interrupted since the import system was at work for it.
        interrupts: it may be interrupted at all.
        patient: not while it imports anything.
        holds_own_only: no subprocess is its own that was there before it began.
        lane: its name; "" is the main lane.
        task: its thread's number for the system; 0 if that isn't known.
        queue: in which it waits, or None.
        cancelled: it is to end.
        ended: it has ended, or never will begin; ask ``is_over``.
        nested: reply handle -> node, of calls that it has made and that aren't answered.
        waiter: what its thread waits with while it waits in ramet's own code.
        waits: of the calls that it has made, those for whose end it waits now.
        enders: functions that end what else belongs to it. Called from any thread; see ``cancelling.register``.
    """

    goes_on = False
    holds_own_only = False
    importing = False
    interrupts = patient = True

    def __init__(self, calls, message, lane):
        # type: (Calls, Message, str) -> None
        self.calls = calls
        self.message = message
        self.lane = lane
        self.options = {}  # type: Dict[str, Any]
        self.began = 0.0
        self.task = 0
        self.queue = None  # type: Any
        self.cancelled = False
        self.ended = False
        self.interrupted = False    # the exception was raised, or is sure to be
        self.nested = {}  # type: Dict[int, int]
        self.waiter = None  # type: Any
        self.waits = []  # type: List[Any]
        self.enders = []  # type: List[Callable[[], Any]]

    @property
    def chain(self):
        # type: () -> List[Any]
        """[node, flow, lane] of each call that waits for this one, this one's own last."""
        told = getattr(self.calls, "told", {})      # by who waits for it since then: see ``circles``
        above = told.get((self.message.src, self.message.reply_to)) or self.options.get("chain")
        return (above if isinstance(above, list) else []) + [[self.calls.core.id, self.message.flow, self.lane]]

    def holds_lane(self):
        # type: () -> bool
        """Whether its lane waits when the calling thread does, which belongs to it."""
        return True

    def left(self):
        # type: () -> Optional[float]
        """Seconds until its timeout; None if it has none."""
        seconds = self.options.get("timeout")
        return None if seconds is None else self.began + seconds - compat.monotonic()

    def is_over(self):
        # type: () -> bool
        """Whether nothing of it runs any more."""
        return self.ended

    def interrupt(self):
        # type: () -> None
        """Raise ``Interrupt`` in the function if that can be done now. It is asked for again and again."""

    def why(self):
        # type: () -> str
        """What to say of it when it goes on although it was interrupted, or can't be."""
        return "it was interrupted, and goes on" if self.interrupted else "it can't be interrupted where it is"

    def frames(self):
        # type: () -> List[Any]
        """The frames of the function and of what it has called, innermost first."""
        return []

    def leave(self):
        # type: () -> bool
        """Be safe from interrupts, for ramet's own code that the function has called. Returns what ``back`` is given."""
        return True

    def back(self, left):
        # type: (bool) -> None
        """Be back in the function."""

    def raise_now(self):
        # type: () -> None
        """Be interrupted here, in ramet's own code, between ``leave`` and ``back``."""
        self.interrupted = True
        raise Interrupt


class MainJob(Job):
    """The call that runs on the main lane now: its thread takes a signal, also out of blocking system calls."""

    def __init__(self, calls, message):
        # type: (Calls, Message) -> None
        self.known = None  # type: Any
        Job.__init__(self, calls, message, MAIN_LANE)
        self.began = calls.began
        self.waiter = calls.waiter
        self.task = calls.pid
        self.asked = self.outside = self.swallowed = False

    @property
    def options(self):
        # type: () -> Dict[str, Any]
        """See ``Job``. Until the function begins, those that the main lane has are the call's before it."""
        calls = self.calls
        if self.known is None and calls.running and calls.current is self.message:
            self.known = calls.options
        return self.known or {}

    @options.setter
    def options(self, _):
        # type: (Dict[str, Any]) -> None
        pass        # the main lane has them

    def is_over(self):
        # type: () -> bool
        """See ``Job``: whether the main lane is at something else."""
        return self.calls.current is not self.message

    def interrupt(self):
        # type: () -> None
        """See ``Calls.enter`` and ``Calls._on_signal``: it is raised when the function begins, or now."""
        calls = self.calls
        with calls.lock:
            if self.is_over() or self.outside:
                return
            self.interrupted = self.asked and calls.interrupted is not self.message
            if self.interrupted and self.swallowed:
                self.asked = self.interrupted = self.swallowed = False
            if not self.asked:
                self.asked = True
                calls.interrupted = self.message
                swallowed.notice(calls)
        if calls.running and not self.interrupted:
            frame = sys._current_frames().get(compat.main_thread_id)
            self.importing = frame is not None and raising.is_importing(frame, self.patient)
            if not raising.is_inside(frame, self.patient):
                compat.signal_main(compat.signal.SIGURG)

    def leave(self):
        # type: () -> bool
        """See ``Job``. In the kernel's own frames nothing is raised anyway: this is for what it calls."""
        before, self.outside = self.outside, True
        return not before

    def back(self, left):
        # type: (bool) -> None
        """See ``Job``."""
        self.outside = not left

    def why(self):
        # type: () -> str
        """See ``Job``."""
        if compat.signal.getsignal(compat.signal.SIGURG) != self.calls._on_signal:
            return "it has taken the signal SIGURG, by which ramet interrupts"
        return Job.why(self)

    def frames(self):
        # type: () -> List[Any]
        """See ``Job``."""
        return frames_of(compat.main_thread_id)

    def raise_now(self):
        # type: () -> None
        """See ``Job``. The signal handler has nothing left to do then."""
        with self.calls.lock:
            self.asked = True
            self.calls.interrupted = None
        Job.raise_now(self)


class ThreadJob(Job):
    """A call in a thread: takes an exception at its next bytecode, where the interpreter has that."""

    def __init__(self, calls, message, lane):
        # type: (Calls, Message, str) -> None
        Job.__init__(self, calls, message, lane)
        self.thread = 0
        self.permit = []  # type: List[bool]
        self.sent = self.outside = self.away = False

    def enter(self, fn, args, kwargs, options):
        # type: (Any, Any, Any, Any) -> Any
        """Run the function, in the thread that calls this."""
        self.options = options
        self.lane = options.get("lane") or self.lane
        self.thread = compat.thread_id()
        self.task = offspring.own_task()
        self.began = compat.monotonic()
        self.calls.core.threads.job = self
        try:
            try:
                self.permit.append(True)
                if self.cancelled:
                    raise Interrupt
                return fn(*args, **kwargs)
            finally:
                self._leave_for_good()
        except Interrupt:
            self._leave_for_good()      # what interrupted the first time was the one exception that there is
            raise
        finally:
            self.calls.core.threads.job = None

    def interrupt(self):
        # type: () -> None
        """See the module's text."""
        if self.interrupted:
            return
        send = raising.raiser()     # before the permit is taken: this imports, and the thread may be doing that, too
        try:
            self.permit.pop()
        except IndexError:
            return      # it isn't in the function now
        if self.interrupted:    # meanwhile, by ``raise_now``: a second one would come in what is run next
            self.permit.append(True)
            return
        if not send:
            self.sent = True
            return
        for _ in range(LOOKS):
            frame = sys._current_frames().get(self.thread)
            self.importing = frame is not None and raising.is_importing(frame, self.patient)
            if frame is None or self.importing:
                break
            if send(self.thread, Interrupt, frame):
                self.interrupted = self.sent = True
                return
        self.permit.append(True)    # another time

    def _leave_for_good(self):
        # type: () -> None
        if not self.outside:
            compat_late.cut_circle()
            self.leave()
            self.outside = True

    def leave(self):
        # type: () -> bool
        """See ``Job``. Who has left already is told False: what a generator does to clean up may call ramet, too."""
        if self.away:
            return False
        while True:
            try:
                self.permit.pop()
                self.away = True
                return True
            except IndexError:
                if self.sent or not self.cancelled:
                    break
            time.sleep(0)       # a moment: the other one is just about it, or gives the permit back
        for _ in range(2):
            time.sleep(0)       # where the interpreter looks: now it is raised, if it hasn't been
        if self.interrupted:
            raising.raiser()(self.thread, None)
        return False

    def back(self, left):
        # type: (bool) -> None
        """See ``Job``."""
        if left:
            self.away = False
            self.permit.append(True)

    def raise_now(self):
        # type: () -> None
        """See ``Job``."""
        self.interrupted = True
        self.back(True)
        raise Interrupt

    def why(self):
        # type: () -> str
        """See ``Job``."""
        if self.sent and not self.interrupted:
            return "this Python can't interrupt a thread"
        if self.sent:
            return "its thread is in C code, such as a sleep or a lock, or has caught the interrupt and goes on"
        return Job.why(self)

    def frames(self):
        # type: () -> List[Any]
        """See ``Job``."""
        return frames_of(self.thread)


def frames_of(thread):
    # type: (int) -> List[Any]
    """A thread's frames, innermost first, but not those of the kernel below the function that was called."""
    frame = sys._current_frames().get(thread)
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def apart(core, fn, *args):
    # type: (Any, Callable[..., Any], Any) -> Any
    """Call ramet's own code, from a function that was called: only waits are interrupted there. Any thread.

    Args:
        core: of this node. In a thread that runs no call nothing happens.
    """
    threads = core.threads
    job = None if getattr(threads, "apart", None) else _current(core)
    if job is None:
        return fn(*args)
    left = job.leave()
    try:
        threads.apart = job if left else None
        return fn(*args)
    finally:
        threads.apart = None
        job.back(left)


def _current(core):
    # type: (Any) -> Any
    """As ``cancelling.current_job``, without the asyncio lane's."""
    job = getattr(core.threads, "job", None)
    if job is None and core.id:     # the controller has no main lane
        node = getattr(sys.modules.get("ramet.kernel.start"), "node", None)
        calls = node.calls if node and node.core is core else None
        if calls and calls.current and compat.thread_id() == compat.main_thread_id:
            from ramet.kernel import cancelling
            job = cancelling.main_job(calls, calls.current)
    return job if job and job.interrupts else None


def wait(core, ready, link, seconds=None):
    # type: (Any, Callable[[], Any], Any, Optional[float]) -> Any
    """Block as ``core.wait`` does; inside of ``apart``, be interrupted with the call."""
    job = getattr(core.threads, "apart", None)
    if job is None:
        return compat_late.wait(core, ready, link, seconds)
    before, job.waiter = job.waiter, core.waiter()
    try:
        found = compat_late.wait(core, lambda: ready() or job.cancelled, link, seconds)
        if job.cancelled and not ready():
            job.raise_now()
        return found
    finally:
        job.waiter = before
