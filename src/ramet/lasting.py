"""Nodes that outlive their program: ``keep`` and ``detach`` of every node, and ``attach``, which comes back to one.

Must not know what a kept node does to wait (``kernel/held.py``), nor how it is found (``kernel/meeting.py``). Thread-safe.
"""

from __future__ import annotations

import copy
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ramet.bootstrap import packing
from ramet.kernel import held
from ramet.kernel.core import END
from ramet.kernel.errors import Error

if TYPE_CHECKING:
    from ramet.node import Node, State
    from ramet.tree import Tree

# How long it may take until the link to a node is closed: its parent may hang.
LEFT_WITHIN_S = 10.0

Self = TypeVar("Self", bound="Lasting")


class Lasts:
    """What is known of a node's life without this program.

    Attributes:
        path: of its socket, if this program has kept it; of one that was attached, what by.
        left: set when the link to it is closed, since it is detached; None: it isn't.
        alone: its tree was made for it, by ``attach``.
    """

    __slots__ = ("alone", "left", "path")

    def __init__(self) -> None:
        self.path = ""
        self.left: threading.Event | None = None
        self.alone = False


class Lasting:
    """The part of a node's methods that is about its life without its program."""

    _tree: Tree
    _state: State
    id: int
    name: str
    parent: Node | None

    def keep(self, name: str | None = None, *, wait_s: float | None = None) -> str:
        """Let it outlive this program, should that be killed or the way to it be lost: it waits then, to be attached again.

        It goes on as it is. ``close()`` ends it, and so does the tree when it is closed. What its program has begun ends when
        that goes: calls, streams, services, children; what its functions have made stays: modules, objects, threads.

        Args:
            name: under which ``attach`` finds it, on that machine and for that account: 1 to 64 of ``A-Z a-z 0-9 _ . @ : -``.
                Or the absolute path of a socket, in a folder that only that account may enter. Default: the node's own name.
            wait_s: seconds that it waits for a program each time when it has none, then it ends; None: for ever.

        Returns:
            The path of its socket, over there.

        Raises:
            Error: it isn't a process that its parent has started directly (``local``), has children, the name is taken, the
                socket's folder isn't safe, or there is no room for another process or descriptor over there. It is as before
                then. ConnectError: it can't be reached.
            ValueError: ``wait_s`` isn't a number of seconds above 0.

        It waits for its turn on the node's main lane, like any call.
        """
        node: Any = copy.copy(self)
        node._options = {}
        node.wait()
        shape = self._state.planned()["shape"]
        if shape == "kept":
            raise Error(f"node {self.name} is kept already: that is why it could be attached")
        if shape != "socket":
            raise Error(f"node {self.name} ({node.what}) can't outlive its link, since other programs hold its process: "
                        f"keep or detach one below it, node.local()")
        if any(child.parent == self for child in self._tree.nodes):
            raise Error(f"node {self.name} has children, which would end with this program: close them first, or detach "
                        f"them by themselves")
        if wait_s is not None and (isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0 < wait_s < 1e9):
            raise ValueError(f"wait_s must be a number of seconds above 0, not {wait_s!r}")
        path: str = node.call(held.keep, self.name if name is None else name, wait_s, packing.version())
        self._state.lasts.path = path
        return path

    def detach(self, name: str | None = None, *, wait_s: float | None = None) -> str:
        """Leave it alone: it outlives this program, which has done with it. ``ramet.attach`` comes back to it, in any program.

        Calls, streams and services end, here with ``ClosedError``; what its functions have made stays: modules, objects,
        threads.
        A node that was attached is left under the name that it has.

        Args:
            name, wait_s: as for ``keep``, if it isn't kept yet.

        Returns:
            The path of its socket, over there; for one that was attached, what it was attached by.

        Raises:
            What ``keep`` raises. ValueError: it has a name already.
        """
        plan = self._state.planned()
        path = plan["argv"][0] if plan["shape"] == "kept" else self._state.lasts.path
        if path and (name is not None or wait_s is not None):
            raise ValueError(f"node {self.name} is kept already, as {path}: neither that name nor wait_s= can be changed")
        path = path or self.keep(name, wait_s=wait_s)
        if not self._state.ended:
            node: Any = self
            node.wait()         # before there is a link, nobody could close it
        tree, above = self._tree, self.parent
        self._state.lasts.left, self._state.lasts.path = threading.Event(), path
        if above is None:
            tree._nursery.end([self.id])
        else:
            tree._core.tell(above.id, END, [[self.id]])
        if tree._core.can_wait() and not self._state.ended:
            self._state.lasts.left.wait(LEFT_WITHIN_S)
        if self._state.lasts.alone:
            tree.close()
        return path

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the node; leave it, if it was attached."""
        node: Any = self
        if not self._state.ended and self._state.planned()["shape"] == "kept":
            self.detach()
        else:
            node.close()
        if self._state.lasts.alone:
            self._tree.close()


def attach(target: str, *, name: str | None = None, connect_timeout_s: float = 30.0, **settings: Any) -> Node:
    """Come back to a node on this machine that was detached, or lost its program and was kept. Waits until it is connected.

    Its tree is one of its own. Use it in a ``with`` block: at its end the node is left as it is, waiting for the next program.
    ``tree.attach(...)`` and ``node.attach(...)`` do the same within a tree, and on other machines.

    Args:
        target: its name, or the absolute path of its socket.
        name: what it is called here. Default: as it was.
        connect_timeout_s: how long it may take, in seconds.
        settings: of the ``Tree``.

    Raises:
        ConnectError: there is none by that name, it belongs to somebody else, another program is attached to it, it was grown
            by another version of ramet; the text says which.
    """
    from ramet.tree import Tree  # which needs nodes, which need this module

    tree = Tree(**settings)
    try:
        node = tree.attach(target, name=name, connect_timeout_s=connect_timeout_s).wait()
    except BaseException:
        tree.close()
        raise
    node._state.lasts.alone = True
    return node
