"""What waits here to be sent to a node is bounded: one that doesn't read can't make this program grow.

Must not know what a call is. Runs in the thread that makes one.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ramet.kernel.errors import BusyError, CallTimeout

if TYPE_CHECKING:
    from ramet.node import Node
    from ramet.shelter import ShelteredCore

# What may wait for one node before who makes calls waits, too; of what is larger, one call alone.
WAITING_BYTES_MAX = 16 << 20

# What a call takes besides its message while its node isn't connected: the functions that send it then. Measured: 1,220.
HELD_BYTES = 1200

# How often it is looked at then.
LOOK_S = 0.01


def wait_for_room(core: ShelteredCore, node: Node) -> None:
    """Block while too much waits for a node, connected or not. Returns at once if it is gone: what is sent then tells so.

    Raises:
        CallTimeout: it took longer than the calls' timeout.
        BusyError: this thread can't wait: it runs an event loop, or reads what comes from nodes.
    """
    if not _too_much(core, node):
        return
    why = "which doesn't read them fast enough" if node._state.open else "which isn't connected yet"
    text = f"more than {WAITING_BYTES_MAX} bytes wait to be sent to node {node.name}, {why}"
    if not core.can_wait(core.routes.link_to(node.id)) or _in_event_loop():
        raise BusyError(f"{text}, and this thread can't wait for that: await some of the calls before you make more")
    seconds = node._options.get("timeout")
    end = None if seconds is None else time.monotonic() + seconds
    while _too_much(core, node):
        if end is not None and time.monotonic() > end:
            raise CallTimeout(f"{text}: the call wasn't sent within its timeout of {seconds:g} s")
        time.sleep(LOOK_S)


def _too_much(core: ShelteredCore, node: Node) -> bool:
    total, link = node._state.held_bytes, core.routes.link_to(node.id)
    if link is None or link.dead or total > WAITING_BYTES_MAX:
        return total > WAITING_BYTES_MAX and not node._state.ended
    if total + link.queue.size <= WAITING_BYTES_MAX or node._state.ended:   # the usual case
        return False
    with link.writing:
        for key, waiting in link.queue.flows.items():
            if key[1] == node.id:
                for frame in getattr(waiting, "frames", waiting):
                    total += len(frame)
                    if total > WAITING_BYTES_MAX:
                        return True
    return False


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
