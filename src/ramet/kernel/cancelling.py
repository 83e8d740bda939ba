"""Ending calls: CANCEL, and what follows from it until nothing of the call is left. Late part of the kernel.

What is done for a call that is to end, in this order (``Ending``):

1. which subprocesses it has is looked up (``offspring``), so that what it starts to clean up isn't taken for its work;
2. the calls that it has made in other nodes are cancelled: they do the same over there;
3. its function is interrupted (``jobs``), and interrupted again if that didn't work: while it is in ramet's own code, say;
4. its subprocesses get SIGTERM, and after ``kill_grace_s`` SIGKILL;
5. when it goes on for ``stuck_after_s``, it is reported as stuck, to the controller.

``take`` runs in a thread of its own, the rest there and on the keeper; nothing here waits.
"""
import sys

from ramet.kernel import awaiting, circles, compat, compat_late, failures, jobs, offspring, values
from ramet.kernel.core import CANCEL
from ramet.kernel.faults import CallCancelled
from ramet.kernel.frames import ERROR
from ramet.kernel.handles import STUCK

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Optional

    from ramet.kernel.calls import Calls
    from ramet.kernel.core import Message

# When it is tried again to interrupt a call: after so long, then after twice as long each time, up to the second.
retry_first_s = 0.02
retry_last_s = 0.5

# And while it imports, after a part of the time that it has gone on, if that is less: many may wait for one import, which has
# to share the processor with those that look.
retry_import_s, retry_import_part = 0.003, 0.06

# How long a cancelled call may go on before it is reported as stuck: exit handlers and ``finally`` take their time.
stuck_after_s = 1.0

# How much longer if it imports something. Until then the code of modules isn't interrupted.
import_grace_s = 10.0

# How long subprocesses have between SIGTERM and SIGKILL.
kill_grace_s = 1.0

# Calls that are remembered as cancelled before they came: CANCEL goes before what isn't control. Most of them have ended.
early_max = 10000

# When a call that was cancelled before it came is looked for once more.
again_s = 0.05

# Held while CANCELs are taken.
one_by_one = compat.new_lock()


def take(calls, _):
    # type: (Calls, Message) -> None
    """Take the CANCELs that are there, in their order: what was cancelled first mustn't begin because what it waits for ends.

    Each has a thread, and the threads may get here in any order.
    """
    with one_by_one:
        while calls.cancels:
            _take(calls, calls.cancels.popleft())


def _take(calls, message):
    # type: (Calls, Message) -> None
    """Take one CANCEL: [reply handle of a call of the same source]; with a chain behind it none is ended, see ``circles``."""
    said = values.decode(message.body)
    key = message.src, said[0]
    if said[1:]:
        circles.heard(calls, key, said[1])
    elif not _taken(calls, key):
        if not calls.early:
            calls.early = {}
        elif len(calls.early) >= early_max:
            calls.early.pop(next(iter(calls.early)), None)
        calls.early[key] = True
        if _taken(calls, key):      # it came after the first look, and before it could be known as cancelled
            calls.early.pop(key, None)
        else:
            calls.core.loop.call_later(again_s, _look_again, calls, key)


def _look_again(calls, key):
    # type: (Calls, Any) -> None
    """Look once more for a call. At both looks it may have been on its way into its line, where ``early`` isn't asked.
    On the keeper.
    """
    def end_it():
        # type: () -> None
        with one_by_one:
            if _taken(calls, key):
                calls.early.pop(key, None)
    if key in [(one.src, one.reply_to) for one in list(calls.waiting) + [calls.current] if one]:
        compat.start_thread(end_it, ())


def _taken(calls, key):
    # type: (Calls, Any) -> bool
    """End a call that waits or runs. False: there is none."""
    waits = None
    with calls.lock:
        for waiting in list(calls.waiting):
            if (waiting.src, waiting.reply_to) == key:
                calls.waiting.remove(waiting)
                waits = waiting
        current = calls.current
    if waits:
        refuse(calls, waits)
    elif current and (current.src, current.reply_to) == key:
        end(main_job(calls, current))
    else:
        return bool(calls.lanes and calls.lanes.end(key))
    return True


def refuse(calls, message):
    # type: (Calls, Message) -> None
    """Answer a call that was cancelled before it began."""
    calls.core.reply(message, failures.pack(CallCancelled("cancelled before it began")), ERROR)


