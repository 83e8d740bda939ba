"""Modules that a node was told are coming: packed and sent piece by piece, while the node runs the first of them.

What was never packed before takes as long to pack as it takes the node to import it, so the two go side by side. The keeper
packs a piece at a time and looks after everything else between two of them. Whoever sends modules to any node has all that is
coming sent first (``finish``): so what a node or a hop has is always what was sent. Must not know what is packed how, nor
messages.

Not thread-safe: the shipper's lock guards it.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ramet.node import Node

# A piece takes about ten milliseconds to pack, and keeps its node busy for as long.
PIECE_MODULES = 12
# Fewer aren't worth a second message.
MODULES_MIN = 3 * PIECE_MODULES
# So much source, as compressed bytecode, is more than is sent to a node that hasn't told what is installed there.
SURELY_LARGE_BYTES = 1 << 19


@dataclass
class _Rest:
    """What is left of one closure.

    Attributes:
        node: who gets it; None: it is only packed, since somebody will need it.
        names: in the order in which they are needed.
    """

    node: Node | None
    form: str
    names: Sequence[str]


class Coming:
    """All that is coming, to all nodes of a tree.

    Args:
        soon: has the keeper call something between two events.
        step: packs modules, and sends them if there is a node.
    """

    def __init__(self, soon: Callable[..., Any], step: Callable[[Node | None, str, Sequence[str]], Any], lock: Any) -> None:
        self._soon = soon
        self._step = step
        self._lock = lock
        self._waiting: collections.deque[_Rest] = collections.deque()

    def begin(self, node: Node | None, form: str, names: Sequence[str]) -> None:
        """Begin with these, behind what is coming already."""
        self._waiting.append(_Rest(node, form, names))
        self._soon(self._next)

    def brings(self, node: Node, form: str, names: Iterable[str]) -> bool:
        """Whether all of these are on their way to a node. If not, all that is coming is sent now, since others will be."""
        coming = {name for rest in self._waiting if rest.node == node and rest.form == form for name in rest.names}
        if coming.issuperset(names):
            return True
        self.finish()
        return False

    def finish(self) -> None:
        """Send all that is coming now."""
        while self._waiting:
            rest = self._waiting.popleft()
            if rest.node is not None:
                self._step(rest.node, rest.form, rest.names)

    def _next(self) -> None:
        with self._lock:
            if not self._waiting:
                return
            rest = self._waiting[0]
            piece, rest.names = rest.names[:PIECE_MODULES], rest.names[PIECE_MODULES:]
            gone = rest.node is not None and rest.node._state.ended
            if gone or not rest.names:
                self._waiting.popleft()
            if not gone:
                self._step(rest.node, rest.form, piece)
            if self._waiting:
                self._soon(self._next)
