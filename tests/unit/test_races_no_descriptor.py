"""No descriptor is left to read the kernel's parts by."""

from __future__ import annotations

from typing import Any

import pytest

import ramet
from ramet.connectors import local
from ramet.kernel.errors import ConnectError


def fail_to_open(*_: Any) -> None:
    raise OSError(24, "Too many open files")


def test_a_call_that_was_held_fails_if_what_it_needs_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited for it waited for ever."""
    with ramet.Tree(remember=False) as tree:
        node = tree._gardener._new(None, local.plan())
        call = node.start(len, bytes(500_000))
        monkeypatch.setattr(tree._shipper, "before_long", fail_to_open)
        tree._gardener.known(node, "source")
        with pytest.raises(OSError, match="Too many open files"):
            call.result(0)
        assert node.stats()["calls"] == 0


def test_a_node_that_another_one_cannot_grow_for_want_of_descriptors_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It connected for ever, and its place at the gate was taken for good."""
    with ramet.Tree(remember=False) as tree:
        parent = tree._gardener._new(None, local.plan())
        parent._state.open = True
        monkeypatch.setattr(tree._shipper, "kernel_parts", fail_to_open)
        with pytest.raises(ConnectError, match="Too many open files"):
            parent.local().wait(0)
        assert tree._gardener.gates.counts() == (0, 0)
