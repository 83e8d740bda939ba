"""sudo-rs and pkexec for real, each in namespaces of its own."""
from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from ramet import AuthenticationError, ClosedError, ConnectError, Node, PythonNotFoundError, Tree
from ramet.testing import check_connector
from support import needs, remote
from support.eventually import HANGS_S, until
from support.watch import Watch
from targets.accounts import Accounts
from targets.elsewhere import SudoRs, with_polkit
from targets.ending import check_ending

pytestmark = pytest.mark.xdist_group("accounts")

PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SudoRs:
    return SudoRs(tmp_path_factory.mktemp("sudo-rs"))


def sudo_rs(tree: Tree, place: SudoRs, asks: bool = True, **options: object) -> Node:
    here = place.enter(tree).su(place.asks if asks else place.free, python=PYTHON)
    return here.grow("sudo", **{"sudo_path": "sudo-rs", "python": PYTHON, **options})


# ---------------------------------------------------------------------- sudo-rs


def test_sudo_rs_with_a_password(tree: Tree, place: SudoRs) -> None:
    with Watch([place.password]) as watch:
        node = sudo_rs(tree, place, password=place.password)
        assert node.call(remote.whoami) == "root"
    assert watch.found == []
    assert node.call(remote.from_own_module) == remote.from_own_module()
    assert node.local().call(remote.whoami) == "root"
    assert place.password not in f"{node!r} {tree.stats()} {node.facts}"


def test_sudo_rs_as_a_connector(place: SudoRs) -> None:
    check_connector(lambda own: sudo_rs(own, place, password=place.password))


def test_sudo_rs_without_a_password(tree: Tree, place: SudoRs) -> None:
    assert sudo_rs(tree, place, asks=False).call(remote.whoami) == "root"
    assert sudo_rs(tree, place, asks=False, username=place.asks).call(remote.whoami) == place.asks


def test_what_sudo_rs_refuses(tree: Tree, place: SudoRs) -> None:
    for options, says in (({"password": "wr0ng-word"}, "the password was refused"), ({}, "none was given")):
        with pytest.raises(AuthenticationError, match=says) as caught:
            sudo_rs(tree, place, **options).wait(60)
        assert caught.value.stage == "escalate"
        assert "wr0ng" not in str(caught.value) + caught.value.seen
    with pytest.raises(ConnectError, match="no such account"):
        sudo_rs(tree, place, asks=False, username="rmtnobody").wait(60)
    with pytest.raises(PythonNotFoundError):
        sudo_rs(tree, place, asks=False, python="/no/such/python3").wait(60)


def test_sudo_rs_killed_in_mid_call(tree: Tree, place: SudoRs) -> None:
    node = sudo_rs(tree, place, password=place.password)
    pid = node.call(os.getpid)
    assert node.parent
    call = node.start(time.sleep, 1000)
    node.kill()
    with pytest.raises(ClosedError):
        call.result(HANGS_S)
    parent = node.parent
    until(lambda: not parent.call(os.path.exists, f"/proc/{pid}"), "it outlives its node")


def test_sudo_rs_ended_from_outside(tree: Tree, place: SudoRs) -> None:
    check_ending(lambda **more: sudo_rs(tree, place, password=place.password, **more))


# ---------------------------------------------------------------------- pkexec


def pkexec(tree: Tree, accounts: Accounts, user: str, *args: str, shell: str = "/bin/bash", **options: object) -> Node:
    words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--reset-env", "env", f"SHELL={shell}"]
    here = with_polkit(tree, accounts.free).command(words, python=PYTHON, cwd="/")
    return here.grow("pkexec", *args, **{"python": PYTHON, **options})


def test_pkexec(tree: Tree, accounts: Accounts) -> None:
    node = pkexec(tree, accounts, accounts.free)
    assert node.call(remote.whoami) == "root"
    assert node.call(remote.from_own_module) == remote.from_own_module()
    assert node.local().call(remote.whoami) == "root"
    assert pkexec(tree, accounts, accounts.free, accounts.other).call(remote.whoami) == accounts.other
    check_connector(lambda own: pkexec(own, accounts, accounts.free))


def test_what_pkexec_refuses(tree: Tree, accounts: Accounts) -> None:
    with pytest.raises(AuthenticationError, match="polkit doesn't allow it") as caught:
        pkexec(tree, accounts, accounts.other).wait(60)
    assert caught.value.stage == "escalate"
    with pytest.raises(ConnectError, match="no such account"):
        pkexec(tree, accounts, accounts.free, "rmtnobody").wait(60)
    with pytest.raises(ConnectError, match="wants the variable SHELL"):
        pkexec(tree, accounts, accounts.free, shell="/no/such/shell").wait(60)
    with pytest.raises(PythonNotFoundError):
        pkexec(tree, accounts, accounts.free, python="nopython").wait(60)
    with pytest.raises(PythonNotFoundError):
        pkexec(tree, accounts, accounts.free, python="/no/such/python3").wait(60)


def test_pkexec_and_a_python_that_only_root_may_run(tree: Tree, accounts: Accounts) -> None:
    """pkexec looks at the program as who calls it, before it becomes another: what starts it can be such a one."""
    with tempfile.TemporaryDirectory(prefix="rmt") as folder:
        python = Path(folder, "python3")
        python.symlink_to(os.path.realpath(PYTHON))
        with pytest.raises(PythonNotFoundError, match="may not run the interpreter") as caught:
            pkexec(tree, accounts, accounts.free, python=str(python)).wait(60)
        assert caught.value.stage == "find-python" and "python=['env', PATH]" in caught.value.remedy
        assert pkexec(tree, accounts, accounts.free, python=["env", str(python)]).call(remote.whoami) == "root"


def test_pkexec_where_there_is_no_bus(tree: Tree, accounts: Accounts) -> None:
    needs.program("pkexec")
    alone = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]
    user = ["setpriv", "--reuid", accounts.free, "--regid", accounts.free, "--init-groups", "--reset-env", "env",
            "SHELL=/bin/bash"]  # fmt: skip
    node = tree.command([*alone, *user], python=PYTHON, cwd="/")
    with pytest.raises(ConnectError, match="polkit can't be reached") as caught:
        node.pkexec(python=PYTHON).wait(60)
    assert caught.value.stage == "escalate" and "system bus" in caught.value.remedy


def test_pkexec_ended_from_outside(tree: Tree, accounts: Accounts) -> None:
    check_ending(lambda **more: pkexec(tree, accounts, accounts.free, **more))
