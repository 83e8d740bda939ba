"""Many nodes in one go: ``Connecting`` gives them as they connect. ``Spread`` grows them through one another.

Must not know of links or connectors. What is told of a node comes from whichever thread settles it; a spread deals its hosts
out on the keeper. One lock each.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import TimeoutError as WaitTimeout
from typing import TYPE_CHECKING, Any

from ramet.call import Outcome
from ramet.kernel.errors import ConnectError, Error
from ramet.waiting import waitable

if TYPE_CHECKING:
    from ramet.connectors import Plan
    from ramet.node import Node
    from ramet.retrying import Retry
    from ramet.tree import Tree

Step = tuple["Plan", "Retry"]
Progress = Callable[[int, int, "Node", "Error | None"], Any]
Settled = tuple["Node", Outcome["Node"]]

# How many children of one branch connect at a time: so the fast branches take more of the hosts than the slow ones.
BRANCH_CONNECTING_MAX = 8
# How often a host is grown anew because the branch was lost through which it came: one that is the cause brings down no more.
ANEW_MAX = 2


class Connecting:
    """Nodes that connect: iterate, by ``for`` or ``async for``, for (node, Outcome) as they are connected, or can't be.

    An outcome's value is the node itself. Made by ``connect_all`` and ``spread``. All methods are thread-safe.
    """

    def __init__(self, tree: Tree, total: int, timeout: float | None, on_progress: Progress | None) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        self.total = total
        self._tree = tree
        self._on_progress = on_progress
        self._changed = threading.Condition()
        self._grown: dict[int, Node] = {}       # by the number of the target
        self._settled: list[Settled] = []
        self._told: set[int] = set()            # numbers of these
        self._late: float | None = None     # the time that all had, once it is up
        self._watchers: list[Callable[[Settled], Any]] = []
        self._timer = tree._loop.call_later(timeout, self._too_late, timeout) if timeout is not None and total else None

    @property
    def nodes(self) -> list[Node]:
        """The nodes, in the order in which they were asked for. Those of a ``spread`` come to be one after the other."""
        with self._changed:
            return [self._grown[number] for number in sorted(self._grown)]

    @property
    def errors(self) -> dict[Node, Error]:
        """Why nodes couldn't be connected, as far as that is known by now."""
        with self._changed:
            return {node: outcome.error for node, outcome in self._settled if isinstance(outcome.error, Error)}

    def result(self, timeout: float | None = None) -> list[Node]:
        """Wait until each is connected or can't be.

        Args:
            timeout: seconds to wait at most; the connecting goes on.

        Returns:
            Those that are connected, in the order in which they were asked for; ``errors`` has the others.

        Raises:
            TimeoutError: (``concurrent.futures.TimeoutError``) the wait took too long.
        """
        self._check()
        timeout = waitable(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while len(self._settled) < self.total:
                if not self._changed.wait(None if end is None else max(0.0, end - time.monotonic())):
                    raise WaitTimeout
            return self._connected()

    def _check(self) -> None:
        if len(self._settled) < self.total:
            self._tree._core.may_wait(None)

    def __iter__(self) -> Iterator[Settled]:
        self._check()
        for number in range(self.total):
            with self._changed:
                while len(self._settled) <= number:
                    self._changed.wait()
                settled = self._settled[number]
            yield settled

    async def __aiter__(self) -> AsyncIterator[Settled]:
        import asyncio

        loop = asyncio.get_running_loop()
        ready: asyncio.Queue[Settled] = asyncio.Queue()

        def tell(settled: Settled) -> None:
            with contextlib.suppress(RuntimeError):     # that loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(ready.put_nowait, settled)
        with self._changed:
            for settled in self._settled:
                ready.put_nowait(settled)
            self._watchers.append(tell)
        try:
            if len(self._settled) < self.total:
                self._tree._core.check_here()
            for _ in range(self.total):
                yield await ready.get()
        finally:
            self._watchers.remove(tell)

    def __await__(self) -> Generator[Any, None, list[Node]]:
        async def connected() -> list[Node]:
            async for _ in self:
                pass
            return self._connected()
        return connected().__await__()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._settled)} of {self.total} nodes, {len(self.errors)} failed>"

    # ------------------------------------------------------------------ for who grows them

    def _add(self, number: int, node: Node) -> None:
        """A node is on its way."""
        with self._changed:
            self._grown[number] = node
            late = self._late
        node._state.connected.add_done_callback(lambda future: self._over(number, node, future.exception()))
        if late is not None:
            self._give_up(node, late)

    def _over(self, number: int, node: Node, error: Any) -> None:
        """A node is connected, or can't be. Any thread."""
        settled = node, Outcome(error=error) if error is not None else Outcome(value=node)
        with self._changed:
            if number in self._told:    # as the tree was closed
                return
            self._told.add(number)
            self._settled.append(settled)
            done = len(self._settled)
            if done == self.total and self._timer is not None:
                self._timer.cancel()
            for tell in tuple(self._watchers):      # who has all takes his away meanwhile: not the next one's turn
                tell(settled)
            self._changed.notify_all()
            if self._on_progress is not None:   # with the lock: so that the numbers come in order
                try:
                    self._on_progress(done, self.total, node, error)
                except BaseException as raised:
                    self._tree._on_error(raised)

    def _connected(self) -> list[Node]:
        good = {node for node, outcome in self._settled if outcome.ok}
        return [node for node in self.nodes if node in good]

    def _too_late(self, seconds: float) -> None:
        with self._changed:
            self._late = seconds    # for those that are still to be added
            nodes = self.nodes
        for node in nodes:
            self._give_up(node, seconds)

    def _give_up(self, node: Node, seconds: float) -> None:
        if not node._state.connected.done():
            self._tree._gardener.give_up(node, _why_late(node, seconds))


