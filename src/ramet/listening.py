"""What nodes are told of their output and log records: what of them was shown here, and which records are wanted.

Must not know how things are shown. Any thread.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ramet import codec
from ramet.kernel.core import LOG, OUTPUT
from ramet.kernel.frames import CONTROL, COUNTED
from ramet.node import Node
from ramet.parts import SHOWN

if TYPE_CHECKING:
    from ramet.grower import Grower
    from ramet.tree import Tree


class Listening:
    """Tells the nodes of one tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._telling = threading.RLock()     # a signal's handler may set one, too

    def shown(self, node: Node, output: int, records: int) -> None:
        """So many bytes more of a node's output and records were shown."""
        self._tell(node, OUTPUT, [output, records])

    def set_level(self, grower: Grower, level: int | str, logger: str) -> None:
        """Have a logger's records made from that level on: see ``Grower.set_log_level``.

        Raises:
            ValueError, TypeError: there is no such level.
        """
        number = logging.Logger("", level).level    # which checks it
        gardener = self.tree._gardener
        with gardener.lock:
            grower._levels[logger] = number
            nodes = [node for node in self.tree.nodes if grower in (self.tree, node) or _is_below(node, grower)]
            for node in nodes:
                node._levels[logger] = number
        for node in nodes:
            self._tell_level(node, logger)

    def begin(self, node: Node) -> None:
        """A new node: tell it of what its configuration doesn't hold, the levels of loggers by name."""
        for logger in list(node._levels):   # another thread may add one
            if logger:
                self._tell_level(node, logger)

    def _tell_level(self, node: Node, logger: str) -> None:
        """Tell a node a logger's level, when it is known, and as it is then: another thread may set it just now."""
        def send() -> None:
            with self._telling:     # so that the last word is the latest
                self._tell(node, LOG, [node._levels[logger], logger])
        self.tree._gardener.when_known(node, send, bool)

    def _tell(self, node: Node, handle: int, value: list[int | str]) -> None:
        """COUNTED makes the node load the part that knows of it."""
        self.tree._shipper.kernel_parts(node, SHOWN)
        self.tree._core.send(node.id, handle, codec.encode(value), 0, CONTROL | COUNTED)


def _is_below(node: Node, grower: Grower) -> bool:
    above = node.parent
    while above is not None and above != grower:
        above = above.parent
    return above is not None
