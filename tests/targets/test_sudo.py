"""sudo as administrators set it up: terminals, logs, lectures, other prompts and languages, feedback, others' passwords."""
from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramet import AuthenticationError, ConnectError, Node, Tree
from ramet.testing import check_connector
from support import needs, remote
from support.eventually import HANGS_S, all_end
from support.watch import Watch
from targets.accounts import Accounts

pytestmark = pytest.mark.xdist_group("accounts")

#: What sudoers may hold that changes what one sees, or what stands between us and the interpreter.
SETTINGS = {
    "use_pty": "use_pty",
    "requiretty": "requiretty, use_pty",
    "no use_pty": "!use_pty",
    "lecture": "lecture=always",
    "feedback": "pwfeedback",
    "lecture and feedback": "lecture=always, pwfeedback, use_pty",
    "prompt": "passprompt_override, passprompt=\"Kennwort von %u auf %h: \"",
    "prompt with escapes": "passprompt_override, passprompt=\"\x1b[1;31mpassword\x1b[0m for %p: \"",
    "visible prompt over lines": "passprompt_override, passprompt=\"--- \\n your password,\\n please: \"",
    "mail and insults": "insults, !mail_badpass",
    "logged": "log_output, log_input, use_pty",
    "logged without a terminal": "log_output, log_input, !use_pty",
    "no time": "timestamp_timeout=0, passwd_timeout=0.5",
}


@pytest.fixture(scope="module")
def accounts() -> Iterator[Accounts]:
    needs.program("sudo")
    with Accounts() as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """For what sudo writes: root's alone, and its name is short enough to be quoted in sudoers."""
    with tempfile.TemporaryDirectory(prefix="rmt") as made:
        yield Path(made)


def by_password(tree: Tree, accounts: Accounts, password: str | None = None, **env: str) -> Node:
    asks = accounts.node(tree, accounts.asks, **env)
    return asks.sudo(password=password or accounts.password, python=accounts.python)


@pytest.mark.parametrize("setting", SETTINGS)
def test_with_a_password(tree: Tree, accounts: Accounts, folder: Path, setting: str) -> None:
    with accounts.sudoers_also(f"Defaults:ASKS {SETTINGS[setting]}", f"Defaults:ASKS iolog_dir={folder}"):
        with Watch([accounts.password]) as watch:
            node = by_password(tree, accounts)
            assert node.call(remote.whoami) == "root"
        assert watch.found == []
        data = bytes(range(256)) * 1000 + b"\r\n\x03\x04\x1a"
        assert node.call(remote.echo, data) == data
        node.close()
        logged = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert accounts.password.encode() not in logged


@pytest.mark.parametrize("setting", ["use_pty", "logged", "logged without a terminal"])
@pytest.mark.parametrize("who", ["ASKS", "FREE"])
def test_every_byte_passes(accounts: Accounts, folder: Path, setting: str, who: str) -> None:
    """sudo stands between us and the interpreter then, and copies all that goes by."""
    with accounts.sudoers_also(f"Defaults:{who} {SETTINGS[setting]}, maxseq=1000", f"Defaults:{who} iolog_dir={folder}"):
        if who == "ASKS":
            check_connector(lambda own: by_password(own, accounts))
        else:
            check_connector(lambda own: accounts.node(own, accounts.free).sudo(accounts.other, python=accounts.python))


@pytest.mark.parametrize("setting", ["use_pty", "lecture and feedback", "prompt", "logged"])
def test_a_wrong_password_is_sent_once(tree: Tree, accounts: Accounts, folder: Path, setting: str) -> None:
    """sudo would take three; three lock an account in many places."""
    folder.chmod(0o755)
    service = Path("/etc/pam.d", accounts.sudoers.name)
    service.write_text(f"auth sufficient pam_unix.so\nauth optional pam_exec.so seteuid {folder}/count\n"
                       "auth required pam_deny.so\naccount required pam_permit.so\n")  # fmt: skip
    (folder / "count").write_text(f"#!/bin/sh\necho refused >> {folder}/log\n")
    (folder / "count").chmod(0o755)
    own = f"iolog_dir={folder}, pam_service={service.name}"
    with contextlib.ExitStack() as stack:
        stack.callback(service.unlink)
        stack.enter_context(accounts.sudoers_also(f"Defaults:ASKS {SETTINGS[setting]}", f"Defaults:ASKS {own}"))
        with pytest.raises(AuthenticationError) as caught, Watch(["wr0ng-word"]) as watch:
            by_password(tree, accounts, "wr0ng-word").wait(HANGS_S)
        assert watch.found == []
        said = str(caught.value)
        assert caught.value.stage == "escalate"
        assert "the password was refused" in said
        assert "wr0ng" not in said + caught.value.seen
        assert "remedy: " in said
        assert (folder / "log").read_text() == "refused\n"


@pytest.mark.parametrize("setting", ["targetpw", "runaspw", "rootpw"])
def test_the_password_of_somebody_else(tree: Tree, accounts: Accounts, setting: str) -> None:
    asks = accounts.node(tree, accounts.asks)
    with accounts.sudoers_also(f"Defaults:ASKS {setting}"):
        if setting != "targetpw":       # nobody knows it here; it must be told as refused, not be asked for again
            with pytest.raises(AuthenticationError, match="the password was refused"):
                asks.sudo(accounts.other, password=accounts.password, python=accounts.python).wait(HANGS_S)
        else:
            node = asks.sudo(accounts.other, password=accounts.password, python=accounts.python)
            assert node.call(remote.whoami) == accounts.other


