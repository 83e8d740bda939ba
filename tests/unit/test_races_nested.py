"""A call that is cancelled while its function makes another one. Without processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import cancelling, offspring
from ramet.kernel.core import CANCEL
from ramet.kernel.peer_calls import PeerCall


@pytest.mark.parametrize(("before", "told"), [(False, [(9, CANCEL, [1000])]), (True, [])])
def test_a_call_that_is_made_while_its_caller_is_cancelled_ends_with_it(
        monkeypatch: pytest.MonkeyPatch, before: bool, told: list[Any]) -> None:
    """It was sent, and not yet noted: it went on. One that is made to clean up, afterwards, goes on."""
    said: list[Any] = []
    core = SimpleNamespace(tell=lambda *what: said.append(what), loop=SimpleNamespace(call_later=lambda *_: None))
    job: Any = SimpleNamespace(leave=lambda: True, back=lambda _: None, nested={}, cancelled=before, waiter=None, enders=[],
                               interrupt=lambda: None, calls=SimpleNamespace(core=core))

    def ask(*_: Any) -> int:
        cancelling.end(job)     # by another thread, while this one writes
        return 1000
    core.ask = ask  # type: ignore[attr-defined]
    monkeypatch.setattr(offspring, "of", lambda _: {})
    monkeypatch.setattr(cancelling, "current_job", lambda _: job)
    peer: Any = SimpleNamespace(_node=SimpleNamespace(core=core, calls=None), _address=lambda: 9)
    PeerCall(peer, [b""])
    assert said == told and job.nested == {1000: 9}
