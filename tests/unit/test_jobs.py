"""Who may interrupt a call in a thread, and when: the permit. The interpreter's own way of raising it is replaced."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from ramet.kernel import compat_late, jobs
from ramet.kernel.calls import Interrupt


class Raised:
    """What was raised in threads: True for the interrupt, False where one was taken back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[bool] = []
        monkeypatch.setattr(compat_late, "raise_in_thread", self)

    def __call__(self, thread: int, error: type[BaseException] | None) -> bool:
        assert thread == threading.get_ident()
        self.done.append(error is Interrupt)
        return True


def a_job() -> jobs.ThreadJob:
    core = SimpleNamespace(threads=threading.local())
    return jobs.ThreadJob(SimpleNamespace(core=core), None, "*")  # type: ignore[arg-type]


def test_what_has_not_begun_and_what_has_ended_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is at something else then: the next call, or ramet's own code, with its locks."""
    raised = Raised(monkeypatch)
    job = a_job()
    job.interrupt()
    assert job.enter(lambda: 5, [], {}, {}) == 5
    job.interrupt()
    assert raised.done == [] and not job.interrupted


def test_what_is_in_code_of_ramet_is_interrupted_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = Raised(monkeypatch)
    job = a_job()

    def fn() -> None:
        left = job.leave()
        assert left and not job.leave(), "who has left needn't once more"
        job.interrupt()
        assert raised.done == []
        job.back(left)
        job.interrupt()
        assert raised.done == [True]
        job.interrupt()
    job.enter(fn, [], {}, {})
    assert raised.done == [True, False], "sent once; what hadn't been raised when the function returned is taken back"


def test_a_thread_that_leaves_too_late_waits_until_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be raised behind it: in ramet's own code, or in the next call."""
    raised = Raised(monkeypatch)
    job = a_job()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        if not job.sent and len(waits) == 3:
            raised(job.thread, Interrupt)   # the other thread, which has the permit, goes on
            job.sent = True
        waits.append(seconds)
    monkeypatch.setattr(time, "sleep", sleep)

    def fn() -> None:
        job.cancelled = True
        job.permit.pop()    # the other thread is about to send it
    job.enter(fn, [], {}, {})
    assert len(waits) == 6 and raised.done == [True, False]
