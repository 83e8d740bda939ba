"""How often each connector makes the two ends of a far link wait for each other, beside the bare program over the same link.

Counted, not timed: all that ssh's client and server say to each other goes over a relay that holds bytes back until both are
silent. A busy machine can make one end so slow that a flight is cut in two, never that two become one: so the least of some
tries counts.
"""
from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ramet import Node, Tree
from support import needs, remote
from targets import relay, tcp_pipe
from targets.accounts import Accounts, system_python
from targets.booted import INNER, Booted
from targets.cluster import Cluster
from targets.containers import busybox_root, lending
from targets.elsewhere import with_polkit
from targets.kinds import PYTHON, TARGETS, Kind
from targets.sshd import HOST, Sshd

pytestmark = [pytest.mark.xdist_group("accounts"), pytest.mark.far]

TRIES = 4


class FarHost:
    """An sshd behind the relay."""

    def __init__(self, sshd: Sshd, folder: Path) -> None:
        self.sshd = sshd
        self.flights = folder / "flights"
        self.flights.touch()
        self.socket = folder / "shared"
        words = [sys.executable, relay.__file__, str(self.flights), sys.executable, tcp_pipe.__file__, HOST, str(sshd.port)]
        self.proxy = ["-o", "ProxyCommand=" + shlex.join(words)]

    def options(self, user: str, *words: str) -> dict[str, Any]:
        options = self.sshd.by_key(username=user)
        return {**options, "ssh_args": [*options["ssh_args"], *self.proxy, *words]}

    def argv(self, user: str, *words: str) -> list[str]:
        """The bare program's, to be followed by a command."""
        file = str(self.sshd.folder / "id")
        return ["ssh", "-T", "-F", str(self.sshd.client), *self.proxy, "-i", file, *words, "-l", user, "-p",
                str(self.sshd.port), HOST]  # fmt: skip

    @contextlib.contextmanager
    def shared(self, user: str) -> Iterator[list[str]]:
        """A shared connection that is there already: the arguments to use it."""
        subprocess.run(self.argv(user, "-M", "-N", "-f", "-S", str(self.socket)), check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            yield ["-S", str(self.socket)]
        finally:
            subprocess.run(["ssh", "-S", str(self.socket), "-O", "exit", "x"], capture_output=True)

    def round_trips(self, work: Callable[[], object]) -> int:
        """How often something goes down and something comes up behind it while this works."""
        began = self.flights.stat().st_size
        work()
        ways = [line.split()[0] for line in self.flights.read_text()[began:].splitlines()]
        turns = [way for way, _ in itertools.groupby(ways)]
        return "".join(turns).replace("downup", "x").count("x")

    def least(self, work: Callable[[], object], expected: int | None = None) -> int:
        counts = []
        for _ in range(TRIES):
            counts.append(self.round_trips(work))
            if counts[-1] == expected:
                break
        return min(counts)

    def bare(self, argv: list[str], stdin: str = "") -> Callable[[], object]:
        """Runs it to its end. Its input stays open until then: what tells of its end would be one more flight."""
        def run() -> None:
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as program:
                assert program.stdin and program.stderr
                program.stdin.write(stdin.encode())
                program.stdin.flush()
                assert program.wait() == 0, program.stderr.read()
        return run


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarHost]:
    needs.root()
    with Sshd() as sshd:
        yield FarHost(sshd, tmp_path_factory.mktemp("far"))


def first_call(node: Node) -> None:
    assert node.call(remote.add, 2, 3) == 5


def test_a_fresh_connection(far: FarHost) -> None:
    """One round trip more than the bare program: the kernel and the first call go when the interpreter is known."""
    bare = far.least(far.bare([*far.argv(far.sshd.user), f"exec {system_python()} -c pass"]))
    with Tree() as tree:
        options = {"python": system_python(), **far.options(far.sshd.user)}
        ours = far.least(lambda: first_call(tree.ssh(HOST, **options)), bare + 1)
    print(f"round trips: {bare} bare, {ours} ramet")
    assert ours <= bare + 1


def test_over_a_shared_connection(far: FarHost) -> None:
    with far.shared(far.sshd.user) as words:
        bare = far.least(far.bare([*far.argv(far.sshd.user, *words), f"exec {system_python()} -c pass"]), 2)
        with Tree() as tree:
            options = {"python": system_python(), **far.options(far.sshd.user, *words)}
            ours = far.least(lambda: first_call(tree.ssh(HOST, **options)), 3)
        print(f"round trips: {bare} bare, {ours} ramet")
        assert (bare, ours) == (2, 3)


