"""ssh for real: an sshd of our own, every way in and every way to be kept out, and nothing left behind by any of them."""
from __future__ import annotations

import os
import socket
import subprocess
import time
from typing import Any

import pytest

from ramet.connectors import ssh
from ramet.kernel.errors import AuthenticationError, ClosedError, ConnectError, HostKeyError, PythonNotFoundError
from support import leaks, needs
from support.eventually import HANGS_S, in_time, until
from targets.growing import Keeper, Outcome, grow, grow_elsewhere, payload
from targets.sshd import HOST, Sshd


def up(**options: Any) -> Outcome:
    outcome = grow(ssh.plan(HOST, **options))
    assert outcome.error is None, outcome.error
    return outcome


def failure(kind: type[ConnectError], stage: str, host: str = HOST, **options: Any) -> ConnectError:
    plan = ssh.plan(host, **options)
    error = grow(plan).error
    assert type(error) is kind, error
    assert error.stage == stage, error
    text = str(error)
    assert f"ssh {host}: " in text
    assert f"stage: {stage}" in text
    assert "command: ssh -T " in text
    assert "remedy: " in text
    assert "dup2" not in text, "the first stage is shown"
    for secret in plan["secrets"].values():
        assert secret.reveal() not in text + error.seen
    return error


# ---------------------------------------------------------------------- ways in


def test_key(sshd: Sshd) -> None:
    outcome = up(**sshd.by_key())
    argv = ["ssh", "-F", str(sshd.client), "-p", str(sshd.port), "-i", str(sshd.folder / "id"), f"{sshd.user}@{HOST}",
            "python3 -c 'import sys; print(sys.version_info[1])'"]  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert outcome.form == f"cp3{done.stdout.strip()}"


def test_python_by_name_and_with_flags(sshd: Sshd) -> None:
    up(**sshd.by_key(python="python3"))
    up(**sshd.by_key(python=["python3", "-O", "-X", "dev"]))


def test_password(sshd: Sshd) -> None:
    outcome = up(**sshd.by_password())
    assert sshd.password not in outcome.growth.asked.text()


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_password_by_either_method(sshd: Sshd, method: str) -> None:
    options = sshd.by_password()
    options["ssh_args"] += ["-o", f"PreferredAuthentications={method}"]
    up(**options)


