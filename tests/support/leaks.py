"""What a test may leave behind: nothing. Descriptors, threads and processes, before and after.

Reads /proc only, so it sees threads that ``threading`` doesn't know, grandchildren, zombies, and processes whose parent
is gone. Those are told from the processes of other test runs on the same machine by a mark in their environment: every
process that a test starts inherits ``RAMET_TEST_MARK``. A throwaway sshd hands it on with ``SetEnv`` in its
configuration.
"""
from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

MARK_NAME = "RAMET_TEST_MARK"

#: For what never ends: on a busy machine what is ending takes its time. What has to end sooner, a test of its own says.
SETTLE_S = 20.0

#: The thread that each open tree has, and those of which it starts one each when there is something for them to do.
TREE, LATER = "ramet-keeper", ("ramet-display",)

#: Among a process's flags: a thread of the system's own (PF_KTHREAD).
KERNEL_THREAD = 0x200000


@dataclass(frozen=True)
class Process:
    """One process, as /proc showed it. Its start time tells it from a later one with the same pid."""

    pid: int
    started: int
    parent: int = field(compare=False)
    state: str = field(compare=False)
    command: str = field(compare=False)

    def __str__(self) -> str:
        state = " (a zombie: ended, never waited for)" if self.state == "Z" else ""
        return f"process {self.pid}, child of {self.parent}: {self.command or '?'}{state}"


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment."""

    descriptors: frozenset[tuple[int, str]]
    threads: frozenset[tuple[int, str]]
    processes: frozenset[Process]

    def leaked_since(self, before: Snapshot) -> Snapshot:
        """What is here now and wasn't before."""
        return Snapshot(
            self.descriptors - before.descriptors,
            self._new_threads(before),
            self.processes - before.processes,
        )

    def _new_threads(self, before: Snapshot) -> frozenset[tuple[int, str]]:
        """Without those that trees which were open before have started only now: for the first output of a node, say."""
        old = {tid for tid, _ in before.threads}    # not by name: one that is just starting gets its own a moment later
        trees = sum(name == TREE and tid in old for tid, name in self.threads)
        return frozenset(
            thread for name in {name for _, name in self.threads}
            for thread in sorted(thread for thread in self.threads if thread[1] == name)[trees if name in LATER else 0:]
            if thread[0] not in old)

    def __bool__(self) -> bool:
        return bool(self.descriptors or self.threads or self.processes)

    def describe(self) -> str:
        """One line for each thing, fit for an error message."""
        lines = [f"descriptor {fd} -> {target}" for fd, target in sorted(self.descriptors)]
        lines += [f"thread {tid} ({name})" for tid, name in sorted(self.threads)]
        lines += [str(process) for process in sorted(self.processes, key=lambda p: p.pid)]
        return "\n".join(lines)


def mark() -> str:
    """Put this process's mark into the environment, for all that it starts. Once; later calls give the same mark."""
    if _MARKED_PID.get("pid") != os.getpid():
        _MARKED_PID["pid"] = os.getpid()
        os.environ[MARK_NAME] = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
    return os.environ[MARK_NAME]


_MARKED_PID: dict[str, int] = {}


def _descriptors() -> Iterator[tuple[int, str]]:
    listing = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(listing):
            if int(name) != listing:
                with contextlib.suppress(OSError):
                    yield int(name), os.readlink(name, dir_fd=listing)
    finally:
        os.close(listing)


def _threads() -> Iterator[tuple[int, str]]:
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    for name in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{name}/comm") as comm:
            yield int(name), names.get(int(name)) or comm.read().strip()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _all_processes() -> dict[int, Process]:
    found = {}
    for name in os.listdir("/proc"):
        stat = _read(f"/proc/{name}/stat") if name.isdigit() else b""
        if not stat:
            continue
        short = stat[stat.index(b"(") + 1 : stat.rindex(b")")].decode("utf-8", "replace")
        fields = stat[stat.rindex(b")") + 2 :].split()
        if not int(fields[6]) & KERNEL_THREAD:
            found[int(name)] = Process(int(name), int(fields[19]), int(fields[1]), fields[0].decode(), f"[{short}]")
    return found


#: Whose mark a process bears: ours, another run's, none. Each is read once: that is the most of what a snapshot costs.
_MARKS: dict[Process, bytes] = {}


def _mark_of(process: Process) -> bytes:
    """The mark's line in a process's environment; empty if there is none, or it can't be read."""
    found = _MARKS.get(process)
    if found is None:
        environ = _read(f"/proc/{process.pid}/environ").split(b"\0")
        found = next((entry for entry in environ if entry.startswith(MARK_NAME.encode() + b"=")), b"")
        if found:       # else it may get one: it is just being started, or is ending
            _MARKS[process] = found
    return found


def _is_ours(process: Process, everything: dict[int, Process], here: int, marking: bytes) -> bool:
    ancestor: Process | None = process
    while ancestor is not None and ancestor.pid != here:
        ancestor = everything.get(ancestor.parent)
    if ancestor is not None:
        return process.pid != here
    found = _mark_of(process)
    if found or process.parent != 1:
        return found == marking
    return b"(ramet:" in _read(f"/proc/{process.pid}/cmdline")      # now, so it hadn't ended when its environment told nothing


def processes() -> frozenset[Process]:
    """Descendants of this process, what bears its mark, and nodes of nobody's whose parent is gone."""
    marking = f"{MARK_NAME}={mark()}".encode()
    everything = _all_processes()
    here = os.getpid()
    for process in _MARKS.keys() - everything.values():
        del _MARKS[process]
    return frozenset(_with_command(p) for p in everything.values() if _is_ours(p, everything, here, marking))


def _with_command(process: Process) -> Process:
    line = _read(f"/proc/{process.pid}/cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return dataclasses.replace(process, command=line) if line else process


def snapshot() -> Snapshot:
    """What there is now."""
    return Snapshot(frozenset(_descriptors()), frozenset(_threads()), processes())


def leaked(before: Snapshot, settle_s: float | None = None) -> Snapshot:
    """What there is now and wasn't before, once things have settled; empty if all is gone in time.

    The last look begins when the time is over: however long this process wasn't run meanwhile.
    """
    deadline = time.monotonic() + (SETTLE_S if settle_s is None else settle_s)
    pause = 0.005
    while True:
        is_last = time.monotonic() >= deadline
        left = snapshot().leaked_since(before)
        if not left or is_last:
            return left
        gc.collect()
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def end(left: Snapshot) -> None:
    """Kill what was left, so that one leak doesn't spoil the tests that follow."""
    for process in left.processes:
        with contextlib.suppress(OSError):
            os.kill(process.pid, signal.SIGKILL)
        if process.parent == os.getpid():
            with contextlib.suppress(OSError):
                os.waitpid(process.pid, 0)
