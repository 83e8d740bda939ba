"""Where messages go, and whose word is believed.

Pure: it answers questions about ids and links and does nothing. Links are opaque objects here. Must not know of
descriptors, threads or time. Guarded by the core's lock where more than one thing changes.

Rules, after "How Mitogen Works" (source verification, disconnect propagation):

1. What is addressed to this node is delivered, what a route covers goes down that link, everything else goes up.
2. A frame's source and its authority must both be nodes that are reached through the link on which it came.
3. Routes come from above only: the controller knows every node, so a node below can claim nothing.
4. A node's death is believed from the link behind which it lies, and is told to all that ever talked to it: see
   ``descent``, the part of this that only nodes with children need.
"""
MYPY = False
if MYPY:
    from typing import Any, Dict, Iterable, Optional


class Routes(object):
    """One node's view of the tree.

    Attributes:
        id: this node's own id.
        ancestors: ids from the parent to the controller (0).
        parent: the link upwards; None in the controller.
        down: descendant's id -> link to the child behind which it lies.
        one_way: messages go up and down only: nothing is passed on from one child to another.
    """

    one_way = False

    def __init__(self, id, ancestors=()):
        # type: (int, Iterable[int]) -> None
        self.id = id
        self.ancestors = tuple(ancestors)
        self.parent = None  # type: Any
        self.down = {}  # type: Dict[int, Any]

    def link_to(self, id):
        # type: (int) -> Optional[Any]
        """The link on which a message for that node goes; None if there is no way."""
        return self.down.get(id, self.parent)

    def behind(self, id, link):
        # type: (int, Any) -> bool
        """Whether that node is reached through that link: what makes source and authority believable."""
        return id != self.id and self.down.get(id, self.parent) is link

    def commands(self, authority):
        # type: (int) -> bool
        """Whether that authority may run code in this node: an ancestor, or the node itself."""
        return authority in self.ancestors or authority == self.id