def _why_late(node: Node, seconds: float) -> ConnectError:
    """What there is to say of a node that isn't connected when the time of all is up."""
    state = node._state
    text, remedy = f"it wasn't connected within the {seconds:g} s that all had together", "allow more time: timeout="
    if state.last_error is not None:
        text += f"; the last try failed: {state.last_error}"
    elif state.waits:
        text += ", for it was never its turn"
        remedy += ", or let more connect at a time: Tree(connecting_max=)"
    return ConnectError(f"{node.what}: {text}\n  stage: start\n  remedy: {remedy}", "start")


def connect_all(tree: Tree, parent: Node | None, targets: Sequence[Sequence[Step]], timeout: float | None,
                on_progress: Progress | None) -> Connecting:
    """See ``Grower.connect_all``. Each target is a chain of steps."""
    connecting = Connecting(tree, len(targets), timeout, on_progress)
    for number, steps in enumerate(targets):
        node = parent
        for plan, retry in steps:
            node = tree._gardener.grow(node, plan, retry)
        assert node is not None
        connecting._add(number, node)
    return connecting


class _Branch:
    """Who grows others, and how many more it may."""

    def __init__(self, node: Node | None, room: int, at_once: int) -> None:
        self.node = node
        self.room = room
        self.at_once = at_once
        self.connecting = 0

    @property
    def lost(self) -> bool:
        return self.node is not None and bool(self.node._state.ended)


