"""Descendants: learning of them, and what follows when they are lost. Late part of the kernel, for nodes that have children
or talk to nodes that aren't their ancestors; and the controller's.

``Descendants`` is pure: ids and links in, decisions out. ``Losses`` tells others, on whichever thread reads the link.
"""
from ramet.kernel import limits, values
from ramet.kernel.core import LOST, ROUTE
from ramet.kernel.faults import ProtocolError
from ramet.kernel.frames import CONTROL, DEAD

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Set

    from ramet.kernel.core import Core, Message
    from ramet.kernel.routing import Routes


class Descendants(object):
    """Who lies behind which link, and who must hear of it when they are lost.

    Attributes:
        parents: descendant's id -> the id of the node that grew it; ``children``: the other way round.
        talkers: descendant's id -> ids of descendants that exchanged messages with it. Of others, those above know.
    """

    def __init__(self, routes):
        # type: (Routes) -> None
        self.routes = routes
        self.parents = {}  # type: Dict[int, int]
        self.children = {}  # type: Dict[int, Dict[int, bool]]
        self.talkers = {}  # type: Dict[int, Set[int]]

    def add(self, id, link, parent):
        # type: (int, Any, int) -> None
        """Learn that a descendant lies behind a link, and who grew it."""
        if id not in self.parents:
            self.children.setdefault(parent, {})[id] = True
        self.parents[id] = parent
        self.routes.down[id] = link     # last: from here on it may be lost

    def above(self, one, other):
        # type: (int, int) -> bool
        """Whether a descendant lies on the way to another: only then its word on that one's fate counts."""
        at = self.parents.get(other, self.routes.id)
        while at not in (one, self.routes.id):
            at = self.parents.get(at, self.routes.id)
        return at == one

    def behind(self, link):
        # type: (Any) -> List[int]
        """Every descendant behind a link."""
        return [id for id in list(self.routes.down) if self.routes.down.get(id) is link]

    def with_all_below(self, ids):
        # type: (Iterable[int]) -> List[int]
        """These, and all that they have grown: the news of a new node may have overtaken that of its parent's loss, here."""
        found = sorted(set(ids))    # a node below may name one twice
        seen = set(found)
        for id in found:
            new = [child for child in list(self.children.get(id, ())) if child not in seen]
            found += new
            seen.update(new)
        return found

    def talked(self, one, other):
        # type: (int, int) -> None
        """Remember who must hear of it when one of the two is lost. Both must be known here: anybody can name any number."""
        if one in self.routes.down and other in self.routes.down:
            self.talkers.setdefault(one, set()).add(other)
            self.talkers.setdefault(other, set()).add(one)

    def lose(self, ids, link):
        # type: (Iterable[int], Any) -> Set[int]
        """Forget descendants, as far as they lie behind that link.

        Returns:
            The descendants that talked to one of them and aren't lost themselves.
        """
        tell = set()  # type: Set[int]
        down = self.routes.down
        gone = [id for id in ids if down.get(id) is link]
        for id in gone:
            parent = self.parents[id]
            self.children.pop(id, None)
            siblings = self.children.get(parent)
            if siblings:
                siblings.pop(id, None)
                if not siblings:
                    del self.children[parent]
            del down[id], self.parents[id]
        for id in gone:
            for other in self.talkers.pop(id, ()):
                tell.add(other)
                if other in self.talkers:
                    self.talkers[other].discard(id)
        tell.intersection_update(down)
        return tell


class Losses(object):
    """Keeps one node's core told of descendants, by the messages ROUTE and LOST.

    Args:
        on_lost: called with (ids, reason) when nodes are lost that lie below or were talked to.
    """

    def __init__(self, core, on_lost=None):
        # type: (Core, Optional[Callable[..., Any]]) -> None
        self.core = core
        self.on_lost = on_lost
        self.descendants = Descendants(core.routes)
        core.descendants = self.descendants
        core.handlers[LOST] = self._on_lost_message
        core.handlers[ROUTE] = self._on_route

    def lose(self, ids, link, reason):
        # type: (List[int], Any, str) -> None
        """Forget lost nodes, fail what waits for them, and pass it on: to descendants that talked to them, and up.

        Two nodes talk through the nearest ancestor that both have. So each node's descendants are told by itself.
        """
        core = self.core
        ids = self.descendants.with_all_below(ids)
        whom = self.descendants.lose(ids, link)
        if link is not core.routes.parent:
            whom.update(core.routes.ancestors[:1])
        if whom:
            news = values.encode([ids, reason])     # once for all: in a storm that is most of the work
            for node in whom:
                core.send(node, LOST, news, 0, CONTROL)
        if self.on_lost:    # first: whoever's call fails now may ask the node why
            self.on_lost(ids, reason)
        gone = set(ids)
        if core.long:
            core.long.forget(gone)
        for handle, entry in list(core.pending.items()):
            if entry[0] in gone:
                core.resolve(handle, DEAD, reason.encode("utf-8"))

    def link_lost(self, link, reason):
        # type: (Any, str) -> None
        """A link to a child is lost, and all who lie behind it."""
        self.lose(self.descendants.behind(link), link, reason)

    def _on_lost_message(self, message):
        # type: (Message) -> None
        """[ids, reason]: believed from ancestors, and from a node below whose descendants they are."""
        try:
            ids, reason = values.decode(message.body)
            reason = (reason[:limits.reason_chars_max] + "").encode("utf-8", "replace").decode("utf-8")
            ids = [id for id in ids if self.core.routes.behind(id, message.link) and self.core.above(message.src, id)]
        except (TypeError, ValueError):
            raise ProtocolError("malformed LOST")
        if ids:
            self.lose(ids, message.link, reason)

    def _on_route(self, message):
        # type: (Message) -> None
        """[a new node, the node that grows it]: it lies where that one lies. Only the ancestors say so."""
        if not self.core.routes.commands(message.authority):
            raise ProtocolError("a route comes from above only")
        id, via = values.decode(message.body)
        link = self.core.routes.down.get(via)
        if link:
            self.descendants.add(id, link, via)
