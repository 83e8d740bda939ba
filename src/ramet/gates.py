"""Gates: how many nodes may connect at a time, for each that grows them. Pure; thread-safe: one lock.

Who finds the gate full waits in line, first come, first served. It must not know of nodes, time or links: a grower and a
node are numbers here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

# How many connections one grower has under way at a time, unless the program says otherwise. Enough to keep two cores busy
# with ssh on the loopback and to hide a round trip of 100 ms (docs/decisions/0011-connecting-at-once.md).
CONNECTING_MAX = 32


class _Gate:
    """Of one grower: who is inside, and who waits with what it will do."""

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self.line: dict[int, Callable[[], None]] = {}


class Gates:
    """One gate for each grower.

    Args:
        most: how many may be inside of one at a time.
        soon: calls a function a moment later, with nothing of ours on the stack: hundreds may leave one after the other.
    """

    def __init__(self, most: int, soon: Callable[[Callable[[], None]], None]) -> None:
        self.most = most
        self._soon = soon
        self._lock = threading.Lock()
        self._gates: dict[int, _Gate] = {}

    def enter(self, grower: int, node: int, start: Callable[[], None]) -> None:
        """Call ``start`` when the node's turn comes: now, in this thread, if there is room and nobody waits."""
        with self._lock:
            gate = self._gates.setdefault(grower, _Gate())
            inside = len(gate.inside) < self.most      # if anybody waits, there is none
            if inside:
                gate.inside.add(node)
            else:
                gate.line[node] = start
        if inside:
            start()

    def leave(self, grower: int, node: int) -> None:
        """A node is connected, or won't be: whoever waits longest comes in. Harmless if it is neither inside nor in line."""
        start = None
        with self._lock:
            gate = self._gates.get(grower)
            if gate is None:
                return
            gate.line.pop(node, None)
            if node in gate.inside:
                gate.inside.discard(node)
                if gate.line:
                    other = next(iter(gate.line))
                    gate.inside.add(other)
                    start = gate.line.pop(other)
                elif not gate.inside:
                    del self._gates[grower]
        if start is not None:
            self._soon(start)

    def counts(self) -> tuple[int, int]:
        """How many are inside of all gates, and how many wait."""
        with self._lock:
            gates = list(self._gates.values())
            return sum(len(gate.inside) for gate in gates), sum(len(gate.line) for gate in gates)
