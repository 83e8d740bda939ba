"""The controller's side of keepalive: who is told to look after whom, and what becomes of news that a node is silent.

Must not know how silence is found (``kernel.keepalive``). On the keeper, but for ``on_message``, which runs on whichever thread
reads the link.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ramet import codec
from ramet.kernel import keepalive
from ramet.kernel.core import KEEPALIVE, Message
from ramet.kernel.errors import ProtocolError
from ramet.kernel.refusing import overran
from ramet.node import Node
from ramet.parts import KEEPING

if TYPE_CHECKING:
    from ramet.tree import Tree

OnUnresponsive = Callable[[Node, bool], None]

# For ``lost_after_s=None``: some centuries.
NEVER_S = 1e10


def checked(keepalive_s: float | None, lost_after_s: float | None) -> tuple[float, float] | None:
    """The settings as numbers; None if there is no keepalive.

    Raises:
        ValueError: they aren't seconds, or a node would be lost before it can have answered.
    """
    for name, value in ("keepalive_s", keepalive_s), ("lost_after_s", lost_after_s):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < math.inf):
            raise ValueError(f"{name} must be a number of seconds above 0, or None, not {value!r}")
    if keepalive_s is None:
        return None
    if lost_after_s is not None and lost_after_s < 2 * keepalive_s:
        raise ValueError(f"lost_after_s={lost_after_s!r} must be at least twice keepalive_s={keepalive_s!r}: a node is asked "
                         "when it has been silent for that time, and has the same again to answer")
    return float(keepalive_s), NEVER_S if lost_after_s is None else float(lost_after_s)


class Lookout:
    """Looks after the nodes of one tree.

    Args:
        settings: what ``checked`` gave.
        on_unresponsive: who wants to know.
    """

    def __init__(self, tree: Tree, settings: tuple[float, float] | None, on_unresponsive: OnUnresponsive | None) -> None:
        self.tree = tree
        self.settings = settings
        self.on_unresponsive = on_unresponsive
        self.lock = threading.Lock()
        self.said: dict[int, bool | None] = {}  # of whom something was taken just now: what came since; None: nothing
        if settings:
            self.watch = keepalive.Watch(tree._core, *settings, self._neighbours, self.silent)

    def config(self, plan: dict[str, Any]) -> dict[str, Any]:
        """What a node's CONFIG says of it: the times, and whether its parent is the process above it on the same machine."""
        return {"keepalive": [*self.settings, plan["shape"] in ("socket", "fork")]} if self.settings else {}

    def _neighbours(self) -> Iterator[keepalive.Neighbour]:
        """The controller's children; and at this opportunity, nodes that are new are told to begin."""
        for node in self.tree.nodes:
            state = node._state
            if state.up and not state.looks:
                with contextlib.suppress(OSError, ImportError):     # no descriptor to read the part by: next time
                    self.tree._shipper.kernel_parts(node, KEEPING)
                    self.tree._core.tell(node.id, KEEPALIVE, True)
                    state.looks = True
        return keepalive.children_of(self.tree._nursery)

    def on_message(self, message: Message) -> None:
        """Take a SILENT message of a node about a child of its own: [id, whether it is silent]."""
        told: Any = codec.decode(message.body)
        if not isinstance(told, list) or len(told) != 2 or not isinstance(told[0], int) or not isinstance(told[1], bool):
            raise ProtocolError("malformed SILENT")
        node = self.tree._nodes.get(told[0])
        if self.settings is None or node is None or node.parent is None or node.parent.id != message.src:
            self.tree._core.refused += 1
            return
        with self.lock:
            rests = node.id in self.said
            self.said[node.id] = told[1]
        if rests:
            overran(message)
        else:
            self.tree._core.loop.call_soon(self._take, node.id)

    def _take(self, id: int) -> None:
        """Take what was said last of a node. An honest parent says something new of it once in ``keepalive_s`` at most: what
        comes within half of that waits, and only the last of it counts.
        """
        with self.lock:
            silent = self.said.pop(id)
            if silent is None:
                return
            self.said[id] = None
        self.tree._core.loop.call_later(self.watch.keepalive_s / 2, self._take, id)     # first: a log handler may raise
        self.silent(id, silent)

    def silent(self, id: int, silent: bool) -> None:
        """One is silent, or no longer."""
        node = self.tree._nodes.get(id)
        if node is None or not node._state.up or node._state.ended or node._state.silent == silent:
            return
        node._state.silent = silent
        logging.getLogger(f"ramet.node.{node.name}").warning(
            "unresponsive: nothing has come from it for %g s, and no answer" if silent else
            "responsive again: it was silent for more than %g s", 2 * self.watch.keepalive_s)
        if self.on_unresponsive is not None:
            try:
                self.on_unresponsive(node, silent)
            except BaseException as error:
                self.tree._on_error(error)
