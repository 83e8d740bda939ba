"""100 MB as an argument and as a result, beside Mitogen and a bare socket: by the clock, and in processor time of both sides.

On a machine that does other things, too, processor time is the one to compare.
"""

from __future__ import annotations

import io
import socket
import struct
import time
from collections.abc import Callable, Iterator

import bare
import ramet
import remote
from measuring import Figure, compare, watch
from peers import mitogen_end, mitogen_local, mitogen_router

SIZE = 100 << 20
ROUNDS = 7


class Bare:
    """A bare process that reads so many bytes into memory of their own, or makes and sends as many.

    Both ways give the processor time of the other side.
    """

    def __init__(self) -> None:
        self.socket = bare.process(self.answer)

    @staticmethod
    def answer(link: socket.socket, asked: bytes) -> None:
        began = time.process_time()
        if asked == b"a":
            received(link)
        else:
            link.sendall(b"x" * SIZE)
        link.sendall(struct.pack("d", time.process_time() - began))

    def argument(self, data: bytes) -> float:
        self.socket.sendall(b"a")
        self.socket.sendall(data)
        return self._time()

    def result(self) -> float:
        self.socket.sendall(b"r")
        received(self.socket)
        return self._time()

    def _time(self) -> float:
        return float(struct.unpack("d", self.socket.recv(8, socket.MSG_WAITALL))[0])


def received(link: socket.socket) -> memoryview:
    room = io.BytesIO(bytes(SIZE)).getbuffer()
    at = 0
    while at < SIZE:
        count = link.recv_into(room[at : min(at + (1 << 18), SIZE)])
        assert count, "the other side ended"
        at += count
    return room


def run() -> Iterator[Figure]:
    floor = Bare()      # before there are threads
    data = b"x" * SIZE     # other bytes are more than 128 MB in Mitogen, and refused
    with ramet.Tree() as tree, mitogen_router() as router:
        node, context = tree.local(), mitogen_local(router)

        def ours(fn: Callable[..., object], *args: object) -> tuple[float, float]:
            return measured(lambda: node.call(fn, *args), lambda: node.call(remote.cpu))

        def mitogens(fn: Callable[..., object], *args: object) -> tuple[float, float]:
            return measured(lambda: context.call(fn, *args), lambda: context.call(remote.cpu))

        def bares(way: Callable[[], float]) -> tuple[float, float]:
            there = [0.0]
            return measured(lambda: there.append(way()), lambda: there[-1])
        sides = {
            "argument": {"Mitogen": lambda: mitogens(remote.size_of, data), "ramet": lambda: ours(remote.size_of, data),
                         "socketpair": lambda: bares(lambda: floor.argument(data))},
            "result": {"Mitogen": lambda: mitogens(remote.given, SIZE), "ramet": lambda: ours(remote.given, SIZE),
                       "socketpair": lambda: bares(floor.result)},
        }
        try:
            for what, contenders in sides.items():
                spent: dict[str, list[float]] = {name: [] for name in contenders}

                def rate(name: str, contenders: dict[str, Callable[[], tuple[float, float]]] = contenders,
                         spent: dict[str, list[float]] = spent) -> float:
                    seconds, cpu = contenders[name]()
                    spent[name].append(cpu * 1e3)
                    return SIZE / seconds / 1e6
                figure = Figure(f"100 MB as {what}", "MB/s", "Mitogen", "≥ 10× Mitogen")
                yield compare(figure, {name: lambda name=name: rate(name) for name in contenders}, ROUNDS)
                yield Figure(f"the same in processor time of both sides, {what}", "ms", "Mitogen", "≤ 0.1×",
                             {name: times[1:] for name, times in spent.items()})
        finally:
            mitogen_end(context)


def measured(work: Callable[[], object], cpu_there: Callable[[], float]) -> tuple[float, float]:
    """Seconds, and processor time of both sides."""
    here, there = time.process_time(), cpu_there()
    with watch() as w:
        work()
    return w.seconds, time.process_time() - here + cpu_there() - there
