"""The program of test_interrupts.py: its main thread uses a tree, and another one presses Ctrl-C at random moments.

argv: a seed, how often, and what the main thread does meanwhile. The next Ctrl-C comes only when the last one has arrived. In
the end all nodes must still be there, and answer.

Python itself loses what a handler raises in a destructor or a callback of the garbage collector. So one that doesn't arrive is
pressed again, as a user would; that happens in one of some thousand.
"""
import random
import signal
import sys
import threading
import time

import ramet
from support import remote, remote_channels, remote_streams

LONG_S = 120


class Presser:
    """Presses Ctrl-C so often, a random moment after the main thread has gone to work again."""

    def __init__(self, seed, times):
        self.random = random.Random(seed)
        self.times = times
        self.over = False
        self.lost = 0
        self.working = self.arrived = False     # no Events: a lock of one could be kept, if what is pressed came in it
        self.main = threading.main_thread().ident
        self.thread = threading.Thread(target=self.run)

    def run(self):
        for _ in range(self.times):
            self.wait_for("working", LONG_S)
            time.sleep(self.random.random() ** 3 * 0.02)
            self.arrived = False
            for _ in range(4):
                signal.pthread_kill(self.main, signal.SIGINT)
                if self.wait_for("arrived", LONG_S / 4):
                    break
                self.lost += 1
        self.over = True

    def wait_for(self, name, seconds):
        end = time.monotonic() + seconds
        while not getattr(self, name) and time.monotonic() < end:
            time.sleep(0.0005)
        return getattr(self, name)

    def work(self, do):
        """Do it again and again, until all is over."""
        self.thread.start()
        while True:
            try:
                while not self.over:
                    self.working = True
                    do()
                break
            except KeyboardInterrupt:
                self.working = False        # first: else the next one could come before we are in the `try` again
                self.arrived = True
        self.thread.join()


def calls(tree, nodes, rng):
    node = rng.choice(nodes)
    number = rng.randrange(1000)
    assert node.call(remote.add, number, 1) == number + 1
    started = [one.start(remote.add, number, 2) for one in nodes]
    node.cast(remote.add, 1)
    assert [call.result() for call in started] == [number + 2] * len(nodes)


def long_values(tree, nodes, rng):
    data = rng.randbytes(rng.randrange(200_000))
    assert rng.choice(nodes).call(remote.echo, data) == data


def streams(tree, nodes, rng):
    assert list(rng.choice(nodes).stream(remote_streams.count, 200)) == list(range(200))


def channels(tree, nodes, rng):
    node = rng.choice(nodes).options(lane=ramet.ANY)
    there, back = [tree.channel(5), node.call(remote_channels.make_and_send, 5, [])][::rng.choice([1, -1])]
    try:
        call = node.start(remote_channels.echo, there, back)
        for n in range(30):
            there.send(n)
            assert back.receive(timeout=LONG_S) == n
    finally:
        there.close()
    assert list(back) == [] and call.result() is None


def growing(tree, nodes, rng):
    for node in tree.nodes:
        if node not in nodes:
            node.close()
    grower = rng.choice([tree, nodes[0]])
    with_call = grower.local()
    assert with_call.call(remote.add, 1, 1) == 2


def main():
    seed, times, doing = int(sys.argv[1]), int(sys.argv[2]), globals()[sys.argv[3]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(seed + 1)
    with ramet.Tree(on_output=lambda *_: None) as tree:
        child = tree.local()
        nodes = [child, child.local(), tree.command(["env"], python=[sys.executable])]
        for node in nodes:
            node.call(remote.add, 1)
        presser = Presser(seed, times)
        presser.work(lambda: doing(tree, nodes, rng))
        assert presser.lost < 3, presser.lost
        answers = [node.call(remote.add, 1, 2) for node in nodes]
        print(answers, tree.stats()["refused"], signal.getsignal(signal.SIGINT).__name__)


if __name__ == "__main__":
    main()
