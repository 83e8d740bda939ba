"""The real keepalive (``kernel.keepalive``) in simulated nodes: who looks after whom, and what must come of it.

A node runs, is *stopped* (SIGSTOP: nobody speaks for it) or *busy* (it holds the GIL: it does nothing, but runs, and its
guardian, or the system of its machine, says so). A link is *local*, between processes of one machine that see whether the other
runs, or *far*. What is promised, and checked here:

- who is stopped or behind a half-open link is lost, both ways, within ``LATEST_S`` of its last byte;
- who isn't silent for ``EARLIEST_S`` is never lost for that, however slow; nor is one that is just busy, by its parent; nor
  anybody, because who looks was stopped itself.

The second needs no check of its own: whoever isn't in ``World.losable`` must not be lost. So what may be is put there here.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ramet.kernel import keepalive, values
from ramet.kernel.core import KEEPALIVE
from ramet.kernel.frames import CONTROL
from ramet.kernel.handles import SILENT

if TYPE_CHECKING:
    from sim.world import Event, Node, SimLink, World

KEEPALIVE_S = 5.0
LOST_AFTER_S = 30.0
# From the last byte: it is seen at the next look, the looks without any are counted from then on. Other signs of life are only
# asked for when no byte came: one from before, while it was busy, may be taken for new then, once.
LATEST_S = KEEPALIVE_S * (2 + math.ceil(LOST_AFTER_S / KEEPALIVE_S))
# The last byte may have come long before who sent it fell silent: it is asked at every other look, and answers after a while.
EARLIEST_S = LOST_AFTER_S - 3 * KEEPALIVE_S
SETTLE_S = LATEST_S + 4 * KEEPALIVE_S


class SimProcess:
    """A child's process, as its parent's nursery knows it.

    Attributes:
        vouched: another value after each other sign of life.
        lent: how it ends isn't known here, so nobody waits for that.
    """

    lent = True

    def __init__(self, child: Node, local: bool) -> None:
        self.child, self.local = child, local
        self.said = 0

    @property
    def vouched(self) -> Any:
        return runs(self.child) if self.local else self.said

    def poll(self) -> None:
        pass

    def stderr_tail(self) -> str:
        return ""


def runs(node: Node) -> Any:
    """As ``keepalive.runs``."""
    return object() if node.alive and not node.stopped else 0


class Keeping:
    """What the controller's lookout does, and what is known of who is silent.

    Attributes:
        new: ids of nodes that are up and weren't told to look after their neighbours yet.
        silences: how often one was said to be silent, or no longer.
        noticed: how often a link was closed for silence.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.new: list[int] = []
        self.silences = self.noticed = 0
        self.holding = False
        self.held: list[Event] = []
        root = world.root
        root.core.handlers[SILENT] = self.on_silent
        root.watch = keepalive.Watch(root.core, KEEPALIVE_S, LOST_AFTER_S, self.neighbours, self.count)

    def neighbours(self) -> Iterator[keepalive.Neighbour]:
        """Of the controller; and new nodes are told to begin."""
        for id in self.new:
            self.world.root.core.tell(id, KEEPALIVE, True)
        self.new = []
        return keepalive.children_of(self.world.root.family())

    def count(self, _id: int, _silent: bool) -> None:
        self.silences += 1

    def on_silent(self, message: Any) -> None:
        self.count(*values.decode(message.body))

    def rest(self) -> None:
        """Until nothing happens any more: whoever is silent has been found by then, and nobody looks meanwhile."""
        world = self.world
        world.run(max([world.now, *(node.wakes_at for node in world.nodes.values() if node.away)]) + SETTLE_S)
        self.holding = True
        world.run()
        self.holding = False
        held, self.held = self.held, []
        for event in held:
            world.at(world.rng.uniform(0, KEEPALIVE_S), event.node, event.fn)

    def holds(self, event: Event) -> bool:
        """Whether it is a look that has to wait."""
        if self.holding and getattr(event.fn, "__name__", "") == "look":
            self.held.append(event)
            return True
        return False


def on_keepalive(node: Node, message: Any) -> None:
    """As ``start.Self.on_keepalive``, without its thread."""
    node.core.reply(message, [], CONTROL)
    if message.body and node.core.routes.commands(message.authority):
        parent = node.parent
        keepalive.begin(node, lambda: runs(parent))     # type: ignore[arg-type]


def half_open(link: SimLink) -> None:
    """Nothing that is sent arrives any more, on either side."""
    for end in link, link.peer:
        assert end is not None and end.peer is not None
        due(end, end.peer)


def silent(node: Node) -> None:
    """A node says nothing from now on: it was stopped, or is busy."""
    world, since = node.world, node.away_since
    for link in node.links:
        if link.peer and node.stopped:
            due(link.peer, link, since)

    def may_be_lost() -> None:
        if node.away and node.away_since == since:
            if node.stopped:
                world.lose(node.id)
            for child in node.children:
                below = world.nodes.get(child)
                if below and not (node.busy and below.core.routes.parent.local):
                    world.lose(child)
    world.at(EARLIEST_S, None, may_be_lost)
    if node.busy:
        vouch(node, since, 3 * KEEPALIVE_S)


def vouch(node: Node, since: float, seconds: float) -> None:
    """Its guardian says that it runs, as long as there is a way."""
    def say() -> None:
        link = node.core.routes.parent
        if node.busy and node.away_since == since and node.alive and link and link.peer and not link.swallows:
            child = node.parent.family().children.get(node.id)      # type: ignore[union-attr]
            if child and child.process:
                child.process.said += 1
            vouch(node, since, KEEPALIVE_S)
    node.world.at(seconds, None, say)


def due(end: SimLink, other: SimLink, since: float | None = None) -> None:
    """Nothing more comes from ``other``: ``end`` must be closed in time, unless its node was away itself, or the other is back.
    """
    world, node = end.world, end.node
    began, watched = world.now, node.watch is not None
    last_byte = max(world.now, other.free_at) + other.latency_s

    def check() -> None:
        from sim.world import require
        back = since is not None and not (other.node.stopped and other.node.away_since == since)
        if watched and node.alive and not node.away and node.back_at <= began and not back:
            require(end.dead, "node %d hasn't noticed that node %d is silent", node.id, other.node.id)
    world.at(last_byte + LATEST_S + 0.001 - world.now, None, check)
