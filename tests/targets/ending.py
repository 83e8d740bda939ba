"""A node that is ended from outside, wherever it runs on this machine: what becomes of its calls, and what is left of it."""
from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ramet import Node, NodeLostError
from support import remote
from support.eventually import until


def _table() -> dict[int, tuple[int, str]]:
    """All processes of the machine, those in other namespaces included: id -> parent, what it is called."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                called = Path(f"/proc/{name}/cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
                found[int(name)] = int(fields[1]), called
    return found


def _with_descendants(pids: set[int]) -> set[int]:
    table = _table()
    while True:
        more = {pid for pid, (parent, _) in table.items() if parent in pids} - pids
        if not more:
            return pids
        pids = pids | more


def check_ending(grow: Callable[..., Node]) -> None:
    """Grow a node and a child of it, and end its process in the middle of their calls: both fail, and nothing is left.

    Args:
        grow: called with ``name=``.
    """
    name = f"rmt{uuid.uuid4().hex[:10]}"
    node = grow(name=name)
    child = node.local(name=f"{name}-child")
    assert node.call(remote.from_own_module) == child.call(remote.from_own_module) == remote.from_own_module()
    child.call(remote.start_sleeper)
    calls: list[Any] = [node.start(time.sleep, 600), child.start(time.sleep, 600)]
    own = {pid: parent for pid, (parent, called) in _table().items() if f"(ramet:{name})" in called}
    (process,) = [pid for pid, parent in own.items() if parent not in own]      # the other one is its guardian
    there = _with_descendants(set(own))
    assert len(there) >= 5, "node, guardian, child, its guardian, the sleeper"
    os.kill(process, signal.SIGKILL)
    for call in calls:
        with pytest.raises(NodeLostError):
            call.result(60)
    left: list[tuple[int, str]] = []

    def all_gone() -> bool:
        left[:] = [found for pid, found in _table().items() if pid in there or f"(ramet:{name}" in found[1]]
        return not left
    until(all_gone, lambda: f"left behind: {left}")
