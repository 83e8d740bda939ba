"""How long calls to honest nodes take while a hostile one floods: beside the same calls in the same tree before and after it.

    PYTHONPATH=tests python bench/hostile.py

The hostile child of ``tests/support`` does one of its cases again and again, without reading: once below the controller,
once below a node. Who calls is the controller; who is called: the hostile one's parent, if that is a node, its sibling, and a
node of another branch. Medians of single calls.
"""
from __future__ import annotations

import os
import statistics
import sys
import time

import ramet
from ramet.kernel.errors import Error
from support import hostile_child, remote

#: What floods: each is refused, shown or held up in another place.
CASES = ("forged_source", "calls_up", "floods_of_logs_and_output", "endless_fragments", "flood_of_every_handle")
CALLS = 200
ROUNDS = 2


def flood(case: str) -> None:
    """Be the child."""
    child = hostile_child.Child("/nonexistent/ramet")
    child.hello()
    try:
        while True:
            hostile_child.CASES[case](child)
    except (BrokenPipeError, ConnectionError):
        pass


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


def measure(case: str, below: bool) -> dict[str, tuple[float, float, float]]:
    """Who is called -> medians, without and with the flood; and the least share of a processor that the flood had."""
    with ramet.Tree(remember=False, on_output=lambda *_: None) as tree:
        parent = tree.local()
        above: ramet.Tree | ramet.Node = parent if below else tree
        who = {"sibling": above.local(), "elsewhere": tree.local()}
        if below:
            who["parent"] = parent
        for node in who.values():
            median_us(node)
        calm: dict[str, list[float]] = {name: [] for name in who}
        flooded: dict[str, list[float]] = {name: [] for name in who}
        shares: dict[str, list[float]] = {name: [] for name in who}
        for _ in range(ROUNDS):
            for name, node in who.items():
                calm[name].append(median_us(node))
            hostile = above.command([sys.executable, __file__, case])
            hostile.wait(60)
            time.sleep(0.3)     # it is at it
            pid = int(hostile.facts["pid"])
            for name, node in who.items():
                before, began = busy_s(pid), time.perf_counter()
                flooded[name].append(median_us(node))
                shares[name].append((busy_s(pid) - before) / (time.perf_counter() - began))
            try:
                hostile.kill()
                while hostile in tree.nodes:
                    time.sleep(0.01)
            except Error:
                pass
        return {name: (statistics.median(calm[name]), statistics.median(flooded[name]), min(shares[name])) for name in who}


def main() -> None:
    print("| flood | below | called | alone, us | beside it, us | times | the flood's share of a processor |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        for below in (False, True):
            for name, (calm, flooded, share) in measure(case, below).items():
                print(f"| `{case}` | {'a node' if below else 'the controller'} | {name} | {calm:.0f} | {flooded:.0f} | "
                      f"{flooded / calm:.1f} | {f'{share:.0%}' if share >= 0 else 'ended'} |", flush=True)


if __name__ == "__main__":
    os.environ.pop("PYTHONUNBUFFERED", None)
    flood(sys.argv[1]) if len(sys.argv) > 1 else main()
