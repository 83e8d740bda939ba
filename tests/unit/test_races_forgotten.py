"""What comes for a stream at the moment at which it is forgotten. Without processes."""

from __future__ import annotations

from typing import Any

import pytest

from ramet.kernel import loop_late, streams
from ramet.kernel.core import Core, Message
from ramet.kernel.loop import Loop


def test_what_comes_while_a_stream_is_forgotten_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was refused as a stranger's, and its sender, to whom the word to stop had come too early, never heard that again."""
    loop = Loop(lambda error: None)
    core = Core(0, [], loop)
    ours = streams.of(core)
    message = Message(5, 5, streams.ITEMS, 0, 1, None, streams.HEAD.pack(0xdd, 3, 0xce, 2, streams.WANTS) + b"\x01")
    told: list[Any] = []
    monkeypatch.setattr(core, "tell", lambda *what: told.append(what))

    class Intakes(dict[Any, Any]):
        def __delitem__(self, key: Any) -> None:
            super().__delitem__(key)
            ours.on_items(message)      # by another thread

        def pop(self, key: Any, *default: Any) -> Any:
            found = super().pop(key, *default)
            ours.on_items(message)
            return found
    ours.intakes = Intakes()
    intake = streams.Intake(ours, 5, 2, None)
    try:
        intake.stop()
    finally:
        loop_late.close(loop)
    assert told == [(5, streams.CREDIT, [2])] * 2
