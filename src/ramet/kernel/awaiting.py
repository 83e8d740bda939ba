"""Who waits when a coroutine does: for the search for circles. Late part of the kernel, and the controller's.

A call of a coroutine function, or a request for one, has a task of its own, which may start others. While its own task waits,
who has made the call waits, too. While another one waits, the call goes on, unless its own task awaits that one, or all of
some among which that is (``asyncio.gather``). What isn't known isn't taken for a wait: who could go on is never refused.

Any thread. Must not know what is waited for. Pythons older than 3.7 have no context variables: nothing is known there.
"""
import sys

try:
    import contextvars
except ImportError:
    contextvars = None  # type: ignore[assignment]

MYPY = False
if MYPY:
    from typing import Any, Callable

# How surely a call waits while the calling thread or task does.
NOT, AMONG, SURELY = 0, 1, 2


class Owner(object):
    """Whose code runs: that of the coroutine of a call. What the context variable holds.

    Attributes:
        job: the call's.
        task: in which it runs, or for which a thread does; None where that isn't known.
    """

    def __init__(self, job):
        # type: (Any) -> None
        self.job = job
        self.task = None  # type: Any


OWNER = contextvars.ContextVar("ramet owner") if contextvars else None  # type: Any


def begin(job, fn, *args):
    # type: (Any, Callable[..., Any], *Any) -> Any
    """Call a function that starts the task of a job."""
    return _owned(Owner(job), fn, *args) if OWNER else fn(*args)


def _owned(owner, fn, *args):
    # type: (Owner, Callable[..., Any], *Any) -> Any
    def run():
        # type: () -> Any
        OWNER.set(owner)
        return fn(*args)
    return contextvars.copy_context().run(run)


def make_task(loop, coroutine, **options):
    # type: (Any, Any, **Any) -> Any
    """Make a task that knows itself by the context variable, as do the threads that it has run something: a task factory."""
    above = OWNER.get(None)
    task = sys.modules["asyncio"].Task
    if above is None or options.get("context"):
        return task(coroutine, loop=loop, **options)
    owner = Owner(above.job)
    owner.task = _owned(owner, lambda: task(coroutine, loop=loop, **options))
    if above.task is None and above.job.running is None:
        above.job.running = owner.task      # its own one
    return owner.task


def here():
    # type: () -> Any
    """The job to which the running task belongs, or the one for which this thread runs something; None if it has ended."""
    owner = OWNER.get(None) if OWNER else None
    return owner.job if owner and not (owner.job.running and owner.job.running.done()) else None


def waits(job):
    # type: (Any) -> int
    """How surely a call waits, and all that wait for it, while the calling thread does, which belongs to it."""
    owner = OWNER.get(None) if OWNER else None
    if owner is None or owner.job is not job:
        return SURELY       # it is the thread in which that runs
    root = own_task(job)
    if root is None or root.done():
        return NOT
    if sys.modules["asyncio"]._get_running_loop() is root.get_loop():
        return SURELY       # it blocks the loop
    return waits_for(job, owner.task)


def other_task(job):
    # type: (Any) -> Any
    """The task for which the calling thread waits, which belongs to a job, if that isn't the job's own. It may not be known."""
    owner = OWNER.get(None) if OWNER else None
    if owner is None or owner.job is not job or waits(job) == SURELY:
        return None
    return owner.task or owner


def waits_for(job, task):
    # type: (Any, Any) -> int
    """How surely a call waits while a task does."""
    root = own_task(job)
    if root is None or root is task:
        return NOT if root is None else SURELY
    left, seen = [root], set()  # type: Any, Any
    while left:
        one = left.pop()
        if one is task:
            return AMONG
        seen.add(id(one))
        awaited = getattr(one, "_children", None) or [getattr(one, "_fut_waiter", None)]
        left += [other for other in awaited if other is not None and id(other) not in seen]
    return NOT


def own_task(job):
    # type: (Any) -> Any
    """The task of a job's coroutine. Where it isn't known, it is looked for in the loop that runs here; else None."""
    asyncio = sys.modules["asyncio"]  # type: Any
    if job.running is None and asyncio._get_running_loop():
        current = asyncio.current_task()
        for task in [current] if _is_of(current, job) else asyncio.all_tasks():
            if _is_of(task, job):
                job.running = task
    return job.running


def _is_of(task, job):
    # type: (Any, Any) -> bool
    return getattr(task, "get_coro", lambda: task)() is job.coroutine
