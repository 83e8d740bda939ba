"""What of a program's modules goes to which node: remembers what is where, sends what is lacking.

Must not know how modules are found or packed (``modules``), nor of calls. Thread-safe: one lock a tree.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ramet import codec
from ramet.bootstrap import packing
from ramet.kernel.core import MODULES, Core
from ramet.kernel.frames import CONTROL
from ramet.modules.server import ModuleServer

if TYPE_CHECKING:
    from ramet.node import Node

# What of the kernel a node needs to grow children; and with which option of a call it needs which part.
GROWING = ("ramet.kernel.spawn", "ramet.kernel.dialogue", "ramet.kernel.grow", "ramet.kernel.nursery")
LANES = ("ramet.kernel.lanes",)


class Shipper:
    """Sends modules ahead of what needs them.

    Args:
        first_hop: gives the child of the controller behind which a node lies.
    """

    def __init__(self, core: Core, server: ModuleServer, first_hop: Any) -> None:
        self.core = core
        self.server = server
        self.first_hop = first_hop
        self.lock = threading.RLock()
        self.sent = 0
        self.requests = 0

    def send(self, node: Node, form: str, records: dict[str, Any], absent: dict[str, str], fresh: bool = True) -> None:
        """Send records to a node, hop by hop; every hop gets only what it doesn't have. Control frames overtake calls."""
        with self.lock:
            hop = self.first_hop(node)
            names = [name for name in records if not fresh or (form, name) not in node._state.has]
            lacking = [records[name] for name in names if (form, name) not in hop._state.cached]
            keys = [(form, name) for name in names]
            node._state.has.update(keys)
            hop._state.cached.update(keys)
            absent = {name: why for name, why in absent.items() if ("", name) not in node._state.has}
            node._state.has.update(("", name) for name in absent)
            if names or absent:
                self.sent += len(lacking)
                self.core.send(hop.id, MODULES, codec.encode([node.id, form, names, lacking, absent]), 0, CONTROL)

    def kernel_parts(self, node: Node, names: tuple[str, ...]) -> None:
        """Send late parts of the kernel that what follows needs."""
        form = node._state.form or "source"
        missing = [name for name in names if (form, name) not in node._state.has]
        if missing:
            self.send(node, form, {record[0]: record for record in packing.late_records(missing, form)}, {})
