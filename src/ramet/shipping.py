"""What of a program's modules goes to which node: keeps account of what is where, and sends what is lacking.

Must not know how modules are found or packed (``modules``), nor what a call is. Thread-safe: one lock a tree. What was
sent for a node is in ``State.has``, what lies at a child of the controller for itself and others in ``State.cached``.
"""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ramet import codec, kernel
from ramet.bootstrap import packing
from ramet.kernel import limits, values
from ramet.kernel.core import MODULES, Core, Message
from ramet.kernel.frames import CONTROL
from ramet.modules.answers import DATA_FORMS, DIST
from ramet.modules.closure import Closure
from ramet.modules.server import ModuleServer
from ramet.node import Node

# What of the kernel an import needs that nobody foresaw; on 2.7, where ours are asked first, each import does.
UNFORESEEN = ("compat_late", "unforeseen")
# What a node needs to grow children, and to run calls in other lanes than the main one. The reader of its link imports
# it, which can't ask for anything: all must be there.
GROWING = (*UNFORESEEN, "facade", "fragments", "failures", "descent", "text27", "stub", "diagnosis", "dialogue", "spawn",
           "grow", "nursery")  # fmt: skip
LANES = ("lanes",)
# What is asked for data and metadata of packages.
METADATA = (*UNFORESEEN, "packages", "resources", "distributions")
RESOURCES = METADATA[:-1]
WHOLE = {"importlib.metadata": METADATA, "importlib_metadata": METADATA, "importlib.resources": RESOURCES,
         "importlib_resources": RESOURCES, "pkgutil": (*UNFORESEEN, "packages")}  # fmt: skip
# What reads values of the rarer types.
RARE = ("portable", "instances")
# What follows behind the first call, without a request; and what is sent before
# it if its module imports one of these.
FOLLOWING = (*UNFORESEEN, "facade", "fragments", "later", "logs", "failures")
NEEDED_FOR = {"ramet": "facade", "logging": "logs"}
KERNEL = "ramet.kernel."
# All of the kernel that isn't in its core: it may be asked for.
LATE = {KERNEL + module.name for module in pkgutil.iter_modules(kernel.__path__)} - set(packing.CORE)

# How many modules one request may name. A node asks for one at a time.
NAMES_MAX = 100

# Until a node has said what is installed there, libraries are sent only if they come to no more than this; else it asks.
UNASKED_BYTES_MAX = 65536


class Shipper:
    """Sends modules ahead of what needs them.

    Args:
        first_hop: gives the child of the controller behind which a node lies.
    """

    def __init__(self, core: Core, server: ModuleServer, first_hop: Callable[[Node], Node]) -> None:
        self.core = core
        self.server = server
        self.first_hop = first_hop
        self.lock = threading.RLock()
        self.sent = 0
        self.requests = 0

    def for_call(self, node: Node, module: str) -> None:
        """Send what a function of that module needs and the node doesn't have."""
        state = node._state
        if (state.form, module) in state.has:       # the usual case, and a fast one
            return
        closure = self.server.closure(module)
        parts = [part for name, part in NEEDED_FOR.items() if name in closure.standard]
        if closure.library or closure.absent:
            parts += UNFORESEEN
        for name in WHOLE.keys() & {*closure.standard, *closure.library}:
            parts += WHOLE[name]
        self.kernel_parts(node, parts)
        with self.lock:
            self.server.grant(node.id, closure)
            self._send_closure(node, closure, state.form or "source")
            metadata = self.server.metadata_ahead(closure, state.installed or ())
            if metadata:
                self._send(node, DIST, metadata, {})
            state.has.add((state.form or "source", module))

    def kernel_parts(self, node: Node, names: Iterable[str], flags: int = CONTROL) -> None:
        """Send late parts of the kernel that what follows needs.

        Args:
            flags: 0 for parts that nothing waits for: they overtake nothing, and are sent again if something needs them.
        """
        with self.lock:
            form = node._state.form or "source"
            missing = [KERNEL + name for name in names if (form, KERNEL + name) not in node._state.has]
            if missing:
                records = packing.late_records(missing, form)
                self._send(node, form, {str(record[0]): record for record in records}, {}, flags)

    def before_long(self, node: Node, chunks: Sequence[Any]) -> None:
        """Send what a node needs to put a long message together, if this one is. Who has children has it."""
        if sum(map(len, chunks)) > limits.frame_bytes_max:
            self.kernel_parts(node, ("fragments",))

    def on_request(self, message: Message, nodes: dict[int, Node]) -> None:
        """Take a MODULE_REQUEST: [form, names, the id of the node that asks]. It always gets an answer."""
        try:
            form, names, target = values.decode(message.body)
            node = nodes[target]
            if not self.core.routes.behind(target, message.link) or not isinstance(form, str) or not isinstance(names, list):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            self.core.refused += 1
            self.core.reply(message, values.encode(None), CONTROL)
            return
        try:
            with self.lock:
                self.requests += 1
                for name in names[:NAMES_MAX]:
                    if form in DATA_FORMS:
                        self._send_data(node, form, name)
                    elif isinstance(name, str) and name in LATE:
                        self._send(node, form, {name: packing.late_records([name], form)[0]}, {})
                    else:
                        self._send_closure(node, self.server.answer(name, node.id), form, str(name))
        finally:
            self.core.reply(message, values.encode(None), CONTROL)

    def _send_data(self, node: Node, form: str, name: object) -> None:
        """Send package data or metadata. Reasons are for the form of the node's own interpreter, as it keeps no others."""
        records, reasons = self.server.data(form, name, node.id)
        self._send(node, form, records, {})
        self._send(node, node._state.form or "source", {}, reasons)

    def _send_closure(self, node: Node, closure: Closure, form: str, asked: str = "") -> None:
        state = node._state
        lacking = self.server.lacking(closure, state.installed or (), asked)
        records, absent = self.server.records([name for name in lacking if (form, name) not in state.has], form)
        if state.installed is None and not asked and sum(len(record[3]) for record in records.values()) > UNASKED_BYTES_MAX:
            records = {name: record for name, record in records.items() if name in closure.own}
        self._send(node, form, records, self.server.absent(closure, form) | absent)

    def _send(self, node: Node, form: str, records: dict[str, Any], absent: dict[str, str], flags: int = CONTROL) -> None:
        """Send hop by hop: the first hop gets only what it doesn't keep. As control, so it overtakes calls, and isn't."""
        hop_node = self.first_hop(node)
        hop = hop_node._state
        lacking = [record for name, record in records.items() if (form, name) not in hop.cached]
        keys = [(form, name) for name in records]
        if flags:   # else what is sent later, as control, may be there earlier: it can't rely on these
            node._state.has.update(keys)
            hop.cached.update(keys)
        absent = {name: why for name, why in absent.items() if ("", name) not in node._state.has}
        node._state.has.update(("", name) for name in absent)
        if records or absent:
            self.sent += len(lacking)
            batch = codec.encode([node.id, form, list(records), lacking, absent])
            self.before_long(node, batch)
            self.core.send(hop_node.id, MODULES, batch, 0, flags)
