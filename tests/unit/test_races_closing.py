"""A node that is ended while its main lane takes the next call. Without processes."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import calls, compat, ending, later
from ramet.kernel.core import CALL, Message


def test_a_node_that_ends_leaves_the_call_that_is_taken_just_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """IndexError: the line was emptied between the look and the grip. Or the call began, and nothing interrupted it."""
    ours = calls.Calls.__new__(calls.Calls)
    ours.lock = compat.new_lock()
    ours.lanes = ours.current = ours.interrupted = None
    ours.running = ours.closing = ours.served = False
    link = SimpleNamespace(give_back=lambda _: None, borrower=None, flush=lambda: None)
    ours.core = SimpleNamespace(routes=SimpleNamespace(parent=link))  # type: ignore[assignment]
    ours.waiter = SimpleNamespace(wake=lambda: None)  # type: ignore[assignment]
    node: Any = SimpleNamespace(config={}, nursery=None, calls=ours, loop=SimpleNamespace(call_later=lambda *_: None))
    keeper = threading.Thread(target=later.end, args=(node,))
    ran: list[Any] = []
    monkeypatch.setattr(ending, "wake_guardian", lambda: None)
    monkeypatch.setattr(compat, "start_thread", lambda *_: None)
    monkeypatch.setattr(ours, "finish", lambda *_: None)

    class Waiting(compat.deque):  # type: ignore[misc,name-defined]
        def popleft(self) -> Any:
            keeper.start()
            keeper.join(0.3)    # it is through, or waits
            return super().popleft()

    def run(message: Message) -> None:
        keeper.join()
        ran.append(ours.interrupted is message)
    monkeypatch.setattr(ours, "run", run)
    ours.waiting = Waiting([Message(0, 0, CALL, 1, 0, None, b"")])
    ours.serve()
    assert ran == [True], "it is interrupted when its function begins: see `Calls.enter`"
