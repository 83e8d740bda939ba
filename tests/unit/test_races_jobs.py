"""What is known of the main lane's call, when two threads ask at once. Without processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import cancelling, jobs
from ramet.kernel.core import CALL, Message


def calls_with(message: Message) -> Any:
    return SimpleNamespace(current=message, options={}, began=0.0, waiter=None, pid=1, running=True)


def test_a_call_has_one_job_whoever_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cancelled it had another one than the function's thread: the calls that this waited for weren't ended, nor it."""
    message = Message(0, 0, CALL, 1, 0, None, b"")
    calls = calls_with(message)
    found: list[Any] = []

    class Slow(jobs.MainJob):
        def __init__(self, *args: Any) -> None:
            if not found:
                found.append(None)
                found[0] = cancelling.main_job(calls, message)      # by another thread, meanwhile
            super().__init__(*args)
    monkeypatch.setattr(jobs, "MainJob", Slow)
    assert cancelling.main_job(calls, message) is found[0]
    assert cancelling.main_job(calls, message) is calls.job is found[0]


def test_a_cancel_that_comes_late_leaves_the_next_calls_job_alone() -> None:
    before, message = Message(0, 0, CALL, 1, 0, None, b""), Message(0, 0, CALL, 2, 0, None, b"")
    calls = calls_with(message)
    job = cancelling.main_job(calls, message)
    cancelling.main_job(calls, before)
    assert cancelling.main_job(calls, message) is calls.job is job
