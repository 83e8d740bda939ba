"""A hundred local interpreters at once, each with a first call. The floor is a hundred bare interpreters at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import peers
import ramet
import remote
from measuring import Figure, compare, watch

COUNT = 100
ROUNDS = 3


def bare() -> float:
    with watch() as w:
        for process in [subprocess.Popen([sys.executable, "-c", "pass"]) for _ in range(COUNT)]:
            process.wait()
    return w.seconds * 1000


def ours() -> float:
    with ramet.Tree() as tree:
        with watch() as w:
            nodes = [tree.local() for _ in range(COUNT)]
            outcomes = [outcome.ok for _, outcome in tree.each(nodes, remote.nothing)]
        assert outcomes == [True] * COUNT
    return w.seconds * 1000


def mitogen() -> float:
    with peers.mitogen_router() as router, ThreadPoolExecutor(COUNT) as pool:
        with watch() as w:
            list(pool.map(lambda _: peers.mitogen_local(router), range(COUNT)))
    return w.seconds * 1000


def run() -> list[Figure]:
    figure = Figure(f"{COUNT} local nodes at once + first call", "ms", "python -c pass", "≤ 2.0×",
                    note="ramet: one thread; Mitogen: a thread for each")
    return [compare(figure, {"python -c pass": bare, "ramet": ours, "Mitogen": mitogen}, ROUNDS, warm_up=1)]
