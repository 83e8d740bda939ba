"""A local interpreter and its first call: how long until the first result is there. The floor is the bare interpreter."""

from __future__ import annotations

import subprocess
import sys

import execnet

import peers
import ramet
import remote
from measuring import Figure, compare, watch

ROUNDS = 25


def bare() -> float:
    with watch() as w:
        subprocess.run([sys.executable, "-c", "pass"], check=True)
    return w.seconds * 1000


def run() -> list[Figure]:
    figure = Figure("local() + first call", "ms", "python -c pass", "≤ 2.0×, then 1.6×")
    with ramet.Tree() as tree, peers.mitogen_router() as router:

        def ours() -> float:
            with watch() as w:
                node = tree.local()
                node.call(remote.nothing)
            node.close()
            return w.seconds * 1000

        def mitogen() -> float:
            with watch() as w:
                context = peers.mitogen_local(router)
            peers.mitogen_end(context)
            return w.seconds * 1000

        def execnets() -> float:
            group = execnet.Group()
            with watch() as w:
                channel = group.makegateway(f"popen//python={sys.executable}").remote_exec(peers.ECHO)
                channel.send(1)
                channel.receive()
            group.terminate(1)
            return w.seconds * 1000

        contenders = {"python -c pass": bare, "ramet": ours, "Mitogen": mitogen, "execnet": execnets}
        return [compare(figure, contenders, ROUNDS, warm_up=2)]
