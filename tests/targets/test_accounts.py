"""sudo, su and doas for real: who one is there, passwords on a terminal and on stdin, what is refused, and the whole of a node.

All in one group: there is only one doas.conf.
"""
from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import pytest

import ramet
from ramet import AuthenticationError, ConnectError, Node, PythonNotFoundError, Tree
from ramet.testing import check_connector
from support import needs, remote
from support.eventually import all_end, until
from support.watch import Watch
from targets.accounts import Accounts
from targets.ending import check_ending

pytestmark = pytest.mark.xdist_group("accounts")


def grow(node: Node, accounts: Accounts, how: str, password: str | None, **more: Any) -> Node:
    options = {"python": accounts.python, **({"password": password} if password else {}), **more}
    needs.program(how)
    if how == "su":
        return node.su(accounts.other, **options)
    return node.doas(**options) if how == "doas" else node.sudo(**options)


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_with_a_password(tree: Tree, accounts: Accounts, how: str) -> None:
    node = grow(accounts.node(tree, accounts.asks), accounts, how, accounts.password)
    assert node.call(remote.whoami) == (accounts.other if how == "su" else "root")
    assert node.name == (accounts.other if how == "su" else "root")
    assert node.call(remote.add, 2, 3) == 5         # a module of our own
    child = node.local()
    assert child.call(remote.whoami) == node.call(remote.whoami)   # a chain through it


@pytest.mark.parametrize("how", ["sudo", "doas"])
def test_without_a_password(tree: Tree, accounts: Accounts, how: str) -> None:
    needs.program(how)
    free = accounts.node(tree, accounts.free)
    node = getattr(free, how)(accounts.other, python=accounts.python)
    assert node.call(remote.whoami) == accounts.other
    assert node.name == accounts.other


def test_root_needs_no_password_for_su(tree: Tree, accounts: Accounts) -> None:
    check_connector(lambda own: own.su(accounts.other))
    assert tree.su(accounts.other).call(remote.whoami) == accounts.other     # the search for an interpreter, too


def test_sudo_as_a_connector(accounts: Accounts) -> None:
    needs.program("sudo")

    def through(own: Tree) -> Node:
        return accounts.node(own, accounts.asks).sudo(password=accounts.password, python=accounts.python)
    check_connector(through)


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_a_wrong_password(tree: Tree, accounts: Accounts, how: str) -> None:
    asks = accounts.node(tree, accounts.asks)
    with pytest.raises(AuthenticationError) as caught:
        grow(asks, accounts, how, "wr0ng-password").wait(30)
    said = str(caught.value)
    assert caught.value.stage == "escalate"
    assert "password" in said
    assert "wr0ng" not in said + repr(caught.value) + caught.value.seen
    assert asks.call(remote.whoami) == accounts.asks       # the tree lives on


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_a_password_that_was_not_given(tree: Tree, accounts: Accounts, how: str) -> None:
    with pytest.raises(AuthenticationError, match="none was given|or none") as caught:
        grow(accounts.node(tree, accounts.asks), accounts, how, None).wait(30)
    assert caught.value.stage == "escalate"
    assert "password" in str(caught.value)


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_an_account_that_is_not_there(tree: Tree, accounts: Accounts, how: str) -> None:
    needs.program(how)
    with pytest.raises(ConnectError, match="no such account") as caught:
        getattr(accounts.node(tree, accounts.free), how)("rmtnobody", password=accounts.password).wait(30)
    assert caught.value.stage == "escalate"


@pytest.mark.parametrize("how", ["sudo", "doas"])
def test_who_is_not_allowed_to(tree: Tree, accounts: Accounts, how: str) -> None:
    needs.program(how)
    with pytest.raises(AuthenticationError) as caught:
        getattr(accounts.node(tree, accounts.other), how)(password=accounts.password).wait(30)
    assert "rules" in str(caught.value)


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_no_python_there(tree: Tree, accounts: Accounts, how: str) -> None:
    needs.program(how)
    free = accounts.node(tree, accounts.free) if how != "su" else tree
    with pytest.raises(PythonNotFoundError):
        getattr(free, how)(accounts.other, python="/no/such/python3").wait(30)


def test_su_with_a_shell_that_is_not_there(tree: Tree, accounts: Accounts) -> None:
    with pytest.raises(ConnectError, match="shell can't be run") as caught:
        tree.su(accounts.other, shell="/no/such/shell").wait(30)
    assert caught.value.stage == "escalate" and "shell=" in caught.value.remedy
    with pytest.raises(PythonNotFoundError, match="python="):
        tree.su(accounts.other, shell="/bin/sh", python="/no/such/python3").wait(30)


@pytest.mark.parametrize("how", ["sudo", "su"])
def test_login(tree: Tree, accounts: Accounts, how: str) -> None:
    needs.program(how)
    node = getattr(tree, how)(accounts.other, login=True)
    assert node.call(os.getcwd) == f"/home/{accounts.other}"
    assert node.call(os.getenv, "HOME") == f"/home/{accounts.other}"


