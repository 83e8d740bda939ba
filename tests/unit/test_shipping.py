"""The account of what is where: nothing counts as being there that a control message can overtake."""
from __future__ import annotations

from typing import Any

import pytest

import ramet
from ramet import codec, shipping
from ramet.kernel.frames import CONTROL
from ramet.modules.server import ModuleServer
from ramet.node import Node


class Sent:
    """Stands for the core: keeps the batches that are sent, as (flags, names, names of the records)."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[str], list[str]]] = []

    def send(self, dst: int, handle: int, chunks: Any, reply_to: int = 0, flags: int = 0) -> None:
        _, _, names, records, _ = codec.decode(b"".join(map(bytes, chunks)))
        self.batches.append((flags, names, [record[0] for record in records]))


@pytest.fixture
def tree() -> Any:
    with ramet.Tree() as tree:
        yield tree


def nodes(tree: ramet.Tree) -> tuple[Node, Node]:
    parent = Node(tree, 1, "parent", None, "test")
    return parent, Node(tree, 2, "child", parent, "test")


def shipper(parent: Node) -> tuple[shipping.Shipper, Sent]:
    sent = Sent()
    return shipping.Shipper(sent, ModuleServer(), lambda node: parent), sent  # type: ignore[arg-type]


@pytest.mark.parametrize("for_child", [False, True])
def test_what_was_not_sent_as_control_is_sent_again_when_it_is_needed(tree: ramet.Tree, for_child: bool) -> None:
    """Parts that follow the first call go to a node; then it, or a node below it, needs one at once."""
    parent, child = nodes(tree)
    subject, sent = shipper(parent)
    subject.kernel_parts(parent, ["failures", "fragments"], 0)
    subject.kernel_parts(child if for_child else parent, ["failures"])
    (_, _, first), (flags, names, records) = sent.batches
    assert first == ["ramet.kernel.failures", "ramet.kernel.fragments"]
    assert (flags, names, records) == (CONTROL, ["ramet.kernel.failures"], ["ramet.kernel.failures"])


def test_what_was_sent_as_control_is_sent_once_over_each_link(tree: ramet.Tree) -> None:
    parent, child = nodes(tree)
    subject, sent = shipper(parent)
    for node in (parent, parent, child, child):
        subject.kernel_parts(node, ["failures"])
    assert sent.batches == [
        (CONTROL, ["ramet.kernel.failures"], ["ramet.kernel.failures"]),
        (CONTROL, ["ramet.kernel.failures"], []),   # the parent keeps it, and passes it on
    ]
