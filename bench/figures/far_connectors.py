"""Round trips that a connector costs, beside the bare program's: how much longer it takes over a far link than over a near one.

`tests/targets/test_far_connectors.py` counts the same without a clock, for more connectors: on a busy machine believe that. The
relay is ssh's ProxyCommand, so the round trip of TCP itself isn't in it. Work done while bytes are under way hides some.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import peers
import ramet
import remote
from measuring import Figure, compare, watch

ROUNDS = 7
ROUND_TRIP_S = 0.1
PYTHON = "/usr/bin/python3"
RELAY = Path(__file__).parents[1] / "far.py"
PIPE = Path(__file__).parents[2] / "tests/targets/tcp_pipe.py"


def proxy(round_trip_s: float) -> list[str]:
    """Arguments for ssh to go over a link with this round trip."""
    words = [sys.executable, str(RELAY), str(round_trip_s * 1000), "open", sys.executable, str(PIPE)]
    return ["-o", f"ProxyCommand={shlex.join(words)} %h %p"]


def called(node: ramet.Node) -> ramet.Node:
    """The node, when its first call has answered."""
    node.call(remote.nothing)
    return node


def added(work: Callable[[float], ramet.Node | None]) -> Callable[[], float]:
    """Runs something over a near link and over a far one; gives the difference in round trips."""

    def measure() -> float:
        seconds = []
        for round_trip_s in (0.0, ROUND_TRIP_S):
            with watch() as w:
                node = work(round_trip_s)
            seconds.append(w.seconds)
            if node:
                node.close()
        return (seconds[1] - seconds[0]) / ROUND_TRIP_S

    return measure


@contextlib.contextmanager
def shared(host: str, options: list[str], round_trip_s: float) -> Iterator[list[str]]:
    """A connection that is there already, for ssh's ControlPath."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*options, *proxy(round_trip_s), "-S", f"{folder}/s"]
        subprocess.run(["ssh", *words, "-M", "-N", "-f", host], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            yield words
        finally:
            subprocess.run(["ssh", "-S", f"{folder}/s", "-O", "exit", host], capture_output=True)


def bare(words: list[str], host: str, command: str) -> None:
    """The program, with its input held open as long as it runs."""
    with subprocess.Popen(["ssh", "-T", *words, host, command], stdin=subprocess.PIPE) as program:
        assert program.wait() == 0


def run() -> list[Figure]:
    host, options = peers.ssh_host(), peers.ssh_options()
    if not host:
        return []
    figures = []
    with contextlib.ExitStack() as stack:
        tree = stack.enter_context(ramet.Tree())
        ways = {each: stack.enter_context(shared(host, options, each)) for each in (0.0, ROUND_TRIP_S)}

        def fresh(round_trip_s: float) -> ramet.Node:
            return called(tree.ssh(host, ssh_args=[*options, *proxy(round_trip_s)], python=PYTHON))

        def over_shared(round_trip_s: float) -> ramet.Node:
            return called(tree.ssh(host, ssh_args=ways[round_trip_s], python=PYTHON))

        nodes = {each: tree.ssh(host, ssh_args=words, python=PYTHON) for each, words in ways.items()}
        rows: dict[str, tuple[Callable[[float], None], Callable[[float], ramet.Node]]] = {
            "ssh, a fresh connection": (
                lambda s: bare([*options, *proxy(s)], host, f"exec {PYTHON} -c pass"), fresh),
            "ssh, over a shared connection": (lambda s: bare(ways[s], host, f"exec {PYTHON} -c pass"), over_shared),
            "local, from a far node": (
                lambda s: bare(ways[s], host, f"exec {PYTHON} -c pass"),
                lambda s: called(nodes[s].local(python=PYTHON))),
        }  # fmt: skip
        if os.geteuid() == 0:
            rows["su nobody, from a far node"] = (
                lambda s: bare(ways[s], host, f"su -s /bin/sh nobody -c '{PYTHON} -c pass'"),
                lambda s: called(nodes[s].su("nobody", shell="/bin/sh", python=PYTHON)))  # fmt: skip
        for name, (theirs, ours) in rows.items():
            figure = Figure(name, "round trips of 100 ms", "bare", "+1; from a far node −1")
            figures.append(compare(figure, {"bare": added(theirs), "ramet": added(ours)}, ROUNDS))
    return figures
