"""A node over a loopback sshd and its first call. The floor is ``ssh host python3 -c pass``."""

from __future__ import annotations

import subprocess

import peers
import ramet
import remote
from measuring import Figure, compare, watch

ROUNDS = 10
PYTHON = "/usr/bin/python3"


def run() -> list[Figure]:
    host, options = peers.ssh_host(), peers.ssh_options()
    if not host:
        return []
    figure = Figure("ssh() + first call", "ms", "ssh host python3 -c pass", "≤ 1.08×")

    def bare() -> float:
        with watch() as w:
            subprocess.run(["ssh", *options, host, PYTHON, "-c", "pass"], check=True, stdin=subprocess.DEVNULL)
        return w.seconds * 1000

    with ramet.Tree() as tree, peers.mitogen_router() as router:

        def ours() -> float:
            with watch() as w:
                node = tree.ssh(host, ssh_args=options, python=PYTHON)
                node.call(remote.nothing)
            node.close()
            return w.seconds * 1000

        def mitogen() -> float:
            with watch() as w:
                context = router.ssh(hostname=host, ssh_args=options, python_path=PYTHON, check_host_keys="ignore")
                context.call(remote.nothing)
            peers.mitogen_end(context)
            return w.seconds * 1000

        return [compare(figure, {"ssh host python3 -c pass": bare, "ramet": ours, "Mitogen": mitogen}, ROUNDS)]
