"""Several threads that wait for one call of a node's code. Without processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel.errors import CallCancelled
from ramet.kernel.peer_calls import PeerCall


@pytest.mark.parametrize("how", ["answered", "cancelled"])
def test_all_who_wait_for_a_call_are_woken(how: str) -> None:
    """The first one, awake, took itself out of the list through which the others were woken: the next one slept on."""
    call = PeerCall.__new__(PeerCall)
    woken: list[int] = []

    def wait(n: int) -> Any:
        def wake() -> None:
            woken.append(n)
            call._waiters.remove(waiter)
        waiter = SimpleNamespace(wake=wake)
        return waiter
    call._answer, call._waiters, call._handle = [], [wait(1), wait(2), wait(3)], 1000
    call._core = SimpleNamespace(tell=lambda *_: None)
    call.peer = SimpleNamespace(name="n", _address=lambda: 9)  # type: ignore[assignment]
    if how == "answered":
        call._done(0, b"")
    else:
        call._stop("cancelled", CallCancelled("it was"))
    assert woken == [1, 2, 3]
