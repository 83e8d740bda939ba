"""Chains of real ssh and sudo, five nodes deep and deeper, in one string or by methods, from old Pythons too."""
from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ramet import ConnectError, Node, PythonNotFoundError, Tree
from support import needs, remote
from targets.accounts import Accounts
from targets.sshd import HOST, Sshd

pytestmark = pytest.mark.xdist_group("accounts")


class Site:
    """Two hosts, as a user has them: ``bastion`` is in the configuration here, and ``db1`` in that of the account there.

    Attributes:
        accounts: ``accounts.other`` stands for postgres: the account on db1 may be it by sudo.
        arguments: for ssh, to have the configuration here.
    """

    def __init__(self, bastion: Sshd, db1: Sshd, accounts: Accounts) -> None:
        self.bastion, self.db1, self.accounts = bastion, db1, accounts
        config = bastion.folder / "here"
        config.write_text(self._host("bastion", bastion, bastion.folder / "id") + bastion.client.read_text())
        self.arguments = ["-F", str(config)]
        assert bastion.home
        folder = bastion.home / ".ssh"
        folder.mkdir(mode=0o700)
        shutil.copy(db1.folder / "id", folder / "id")
        known = f"Host *\n UserKnownHostsFile {folder}/known\n StrictHostKeyChecking accept-new\n"
        (folder / "config").write_text(self._host("db1", db1, folder / "id") + known)
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, bastion.user)

    @staticmethod
    def _host(name: str, sshd: Sshd, key: Path) -> str:
        return f"Host {name}\n HostName {HOST}\n Port {sshd.port}\n User {sshd.user}\n IdentityFile {key}\n"

    def spec(self, *further: str) -> str:
        here = quote(" ".join(self.arguments), safe="")
        return "/".join([f"ssh:bastion?ssh_args={here}", "ssh:db1", *further])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    needs.program("sudo")
    with Accounts() as accounts, Sshd() as bastion, Sshd() as db1:
        with accounts.sudoers_also(f"{db1.user} ALL=(ALL:ALL) NOPASSWD: ALL"):
            yield Site(bastion, db1, accounts)


def line(node: Node) -> list[Node]:
    """A node and its ancestors, the controller's child first."""
    nodes = [node]
    while nodes[0].parent is not None:
        nodes.insert(0, nodes[0].parent)
    return nodes


def test_in_one_string(tree: Tree, site: Site) -> None:
    node = tree.connect(site.spec(f"sudo:{site.accounts.other}"))
    assert node.call(remote.whoami) == site.accounts.other
    assert node.call(remote.from_own_module) == remote.from_own_module()
    above = [each for each in line(node) if each.id]
    assert [each.call(remote.whoami) for each in above] == [site.bastion.user, site.db1.user, site.accounts.other]
    assert [each.name for each in above] == ["bastion", "db1", site.accounts.other]


def test_seven_deep(tree: Tree, site: Site) -> None:
    top = tree.connect(site.spec(f"sudo:{site.accounts.free}"))
    node = top.local().sudo(site.accounts.other, python=site.accounts.python).local().local()
    assert node.call(remote.whoami) == site.accounts.other
    above = [each for each in line(node) if each.id]
    assert len(above) == 7
    assert node.call(remote.echo, bytes(range(256)) * 1000) == bytes(range(256)) * 1000
    ids = [each.call(remote.where)[0] for each in above]
    assert ids == [each.id for each in above]
    with pytest.raises(ValueError, match="deep down"):
        node.call(remote.fail, "deep down")


@pytest.mark.parametrize("version", ["2.7", "3.6"])
def test_from_an_old_python(tree: Tree, site: Site, version: str) -> None:
    """What the far nodes carry out was planned here: the old one in the middle has no connector."""
    old = tree.local(python=needs.python(version))
    bastion = old.ssh("bastion", ssh_args=site.arguments)
    node = bastion.ssh("db1").sudo(site.accounts.other).local()
    assert node.call(remote.whoami) == site.accounts.other
    assert len([each for each in line(node) if each.id]) == 5
    assert old.call(remote.python) == version


def test_an_error_in_the_middle_is_told_at_every_depth(tree: Tree, site: Site) -> None:
    bastion = tree.ssh("bastion", ssh_args=site.arguments)
    lost = bastion.ssh("db1", python="/no/such/python")
    behind = lost.sudo(site.accounts.other).local()
    with pytest.raises(PythonNotFoundError):
        lost.wait(60)
    with pytest.raises(ConnectError, match="/no/such/python"):
        behind.call(remote.whoami)
    assert bastion.ssh("db1").call(remote.whoami) == site.db1.user      # the way itself is as it was
