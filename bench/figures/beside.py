"""The slowest calls while much passes on the same link: p99 of single calls, in milliseconds.

The floor is the same call while as much passes between two other processes, over a socket and without ramet: both ends of a
transfer need a processor each, so on a machine with two cores a call waits for one, whoever made it. The second figure leaves
out what the two main threads, the caller's and the node's, have waited for a processor. What other threads on the way waited
is still in it. A transfer of 1 GB lasts about as long as a sample here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import ramet
import remote
from measuring import Figure

SAMPLE_S = 1.5
ROUNDS = 5
MB = 1 << 20
SIZE = 256 * MB
FLOOR = "a bare socket's transfer"

# Sends as fast as it can over a socketpair to another process, until its input ends.
BARE = """
import os, select, socket, sys
near, far = socket.socketpair()
for end in near, far: end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
if os.fork() == 0:
    near.close()
    room = bytearray(1 << 18)
    while far.recv_into(room): pass
    os._exit(0)
far.close()
data = bytes(1 << 18)
while not select.select([0], [], [], 0)[0]: near.sendall(data)
near.close()
os.wait()
"""

# Writes lines of 1,000 bytes until nobody reads them.
WRITER = "import sys\nblock = (b'x' * 999 + b'\\n') * 60\nwhile True: sys.stdout.buffer.write(block)"


def waited_ms(pid: int) -> float:
    """What the main thread of a process has waited for a processor."""
    with open(f"/proc/{pid}/task/{pid}/schedstat") as file:
        return int(file.read().split()[1]) / 1e6


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def calls(node: ramet.Node, goes_on: Callable[[], bool]) -> tuple[float, float]:
    """p99 of calls, one a millisecond: all of it, and without what the main threads waited."""
    pids = os.getpid(), int(node.facts["pid"])
    took, without = [], []
    end = time.monotonic() + SAMPLE_S
    while goes_on() and time.monotonic() < end:
        before, began = sum(map(waited_ms, pids)), time.perf_counter()
        node.call(remote.nothing)
        took.append((time.perf_counter() - began) * 1e3)
        without.append(max(0.0, took[-1] - sum(map(waited_ms, pids)) + before))
        time.sleep(0.001)
    return p99(took), p99(without)


def beside(node: ramet.Node, work: Callable[[Callable[[], bool]], object]) -> tuple[float, float]:
    """While another thread of the program does that, until it is told that it is enough."""
    enough = threading.Event()
    thread = threading.Thread(target=work, args=(enough.is_set,))
    thread.start()
    try:
        return calls(node, thread.is_alive)
    finally:
        enough.set()
        thread.join()


def bare(node: ramet.Node) -> tuple[float, float]:
    with subprocess.Popen([sys.executable, "-c", BARE], stdin=subprocess.PIPE) as program:
        try:
            return calls(node, lambda: program.poll() is None)
        finally:
            program.communicate()


def run() -> Iterator[Figure]:
    data = b"x" * SIZE
    with ramet.Tree() as tree:
        middle = tree.local()
        for place, node in (("child", middle), ("grandchild", middle.local())):
            aside = node.options(lane="aside")
            aside.call(remote.kept, SIZE)

            def until_enough(once: Callable[[], object]) -> Callable[[Callable[[], bool]], object]:
                def work(enough: Callable[[], bool]) -> None:
                    while not enough():
                        once()
                return work

            def stream(enough: Callable[[], bool], aside: ramet.Node = aside) -> None:
                with aside.stream(remote.blocks, 1 << 40, 131072) as items:
                    for _ in items:
                        if enough():
                            break

            def output(enough: Callable[[], bool], aside: ramet.Node = aside) -> None:
                with aside.popen([sys.executable, "-c", WRITER]) as lines:
                    for _ in lines:
                        if enough():
                            break
            contenders: dict[str, Callable[[], tuple[float, float]]] = {
                FLOOR: lambda node=node: bare(node),
                "argument": lambda node=node, aside=aside: beside(node, until_enough(lambda: aside.call(remote.size_of, data))),
                "result": lambda node=node, aside=aside: beside(node, until_enough(lambda: aside.call(remote.kept, SIZE))),
                "stream of 128 KB items": lambda node=node: beside(node, stream),
                "output of a program": lambda node=node: beside(node, output),
            }
            all_of_it = Figure(f"p99 of calls to a {place} beside transfers of 1 GB to it", "ms", FLOOR, "≤ 10 ms")
            without = Figure(f"the same to a {place}, less what main threads waited for a processor", "ms", FLOOR, "≤ 10 ms")
            for measure in contenders.values():
                measure()
            for _ in range(ROUNDS):
                for name, measure in contenders.items():
                    for figure, found in zip((all_of_it, without), measure(), strict=True):
                        figure.samples.setdefault(name, []).append(found)
            yield all_of_it
            yield without
