"""A long life in short: very many calls, nodes grown and closed, and nodes killed and grown again: nothing may grow by it.

    python -m soak.endurance --calls 1000000 --nodes 10000 --reconnects 1000        # make endurance
"""
from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
from collections.abc import Callable

import ramet
from support import leaks, remote, remote_soak, remote_stress

IN_FLIGHT = 1000
AT_A_TIME = 8
#: What may be added to what is resident between the first fifth and the end, in KiB: nothing grows with what was done.
GROWTH_KIB = 8192

Sample = tuple[str, int, list[int], list[int]]


class Endurance:
    """What was done so far, and what it has taken."""

    def __init__(self, tree: ramet.Tree, kept: list[ramet.Node]) -> None:
        self.tree, self.kept = tree, kept
        self.samples: list[Sample] = []
        self.rates: dict[str, float] = {}

    def sample(self, what: str, done: int) -> None:
        """Look at this program and at a node that lives as long."""
        gc.collect()
        mine, its = remote_soak.resident(), self.kept[0].call(remote_soak.resident)
        self.samples.append((what, done, mine, its))
        print(f"{what:11} {done:9,}   program {mine[0]:7,} KiB {mine[1]:3} fds {mine[2]:2} threads   "
              f"node {its[0]:7,} KiB {its[1]:3} fds {its[2]:2} threads", flush=True)

    def run(self, what: str, total: int, some: Callable[[int, int], int]) -> None:
        """Do it in ten parts; the first has warmed all up."""
        if not total:
            return
        part, done, began = max(1, total // 10), 0, time.monotonic()
        while done < total:
            done += some(done, min(part, total - done))
            self.sample(what, done)
        self.rates[what] = done / (time.monotonic() - began)

    def calls(self, first: int, count: int) -> int:
        """Many under way at a time, in all nodes."""
        for start in range(first, first + count, IN_FLIGHT):
            numbers = range(start, min(start + IN_FLIGHT, first + count))
            under_way = [self.kept[n % len(self.kept)].start(remote.add, n, 1) for n in numbers]
            if [call.result(timeout=600) for call in under_way] != [n + 1 for n in numbers]:
                raise AssertionError("a wrong answer")
        return count

    def nodes(self, first: int, count: int) -> int:
        """Grown, called, closed; some at a time."""
        for start in range(0, count, AT_A_TIME):
            grown = [self.tree.local() for _ in range(min(AT_A_TIME, count - start))]
            for node in grown:
                if node.start(remote.add, 1, 2).result(timeout=600) != 3:
                    raise AssertionError("a wrong answer")
                node.close()
        return count

    def reconnects(self, first: int, count: int) -> int:
        """Killed with a call under way, which says so, and grown again."""
        for _ in range(count):
            node = self.tree.local(name="again")
            pid = node.call(remote.pid)
            waiting = node.start(remote_stress.blocking, 0, 3600)
            os.kill(pid, signal.SIGKILL)
            if not isinstance(waiting.exception(timeout=600), ramet.NodeLostError):
                raise AssertionError("it isn't known to be lost")
        return count

    def wrong(self) -> list[str]:
        """What has grown, for each thing that was done."""
        found = []
        for what in dict.fromkeys(sample[0] for sample in self.samples):
            samples = [sample for sample in self.samples if sample[0] == what]
            warm, last = samples[len(samples) // 5], samples[-1]
            for whose, at in ("program", 2), ("node", 3):
                before, after = warm[at], last[at]  # type: ignore[misc]
                if after[0] - before[0] > GROWTH_KIB:
                    found.append(f"{what}: memory of the {whose} grew from {before[0]:,} to {after[0]:,} KiB")
                if after[1] > before[1] or after[2] > before[2]:
                    found.append(f"{what}: descriptors or threads of the {whose} grew from {before[1:]} to {after[1:]}")
        return found


def endure(calls: int, nodes: int, reconnects: int) -> list[str]:
    """Do all that; returns what is wrong."""
    leaks.mark()
    before = leaks.snapshot()
    with ramet.Tree() as tree:
        kept = [tree.local() for _ in range(4)]
        it = Endurance(tree, kept)
        it.sample("start", 0)
        it.run("calls", calls, it.calls)
        it.run("nodes", nodes, it.nodes)
        it.run("reconnects", reconnects, it.reconnects)
        wrong = it.wrong()
        if tree._core.pending or len(tree.nodes) != len(kept):
            wrong.append(f"left: {len(tree._core.pending)} calls, {len(tree.nodes)} nodes")
    left = leaks.leaked(before, 30)
    print({what: f"{rate:,.0f}/s" for what, rate in it.rates.items()})
    return wrong + ([f"left behind: {left.describe()}"] if left else [])


def main(argv: list[str]) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="make endurance", description="Very many calls, nodes and reconnects.")
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--reconnects", type=int, default=1_000)
    args = parser.parse_args(argv)
    wrong = endure(args.calls, args.nodes, args.reconnects)
    print("\n".join(wrong) or "flat: no memory, descriptor or thread more than at the beginning")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