#: connector -> (whose node it grows from, the bare program, what it is grown with).
BEHIND: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "local": ("free", [], {}),
    "sudo": ("free", ["sudo", "-n", "--"], {}),
    "sudo with a password": ("asks", ["sudo", "-S", "--"], {"password": True}),
    "su": ("root", ["su", "OTHER", "-c"], {"username": "OTHER"}),
    "su with a password": ("asks", ["su", "OTHER", "-c"], {"username": "OTHER", "password": True}),
    "doas": ("free", ["doas", "--"], {}),
    "chroot": ("root", ["chroot", "/"], {"path": "/"}),
    "unshare": ("root", ["unshare", "-m"], {}),
    "nsenter": ("root", ["nsenter", "-t", str(os.getpid()), "-m"], {"target": os.getpid()}),
}


@pytest.mark.parametrize("what", BEHIND)
def test_through_a_far_node(far: FarHost, accounts: Accounts, what: str) -> None:
    """One round trip in all, whatever it asks over there: everything is planned here and carried out there."""
    who, head, options = BEHIND[what]
    connector = what.split()[0]
    if head:
        needs.program(connector)
    user = "root" if who == "root" else getattr(accounts, who)
    head = [accounts.other if word == "OTHER" else word for word in head]
    options = {key: accounts.other if value == "OTHER" else accounts.password if value is True else value
               for key, value in options.items()}  # fmt: skip
    python = [f"{system_python()} -c pass"] if connector == "su" else [system_python(), "-c", "pass"]
    with far.shared(user) as words:
        stdin = accounts.password + "\n" if "password" in options else ""
        expected = 3 if stdin else 2    # the password goes when the program has been started
        bare = far.least(far.bare([*far.argv(user, *words), shlex.join([*head, *python])], stdin), expected)
    with Tree() as tree:
        node = tree.ssh(HOST, python=system_python(), **far.options(user))
        for _ in range(2):      # with the first, what the far node needs to grow others goes along
            first_call(getattr(node, connector)(python=system_python(), **options))
        ours = far.least(lambda: first_call(getattr(node, connector)(python=system_python(), **options)), 1)
    print(f"round trips: {bare} bare, {ours} ramet")
    assert (bare, ours) == (expected, 1)