def main_job(calls, message):
    # type: (Calls, Message) -> jobs.Job
    """The job of the call on the main lane: the same one each time."""
    job = getattr(calls, "job", None)
    if job is None or job.message is not message:
        made = calls.__dict__.setdefault("made", {})    # one step, as below: two threads may be here at once
        for old in list(made):
            if old is not message and old is not calls.current:
                made.pop(old, None)
        job = made.setdefault(message, jobs.MainJob(calls, message))
        if message is calls.current:
            calls.job = job  # type: ignore[attr-defined]
    return job  # type: ignore[no-any-return]


def current_job(calls):
    # type: (Calls) -> Optional[jobs.Job]
    """The call whose function runs in the calling thread or asyncio task; None in a thread that a function has started."""
    message = calls.current
    if compat.thread_id() == compat.main_thread_id:
        return main_job(calls, message) if message else None
    return getattr(calls.core.threads, "job", None) or awaiting.here()  # type: ignore[no-any-return]


def register(job, ender):
    # type: (Optional[jobs.Job], Callable[[], Any]) -> Callable[[], None]
    """Have a function called when a call is ended: for what neither its thread nor /proc tells, such as ``node.run``'s.

    Args:
        job: as ``current_job`` gives it; None: nothing happens.
        ender: called once, from any thread; must not block. When the call is being ended already, here.

    Returns:
        what takes it back, to be called when that has ended by itself.
    """
    if job is None:
        return lambda: None
    job.enders.append(ender)
    if job.cancelled:       # who ends it has called the others, maybe
        compat_late.call_each(job.enders)

    def take_back():
        # type: () -> None
        try:
            job.enders.remove(ender)
        except ValueError:
            pass        # who ends it has it
    return take_back


def end(job):
    # type: (jobs.Job) -> None
    """End a call. Any thread; harmless the second time."""
    if not job.cancelled:
        job.cancelled = True
        Ending(job).begin()


def end_all(calls):
    # type: (Calls) -> None
    """End all calls, for the node ends."""
    message = calls.current
    if message:
        end(main_job(calls, message))
    if calls.lanes:
        calls.lanes.end_all()


class Ending(object):
    """What is done to end one call."""

    def __init__(self, job):
        # type: (jobs.Job) -> None
        self.job = job
        self.core = job.calls.core
        self.began = compat.monotonic()
        self.pause_s = retry_first_s
        self.told = self.killed = False
        self.processes = {}  # type: Dict[int, int]

    def begin(self):
        # type: () -> None
        """Do what can be done at once."""
        job = self.job
        try:
            self.processes = offspring.of(job)
        except Exception:
            self.core.loop.on_error(sys.exc_info()[1])  # type: ignore[arg-type]     # the rest must be done nevertheless
        for handle, node in list(job.nested.items()):
            self.core.tell(node, CANCEL, [handle])
        self._interrupt()
        if job.waiter:
            job.waiter.wake()
        offspring.signal(self.processes, 15)
        compat_late.call_each(job.enders)
        self.core.loop.call_later(self.pause_s, self._again)

    def _interrupt(self):
        # type: () -> None
        try:
            self.job.interrupt()
        except Exception:
            self.core.loop.on_error(sys.exc_info()[1])  # type: ignore[arg-type]     # it is tried again, with a descriptor maybe

    def _again(self):
        # type: () -> None
        """Look what is left, and see to it."""
        job = self.job
        since = compat.monotonic() - self.began
        over = job.is_over()
        if not over:
            job.patient = since < import_grace_s
            self._interrupt()
        elif job.calls.lanes:   # the main lane may just have found out that it is another lane's
            job.calls.lanes.end((job.message.src, job.message.reply_to))
        if self.processes and since > kill_grace_s and not self.killed:
            self.killed = True
            offspring.signal(offspring.again(self.processes), 9)
        late = since > stuck_after_s + job.importing * import_grace_s
        if late and not over and not self.told and not job.calls.closing:
            self.told = True
            self.core.tell(0, STUCK, [job.message.src, job.message.reply_to, job.lane or "main", job.why()])
        if not over or self.processes and not self.killed:
            importing = job.importing and not over and not self.told
            self.pause_s = min(max(retry_import_s, since * retry_import_part) if importing else self.pause_s * 2, retry_last_s)
            self.core.loop.call_later(self.pause_s, self._again)
