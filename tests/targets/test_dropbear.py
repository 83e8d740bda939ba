"""Dropbear's server, reached with OpenSSH's client: it says some things in other words, and ends sessions in its own way."""
from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramet import AuthenticationError, ConnectError, HostKeyError, NodeLostError, PythonNotFoundError, Tree
from ramet.testing import check_connector
from support import leaks, needs, remote
from support.eventually import all_end, until
from support.watch import Watch
from targets.ending import check_ending
from targets.sshd import HOST, Dropbear


@pytest.fixture(scope="module")
def dropbear() -> Iterator[Dropbear]:
    with Dropbear() as server:
        yield server


def test_by_key(dropbear: Dropbear) -> None:
    check_connector(lambda own: own.ssh(HOST, **dropbear.by_key()))


def test_by_password(tree: Tree, dropbear: Dropbear) -> None:
    assert dropbear.password
    with Watch([dropbear.password]) as watch:
        node = tree.ssh(HOST, **dropbear.by_password())
        assert node.call(remote.whoami) == dropbear.user
        assert node.call(remote.from_own_module) == remote.from_own_module()
        assert node.local().call(remote.whoami) == dropbear.user
    assert watch.found == []


def test_a_wrong_password_is_sent_once(tree: Tree, dropbear: Dropbear) -> None:
    before = dropbear.log().count("Bad password attempt")
    with pytest.raises(AuthenticationError, match="the password was refused") as caught:
        tree.ssh(HOST, **dropbear.by_password(password="wr0ng-word")).wait(60)
    assert caught.value.stage == "authenticate"
    assert "wr0ng" not in str(caught.value) + caught.value.seen
    assert dropbear.log().count("Bad password attempt") == before + 1


def test_a_wrong_key(tree: Tree, dropbear: Dropbear, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
    with pytest.raises(AuthenticationError, match="none of the keys"):
        tree.ssh(HOST, **dropbear.by_key(stranger)).wait(60)


def test_keys_of_the_host(tree: Tree, dropbear: Dropbear) -> None:
    known = dropbear.folder / "changed"
    other = dropbear.key("other").with_suffix(".pub").read_text()
    for text, says in (("", "isn't known yet"), (f"[{HOST}]:{dropbear.port} {other}", "isn't the one on record")):
        known.write_text(text)
        options = dropbear.by_key(host_key_policy="strict")
        options["ssh_args"] = ["-o", f"UserKnownHostsFile={known}", *options["ssh_args"]]
        with pytest.raises(HostKeyError, match=says):
            tree.ssh(HOST, **options).wait(60)


@pytest.mark.parametrize("python", ["/no/such/python", "nopython"])
def test_no_python_there(tree: Tree, dropbear: Dropbear, python: str) -> None:
    with pytest.raises(PythonNotFoundError):
        tree.ssh(HOST, **dropbear.by_key(python=python)).wait(60)


def test_a_forced_command(tree: Tree, dropbear: Dropbear) -> None:
    key = dropbear.key("forced", command="echo For backups only")
    with pytest.raises(ConnectError, match="something else than a Python interpreter answered") as caught:
        tree.ssh(HOST, **dropbear.by_key(key)).wait(60)
    assert "ForceCommand" in str(caught.value)


def test_the_session_is_ended_in_mid_call(tree: Tree, dropbear: Dropbear) -> None:
    node = tree.ssh(HOST, **dropbear.by_key())
    pid = node.call(os.getpid)
    call = node.start(time.sleep, 60)
    assert dropbear.process
    server = dropbear.process.pid
    sessions: list[int] = []

    def only_this_one() -> bool:        # those of connections that have ended may take a moment to end, too
        sessions[:] = [process.pid for process in leaks.processes() if process.parent == server]
        return len(sessions) == 1
    until(only_this_one, lambda: f"sessions: {sessions}")
    os.kill(sessions[0], signal.SIGKILL)
    with pytest.raises(NodeLostError):
        call.result(60)
    assert all_end(pid)


def test_ended_from_outside(tree: Tree, dropbear: Dropbear) -> None:
    check_ending(lambda **more: tree.ssh(HOST, **dropbear.by_key(**more)))


def test_a_chain_through_it(tree: Tree, dropbear: Dropbear) -> None:
    """From the host into it again, and on."""
    node = tree.ssh(HOST, **dropbear.by_key())
    again = node.local(name="a").local(name="b")
    assert again.call(remote.from_own_module) == remote.from_own_module()
    assert again.call(remote.whoami) == dropbear.user
    assert again.parent and again.parent.parent == node


def test_a_password_and_a_key(tree: Tree) -> None:
    with Dropbear("-t") as both:
        node = tree.ssh(HOST, **both.by_key(password=both.password))
        assert node.call(remote.whoami) == both.user


@pytest.mark.parametrize("version", ["2.7", "3.6"])
def test_from_an_old_python(tree: Tree, dropbear: Dropbear, version: str) -> None:
    old = tree.local(python=needs.python(version))
    assert old.ssh(HOST, **dropbear.by_password()).call(remote.whoami) == dropbear.user
