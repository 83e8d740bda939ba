"""The controller's core: it says in the log what it refused, and of whom; and what other nodes tell that they have refused.

At a bounded rate: who is refused chooses how often.

Must not know why something is refused: whoever refuses counts it in ``Core.refused``. Runs on whichever thread reads the link.
"""

from __future__ import annotations

import logging
import operator
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ramet import codec
from ramet.display import harmless
from ramet.kernel import frames
from ramet.kernel.core import Core, Message
from ramet.kernel.errors import ProtocolError, ValueNotPortableError
from ramet.shelter import ShelteredCore

if TYPE_CHECKING:
    from ramet.kernel.links import Link
    from ramet.kernel.loop import Loop
    from ramet.node import Node

_LOGGER = logging.getLogger("ramet.refused")

# How much is shown of why something was refused: it may be the sender's words.
TEXT_MAX = 300


class WatchfulCore(ShelteredCore):
    """A core that tells of what it refuses: of each child of the controller the first time, and whenever its count has doubled.

    Args:
        nodes: by id; owned by the tree.
    """

    def __init__(self, loop: Loop, nodes: Mapping[int, Node]) -> None:
        self._refused = 0
        self._last = 0      # the thread that refused last
        self._why: BaseException | None = None
        self._nodes = nodes
        self._counts: dict[int, int] = {}
        self._told: dict[int, int] = {}
        super().__init__(0, (), loop)

    def _count(self, count: int) -> None:
        self._why = sys.exc_info()[1]
        self._last = threading.get_ident()      # before the count: so ``on_frame`` blames nobody for another link's
        self._refused = count

    #: How many frames or messages were dropped since they broke the rules. It is asked for twice a frame: in C.
    refused = property(operator.attrgetter("_refused"), _count)

    def on_frame(self, link: Link, header: frames.Header, frame: bytes) -> None:
        """As in every node. What is refused meanwhile by this thread came over this link."""
        before = self._refused
        try:
            Core.on_frame(self, link, header, frame)
        except BaseException as error:
            self.on_raised(error)
        if self._refused != before and self._last == threading.get_ident():
            _, _, _, dst, src, _, handle, _, _ = header
            why, self._why = self._why, None
            self.tell_of(link, src, handle, dst, why)

    def tell_of(self, link: Link, src: int, handle: int, dst: int, why: BaseException | None) -> None:
        """Say in the log what was refused, unless enough was said."""
        try:
            id = self.longs().neighbour(link)
        except IndexError:
            return      # it is gone
        count = self._counts[id] = self._counts.get(id, 0) + 1
        if count & (count - 1):
            return
        node: Any = self._nodes.get(id)
        _LOGGER.warning(
            "refused from node %s or below it: %d so far; the last was for handle %d of node %d, as from node %d%s",
            harmless(node.name) if node else id, count, handle, dst, src, f": {harmless(str(why)[:TEXT_MAX])}" if why else "",
            exc_info=why if why and not isinstance(why, ProtocolError | ValueNotPortableError | LookupError) else None)


    def on_told(self, message: Message) -> None:
        """A node has refused something of a child of its own, or from below it: [child, how often, handle, node, source].

        It may tell lies, and any number of them: more is said only when the count has doubled again.
        """
        told: Any = codec.decode(message.body)
        if not (isinstance(told, list) and len(told) == 5 and all(type(one) is int and 0 <= one < 1 << 32 for one in told)):
            raise ProtocolError("malformed REFUSED")
        id, count, handle, dst, src = told
        node = self._nodes.get(id)
        if node is None or node.parent is None or node.parent.id != message.src:
            self.refused += 1
        elif count >= 2 * self._told.get(id, 0) and count:
            self._told[id] = count
            _LOGGER.warning("refused by node %s from node %s or below it: %d so far; the last was for handle %d of node %d, "
                            "as from node %d", harmless(node.parent.name), harmless(node.name), count, handle, dst, src)


def refuse(core: Core, message: Message) -> None:
    """Count a message that is refused later, not by whom reads the link."""
    core.refused += 1
    if isinstance(core, WatchfulCore):
        core.tell_of(message.link, message.src, message.handle, core.id, None)
