"""Calls that would wait for themselves, where that shows late: when a function waits for a call that it has started before.

A call that is waited for from its beginning says in its options who waits for it (``chain``), and what it calls says so, too.
One that was started says nothing, for its caller may never wait. When he does, for its end, he says so in a CANCEL with the
chain. Whoever runs the call remembers it (``told``), and passes it on to what that call itself waits for just then. A call that
is found in line for a lane that waits for it is answered with a DeadlockError: its turn can't come.

Late part of the kernel, with ``cancelling``. Must not know how calls are ended. In a thread that took a CANCEL; nothing waits.
"""
import sys

from ramet.kernel import awaiting, failures
from ramet.kernel.faults import Error
from ramet.kernel.frames import ERROR

MYPY = False
if MYPY:
    from typing import Any, List

    from ramet.kernel.calls import Calls


def heard(calls, key, chain):
    # type: (Calls, Any, List[Any]) -> None
    """Who has made a call waits for it now.

    Args:
        key: (source, reply handle) of the call. It may have ended.
        chain: [node, flow, lane] of each lane that waits, the caller's last.
    """
    here = _here(calls)
    told = dict([item for item in getattr(calls, "told", {}).items() if item[0] in here])
    if key in here and len(chain) > len(told.get(key, ())):     # a chain only grows: two threads may tell of one in any order
        told[key] = chain
    # Before it is looked for what the call waits for: who begins to wait does both the other way round.
    calls.told = told  # type: ignore[attr-defined]
    if key not in here or _is_left(calls, key, chain):
        return
    job = getattr(calls, "job", None)
    if job is None or (job.message.src, job.message.reply_to) != key:
        job = calls.lanes and calls.lanes.jobs.get(key)
    pass_on(job)


def pass_on(job):
    # type: (Any) -> None
    """Tell what a call waits for just now who waits for it."""
    for call in list(job.waits) if job else ():
        call._pass_on()


def check(job, id, flow):
    # type: (Any, int, int) -> None
    """Raise DeadlockError if a lane is one of those that wait while the calling thread does, which belongs to that job."""
    try:
        check_cycle(job.chain if job.holds_lane() else job.chain[:-1], id, flow)
    except Error:
        if awaiting.waits(job):
            raise


def check_cycle(chain, id, flow):
    # type: (List[Any], int, int) -> None
    """Raise DeadlockError if a lane is one of a chain, which waits. By its flow: lanes that share one share a thread."""
    for at, one in enumerate(chain):
        if (one[0], one[1]) == (id, flow):
            from ramet.kernel.errors import DeadlockError
            cycle = ["node %d, lane %s" % (id, name or "main") for id, _, name in chain[at:]]
            raise DeadlockError("this call would wait for itself: " + " -> ".join(cycle + cycle[:1]))


def _here(calls):
    # type: (Calls) -> Any
    """The keys of the calls that wait for their turn, or run. Looked at in the order in which they go from one to the next."""
    found = list(calls.aside)
    with calls.lock:
        found += list(calls.waiting) + [calls.current] * bool(calls.current)
    keys = set([(message.src, message.reply_to) for message in found])
    if calls.lanes:
        with calls.lanes.lock:
            keys.update(calls.lanes.jobs)
    return keys


def _is_left(calls, key, chain):
    # type: (Calls, Any, List[Any]) -> bool
    """Take a call out of its line if that is one that waits for it, and say so. Returns whether it was."""
    found = None
    with calls.lock:
        for message in list(calls.waiting):
            if (message.src, message.reply_to) == key and _stands(calls, chain, 0):
                calls.waiting.remove(message)
                found = message
    if calls.lanes and not found:
        with calls.lanes.lock:
            job = calls.lanes.jobs.get(key)
            # A call whose lane was found out here has the flow 0. In lane ANY none stands in a line that another one holds up.
            flow = job and job.lane != "*" and job.message.flow
            if flow and job.queue is not None and _stands(calls, chain, flow):
                job.queue.remove(job)
                job.queue = None
                job.ended = True
                del calls.lanes.jobs[key]
                found = job.message
    if found:
        try:
            check_cycle(chain, calls.core.id, found.flow)
        except Error:
            calls.core.reply(found, failures.pack(sys.exc_info()[1]), ERROR)
    return bool(found)


def _stands(calls, chain, flow):
    # type: (Calls, List[Any], int) -> bool
    return any([(one[0], one[1]) == (calls.core.id, flow) for one in chain])