def test_sudo_keeps_variables_and_sets_home(tree: Tree, accounts: Accounts) -> None:
    needs.program("sudo")
    free = accounts.node(tree, accounts.free)
    free.call(remote.set_variable, "RMT_KEPT", "yes")
    node = free.sudo(accounts.other, preserve_env=["RMT_KEPT"], set_home=True, python=accounts.python)
    assert node.call(os.getenv, "RMT_KEPT") == "yes"
    assert node.call(os.getenv, "HOME") == f"/home/{accounts.other}"


def test_sudo_where_a_terminal_is_required(tree: Tree, accounts: Accounts) -> None:
    needs.program("sudo")
    rule = accounts.sudoers.with_name(accounts.sudoers.name + "tty")
    rule.write_text(f"Defaults:{accounts.free} requiretty\n")
    rule.chmod(0o440)
    try:
        free = accounts.node(tree, accounts.free)
        with pytest.raises(ConnectError, match="terminal=True"):
            free.sudo(python=accounts.python).wait(30)
        assert free.sudo(python=accounts.python, terminal=True).call(remote.whoami) == "root"
    finally:
        rule.unlink()


def test_sudo_that_logs_input_and_output(tree: Tree, accounts: Accounts) -> None:
    """With I/O logging sudo stands between us and the interpreter: every byte goes through it."""
    needs.program("sudo")
    rule = accounts.sudoers.with_name(accounts.sudoers.name + "log")
    rule.write_text(f"Defaults:{accounts.free} log_output, log_input, use_pty, iolog_dir=/tmp/{rule.name}\n")
    rule.chmod(0o440)
    try:
        node = accounts.node(tree, accounts.free).sudo(python=accounts.python)
        data = bytes(range(256)) * 1000
        assert node.call(remote.echo, data) == data
    finally:
        rule.unlink()
        subprocess.run(["rm", "-rf", f"/tmp/{rule.name}"], check=True)


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
@pytest.mark.parametrize("wrong", [False, True])
def test_passwords_are_nowhere(accounts: Accounts, how: str, wrong: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in argv nor in the environment of any process, not for a moment, nor in logs, output, or what anything says of
    itself."""
    caplog.set_level(0)
    secret = "wr0ng-password" if wrong else accounts.password
    output: list[str] = []
    with Watch([secret]) as watch, Tree(on_output=lambda *said: output.append(repr(said))) as tree:
        node = grow(accounts.node(tree, accounts.asks), accounts, how, secret)
        if wrong:
            with pytest.raises(AuthenticationError) as caught:
                node.wait(30)
            output += [repr(caught.value), str(caught.value), caught.value.seen, str(vars(caught.value))]
        else:
            node.call(print, "well")
            output.append(str(node.facts))
        output += [repr(node), repr(tree), str(tree.stats())]
        until(lambda: watch.rounds > 1, "nobody looks")
    assert watch.found == []
    assert secret not in "".join(output) + caplog.text


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_killed_in_mid_call(tree: Tree, accounts: Accounts, how: str) -> None:
    """The parent can't signal a process of another account; the guardian over there can."""
    node = grow(accounts.node(tree, accounts.asks), accounts, how, accounts.password)
    pid = node.call(os.getpid)
    call = node.start(time.sleep, 60)
    node.kill()
    with pytest.raises(ramet.ClosedError):
        call.result(60)
    assert all_end(pid)


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_ended_from_outside(tree: Tree, accounts: Accounts, how: str) -> None:
    asks = accounts.node(tree, accounts.asks)
    check_ending(lambda **more: grow(asks, accounts, how, accounts.password, **more))


def test_a_spec_of_accounts(tree: Tree, accounts: Accounts) -> None:
    needs.program("sudo")
    node = tree.connect(f"su:{accounts.free}/sudo:{accounts.other}")
    assert node.call(remote.whoami) == accounts.other
    assert node.parent is not None
    assert node.parent.name == accounts.free


@pytest.mark.parametrize("version", ["2.7", "3.6"])
def test_from_an_old_python(tree: Tree, accounts: Accounts, version: str) -> None:
    """A connector is data: an old node carries it out as well, and hands on to the next."""
    needs.program("sudo")
    old = tree.local(python=needs.python(version))
    asks = old.su(accounts.asks, python=accounts.python)
    assert asks.sudo(accounts.other, password=accounts.password, python=accounts.python).call(remote.whoami) == accounts.other


def test_from_inside_a_node(tree: Tree, accounts: Accounts) -> None:
    import pwd

    uid = tree.local().call(remote.grown_here, "su", {"username": accounts.other})
    assert uid == pwd.getpwnam(accounts.other).pw_uid
