"""What is known of the main lane's call before its function runs. Without processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ramet.kernel import cancelling
from ramet.kernel.core import CALL, Message


def test_a_job_that_is_asked_for_early_has_its_own_calls_options() -> None:
    """By a log record of a module that is imported for it: it had those of the call before, its time and who waits for that."""
    message = Message(0, 0, CALL, 2, 0, None, b"")
    core = SimpleNamespace(id=7)
    before = {"timeout": 5.0, "chain": [[7, 3, "a"]]}
    calls: Any = SimpleNamespace(current=message, options=before, began=0.0, waiter=None, pid=1,
                                 running=False, core=core)
    job = cancelling.main_job(calls, message)
    assert job.left() is None
    calls.options, calls.running = {"lane": ""}, True
    assert job.left() is None and job.chain == [[7, 0, ""]]
    calls.options = {"timeout": 1.0}    # of the next one
    calls.current = None
    assert job.left() is None
