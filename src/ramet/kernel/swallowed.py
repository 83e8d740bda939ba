"""Interrupts that Python swallows: what is raised in a destructor goes nowhere. Late part of the kernel, with ``jobs``.

Must not know how a function is interrupted, only how it is said of a job that its interrupt was lost (``swallowed``). Called
from whichever thread ends a call; what it puts in place runs on the main thread.
"""
import sys

from ramet.kernel import compat
from ramet.kernel.calls import Interrupt

MYPY = False
if MYPY:
    from typing import Any


def notice(calls):
    # type: (Any) -> None
    """Have it noticed when an interrupt of the main lane's function is swallowed: Python does that to what is raised in a
    destructor, even at its entry. The function is interrupted again then. Python tells of it since 3.8; before, what is raised
    while a ``__del__`` runs is taken for swallowed.
    """
    before = getattr(sys, "unraisablehook", None)
    if before is None:
        _look_out_for_destructors(calls)
        return
    if before is getattr(calls, "on_swallowed", None):
        return

    def on_swallowed(lost):
        # type: (Any) -> None
        if lost.exc_type is Interrupt and compat.thread_id() == compat.main_thread_id:
            calls.job.swallowed = True
        else:
            before(lost)
    calls.on_swallowed = sys.unraisablehook = on_swallowed


def _look_out_for_destructors(calls):
    # type: (Any) -> None
    """Have the handler of the signal look whether a ``__del__`` runs. It calls ``urgent`` before it raises."""
    before = compat.urgent
    if before is getattr(calls, "on_urgent", None):
        return

    def on_urgent(frame):
        # type: (Any) -> None
        before(frame)
        if calls.running and calls.current is calls.interrupted and getattr(calls, "job", None):
            while frame is not None and frame.f_code.co_name != "__del__":
                frame = frame.f_back
            calls.job.swallowed = frame is not None
    calls.on_urgent = compat.urgent = on_urgent
