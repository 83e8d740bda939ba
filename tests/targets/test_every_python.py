"""Every Python of this machine and of its roots, most of those minimal, behind ssh and every connector that changes the
account or namespaces. Containers, nspawn and chroot are in ``test_pythons_inside.py``, run0 and machinectl in
``test_booted.py``."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramet import Node, Tree
from support import needs, pythons
from targets.accounts import Accounts
from targets.elsewhere import SudoRs, with_polkit
from targets.every import check_python
from targets.sshd import HOST, Dropbear, Sshd

pytestmark = pytest.mark.xdist_group("accounts")

#: In words: version, and the words that start it.
PYTHONS = {
    **{label: [path] for label, path in pythons.interpreters()},
    **{f"{label} of {root.name}": [*pythons.entering(root), path] for label, root, path in pythons.in_roots()},
}
#: `make test` takes the oldest two and the newest of this machine.
_HERE = [label for label, _ in pythons.interpreters() if not label.startswith("pypy")]
_QUICK = {*_HERE[:2], *_HERE[-1:], *pythons.missing()}
each_python = pytest.mark.parametrize("which", [
    pytest.param(which, marks=[] if which in _QUICK else pytest.mark.long) for which in (*PYTHONS, *pythons.missing())])


@pytest.fixture(scope="module")
def dropbear() -> Iterator[Dropbear]:
    with Dropbear(admits="root") as server:
        yield server


@pytest.fixture(scope="module")
def sudo_rs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whom sudo-rs asks for nothing, in a system that has it."""
    place = SudoRs(tmp_path_factory.mktemp("sudo-rs"))
    with Tree() as tree:
        node = place.enter(tree).su(place.free, python="/usr/bin/python3")
        node.call(os.getpid)        # what this thread waits with is there for as long as the tree
        yield node


@pytest.fixture(scope="module")
def polkit(accounts: Accounts) -> Iterator[Node]:
    """A node whom polkit lets be root."""
    user = accounts.free
    words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--reset-env", "env", "SHELL=/bin/bash"]
    with Tree() as tree:
        node = with_polkit(tree, user).command(words, python=accounts.python, cwd="/")
        node.call(os.getpid)        # what this thread waits with is there for as long as the tree
        yield node


def words_for(which: str) -> list[str]:
    """What starts a Python. Skips the test where it isn't here."""
    if which not in PYTHONS:
        needs.lacking(f"python {which}")
    return PYTHONS[which]


@each_python
def test_every_python_behind_every_connector(accounts: Accounts, sshd: Sshd, which: str) -> None:
    """All as root, in whose home some lie. Each: grow, call, a module of our own, all bytes, a child of the same kind."""
    words = words_for(which)
    for program in ("sudo", "doas", "unshare", "nsenter"):
        needs.program(program)
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
            check_python(node, which)
            assert node.call(os.getuid) == 0, node.name


@each_python
def test_every_python_behind_dropbear(dropbear: Dropbear, which: str) -> None:
    with Tree() as tree:
        node = tree.ssh(HOST, **dropbear.by_key(username="root", python=words_for(which)))
        check_python(node, which)
        assert node.call(os.getuid) == 0


@each_python
def test_every_python_behind_pkexec(polkit: Node, which: str) -> None:
    node = polkit.pkexec(python=["env", *words_for(which)])     # which may lie where only root may look
    check_python(node, which)
    assert node.call(os.getuid) == 0
    node.close()


@each_python
def test_every_python_behind_sudo_rs(sudo_rs: Node, which: str) -> None:
    """Its own system sees the machine's root folder, and those of other systems."""
    *_, path = words_for(which)
    root = next((SudoRs.roots / root.name for label, root, _ in pythons.in_roots() if which == f"{label} of {root.name}"),
                SudoRs.here)
    node = sudo_rs.sudo("root", sudo_path="sudo-rs", python=[*pythons.entering(Path(root)), path])
    check_python(node, which)
    assert node.call(os.getuid) == 0
    node.close()