class Spread(Connecting):
    """A ``Connecting`` whose nodes grow one another: who is connected takes further ones.

    So one that can't be reached holds up nobody, and if one is lost, those that were to come through it go another way.
    """

    def __init__(self, tree: Tree, parent: Node | None, via: Sequence[Node], targets: Sequence[Step], fanout: int,
                 timeout: float | None, on_progress: Progress | None) -> None:
        if isinstance(fanout, bool) or not isinstance(fanout, int) or fanout < 2:
            raise ValueError(f"fanout is how many nodes one grows: a whole number, 2 or more; not {fanout!r}")
        super().__init__(tree, len(targets), timeout, on_progress)
        self._lock = threading.RLock()
        self._targets = targets
        self._fanout = fanout
        self._left = collections.deque(range(len(targets)))
        self._branches: list[_Branch] = []
        self._from: dict[int, _Branch] = {}     # of those that connect now: through which branch
        self._anew: collections.Counter[int] = collections.Counter()
        self._coming = len(via)     # branches that aren't connected yet
        self._last: Node | None = via[-1] if via else parent
        tree._gardener.spreads.add(self)
        if not via:
            self._branches.append(_Branch(parent, fanout, fanout))
        for node in via:
            node._state.connected.add_done_callback(functools.partial(self._soon, self._branch_is_up, node))
        self._soon(self._deal)

    def _soon(self, fn: Callable[..., Any], *args: Any) -> None:
        self._tree._loop.call_soon(fn, *args)

    def _branch_is_up(self, node: Node, future: Any) -> None:
        with self._lock:
            self._coming -= 1
            if future.exception() is None:
                self._branches.append(_Branch(node, self._fanout, BRANCH_CONNECTING_MAX))
        self._deal()

    def _deal(self) -> None:
        """Give out as many hosts as there is room for now: each to the branch that has taken the fewest."""
        with self._lock:
            self._branches = [branch for branch in self._branches if not branch.lost]
            count = len(self._left) + len(self._from)
            share = -(-count // max(1, len(self._branches) + self._coming))     # leave some for those that are still coming
            free = [one for one in self._branches if one.room and one.connecting < min(one.at_once, share)]
            while self._left and free and not self._tree._closed:
                branch = max(free, key=lambda one: one.room)
                number = self._left.popleft()
                branch.room -= 1
                branch.connecting += 1
                self._from[number] = branch
                if not branch.room or branch.connecting >= min(branch.at_once, share):
                    free.remove(branch)
                plan, retry = self._targets[number]
                try:
                    node = self._tree._gardener.grow(branch.node, dict(plan), retry)
                except Exception as error:      # nobody else would hear of it
                    self._refuse(number, branch.node, str(error) or repr(error))
                else:
                    self._add(number, node)
            if self._tree._closed:
                self.closed()
            elif self._left and not self._from and not self._coming:    # nobody can take the rest, and nobody will
                self._refuse_rest("no node that was to grow it is there any more")

    def _over(self, number: int, node: Node, error: Any) -> None:
        if self._tree._closed:      # the keeper may have stopped
            super()._over(number, node, error)
        else:
            self._soon(self._look, number, node, error)

    def _look(self, number: int, node: Node, error: Any) -> None:
        with self._lock:
            branch = self._from.pop(number, None)
            if branch is not None:
                branch.connecting -= 1
                branch.room += error is not None
                if error is None:
                    self._branches.append(_Branch(node, self._fanout, BRANCH_CONNECTING_MAX))
                elif branch.lost and not self._tree._closed and self._anew[number] < ANEW_MAX:
                    self._anew[number] += 1
                    self._left.appendleft(number)
                    self._deal()
                    return
        super()._over(number, node, error)
        self._deal()

    def _refuse_rest(self, reason: str) -> None:
        with self._lock:
            while self._left:
                self._refuse(self._left.popleft(), self._last, reason)

    def _refuse(self, number: int, parent: Node | None, reason: str) -> None:
        plan, _ = self._targets[number]
        error = ConnectError(f"{plan['what']} can't be started: {reason}", "start")
        self._add(number, self._tree._gardener.refused(parent, dict(plan), error))

    def _too_late(self, seconds: float) -> None:
        self._refuse_rest(f"it wasn't its turn within the {seconds:g} s that all had")
        super()._too_late(seconds)

    def closed(self) -> None:
        """The tree is closed: nobody's turn comes any more."""
        self._refuse_rest("the tree was closed")

    def over(self) -> None:
        """The keeper has ended, too: it looks at nobody any more who was connected, or lost, just before that."""
        self.closed()
        with self._changed:
            left = [(number, node) for number, node in self._grown.items() if node._state.connected.done()]
        for number, node in left:
            Connecting._over(self, number, node, node._state.connected.exception())