def test_askpass_is_not_asked(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.setenv("DISPLAY", ":0")
    up(**sshd.by_password())


def test_passphrase(sshd: Sshd) -> None:
    key = sshd.key("guarded", passphrase="open sesame")
    up(**sshd.by_key(key, passphrase="open sesame"))
    error = failure(AuthenticationError, "authenticate", **sshd.by_key(key, passphrase="wrong one"))
    assert "passphrase" in str(error)
    failure(AuthenticationError, "authenticate", **sshd.by_key(key))


def test_options_reach_ssh(sshd: Sshd) -> None:
    up(**sshd.by_key(compression=True, keepalive=5, host_key_policy="ignore"))


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh", "csh", "tcsh", "fish", "ksh"])
def test_login_shells(sshd: Sshd, shell: str) -> None:
    sshd.set_shell(shell)
    try:
        up(**sshd.by_key())
        up(**sshd.by_key(python="python3"))
        failure(PythonNotFoundError, "find-python", **sshd.by_key(python="nopython"))
    finally:
        sshd.set_shell("sh")


def test_no_code_is_seen_over_there(sshd: Sshd) -> None:
    with Keeper() as keeper:
        outcome = Outcome(keeper.loop, ssh.plan(HOST, **sshd.by_key(name="plain-sight"))).wait()
        assert outcome.error is None, outcome.error

        def there(word: str) -> list[str]:
            commands = [process.command for process in leaks.processes()]
            return [command for command in commands if "ssh" not in command and word in command]
        assert there("(ramet:plain-sight)")
        until(lambda: not there("dup2"), "the first stage stays")
        outcome.close()


def test_a_login_that_prints_a_megabyte(sshd: Sshd) -> None:
    key = sshd.key("loud", command="head -c 1000000 /dev/zero | tr '\\0' b; eval \"$SSH_ORIGINAL_COMMAND\"")
    assert "bbbb" in up(**sshd.by_key(key)).growth.said.text()


def test_a_shell_profile_that_prints_a_megabyte(sshd: Sshd) -> None:
    sshd.set_shell("bash")
    assert sshd.home is not None
    profile = sshd.home / ".bashrc"
    profile.write_text("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo Have a nice day >&2\n")
    try:
        outcome = up(**sshd.by_key())
        assert "xxxx" in outcome.growth.said.text()
        assert "nice day" in outcome.process.stderr_tail()
    finally:
        profile.unlink()
        sshd.set_shell("sh")


def test_fifteen_at_once(sshd: Sshd) -> None:
    with Keeper() as keeper:
        outcomes = [Outcome(keeper.loop, ssh.plan(HOST, **sshd.by_key())) for _ in range(15)]
        for outcome in outcomes:
            assert outcome.wait().error is None, outcome.error
            assert outcome.echo() == b"hello"
            outcome.close()


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.13", "pypy"])
def test_from_nodes_of_other_pythons(sshd: Sshd, label: str) -> None:
    python = needs.python(label)
    options = [sshd.by_key(), sshd.by_key(python="nopython")]
    if sshd.password:
        options += [sshd.by_password(), sshd.by_password(password="wr0ng-wörd")]
    became = grow_elsewhere(python, [ssh.plan(HOST, **each) for each in options])
    errors = [None, "PythonNotFoundError", None, "AuthenticationError"][: len(options)]
    assert [record.get("error") for record in became] == errors * 2, became


# ---------------------------------------------------------------------- kept out


def test_wrong_password(sshd: Sshd) -> None:
    before = sshd.log()
    error = failure(AuthenticationError, "authenticate", **sshd.by_password(password="wr0ng-word"))
    assert "the password was refused" in str(error)
    log = sshd.log()[len(before):]
    assert log.count("Failed password") + log.count("authentication failure") < 6


def test_no_password_given(sshd: Sshd) -> None:
    options = sshd.by_password(password=None)
    error = failure(AuthenticationError, "authenticate", **options)
    assert "no password was given" in str(error)


def test_only_a_passphrase_given_where_a_password_is_asked_for(sshd: Sshd) -> None:
    error = failure(AuthenticationError, "authenticate", **sshd.by_password(password=None, passphrase="abcdef"))
    assert "asks for a password" in str(error)


def test_wrong_key(sshd: Sshd) -> None:
    stranger = sshd.key("stranger")
    authorized = sshd.folder / "authorized_keys"
    authorized.write_text("".join(line for line in authorized.read_text().splitlines(True) if "stranger" not in line))
    failure(AuthenticationError, "authenticate", **sshd.by_key(stranger))
    error = failure(AuthenticationError, "authenticate", **sshd.by_key("no-such-file"))
    assert "identity file" in str(error)


def test_changed_host_key(sshd: Sshd) -> None:
    other = sshd.key("other").with_suffix(".pub").read_text()
    known = sshd.folder / "changed"
    known.write_text(f"[{HOST}]:{sshd.port} {other}")
    for more in ({}, {"host_key_policy": "strict"}, {"host_key_policy": "accept-new"}):
        options = sshd.by_key(**more)
        options["ssh_args"] += ["-o", f"UserKnownHostsFile={known}"]
        error = failure(HostKeyError, "authenticate", **options)
        assert "isn't the one on record" in str(error)
        assert "ssh-keygen -R" in str(error)


@pytest.mark.parametrize("way", ["by_key", "by_password"])
def test_unknown_host_key(sshd: Sshd, way: str) -> None:
    for policy in ("yes", "ask"):
        options = getattr(sshd, way)()
        options["ssh_args"] += ["-o", "UserKnownHostsFile=/dev/null", "-o", f"StrictHostKeyChecking={policy}"]
        error = failure(HostKeyError, "authenticate", **options)
        assert "isn't known yet" in str(error)


def test_unknown_host_name() -> None:
    error = failure(ConnectError, "resolve", host="no-such-host.invalid")
    assert "no-such-host.invalid" in str(error)


def test_refused_port() -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))      # nobody listens, and nobody else can
        error = failure(ConnectError, "start", port=closed.getsockname()[1])
    assert "nobody listens" in str(error)


def test_something_else_than_sshd_listens() -> None:
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(HANGS_S)
        with Keeper() as keeper:
            plan = ssh.plan(HOST, port=server.getsockname()[1], connect_timeout_s=HANGS_S)
            outcome = Outcome(keeper.loop, plan)
            peer, _ = server.accept()
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            peer.close()
            error = outcome.wait().error
    assert type(error) is ConnectError
    assert "isn't an SSH server" in str(error)


