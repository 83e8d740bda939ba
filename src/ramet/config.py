"""What a node is told first: its CONFIG. Must not know how it gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ramet.kernel import fragments, limits, values
from ramet.kernel.core import CONFIG
from ramet.kernel.frames import CONTROL

if TYPE_CHECKING:
    from ramet.node import Node
    from ramet.tree import Tree


def frame(tree: Tree, node: Node, plan: dict[str, Any]) -> bytes:
    """The frame that tells a node who it is, in whose name it is sent by its parent."""
    above = 0 if node.parent is None else node.parent.id
    ancestors, one = list[int](), node.parent
    while one is not None:
        ancestors.append(one.id)
        one = one.parent
    config = {"id": node.id, "name": node.name, "ancestors": [*ancestors, 0], "log_level": node._levels[""],
              **tree._lookout.config(plan)}
    if tree._core.routes.one_way:
        config["one_way"] = True
    if tree._close_grace_s > limits.close_grace_s:
        config["close_grace_s"] = tree._close_grace_s
    if node._state.offered:
        config["installed"] = list(node._state.offered)
    return fragments.whole(CONTROL, 0, node.id, above, above, CONFIG, 0, values.encode(config))
