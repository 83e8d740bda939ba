"""What nodes tell of themselves and wish for: HELLO, INSTALLED, WISH; what they answer to GROW, and why they refuse something.
All of it is checked: a node may be hostile.

Must not know how nodes are grown. It runs on whichever thread reads a link.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ramet import codec, hosts
from ramet.connectors import Plan, check_plan, registry
from ramet.display import harmless
from ramet.hosts import Hosts
from ramet.kernel import failures, limits, remote_errors, values
from ramet.kernel.core import Message
from ramet.kernel.diagnosis import connect_error
from ramet.kernel.errors import ClosedError, ConnectError, Error, ProtocolError
from ramet.kernel.frames import DEAD, ERROR

if TYPE_CHECKING:
    from ramet.node import Node
    from ramet.tree import Tree

# What a node may wish for at a time, and altogether: a bound on what a hostile one can make us plan.
WISHED_CHILDREN_MAX = 10_000
# What one wish may weigh: some hundred bytes do. A pattern takes 5 us for each of its bytes, and 20 bytes of memory.
WISH_BYTES_MAX = 16_384

# What a node tells of its interpreter and its machine may weigh: ten times what the longest paths come to.
FACTS_BYTES_MAX = 65_536

# What a list of what is installed may weigh at most, and how long news of hosts are gathered before they are written down.
INSTALLED_BYTES_MAX = 200_000
SAVE_AFTER_S = 1.0

# What growing a node doesn't take: what is said to have taken longer isn't believed.
STEP_MAX_S = 1e9


class Told:
    """Takes what the nodes of one tree tell."""

    def __init__(self, tree: Tree, hosts: Hosts) -> None:
        self.tree = tree
        self.hosts = hosts
        self.core = tree._core
        self.nodes = tree._nodes
        self.saving = False

    def on_hello(self, message: Message) -> None:
        """A node is up: [facts]."""
        node = self.nodes.get(message.src)
        if node is None:
            return
        if node._state.up or len(message.body) > FACTS_BYTES_MAX:
            raise ProtocolError("a node says HELLO once, in a few words")
        facts = codec.decode(message.body)
        if not isinstance(facts, dict):
            raise ProtocolError("malformed HELLO")
        # Most of it is the same text for hundreds of nodes.
        node._state.facts = {sys.intern(key) if type(key) is str else key: sys.intern(value) if type(value) is str else value
                             for key, value in facts.items()}  # fmt: skip
        with self.tree._gardener.lock:      # who grows it may be about to say what is expected of it
            if node._state.ended or node._state.connect_error:      # it was given up meanwhile
                return
            node._state.up = True
            self.tree._shipper.form_known(node, hosts.form_in(facts))
        node._state.connected.set_result(None)

    def on_installed(self, message: Message) -> None:
        """A node tells what is installed there, once: a list of names, or the digest of one that was offered to it."""
        node = self.nodes.get(message.src)
        if node is None or node._state.installed is not None or len(message.body) > INSTALLED_BYTES_MAX:
            self.core.refused += 1
            return
        state, told = node._state, codec.decode(message.body)
        known = state.offered.get(told) if isinstance(told, bytes) else None
        if known is None and not hosts.is_list(told):
            self.core.refused += 1
            return
        state.installed = self.hosts.note(state.host, hosts.form_in(state.facts), told if known is None else None, known)
        state.offered = {}
        self.core.loop.call_soon(self.tree._shipper.installed_known, node)
        if self.hosts.changed and not self.saving:
            self.saving = True
            self.core.loop.call_later(SAVE_AFTER_S, self._save)

    def _save(self) -> None:
        self.saving = False
        self.hosts.save()

    def on_wish(self, message: Message) -> None:
        """Code in a node wishes for a child: [connector, options]. It is planned from nothing else, and grown there."""
        node = self.nodes.get(message.src)
        try:
            if len(message.body) > WISH_BYTES_MAX:
                raise Error(f"what a node wishes for may have {WISH_BYTES_MAX:,} bytes, not {len(message.body):,}: env=, say")
            connector, options = codec.decode(message.body)
            if node is None or connector not in registry.TARGETS or len(self.nodes) > WISHED_CHILDREN_MAX:
                raise Error(f"no node can be grown by {connector!r} on a node's wish")
            retry = options.pop("retry", None)
            plan = check_plan(registry.find(connector)(**options))
            plan["name"] = harmless(plan["name"])
            if not all(secret.known for secret in plan["secrets"].values()):
                raise Error("a node's wish has its secrets with it: the program asks nobody for any")
            child = node.grow(plan, retry=retry)
        except Exception as error:
            self.core.reply(message, failures.pack(error), ERROR)
            counts = not isinstance(error, ClosedError)     # that is the program's doing
        else:
            child._state.connected.add_done_callback(lambda future: self._wished(message, child, future.exception()))
            return
        self.core.refused += counts     # here, where no traceback is at hand: the log would show that code's mistake as ours

    def _wished(self, message: Message, child: Node, error: BaseException | None) -> None:
        """A child is there that a node has wished for, or it couldn't be grown."""
        if error is None:
            self.core.reply(message, codec.encode([child.id, child.name]))
        else:
            self.core.reply(message, failures.pack(error), ERROR)


def reason_in(body: Any) -> str:
    """What a DEAD says: a node may say it of itself, any text of any length."""
    text = body[0] if isinstance(body, list) else body
    return harmless(bytes(text[:limits.reason_chars_max]).decode("utf-8", "replace"), "\t\n")


def answer_of(parent: Node, plan: Plan, flags: int, body: Any) -> tuple[Error | None, Any]:
    """What a node answered to GROW: why it couldn't do it, if so, and what it tells of it."""
    if flags & DEAD:
        return connect_error(plan, {"text": f"can't be started: node {parent.name} was lost: {reason_in(body)}"}), None
    error: Error | None = None
    try:
        said = values.decode(body)
    except Error as why:
        return ProtocolError(f"node {parent.name} sent an answer that can't be read: {harmless(str(why))}"), None
    if flags & ERROR:
        error = remote_errors.unpack(said, parent.name)
    if isinstance(error, ConnectError):     # its last lines are as they were seen, all else is a text like a reason
        vars(error).update({key: harmless(value, "\t\n") for key, value in vars(error).items()
                            if key != "seen" and type(value) is str})  # fmt: skip
        error.args = (harmless(str(error), "\t\n"),)
    return error, said


def steps_in(told: Any) -> dict[str, float]:
    """What a node tells of how it grew another one; it may be anything."""
    if not isinstance(told, dict):
        return {}
    steps = {step: told.get(step) for step in ("start", "answer", "python", "kernel")}
    return {step: float(took) for step, took in steps.items() if isinstance(took, int | float) and 0 <= took < STEP_MAX_S}