#: Kind of container -> the words that run a program in ``full``.
WORDS: dict[str, Callable[[Kind], list[str]]] = {
    "docker": lambda kind: ["docker", "-H", kind.target.host, "exec", "-i", "full"],
    "podman": lambda _: ["podman", "exec", "-i", "full"],
    "buildah": lambda kind: ["buildah", "run", *lending(kind.target.lent["full"]), "full", "--"],
    "lxc": lambda kind: ["lxc-attach", "-P", str(kind.target.path), "-n", "full", "--clear-env", "--"],
    "lxd": lambda _: ["lxc", "exec", "-T", "full", "--"],
    "incus": lambda _: ["incus", "exec", "-T", "full", "--"],
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_containers_through_a_far_node(far: FarHost, name: str) -> None:
    with TARGETS[name]() as target:
        kind = Kind(name, target)
        there = ["env", *(f"{key}={value}" for key, value in kind.env.items()), *WORDS[name](kind)]
        bare, ours = behind_a_far_root(far, [*there, PYTHON], lambda node: kind.grow(node.local(env=kind.env, name="grower")))
    assert (bare, ours) == (2, 1)


#: What a machine with systemd has -> the words of the bare program, and how ramet grows there.
MACHINES: dict[str, tuple[list[str], Callable[[Node], Node]]] = {
    "run0": (["run0", "--pipe", "--"], lambda node: node.run0(python=PYTHON)),
    "machinectl": (["machinectl", "-q", "shell", INNER], lambda node: node.machinectl(INNER, python=PYTHON)),
    "nsenter of a machine": (["systemd-run", "-q", "-P", "-M", INNER, "--"],
                             lambda node: node.nsenter(INNER, kind="machinectl", python=PYTHON)),
}  # fmt: skip


def test_machines_through_a_far_node(far: FarHost) -> None:
    with Booted() as machine:
        machine.begin_inner()
        enter = ["nsenter", "-t", str(machine.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        spaces = ["mount", "uts", "ipc", "net", "pid", "cgroup"]
        for what, (words, grow) in MACHINES.items():
            bare, ours = behind_a_far_root(
                far, [*enter, *words, PYTHON], grow,
                lambda node: node.nsenter(machine.leader, namespaces=spaces, python=PYTHON))
            assert (bare, ours) == (2, 1), what


def test_nspawn_through_a_far_node(far: FarHost, tmp_path: Path) -> None:
    needs.program("systemd-nspawn")
    root = busybox_root(tmp_path / "rmtfar")    # by which systemd-nspawn calls the machine
    words = ["systemd-nspawn", "-q", "-x", "--pipe", "--as-pid2", "--register=no", "--keep-unit", "-D", str(root),
             "--bind-ro=/usr"]  # fmt: skip
    bare, ours = behind_a_far_root(
        far, [*words, PYTHON],
        lambda node: node.nspawn(root, ephemeral=True, nspawn_args=["--bind-ro=/usr", "--keep-unit"], python=PYTHON))
    assert (bare, ours) == (2, 1)


def test_pkexec_through_a_far_node(far: FarHost, accounts: Accounts) -> None:
    """polkit runs in namespaces that a node on the far host has made: the bare program enters them from outside.

    It needs a parent in there, too, which pkexec asks about.
    """
    alone = ["setpriv", "--reuid", accounts.free, "--regid", accounts.free, "--init-groups", "env", "SHELL=/bin/bash"]
    with Tree() as tree:
        place = with_polkit(tree.ssh(HOST, python=system_python(), **far.options("root")), accounts.free)
        enter = ["nsenter", "-t", str(outside(place)), "-m", "-p", "--", *alone, "sh", "-c", '"$@" || exit', "sh"]
        mine = place.command(alone, python=PYTHON, cwd="/")
        assert beside(far, [*enter, "pkexec", PYTHON], lambda: mine.pkexec(python=PYTHON)) == (2, 1)


def outside(node: Node) -> int:
    """The number that a process of the node's namespaces has in ours."""
    theirs = node.call(os.readlink, "/proc/self/ns/pid")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "ns/pid") == theirs:
                return int(process.name)
    raise AssertionError(f"no process has {theirs}")


def test_kubectl_through_a_far_node(far: FarHost, tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        there = ["env", *(f"{key}={value}" for key, value in cluster.env.items()), "kubectl", "exec", "-i", "app", "--"]
        counts = behind_a_far_root(
            far, [*there, PYTHON], lambda node: node.kubectl("app", kubeconfig=cluster.config, python=PYTHON))
    assert counts == (2, 1)


@pytest.mark.parametrize(("program", "drop", "grow"), [
    ("jexec", 1, lambda node, path: node.jail("j", jexec_path=path, python=PYTHON)),
    ("wsl.exe", 3, lambda node, path: node.wsl("Debian", wsl_path=path, python=PYTHON)),
])  # fmt: skip
def test_what_cannot_run_here_through_a_far_node(far: FarHost, tmp_path: Path, program: str, drop: int,
                                                 grow: Callable[[Node, Path], Node]) -> None:
    """With a stand-in that says nothing and runs what comes after its own words."""
    path = tmp_path / program
    path.write_text(f'#!/bin/sh\nshift {drop}\nexec "$@"\n')
    path.chmod(0o755)
    own = ["own"] * drop
    assert behind_a_far_root(far, [str(path), *own, PYTHON], lambda node: grow(node, path)) == (2, 1)


def behind_a_far_root(far: FarHost, words: list[str], grow: Callable[[Node], Node],
                      way: Callable[[Node], Node] = lambda node: node) -> tuple[int, int]:
    """Round trips of a bare program and of ramet.

    Args:
        words: run a Python over there.
        grow: the same, from the node that ``way`` leads to.
    """
    with Tree() as tree:
        node = way(tree.ssh(HOST, python=system_python(), **far.options("root")))
        return beside(far, words, lambda: grow(node))


def beside(far: FarHost, words: list[str], grow: Callable[[], Node]) -> tuple[int, int]:
    with far.shared("root") as shared:
        bare = far.least(far.bare([*far.argv("root", *shared), shlex.join([*words, "-c", "pass"])]), 2)

    def work() -> None:
        first_call(grow())
    work()      # with the first, what the far node needs to grow others goes along
    ours = far.least(work, 1)
    print(f"round trips: {bare} bare, {ours} ramet")
    return bare, ours


def test_a_whole_chain_at_once(far: FarHost, accounts: Accounts) -> None:
    """Nodes that are grown without waiting cost the far link no more than one of them."""
    with Tree() as tree:
        node = tree.ssh(HOST, python=system_python(), **far.options(accounts.free))
        first_call(node.sudo(accounts.other, python=system_python()).local(python=system_python()))

        def chain() -> None:
            first_call(node.sudo(accounts.other, python=system_python()).local(python=system_python()).local())
        assert far.least(chain, 1) == 1
