"""Every Python of this machine and of its roots, most of those minimal, behind ssh and every connector that changes the
account or namespaces. Containers, nspawn and chroot are in ``test_pythons_inside.py``."""
from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ramet import Node, Tree
from support import needs, pythons, remote_small
from targets.accounts import Accounts
from targets.sshd import HOST, Sshd

pytestmark = pytest.mark.xdist_group("accounts")

#: In words: version, and the words that start it.
PYTHONS = {
    **{label: [path] for label, path in pythons.interpreters()},
    **{f"{label} of {root.name}": [*pythons.entering(root), path] for label, root, path in pythons.in_roots()},
}


@pytest.fixture(scope="module")
def accounts() -> Iterator[Accounts]:
    with Accounts() as made:
        yield made


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.mark.parametrize("which", [*PYTHONS, *pythons.missing()])
def test_every_python_behind_every_connector(accounts: Accounts, sshd: Sshd, which: str) -> None:
    """All as root, in whose home some lie. Each: grow, call, a module of our own, all bytes, a child of the same kind."""
    if which not in PYTHONS:
        needs.lacking(f"python {which}")
    for program in ("sudo", "doas", "unshare", "nsenter"):
        needs.program(program)
    words = PYTHONS[which]
    with Tree() as tree:
        asks, free = accounts.node(tree, accounts.asks), accounts.node(tree, accounts.free)
        nodes: list[Node] = [
            free.sudo("root", python=words, name="sudo"), free.doas("root", python=words, name="doas"),
            asks.sudo("root", python=words, password=accounts.password, name="sudo-password"),
            asks.doas("root", python=words, password=accounts.password, name="doas-password"),
            tree.ssh(HOST, **sshd.by_key(username="root", python=words, name="ssh")),
            tree.su("root", python=words, name="su"), tree.unshare(["uts", "net"], python=words, name="unshare"),
            tree.nsenter(os.getpid(), namespaces=["uts", "net"], root=False, python=words, name="nsenter"),
        ]  # fmt: skip
        for node in nodes:
            version = node.wait(120).facts["version"]
            label = which.partition(" ")[0].removeprefix("pypy")
            assert version.startswith(f"{label}."), (node.name, version)
            assert node.call(os.getuid) == 0, node.name
            assert node.call(remote_small.work) == 42
            assert node.call(remote_small.echo, bytes(range(256)) * 1000) == bytes(range(256)) * 1000
        children = [node.local() for node in nodes]
        for node, child in zip(nodes, children, strict=True):
            assert child.call(remote_small.work) == 42 and child.facts["version"] == node.facts["version"]
            with pytest.raises(KeyError, match="missing"):
                child.call(remote_small.fail)
