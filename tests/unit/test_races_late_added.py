"""The time is up while nodes are still being added."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from ramet.connecting import Connecting


class Connects:
    """Stands for a node that does so for ever."""

    what = "local"

    def __init__(self) -> None:
        self._state = SimpleNamespace(connected=Future(), last_error=None, waits=True)


def test_a_node_that_is_added_when_the_time_is_up_is_given_up() -> None:
    """The time bounded only those that had been added by then."""
    tree: Any = SimpleNamespace(
        _loop=SimpleNamespace(call_later=lambda *_: SimpleNamespace(cancel=bool)),
        _gardener=SimpleNamespace(give_up=lambda node, error: node._state.connected.set_exception(error)))
    connecting = Connecting(tree, 2, 1.0, None)
    first, second = Connects(), Connects()
    connecting._add(0, first)  # type: ignore[arg-type]
    connecting._too_late(1.0)
    connecting._add(1, second)  # type: ignore[arg-type]
    assert connecting.result(0) == [] and list(connecting.errors) == [first, second]
