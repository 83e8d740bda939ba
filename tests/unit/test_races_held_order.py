"""What was held for a node is sent in order."""

from __future__ import annotations

import threading

import ramet
from ramet.connectors import local


def test_what_was_held_for_a_node_is_sent_in_order_whoever_else_learns_of_its_interpreter() -> None:
    """The keeper sent what was held, another thread read that the node had grown: what came then overtook the rest."""
    with ramet.Tree(remember=False) as tree:
        gardener, sent = tree._gardener, list[int]()
        node = gardener._new(None, local.plan())

        def first() -> None:
            other = threading.Thread(target=gardener.known, args=(node, "source"))
            other.start()
            other.join()
            gardener.when_known(node, lambda: sent.append(3), bool)
            sent.append(1)
        gardener.when_known(node, first, bool)
        gardener.when_known(node, lambda: sent.append(2), bool)
        gardener.known(node, "source")
        assert sent == [1, 2, 3]
