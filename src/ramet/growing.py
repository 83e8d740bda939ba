"""The controller's side of growing and losing nodes: ids and names, who is connected, what waits for whom.

It plans every growth, also those that code in a node wishes for. Thread-safe: ``lock`` guards names and states.
"""

from __future__ import annotations

import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ramet import codec, config, hosts
from ramet.asking import Desk
from ramet.backlog import HELD_BYTES
from ramet.bootstrap import packing
from ramet.gates import Gates
from ramet.hosts import Hosts
from ramet.kernel.core import END, GROW, ROUTE
from ramet.kernel.diagnosis import connect_error
from ramet.kernel.errors import ClosedError, ConnectError
from ramet.kernel.frames import CONTROL
from ramet.naming import Names
from ramet.node import Node
from ramet.parts import COMING_BACK, FOLLOWING, GROWING
from ramet.retrying import Retry, may_pass
from ramet.shelter import sheltered
from ramet.told import answer_of, steps_in

if TYPE_CHECKING:
    from ramet.connecting import Spread
    from ramet.kernel.links import Link
    from ramet.tree import Tree


class Gardener:
    """Grows nodes for one tree and notes what becomes of them."""

    def __init__(self, tree: Tree, hosts: Hosts, connecting_max: int) -> None:
        self.tree = tree
        self.hosts = hosts
        self.core = tree._core
        self.nursery = tree._nursery
        self.nodes = tree._nodes
        self.lock = threading.RLock()
        self.desk = Desk(tree._core)
        self.ids = itertools.count(1)
        self.gates = Gates(connecting_max, self.core.loop.call_soon)
        self.spreads: weakref.WeakSet[Spread] = weakref.WeakSet()
        self.names = Names()
        self.links: dict[int, Link] = {}     # of the controller's children
        self.past_bytes = {"bytes_in": 0, "bytes_out": 0}

    # ------------------------------------------------------------------ growing

    @sheltered
    def grow(self, parent: Node | None, plan: dict[str, Any], retry: Retry) -> Node:
        """Begin to grow a node under ``parent`` (None: the controller) as soon as its turn comes. Returns at once."""
        if parent is None and plan["shape"] == "socket" and not plan["python"] and getattr(sys, "frozen", False):
            raise ValueError("this program is frozen, so its interpreter starts nothing but the program again: name "
                             "another one, such as local(python=\"python3\")")
        node = self._new(parent, plan)
        node._state.retry = retry
        self._line_up(node, plan)
        if self.tree._closed:       # meanwhile: the keeper may have gone, and nobody else would tell
            node._state.closing = True
            self.gone(node, "the tree was closed")
        return node

    def refused(self, parent: Node | None, plan: dict[str, Any], error: ConnectError) -> Node:
        """A node that isn't even tried."""
        node = self._new(parent, plan)
        self.failed(node, error)
        return node

    def _new(self, parent: Node | None, plan: dict[str, Any]) -> Node:
        with self.lock:
            plan["name"] = self.names.unique(plan["name"])
            node = Node(self.tree, next(self.ids), plan["name"], parent, plan["what"])
            node._state.planned = plan.pop("again", lambda: plan)
            self.nodes[node.id] = node
        self.tree._listening.begin(node)
        return node

    def _line_up(self, node: Node, plan: dict[str, Any]) -> None:
        """Wait for a place among those that connect from the same node."""
        if not node._state.ended:
            self.gates.enter(_above(node), node.id, lambda: self._begin(node, plan))

    def _begin(self, node: Node, plan: dict[str, Any]) -> None:
        """It is a node's turn."""
        parent = node.parent
        if parent is None:
            if self._taken_up(node):
                self._grow_here(node, plan)
        else:
            self.when_known(parent, lambda: self._grow_there(parent, node, plan), lambda: self._parent_gone(parent, node))

    def _parent_gone(self, parent: Node, node: Node) -> None:
        node._state.closing |= parent._state.closing
        lost = parent._state.failure(parent.name)
        self.failed(node, connect_error({"what": node.what}, {"text": f"can't be started: {lost}"}))

    def _taken_up(self, node: Node) -> bool:
        """Whether a node may be started: from here on there is something to end. Else it was closed while it waited."""
        with self.lock:
            node._state.closing |= node.parent is not None and node.parent._state.closing
            node._state.waits = node._state.closing
            taken_up = not (node._state.closing or node._state.ended)
        if not taken_up:
            self.gates.leave(_above(node), node.id)     # who closed it may have been there before it had a place
        return taken_up

    def _grow_here(self, node: Node, plan: dict[str, Any]) -> None:
        form = self._recall(node, plan)
        carried = self.desk.open(node.id, 0, self._known_first(node, plan))
        link = self.nursery.grow(node.id, carried, config.frame(self.tree, node, plan),
                                 lambda error: self._grown_here(node, plan, error),
                                 lambda found: self.known(node, "source" if form == "source" else found),
                                 self.desk.asker(node.id))
        with self.lock:
            if not node._state.ended:
                self.links[node.id] = link
        self._cut_if_closed(node)

    def _grown_here(self, node: Node, plan: dict[str, Any], error: ConnectError | None) -> None:
        child = self.nursery.children.get(node.id)
        node._state.steps = {} if child is None else dict(child.steps)
        self.grown(node, plan, error)

    def _recall(self, node: Node, plan: dict[str, Any]) -> str | None:
        """Take to hand what is remembered of where a plan leads. Returns the form of code that was taken there, or None."""
        state = node._state
        state.host = hosts.key_of(plan, None if node.parent is None else node.parent._state.host)
        state.expected, form = self.hosts.recall(state.host)
        state.offered = self.hosts.offered(state.host)
        return form

    def _known_first(self, node: Node, plan: dict[str, Any]) -> dict[str, Any]:
        """The plan; a search tries first the interpreter that was found there the last time. If that is gone, it goes on."""
        state = node._state
        if not hosts.searches(plan):
            return plan

        def connected(future: Any) -> None:
            if future.exception() is None:
                self.hosts.note_found(state.host, state.facts.get("executable"))
        state.connected.add_done_callback(connected)
        return hosts.with_known(plan, self.hosts.found(state.host))

    def _grow_there(self, parent: Node, node: Node, plan: dict[str, Any]) -> None:
        """Let another node grow one. The nodes on the way learn the route first, so that calls can follow at once."""
        if not self._taken_up(node):
            return
        form = self._recall(node, plan)     # in which it took code the last time
        told = config.frame(self.tree, node, plan)
        parts = (*GROWING, *FOLLOWING, *(COMING_BACK if plan["shape"] == "kept" else ()))
        try:
            payloads = {} if "source" in parent._state.payloads else {"source": packing.payload("source")}
            self.tree._shipper.kernel_parts(parent, parts)      # what follows its own call, children get, too
        except (OSError, ImportError) as error:     # too many open files, to read these from
            self.failed(node, connect_error(plan, {"text": f"can't be started: {error}"}))
            return
        self.nursery.losses.descendants.add(node.id, self.core.routes.link_to(parent.id), parent.id)
        above = parent.parent
        while above is not None:
            self.core.tell(above.id, ROUTE, [node.id, parent.id])
            above = above.parent
        parent._state.payloads.update(payloads)

        def answered(flags: int, body: Any) -> None:
            error, told = answer_of(parent, plan, flags, body)
            if error is None:
                node._state.steps = steps_in(told)
            elif not isinstance(error, ConnectError):
                error = connect_error(plan, {"text": f"can't be started: {error}"})
            self.grown(node, plan, error)
            if error is None:
                known()

        def known() -> None:
            if plan["python"] is None and plan["shape"] in ("socket", "fork") and parent._state.sure:
                self.known(node, parent._state.form or "source")    # it is the same interpreter
            else:
                self.known(node, form or "source", form is None)
        carried = self.desk.open(node.id, parent.id, self._known_first(node, plan))
        self.core.ask(parent.id, GROW, codec.encode([node.id, carried, told, payloads]), answered, CONTROL)
        self._cut_if_closed(node)
        if not node._state.retry.times:     # else calls wait until it is sure that this time it is grown
            known()

    def grown(self, node: Node, plan: dict[str, Any], error: ConnectError | None) -> None:
        """A node's kernel runs, or it could not be grown. One that runs says HELLO at once; if not, nothing ever comes."""
        self.gates.leave(_above(node), node.id)
        self.desk.settle(node.id, error)
        if error is None:
            brief = {"what": plan["what"], "command": plan["command"], "argv": [], "timeout_s": plan["timeout_s"]}
            self.core.loop.call_later(plan["timeout_s"], self._check_up, node, brief)   # not the plan: it holds secrets
        elif not self._again(node, plan, error):
            self.failed(node, error)

    def _again(self, node: Node, plan: dict[str, Any], error: Any) -> bool:
        """Whether a node that couldn't be grown is tried once more. Nothing was sent to it yet, so nothing is lost.

        It is when all that there was of it is gone, and the message that says so has passed: ``lost`` goes on then.
        """
        state = node._state
        wait_s = None if state.open or state.closing or state.ended or not may_pass(error) else state.retry.wait_s(state.tried)
        if wait_s is None:
            return False
        state.tried += 1
        state.next_try = lambda: self.core.loop.call_later(wait_s, self._line_up, node, plan)
        state.last_error = error
        return True

    def lost(self, node: Node, reason: str) -> None:
        """The link to a node is closed, or to one above it."""
        state = node._state
        with self.lock:
            next_try, state.next_try = state.next_try, None
            state.waits = next_try is not None and not state.closing
        if state.waits and next_try is not None:
            self._put_down(node)
            next_try()
        elif state.up or state.closing or not reason.startswith(f"node {node.name}: "):
            self.gone(node, reason)
        else:       # what lost it was its own link, not one above it
            why = reason.partition(": ")[2]
            self.failed(node, connect_error(state.planned(), {
                "stage": "bootstrap", "text": f"its kernel said that it runs, and was lost before it said more: {why}",
                "remedy": "see what its process said last; then run the command there by hand"}))

    def _check_up(self, node: Node, plan: dict[str, Any]) -> None:
        if not node._state.up and not node._state.ended:
            self.give_up(node, connect_error(plan, {
                "stage": "bootstrap", "text": f"its kernel said that it runs, and then nothing within {plan['timeout_s']:g} s",
                "remedy": "allow more time: connect_timeout_s="}))

    def give_up(self, node: Node, error: ConnectError) -> None:
        """End a node that isn't up yet, with an error."""
        with self.lock:
            if node._state.up:      # it has just said so
                return
            node._state.connect_error = None if node._state.closing else error
        self.failed(node, error)
        self._cut(node)

    def known(self, node: Node, form: str, sure: bool = True) -> None:
        """A node's interpreter is known: send what was held back, and what comes meanwhile, in that order; behind the kernel.

        Args:
            sure: it isn't only remembered.
        """
        while not (state := node._state).open:
            with self.lock:
                if not state.up:    # else it has said so itself
                    state.form, state.sure = form, sure
                if state.opening:       # another thread sends what was held, in order, and goes on until nothing is
                    return
                held, state.held = state.held, []
                state.open, state.opening = not held, bool(held)
            try:
                for send, size in held:
                    try:
                        send()
                    except Exception as error:      # of a cast, for which nobody waits
                        self.tree._on_error(error)
                    with self.lock:
                        state.held_bytes -= size
            finally:
                state.opening = False
        # Behind the first call. To a grandchild as control: then the hop counts as having it, for the next one.
        self.tree._shipper.kernel_parts(node, FOLLOWING, 0 if node.parent is None else CONTROL)

    def when_known(self, node: Node, send: Callable[[], None], dead: Callable[[], Any], chunks: Sequence[Any] = ()) -> None:
        """Send now, or when the node's interpreter is known; ``dead`` is called instead if the node is gone.

        Args:
            chunks: of the call that it is about, which count as what waits for the node.
        """
        state = node._state

        def send_it() -> None:
            (dead if state.ended else send)()
        with self.lock:
            if not state.ended and not state.open:
                size = HELD_BYTES + sum(map(len, chunks)) if chunks else 0
                state.held.append((send_it, size))
                state.held_bytes += size
                return
        send_it()

    # ------------------------------------------------------------------ losing and ending

    def failed(self, node: Node, error: Any) -> None:
        """A node could not be grown. Its own link or its parent's tells of what waits for it."""
        if not node._state.closing:
            node._state.connect_error = error
        self.gone(node, str(error), "failed")

    def gone(self, node: Node, reason: str, how: str = "lost") -> None:
        """A node is no more."""
        state = node._state
        with self.lock:
            if state.ended:
                return
            state.reason = reason
            state.waits = False
            state.ended = "detached" if state.lasts.left else "closed" if state.closing and how == "lost" else how
            held, state.held = state.held, []
            up = state.up       # who says so settles `connected`, else this does
        self.desk.settle(node.id, state.connect_error or ClosedError(reason))
        for dead, _ in held:
            dead()
        if not up:
            state.connected.set_exception(state.failure(node.name))
        for child in list(self.nodes.values()):
            if child.parent == node:
                child._state.closing |= state.closing
                if not child._state.up:     # it couldn't be grown, for the same reason
                    child._state.connect_error = child._state.connect_error or state.connect_error
                named = f"node {node.name}: "
                self.gone(child, reason if reason.startswith(named) else named + reason)
        self.gates.leave(_above(node), node.id)
        self._forget(node)
        if state.lasts.left:
            state.lasts.left.set()

    def _forget(self, node: Node) -> None:
        """Keep nothing of a node that is gone, so that a program may grow any number one after the other."""
        self.tree._display.flush(node)
        self.tree.modules.forget(node.id)
        self.nodes.pop(node.id, None)
        self._put_down(node)

    def _put_down(self, node: Node) -> None:
        """Keep of a link that is closed only what it has counted."""
        link = self.links.pop(node.id, None)
        if link is not None:
            for which in self.past_bytes:
                self.past_bytes[which] += getattr(link, which)

    def close(self, node: Node, kill: bool) -> None:
        """End a node: by asking it, or by cutting its link. It was the program that closed it, and what lies below it."""
        closed = {node}
        for other in list(self.nodes.values()):     # parents are older than their children
            if other in closed or other.parent in closed:
                closed.add(other)
                other._state.closing = True
        with self.lock:
            waits = node._state.waits
        if waits:
            self.gone(node, "it was closed before it was connected")
        elif kill or not node._state.up:
            self._cut(node)
        else:
            self.core.tell(node.id, END, [])
            self.core.loop.call_later(self.tree._close_grace_s, self._make_sure, node)

    def _cut(self, node: Node) -> None:
        """End a node without asking it."""
        if node.parent is None:
            self.nursery.end(node.id)
        else:
            self.core.tell(node.parent.id, END, [node.id])

    def _cut_if_closed(self, node: Node) -> None:
        """Another thread may have closed a node while it was being started: what it cut wasn't there yet."""
        if node._state.closing or node._state.ended:
            self._cut(node)

    def _make_sure(self, node: Node) -> None:
        if not node._state.ended:
            self.close(node, kill=True)

    def close_waiting(self) -> None:
        """The tree is closed: nothing is running of those that wait for their turn, so nobody tells of their end."""
        for spread in list(self.spreads):
            spread.closed()
        for node in list(self.nodes.values()):
            if node._state.waits:
                self.close(node, kill=True)

    def bytes_total(self, which: str) -> int:
        """Bytes over all links to children, those that are gone included."""
        return self.past_bytes[which] + sum(int(getattr(link, which)) for link in list(self.links.values()))


def _above(node: Node) -> int:
    """The number of the node that grows this one."""
    return 0 if node.parent is None else node.parent.id
