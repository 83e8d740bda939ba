"""How long calls to honest nodes take while a hostile one floods: beside the same calls in the same tree before it, and
while the same flood goes to a program that drops it, since it takes a processor, too.

    PYTHONPATH=tests python bench/hostile.py

The hostile child of ``tests/support`` does one of its cases again and again, without reading: once below the controller,
once below a node. Who calls is the controller; who is called: the hostile one's parent, if that is a node, its sibling, and a
node of another branch. Medians of single calls. It is given the time in which what is refused is forgiven.
"""
from __future__ import annotations

import itertools
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ramet
from ramet.kernel.errors import Error
from support import hostile_child, remote

#: What floods: each is refused, shown or held up in another place.
CASES = ("forged_source", "calls_up", "floods_of_logs_and_output", "endless_fragments", "flood_of_every_handle")
CALLS = 200
ROUNDS = 2
#: How long a flood goes on before it is looked at whether it is held up; and how long that is waited for.
SETTLED_S = 4.0
HELD_UP_S = 20.0


def flood(case: str) -> None:
    """Be the child."""
    child = hostile_child.Child("/nonexistent/ramet")
    child.hello()
    try:
        while True:
            hostile_child.CASES[case](child)
    except (BrokenPipeError, ConnectionError):
        pass


def flood_nobody(case: str) -> None:
    """Be a child that says the same to whoever reads its stdout."""
    child = hostile_child.Child.__new__(hostile_child.Child)
    child.marker, child.id, child.ancestors, child.others = "/nonexistent/ramet", 3, (1, 0), [1, 2, 4, 5]
    try:
        while True:
            hostile_child.CASES[case](child)
    except BrokenPipeError:
        pass


@contextmanager
def elsewhere(case: str) -> Iterator[None]:
    """While the flood goes where it harms nobody."""
    with subprocess.Popen([sys.executable, __file__, case, "nobody"], stdout=subprocess.PIPE) as source:
        with subprocess.Popen(["cat"], stdin=source.stdout, stdout=subprocess.DEVNULL) as sink:
            try:
                time.sleep(0.5)
                yield
            finally:
                source.kill()
                sink.kill()


def median_us(node: ramet.Node) -> float:
    """Of calls, one after the other."""
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        node.call(remote.add, 1, 2)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


def busy_s(pid: int) -> float:
    """The processor time that a process has used; less than nothing if it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    except FileNotFoundError:
        return -1000.0


def settle(pid: int) -> None:
    """Wait until the flood is held up, or seems not to be: what is forgiven takes its time, more of it on a busy machine."""
    end = time.monotonic() + HELD_UP_S
    time.sleep(SETTLED_S)
    busy = 1.0
    while busy > 0.1 and time.monotonic() < end:
        before = busy_s(pid)
        time.sleep(1)
        busy = busy_s(pid) - before


def measure(case: str, below: bool) -> dict[str, tuple[float, float, float, float]]:
    """Who is called -> medians: alone, with the flood elsewhere, with the flood; and its least share of a processor."""
    with ramet.Tree(remember=False, on_output=lambda *_: None) as tree:
        parent = tree.local()
        above: ramet.Tree | ramet.Node = parent if below else tree
        who = {"sibling": above.local(), "elsewhere": tree.local()}
        if below:
            who["parent"] = parent
        for node in who.values():
            median_us(node)
        found: dict[str, list[list[float]]] = {name: [[], [], [], []] for name in who}
        for _ in range(ROUNDS):
            for name, node in who.items():
                found[name][0].append(median_us(node))
            with elsewhere(case):
                for name, node in who.items():
                    found[name][1].append(median_us(node))
            hostile = above.command([sys.executable, __file__, case])
            hostile.wait(60)
            pid = int(hostile.facts["pid"])
            settle(pid)
            for name, node in who.items():
                before, began = busy_s(pid), time.perf_counter()
                found[name][2].append(median_us(node))
                found[name][3].append((busy_s(pid) - before) / (time.perf_counter() - began))
            try:
                hostile.kill()
                while hostile in tree.nodes:
                    time.sleep(0.01)
            except Error:
                pass
        return {name: (*map(statistics.median, times[:3]), min(times[3])) for name, times in found.items()}  # type: ignore


def main() -> None:
    logging.getLogger("ramet").addHandler(logging.NullHandler())
    print("| flood | below | called | alone, us | beside it elsewhere, us | beside it, us | times alone | times elsewhere "
          "| the flood's share of a processor |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case, below in itertools.product(CASES, (False, True)):
        for name, (alone, aside, flooded, share) in measure(case, below).items():
            place, took = "a node" if below else "the controller", f"{share:.0%}" if share >= 0 else "ended"
            print(f"| `{case}` | {place} | {name} | {alone:.0f} | {aside:.0f} | {flooded:.0f} | "
                  f"{flooded / alone:.1f} | {flooded / aside:.1f} | {took} |", flush=True)


if __name__ == "__main__":
    os.environ.pop("PYTHONUNBUFFERED", None)
    if len(sys.argv) > 1:
        (flood_nobody if sys.argv[2:] == ["nobody"] else flood)(sys.argv[1])
    else:
        main()
