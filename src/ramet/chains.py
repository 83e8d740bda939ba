"""Which lane a call is for, and who waits for it: methods of services of this program, and whoever has asked them.

Must not know how calls are sent. Any thread that may block.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import CO_COROUTINE
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ramet.kernel import circles
from ramet.kernel.errors import DeadlockError
from ramet.kernel.facade import ANY

if TYPE_CHECKING:
    from ramet.call import Call

ASYNCIO = "asyncio"     # the lane of coroutines
RESERVED = [1 + crc32(lane.encode()) % 0xFFFE for lane in (ANY, ASYNCIO)]


def options_for(fn: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """A call's options: coroutine functions go to the asyncio lane, so that they needn't wait for the main one."""
    code = getattr(fn, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE and "lane" not in options:
        return {**options, "lane": ASYNCIO}
    return options


def flow_of(options: dict[str, Any]) -> int:
    """The flow in which a call travels: one for each lane, so that lanes don't wait for one another."""
    if "lane" not in options:
        return 0
    flow = 1 + crc32(options["lane"].encode()) % 0xFFFE
    return flow + (flow in RESERVED and options["lane"] not in (ANY, ASYNCIO))


def request_that_waits(core: Any) -> Any:
    """The request for a service of this program that can't go on while the calling thread waits; or None."""
    job = getattr(core.threads, "job", None)
    if job is None:
        awaiting = sys.modules.get("ramet.kernel.awaiting")
        job = awaiting and awaiting.here()
        if awaiting and job and (job.calls.core is not core or awaiting.waits(job) != awaiting.SURELY):
            job = None      # it is another tree's, or goes on
    return job


def check_wait(job: Any, call: Call[Any], for_good: bool) -> None:
    """Raise DeadlockError if a call that a method waits for runs in a lane that waits for that method.

    Args:
        for_good: it waits until the call has ended: then whoever runs that is told.
    """
    _check(job, call)
    if for_good:
        _note(job, call)


def check_await(call: Call[Any]) -> None:
    """The same where a coroutine awaits a call, which will be cancelled if that wait is."""
    awaiting = sys.modules.get("ramet.kernel.awaiting")
    job = awaiting and awaiting.here()
    if awaiting is None or job is None or job.calls.core is not call.node._tree._core:
        return
    task = sys.modules["asyncio"].current_task()
    if task is None:
        return      # who runs this coroutine isn't known
    call._task = None if task is awaiting.own_task(job) else task
    try:
        _check(job, call)
    except DeadlockError:
        if awaiting.waits_for(job, task):
            raise
    _note(job, call)


def tell_chain(call: Call[Any]) -> None:
    """Tell the node of a call who waits for it, if that isn't known there."""
    job, tree = call._job, call.node._tree
    chain = job.chain
    if chain == call._chain or call._handle not in tree._core.pending:
        return
    if call._task is not None:      # whether it is waited for at all may change: only a circle is told of
        try:
            _check(job, call)
            return
        except DeadlockError:
            if not sys.modules["ramet.kernel.awaiting"].waits_for(job, call._task):
                return
    call._chain = chain
    tree._caller.tell(call, chain, _flow(call))


def _flow(call: Call[Any]) -> int:
    return 0 if call._is_request else flow_of(options_for(call._fn, call.node._options))


def _check(job: Any, call: Call[Any]) -> None:
    if not call._is_request and options_for(call._fn, call.node._options).get("lane") != ANY:
        circles.check_cycle(job.chain, call.node.id, _flow(call))


def _note(job: Any, call: Call[Any]) -> None:
    """Keep in mind that a method waits for a call, and tell its node of those who wait for that method."""
    count = len(job.waits)
    if not count & (count - 1):     # not each time: thousands may be awaited at once
        job.waits[:] = [one for one in job.waits if not one._answered]
    job.waits.append(call)
    call._job = job
    tell_chain(call)
