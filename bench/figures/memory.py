"""What the controller, a node in the middle and a leaf below it need beyond what they have when idle, while much passes.

A sample is the peak of a process's resident memory (the kernel's own count, VmHWM) less what was resident before; each case was
done once in little before, so that all code is loaded. The floor is what the design allows.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import ramet
import remote
from measuring import Figure

GB = 1_000_000_000
AWAY_S = 10
STREAMS = 100
ROUNDS = 3
ALLOWED = "allowed"

# Writes so many bytes, in lines of 1,000.
WRITER = """
import sys
block = (b"x" * 999 + b"\\n") * 60
for _ in range(int(sys.argv[1]) // len(block)): sys.stdout.buffer.write(block)
"""


def resident(pid: int, which: str = "VmRSS") -> float:
    """MB; ``VmHWM`` is the peak."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith(which + ":"))


def forget_peak(pid: int) -> None:
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


def away(leaf: ramet.Node, share: float) -> None:
    """Take one item of 4 KB, and then none for a while; calls go on."""
    with leaf.stream(remote.blocks, 1 << 40, 4096) as stream:
        next(stream)
        end = time.monotonic() + AWAY_S * share
        while time.monotonic() < end:
            leaf.call(remote.nothing)
            time.sleep(0.01)


def full_speed(leaf: ramet.Node, share: float) -> None:
    many = int(GB * share) // 131072
    assert sum(1 for _ in leaf.stream(remote.blocks, many, 131072)) == many


def program(leaf: ramet.Node, share: float) -> None:
    """The output of a program, line by line."""
    many = int(GB * share) // 60_000 * 60
    assert sum(1 for _ in leaf.popen([sys.executable, "-c", WRITER, str(int(GB * share))])) == many


def program_unread(leaf: ramet.Node, share: float) -> None:
    with leaf.popen([sys.executable, "-c", WRITER, str(GB)]) as process:
        next(process)
        time.sleep(AWAY_S * share)


def streams(leaf: ramet.Node, share: float) -> None:
    """Many at once, each read by a thread of its own: GB in all."""
    many = int(GB * share) // STREAMS // 4096

    def read() -> None:
        assert sum(1 for _ in leaf.stream(remote.blocks, many, 4096)) == many
    threads = [threading.Thread(target=read) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Shown:
    """Counts what nodes write to their stdout, and takes its time if told so."""

    def __init__(self) -> None:
        self.bytes = 0
        self.may_show = threading.Event()
        self.may_show.set()

    def __call__(self, node: ramet.Node, stream: int, line: str) -> None:
        self.may_show.wait()
        self.bytes += len(line) + 1


def run() -> Iterator[Figure]:
    shown = Shown()

    def output(leaf: ramet.Node, share: float) -> None:
        """A program that writes to the node's own stdout."""
        want = shown.bytes + int(GB * share) // 60_000 * 60_000
        assert leaf.options(lane="output").call(remote.write, WRITER, int(GB * share)) == 0
        while shown.bytes < want:
            time.sleep(0.01)

    def output_unshown(leaf: ramet.Node, share: float) -> None:
        """The same, and ``on_output`` doesn't return for a while; calls go on."""
        shown.may_show.clear()
        call = leaf.options(lane="output").start(remote.write, WRITER, int(GB * share / 100))
        end = time.monotonic() + AWAY_S * share
        while time.monotonic() < end:
            leaf.call(remote.nothing)
            time.sleep(0.01)
        shown.may_show.set()
        assert call.result() == 0

    cases: list[tuple[str, Callable[[ramet.Node, float], None], float]] = [
        (f"reader away for {AWAY_S} s, items of 4 KB", away, 2),
        ("1 GB stream of 128 KB items at full speed", full_speed, 2),
        ("1 GB output of a program, by popen", program, 2),
        (f"output of a program by popen that nobody reads for {AWAY_S} s", program_unread, 2),
        ("1 GB output to a node's stdout", output, 2),
        (f"output to a node's stdout that isn't shown for {AWAY_S} s", output_unshown, 2),
        (f"{STREAMS} streams at once, 1 GB in all", streams, 2 * STREAMS),
    ]
    for name, case, allowed in cases:
        figure = Figure(f"memory above idle: {name}", "MB", ALLOWED, f"≤ {allowed:g} MB")
        figure.samples = {ALLOWED: [], "controller": [], "middle": [], "leaf": []}
        for _ in range(ROUNDS):
            with ramet.Tree(on_output=shown) as tree:
                middle = tree.local()
                leaf = middle.local()
                case(leaf, 0.02)
                pids = {"controller": os.getpid(), "middle": middle.facts["pid"], "leaf": leaf.facts["pid"]}
                for pid in pids.values():
                    forget_peak(pid)
                before = {who: resident(pid) for who, pid in pids.items()}
                case(leaf, 1)
                figure.samples[ALLOWED].append(allowed)
                for who, pid in pids.items():
                    figure.samples[who].append(max(0.0, resident(pid, "VmHWM") - before[who]))
        yield figure
