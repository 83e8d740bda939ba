"""What is registered to end with a call, and is taken back just as the call is ended. Without processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import cancelling, offspring


class Enders(list[Any]):
    """Another thread takes the last one out as soon as this one has looked whether there is one."""

    def __bool__(self) -> bool:
        found = len(self) > 0
        self.clear()
        return found

    def __contains__(self, one: object) -> bool:
        found = super().__contains__(one)
        self.clear()
        return found

    def remove(self, one: Any) -> None:
        self.clear()
        super().remove(one)


def job_of(core: Any) -> Any:
    return SimpleNamespace(calls=SimpleNamespace(core=core), nested={}, interrupt=bool, waiter=None, enders=Enders([bool]),
                           cancelled=False)


def test_who_ends_a_call_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """IndexError: it was never interrupted again, nor its subprocesses killed."""
    later: list[Any] = []
    monkeypatch.setattr(offspring, "of", lambda _: {})
    cancelling.Ending(job_of(SimpleNamespace(loop=SimpleNamespace(call_later=lambda *what: later.append(what))))).begin()
    assert later


def test_who_takes_back_what_was_called_meanwhile_is_content() -> None:
    """ValueError came out of the function, in place of what it had said."""
    job = job_of(None)
    take_back = cancelling.register(job, print)
    take_back()
    assert not list(job.enders)


def test_what_is_registered_when_a_call_has_just_been_ended_is_called() -> None:
    """It never was: what a generator had to send waited for credit, where nothing else ends a wait, for ever."""
    job = job_of(None)
    job.enders = []
    called: list[str] = []
    cancelling.register(job, lambda: called.append("before"))
    job.cancelled = True
    cancelling.compat_late.call_each(job.enders)
    cancelling.register(job, lambda: called.append("after"))()
    assert called == ["before", "after"]
