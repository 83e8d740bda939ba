"""A fork and its first call: how long until the first result is there. The floor is a bare ``os.fork()`` with a pipe.

One at a time, with a pause behind each, in which ramet forks a spare; then fifty without a pause, and twenty at once. Beside
it multiprocessing's fork server, and Mitogen's ``fork()``.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

import peers
import ramet
import remote
from measuring import Figure, compare, watch

ROUNDS = 15
PAUSE_S = 0.05
IN_A_ROW = 50
AT_ONCE = 20
PRELOAD = ["remote"]


def bare_start() -> tuple[int, int]:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, b"!")
        os._exit(0)
    os.close(write)
    return read, pid


def bare_answer(read: int, pid: int) -> None:
    os.read(read, 1)
    os.close(read)
    os.waitpid(pid, 0)


class Server:
    """Processes of multiprocessing's fork server, each of which sends one answer."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["__main__"])

    def start(self) -> Any:
        near, far = self.context.Pipe()
        process = self.context.Process(target=remote.answer, args=(far,))
        process.start()
        far.close()
        return near, process

    def answer(self, near: Any, process: Any) -> None:
        near.recv()

    def end(self, near: Any, process: Any) -> None:
        process.join()
        near.close()


def one(start: Callable[[], Any], answer: Callable[..., Any], end: Callable[..., Any]) -> float:
    """Milliseconds from the start to the answer."""
    with watch() as w:
        started = start()
        answer(*started)
    end(*started)
    time.sleep(PAUSE_S)
    return w.seconds * 1000


def in_a_row(start: Callable[[], Any], answer: Callable[..., Any], end: Callable[..., Any]) -> float:
    """The same for each of many that follow one another and are ended at the end."""
    started = []
    with watch() as w:
        for _ in range(IN_A_ROW):
            started.append(start())
            answer(*started[-1])
    for each in started:
        end(*each)
    time.sleep(PAUSE_S)
    return w.seconds * 1000 / IN_A_ROW


def at_once(start: Callable[[], Any], answer: Callable[..., Any], end: Callable[..., Any]) -> float:
    """Milliseconds until all have answered."""
    with watch() as w:
        started = [start() for _ in range(AT_ONCE)]
        for each in started:
            answer(*each)
    for each in started:
        end(*each)
    time.sleep(PAUSE_S)
    return w.seconds * 1000


def run() -> list[Figure]:
    server = Server()
    with ramet.Tree() as tree, peers.mitogen_router() as router:
        kinds: dict[str, Any] = {
            "os.fork": (bare_start, bare_answer, lambda *_: None),
            "ramet": (lambda: ramet_start(tree), lambda _, call: call.result(), lambda node, _: node.close()),
            "ramet, connected": (lambda: (tree.fork(preload=PRELOAD),), lambda node: node.wait(), lambda node: node.close()),
            "forkserver": (server.start, server.answer, server.end),
            "Mitogen": (lambda: (router.fork(),), lambda context: context.call(remote.nothing), peers.mitogen_end),
        }

        def contenders(how: Callable[..., float], *names: str) -> dict[str, Callable[[], float]]:
            return {name: lambda name=name: how(*kinds[name]) for name in names or kinds}      # type: ignore[misc]
        return [
            compare(Figure("fork() + first call, a pause between", "ms", "os.fork", "≤ 5 ms"), contenders(one), ROUNDS, 2),
            compare(Figure(f"fork() + first call, {IN_A_ROW} in a row, each", "ms", "os.fork", "≤ 5 ms"),
                    contenders(in_a_row, "os.fork", "ramet", "forkserver", "Mitogen"), 5),
            compare(Figure(f"fork() + first call, {AT_ONCE} at once, all", "ms", "os.fork", ""),
                    contenders(at_once, "os.fork", "ramet", "forkserver"), 9)]


def ramet_start(tree: ramet.Tree) -> Any:
    node = tree.fork(preload=PRELOAD)
    return node, node.start(remote.nothing)