def test_nobody_answers_in_time() -> None:
    with socket.create_server((HOST, 0)) as server:
        outcome = grow(ssh.plan(HOST, port=server.getsockname()[1], connect_timeout_s=0.5))
    assert outcome.error.stage == "start"
    assert outcome.took_s < 20      # not the 30 that are usual


def test_no_python_there(sshd: Sshd) -> None:
    error = failure(PythonNotFoundError, "find-python", **sshd.by_key(python="nopython"))
    assert "nopython" in str(error)
    failure(PythonNotFoundError, "find-python", **sshd.by_key(python="/etc/passwd"))
    key = sshd.key("bare", command='rest=${SSH_ORIGINAL_COMMAND#exec }; PATH=/nowhere; eval "/bin/$rest"')
    error = failure(PythonNotFoundError, "find-python", **sshd.by_key(key))
    assert "exit status: 97" in str(error)


def test_ssh_itself_is_not_there() -> None:
    plan = ssh.plan(HOST, ssh_path="/no/such/ssh")
    for way in ({}, {"shape": "pipes+tty"}):
        error = grow({**plan, **way}).error
        assert type(error) is ConnectError
        assert error.stage == "start"
        assert "/no/such/ssh" in str(error)


def test_ssh_does_not_take_its_options(sshd: Sshd) -> None:
    options = sshd.by_key()
    options["ssh_args"] += ["-o", "NoSuchOption=1"]
    assert "doesn't take its options" in str(failure(ConnectError, "start", **options))


def test_garbage_in_place_of_the_marker(sshd: Sshd) -> None:
    key = sshd.key("garbage", command="echo This is a menu. Choose:; echo 1 >&2; exit 4")
    error = failure_of_garbage(sshd, key)
    assert "This is a menu" in str(error)
    assert "exit status: 4" in str(error)


def failure_of_garbage(sshd: Sshd, key: Any, **options: Any) -> ConnectError:
    error = grow(ssh.plan(HOST, **sshd.by_key(key, **options))).error
    assert type(error) is ConnectError, error
    assert error.stage == "bootstrap"
    return error


def test_garbage_and_silence(sshd: Sshd) -> None:
    key = sshd.key("silence", command="echo This is a menu; cat >/dev/null")
    says = "This is a menu"
    said = in_time(lambda seconds: str(grow(ssh.plan(HOST, **sshd.by_key(key, connect_timeout_s=seconds))).error),
                   lambda text: says in text, 3)
    assert says in said and "stage: bootstrap" in said


def test_account_without_a_shell(sshd: Sshd) -> None:
    needs.root()
    sshd.set_shell("nologin")
    try:
        assert "no login shell" in str(failure(ConnectError, "start", **sshd.by_key()))
    finally:
        sshd.set_shell("sh")


# ---------------------------------------------------------------------- cut off in the middle


@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("way", ["by_key", "by_password"])
def test_abort(sshd: Sshd, way: str, after_s: float) -> None:
    with Keeper() as keeper:
        outcome = Outcome(keeper.loop, ssh.plan(HOST, **getattr(sshd, way)()))
        time.sleep(after_s)
        outcome.growth.abort(ClosedError("no longer wanted"))
        outcome.wait()
        if outcome.error is None:
            outcome.close()
        else:
            assert isinstance(outcome.error, ClosedError)


def test_ssh_killed_while_it_connects(sshd: Sshd) -> None:
    key = sshd.key("slow", command="echo one moment; cat >/dev/null")
    with Keeper() as keeper:
        outcome = Outcome(keeper.loop, ssh.plan(HOST, **sshd.by_key(key)))
        until(lambda: b"moment" in outcome.growth.said.data + outcome.growth.received, "it isn't connected")
        os.kill(outcome.growth.process.pid, 9)
        error = outcome.wait().error
    assert type(error) is ConnectError
    assert "ended by signal 9" in str(error)


def test_ssh_killed_when_it_is_up(sshd: Sshd) -> None:
    with Keeper() as keeper:
        outcome = Outcome(keeper.loop, ssh.plan(HOST, **sshd.by_password())).wait()
        assert outcome.error is None, outcome.error
        os.kill(outcome.process.pid, 9)
        assert outcome.close() == -9


def test_a_kernel_that_does_not_arrive_whole(sshd: Sshd) -> None:
    def cut(form: str) -> bytes:
        return payload(form)[:-10] + b"\0" * 300

    plan = ssh.plan(HOST, **sshd.by_key())
    error = grow(plan, payload=cut).error
    assert type(error) is ConnectError, error
    assert error.stage == "bootstrap"
    assert "exit status: 98" in str(error)