def test_a_lecture_that_asks_for_the_password(tree: Tree, accounts: Accounts, folder: Path) -> None:
    """Only a question is answered: text at the end of what was said. (A line that *ends* like a question may come in two reads,
    and would be answered too early: sudo forgets what was typed before it asks.)"""
    lecture = folder / "lecture"
    lecture.write_text("Nobody will ever ask you this: Password: and so on.\nYour password: is yours.\n")
    folder.chmod(0o755)
    with accounts.sudoers_also(f"Defaults:ASKS lecture=always, lecture_file={lecture}"):
        assert by_password(tree, accounts).call(remote.whoami) == "root"


def test_a_rule_that_needs_no_password_though_one_is_given(tree: Tree, accounts: Accounts) -> None:
    node = accounts.node(tree, accounts.free).sudo(password="not asked for", python=accounts.python)
    assert node.call(remote.whoami) == "root"


def test_a_password_that_is_remembered(tree: Tree, accounts: Accounts) -> None:
    """For all terminals (timestamp_type=global): the second is not asked."""
    with accounts.sudoers_also("Defaults:ASKS timestamp_timeout=5, timestamp_type=global"):
        asks = accounts.node(tree, accounts.asks)
        assert asks.sudo(password=accounts.password, python=accounts.python).call(remote.whoami) == "root"
        assert asks.sudo(accounts.other, python=accounts.python).call(remote.whoami) == accounts.other
        subprocess.run(["rm", "-f", f"/run/sudo/ts/{accounts.asks}"], check=True)
        with pytest.raises(AuthenticationError, match="none was given"):
            asks.sudo(accounts.other, python=accounts.python).wait(HANGS_S)


def german() -> None:
    if "de_DE.utf8" not in subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.split():
        needs.lacking("the locale de_DE.UTF-8 (Debian's locales: localedef -i de_DE -f UTF-8 de_DE.UTF-8)")


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_in_german(tree: Tree, accounts: Accounts, how: str) -> None:
    german()
    needs.program(how)
    asks = accounts.node(tree, accounts.asks, LANG="de_DE.UTF-8", LC_ALL="de_DE.UTF-8")
    first = (accounts.other,) if how == "su" else ()
    with accounts.sudoers_also("Defaults:ASKS passprompt_override, passprompt=\"[sudo] Passwort für %p: \""):
        node = getattr(asks, how)(*first, password=accounts.password, python=accounts.python)
        assert node.call(remote.whoami) == (accounts.other if how == "su" else "root")
        with pytest.raises(AuthenticationError) as caught:
            getattr(asks, how)(*first, password="wr0ng-word", python=accounts.python).wait(HANGS_S)
        assert caught.value.stage == "escalate"
        with pytest.raises(AuthenticationError, match="none was given|or none"):
            getattr(asks, how)(*first, python=accounts.python).wait(HANGS_S)


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_a_password_that_has_expired(tree: Tree, accounts: Accounts, how: str) -> None:
    needs.program(how)
    who = accounts.other if how == "su" else accounts.asks
    subprocess.run(["chage", "-d", "0", who], check=True)
    try:
        with pytest.raises(AuthenticationError) as caught:
            asks = accounts.node(tree, accounts.asks)
            getattr(asks, how)(*[who] * (how == "su"), password=accounts.password, python=accounts.python).wait(HANGS_S)
        assert "expired" in str(caught.value), caught.value
    finally:
        subprocess.run(["chage", "-d", "20000", who], check=True)


def test_a_shell_that_is_none(tree: Tree, accounts: Accounts) -> None:
    """sudo needs none, su does."""
    subprocess.run(["usermod", "-s", "/usr/sbin/nologin", accounts.other], check=True)
    try:
        node = accounts.node(tree, accounts.free).sudo(accounts.other, python=accounts.python)
        assert node.call(remote.whoami) == accounts.other
        with pytest.raises(ConnectError, match="no login shell"):
            tree.su(accounts.other).wait(HANGS_S)
        assert tree.su(accounts.other, shell="/bin/sh").call(remote.whoami) == accounts.other
    finally:
        subprocess.run(["usermod", "-s", "/bin/bash", accounts.other], check=True)


def test_doas_that_remembers(tree: Tree, accounts: Accounts) -> None:
    from targets.accounts import DOAS_CONF

    needs.program("doas")
    rules = DOAS_CONF.read_text()
    DOAS_CONF.write_text(f"permit persist {accounts.asks} as root\n")
    try:
        asks = accounts.node(tree, accounts.asks)
        for _ in range(2):
            node = asks.doas(password=accounts.password, python=accounts.python)
            assert node.call(remote.whoami) == "root"
    finally:
        DOAS_CONF.write_text(rules)


@pytest.mark.parametrize("how", ["su", "doas"])
def test_as_a_connector(accounts: Accounts, how: str) -> None:
    needs.program(how)

    def through(own: Tree) -> Node:
        asks = accounts.node(own, accounts.asks)
        first = (accounts.other,) if how == "su" else ()
        return getattr(asks, how)(*first, password=accounts.password, python=accounts.python)  # type: ignore[no-any-return]
    check_connector(through)


@pytest.mark.parametrize("how", ["sudo", "su", "doas"])
def test_nothing_is_left(accounts: Accounts, how: str) -> None:
    """No process of the other account, and no file of it among the temporary ones."""
    needs.program(how)
    with Tree() as tree:
        free = accounts.node(tree, accounts.free) if how != "su" else tree
        node = getattr(free, how)(accounts.other, python=accounts.python)
        pids = [node.call(os.getpid), node.call(remote.start_sleeper), node.local().call(remote.start_sleeper)]
    assert all_end(*pids)
    argv = ["find", "/tmp", "/var/tmp", "/dev/shm", "-maxdepth", "1", "-user", accounts.other]
    assert subprocess.run(argv, capture_output=True, text=True).stdout == ""
