"""Kinds of hosts: second factors, hostile ones, strict ones, shared connections, jump hosts, certificates, agents."""
from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ramet import AuthenticationError, ConnectError, Node, NodeLostError, Tree
from ramet.testing import check_connector
from support import leaks, needs, remote
from support.eventually import HANGS_S, all_end, in_time, until
from support.watch import Watch
from targets.ending import check_ending
from targets.second_factor import SecondFactor
from targets.sshd import HOST, Sshd


def failure(node: Node, kind: type[ConnectError], stage: str) -> str:
    """The text of the error that a node ends with."""
    with pytest.raises(ConnectError) as caught:
        node.wait(HANGS_S)
    said = str(caught.value)
    assert type(caught.value) is kind, said
    assert caught.value.stage == stage, said
    assert "remedy: " in said
    return said


def more(options: dict[str, Any], *words: str) -> dict[str, Any]:
    """Options of the connector with more arguments for ssh."""
    return {**options, "ssh_args": [*options["ssh_args"], *words]}


# ---------------------------------------------------------------------- second factors


@pytest.mark.parametrize("prompt", ["Verification code: ", "Passcode or option (1-2): ", "One-time password (OTP): "])
def test_a_password_and_a_second_factor(tree: Tree, tmp_path: Path, prompt: str) -> None:
    factor = SecondFactor(tmp_path)
    with Sshd(pam=factor.service(prompt)) as sshd:
        code = factor.code()
        assert sshd.password
        with Watch([sshd.password]) as watch:
            node = tree.ssh(HOST, **sshd.by_password(second_factor=code))
            assert node.call(remote.whoami) == sshd.user
            until(lambda: watch.rounds > 1, "it doesn't look")
        assert watch.found == []
        assert sshd.log().count("Accepted keyboard-interactive/pam") == 1
        assert code not in f"{node!r} {tree.stats()} {node.facts}"


def test_a_second_factor_that_is_wrong_or_was_not_given(tree: Tree, tmp_path: Path) -> None:
    factor = SecondFactor(tmp_path)
    with Sshd(pam=factor.service()) as sshd:
        wrong = "000000" if factor.code() != "000000" else "000001"
        said = failure(tree.ssh(HOST, **sshd.by_password(second_factor=wrong)), AuthenticationError, "authenticate")
        assert "the second factor was refused" in said
        assert wrong not in said
        said = failure(tree.ssh(HOST, **sshd.by_password()), AuthenticationError, "authenticate")
        assert "asks for a second factor, and none was given" in said
        assert "second_factor=" in said


def test_a_key_and_a_second_factor(tree: Tree, tmp_path: Path) -> None:
    factor = SecondFactor(tmp_path)
    with Sshd(["AuthenticationMethods publickey,keyboard-interactive"], pam=factor.service()) as sshd:
        said = failure(tree.ssh(HOST, **sshd.by_key()), AuthenticationError, "authenticate")
        assert "asks more than for a key" in said       # the key itself was taken
        node = tree.ssh(HOST, **sshd.by_key(password=sshd.password, second_factor=factor.code()))
        assert node.call(remote.add, 1, 1) == 2


def test_the_passphrase_is_not_for_the_host(tree: Tree, tmp_path: Path) -> None:
    """A hostile host asks in the very words of the ssh program."""
    factor = SecondFactor(tmp_path)
    for prompt in ("Enter passphrase for key '/home/me/.ssh/id': ", "\\nEnter passphrase for key '/home/me/.ssh/id': "):
        with Sshd(pam=factor.service(prompt)) as sshd:
            options = sshd.by_password(passphrase="open sesame")
            said = in_time(lambda seconds, options=options: failure(tree.ssh(HOST, **options, connect_timeout_s=seconds),
                                                                    ConnectError, "start"),
                           lambda text: "Enter passphrase" in text, 3)
            assert "it asks what there is no answer to" in said
            assert "Enter passphrase" in said
            # nothing was typed at all: sshd would have refused it
            assert "Failed" not in sshd.log()
            assert "failure" not in sshd.log()


# ---------------------------------------------------------------------- what a host prints


FAKES = ("Password: ", "root@127.0.0.1's password: ", "(root@127.0.0.1) Verification code: ", "\nRAMET1 30b00f0 c\n",
         "\nRAMET2\n", "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
         "Enter passphrase for key '/root/.ssh/id': ", "Permission denied (publickey).\n", "\x1b]0;title\x07\x1b[31m",
         "Host key verification failed.\n", "[sudo] password for root: ")  # fmt: skip


@pytest.mark.parametrize("way", ["by_key", "by_password"])
def test_a_long_and_hostile_banner(tree: Tree, tmp_path: Path, way: str) -> None:
    banner = tmp_path / "banner"
    banner.write_text(("".join(FAKES) + "\n" + "Keep out. " * 200 + "\n") * 12 + "Password: ")
    with Sshd([f"Banner {banner}"]) as sshd:
        node = tree.ssh(HOST, **getattr(sshd, way)())
        assert node.call(remote.whoami) == sshd.user
        if way == "by_password":
            said = failure(tree.ssh(HOST, **sshd.by_password(password="wr0ng-word")), AuthenticationError, "authenticate")
            assert "the password was refused" in said
            assert "wr0ng" not in said


def test_a_login_that_prints_fakes(tree: Tree, sshd: Sshd) -> None:
    """What a shell's profile prints comes on the link itself, where nothing is answered. A fake marker is as good as a broken
    kernel: the host decides what runs there anyway."""
    command = f"{sys.executable} -c 'print({''.join(FAKES[:3] + FAKES[5:])!r})'"
    (sshd.folder / "fakes").write_text(command)
    key = sshd.key("fakes-first", command=f"sh {sshd.folder}/fakes; eval $SSH_ORIGINAL_COMMAND")
    assert tree.ssh(HOST, **sshd.by_key(key)).call(remote.add, 2, 2) == 4


def test_a_slow_login(tree: Tree, sshd: Sshd) -> None:
    slow = sshd.key("slow-login", command="sleep 1; eval \"$SSH_ORIGINAL_COMMAND\"")
    assert tree.ssh(HOST, **sshd.by_key(slow)).call(remote.add, 2, 2) == 4


def test_a_slow_shell_profile(tree: Tree, sshd: Sshd) -> None:
    sshd.set_shell("bash")
    assert sshd.home is not None
    profile = sshd.home / ".bashrc"
    profile.write_text("sleep 1; echo slow\n")
    try:
        assert tree.ssh(HOST, **sshd.by_key()).call(remote.add, 2, 2) == 4
    finally:
        profile.unlink()
        sshd.set_shell("sh")


# ---------------------------------------------------------------------- hosts that allow little


@pytest.mark.parametrize(("command", "kind", "stage", "says"), [
    ("internal-sftp", ConnectError, "start", "nothing but file transfer"),
    ("echo For backups only; exit 3", ConnectError, "bootstrap", "something else than a Python interpreter answered"),
    ("/bin/false", ConnectError, "bootstrap", "the host ended the session without a word"),
])  # fmt: skip
def test_a_forced_command(tree: Tree, command: str, kind: type[ConnectError], stage: str, says: str) -> None:
    with Sshd([f"ForceCommand {command}"]) as sshd:
        said = failure(tree.ssh(HOST, **sshd.by_key()), kind, stage)
        assert says in said
        assert "ForceCommand" in said or "another account or key" in said


def test_a_forced_command_that_reads_and_says_nothing(tree: Tree, sshd: Sshd) -> None:
    key = sshd.key("cat", command="cat")
    said = in_time(
        lambda seconds: failure(tree.ssh(HOST, **sshd.by_key(key, connect_timeout_s=seconds)), ConnectError, "start"),
        lambda text: "no interpreter answered within" in text, 1.5)
    assert re.search(r"no interpreter answered within \d", said)
    assert "connect_timeout_s=" in said
    assert "ForceCommand" in said


def test_no_session_at_all(tree: Tree) -> None:
    with Sshd(["MaxSessions 0"]) as sshd:
        said = failure(tree.ssh(HOST, **sshd.by_key()), ConnectError, "start")
        assert "allows no sessions" in said and "MaxSessions" in said


def test_too_many_that_have_not_logged_in(tree: Tree) -> None:
    with Sshd(["MaxStartups 1"]) as sshd:
        with contextlib.ExitStack() as stack:
            # until one is let in: the look whether sshd is up may still count
            until(lambda: stack.enter_context(_connected(sshd.port)).recv(4) == b"SSH-", "nobody is let in")
            said = failure(tree.ssh(HOST, **sshd.by_key()), ConnectError, "start")
            assert "takes no more connections now" in said and "MaxStartups" in said


@contextlib.contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port), HANGS_S) as there:
        yield there


def test_accounts_and_passwords_that_have_expired(tree: Tree) -> None:
    with Sshd() as sshd:
        needs.root()
        subprocess.run(["chage", "-d", "0", sshd.user], check=True)
        for options in (sshd.by_password(), sshd.by_key()):
            said = failure(tree.ssh(HOST, **options), AuthenticationError, "authenticate")
            assert "the password has expired" in said
            assert "set a new one" in said
        subprocess.run(["chage", "-d", "20000", "-E", "1", sshd.user], check=True)
        for options in (sshd.by_password(), sshd.by_key()):
            said = failure(tree.ssh(HOST, **options), AuthenticationError, "authenticate")
            assert "the account has expired" in said


def test_a_terminal_that_the_configuration_asks_for(tree: Tree, sshd: Sshd) -> None:
    """A terminal on the way would change bytes; ours is the last word."""
    config = sshd.folder / "with-terminal"
    config.write_text("Match host *\n RequestTTY force\n" + sshd.client.read_text())
    options = {**sshd.by_key(), "ssh_args": ["-F", str(config)]}
    node = tree.ssh(HOST, **options)
    data = bytes(range(256)) * 100 + b"\r\n\x03\x04"
    assert node.call(remote.echo, data) == data


# ---------------------------------------------------------------------- a wrong password, once


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_a_wrong_password_is_sent_once(tree: Tree, method: str) -> None:
    """Three would lock an account in many places."""
    with Sshd(["LogLevel VERBOSE"]) as sshd:
        options = more(sshd.by_password(password="wr0ng-word"), "-o", f"PreferredAuthentications={method}")
        with Watch(["wr0ng-word"]) as watch:
            said = failure(tree.ssh(HOST, **options), AuthenticationError, "authenticate")
        assert watch.found == []
        assert "the password was refused" in said
        until(lambda: "[preauth]" in sshd.log(), "the connection's end isn't told")     # its last word
        assert sshd.log().count("Failed password") + sshd.log().count("Failed keyboard-interactive") == 1, sshd.log()


def test_the_watch_sees_what_is_there() -> None:
    with Watch(["s3cret-in-argv", "s3cret-in-environ"]) as watch:
        env = {**os.environ, "SHOWN": "s3cret-in-environ"}
        with subprocess.Popen(["sh", "-c", "read x; exit 0", "s3cret-in-argv"], stdin=subprocess.PIPE, env=env) as shown:
            until(lambda: {what for pid, what in watch.found if pid == shown.pid} == {"cmdline", "environ"}, "it isn't seen")
            assert shown.stdin
            shown.stdin.close()


# ---------------------------------------------------------------------- shared connections


class Shared:
    """Options for a shared connection (ControlMaster), which is ended at the end."""

    def __init__(self, sshd: Sshd, name: str) -> None:
        self.path = sshd.folder / name
        self.words = ["-o", "ControlMaster=auto", "-o", f"ControlPath={self.path}", "-o", "ControlPersist=60"]

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, *_: object) -> None:
        ended = subprocess.run(["ssh", "-o", f"ControlPath={self.path}", "-O", "exit", "x"], capture_output=True)
        assert ended.returncode == 0, ended.stderr
        until(lambda: not self.path.exists(), "its socket stays")   # ssh answers first, and takes the socket away then


def test_a_shared_connection(sshd: Sshd) -> None:
    """It is the user's own: made by the first node, used by the others, there when all are gone."""
    with Shared(sshd, "shared") as shared:
        with Tree() as tree:
            nodes = [tree.ssh(HOST, **more(sshd.by_password(), *shared.words))]
            nodes[0].wait(HANGS_S)
            before = sshd.log().count("Accepted")
            nodes += [tree.ssh(HOST, **more(sshd.by_password(), *shared.words)) for _ in range(3)]
            # batch mode, and no key: nothing but the shared connection lets it in
            nodes.append(tree.ssh(HOST, **more(sshd.by_password(password=None), *shared.words)))
            assert [node.call(remote.add, n, 1) for n, node in enumerate(nodes)] == [1, 2, 3, 4, 5]
            assert sshd.log().count("Accepted") == before
            nodes[0].close()
            assert nodes[1].call(remote.add, 1, 1) == 2
            nodes[1].kill()
            assert nodes[2].call(remote.add, 1, 1) == 2
        check = subprocess.run(["ssh", "-o", f"ControlPath={shared.path}", "-O", "check", "x"], capture_output=True)
        assert check.returncode == 0


def test_a_shared_connection_as_a_connector(sshd: Sshd) -> None:
    with Shared(sshd, "checked") as shared:
        check_connector(lambda own: own.ssh(HOST, **more(sshd.by_key(), *shared.words)))


def test_a_shared_connection_that_takes_no_more(tree: Tree) -> None:
    with Sshd(["MaxSessions 1"]) as sshd, Shared(sshd, "full") as shared:
        first = tree.ssh(HOST, **more(sshd.by_password(), *shared.words)).wait(HANGS_S)
        said = failure(tree.ssh(HOST, **more(sshd.by_password(password=None), *shared.words)), ConnectError, "start")
        assert "allows no more sessions on the shared connection" in said
        assert "MaxSessions" in said
        # with what a connection of its own needs, ssh makes one
        assert tree.ssh(HOST, **more(sshd.by_password(), *shared.words)).call(remote.add, 1, 1) == 2
        assert first.call(remote.add, 1, 1) == 2


def test_a_shared_connection_that_is_cut(tree: Tree, sshd: Sshd) -> None:
    path = sshd.folder / "cut"
    argv = ["ssh", "-F", str(sshd.client), "-i", str(sshd.folder / "id"), "-p", str(sshd.port), "-N", "-M", "-S", str(path),
            f"{sshd.user}@{HOST}"]  # fmt: skip
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as shared:
        until(path.exists, "it isn't up")
        node = tree.ssh(HOST, **more(sshd.by_key(), "-S", str(path)))
        node.call(os.getpid)
        call = node.start(time.sleep, 1000)
        shared.kill()
        with pytest.raises(NodeLostError):
            call.result(HANGS_S)
    path.unlink()       # killed, it leaves its socket; ssh makes a new connection then
    assert tree.ssh(HOST, **more(sshd.by_key(), "-S", str(path))).call(remote.add, 1, 1) == 2


# ---------------------------------------------------------------------- jump hosts


@pytest.fixture
def jump(sshd: Sshd) -> Iterator[tuple[Sshd, list[str]]]:
    """Another server, and ssh's arguments to go through it with its own key."""
    with Sshd(["PermitOpen any"]) as gate:
        config = sshd.folder / "through"
        config.write_text(f"Host gate\n HostName localhost\n Port {gate.port}\n User {gate.user}\n"
                          f" IdentityFile {gate.folder}/id\n" + sshd.client.read_text())  # fmt: skip
        yield gate, ["-F", str(config), "-J", "gate"]


def test_through_a_jump_host(sshd: Sshd, jump: tuple[Sshd, list[str]]) -> None:
    gate, words = jump
    check_connector(lambda own: own.ssh(HOST, **{**sshd.by_key(), "ssh_args": words}))
    assert gate.log().count("Accepted publickey") >= 2


def test_by_growing_through_a_node(tree: Tree, sshd: Sshd, jump: tuple[Sshd, list[str]]) -> None:
    gate, _ = jump
    through = tree.ssh(HOST, **gate.by_key())
    node = through.ssh(HOST, **more(sshd.by_password(), "-o", "UserKnownHostsFile=/dev/null"))
    assert [through.call(remote.whoami), node.call(remote.whoami)] == [gate.user, sshd.user]
    assert node.parent is through


def test_a_password_behind_a_jump_host(tree: Tree, sshd: Sshd, jump: tuple[Sshd, list[str]]) -> None:
    gate, words = jump
    options = {**sshd.by_password(), "ssh_args": [*words, "-o", "PubkeyAuthentication=no"]}
    for method in ("password", "keyboard-interactive"):
        node = tree.ssh(HOST, **more(options, "-o", f"PreferredAuthentications={method}"))
        assert node.call(remote.whoami) == sshd.user
    assert "Failed" not in gate.log()


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_a_jump_host_does_not_get_the_password(tree: Tree, sshd: Sshd, jump: tuple[Sshd, list[str]], method: str) -> None:
    """It asks on the same terminal, before the host does."""
    gate, words = jump
    config = Path(words[1])
    config.write_text(config.read_text().replace(f" IdentityFile {gate.folder}/id",
                                                 f" PubkeyAuthentication no\n PreferredAuthentications {method}"))  # fmt: skip
    said = failure(tree.ssh(HOST, **{**sshd.by_password(), "ssh_args": words}), AuthenticationError, "authenticate")
    assert "another host asks, such as the jump host" in said
    assert "tree.ssh(gate).ssh(" in said
    assert "Failed" not in gate.log()
    assert "failure" not in gate.log()


def test_jump_hosts_that_do_not_work(tree: Tree, sshd: Sshd) -> None:
    def through(gate: str, *words: str, **options: Any) -> Node:
        return tree.ssh(HOST, **more(sshd.by_key(**options), "-J", gate, *words))

    assert "no jump host of that name" in failure(through("no-such-host.invalid"), ConnectError, "resolve")
    assert "the jump host doesn't answer" in failure(through("localhost:1"), ConnectError, "start")
    assert "the jump host didn't let us in" in failure(through(f"localhost:{sshd.port}"), AuthenticationError, "authenticate")
    with Sshd(["AllowTcpForwarding no"]) as shut, Sshd() as gate:
        for server, says, port in ((shut, "forwards nothing", sshd.port), (gate, "doesn't reach", 1)):
            config = server.folder / "jump"
            config.write_text(f"Host gate\n HostName localhost\n Port {server.port}\n User {server.user}\n"
                              f" IdentityFile {server.folder}/id\n" + server.client.read_text())  # fmt: skip
            options = {**sshd.by_key(), "port": port, "ssh_args": ["-F", str(config), "-J", "gate"]}
            assert says in failure(tree.ssh(HOST, **options), ConnectError, "start")


# ---------------------------------------------------------------------- keys, certificates, agents


def test_a_certificate(tree: Tree, tmp_path: Path) -> None:
    """The host knows only the authority; the key itself it has never seen."""
    authority, key = tmp_path / "authority", tmp_path / "signed"
    for path in (authority, key):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    tmp_path.chmod(0o755)
    with Sshd([f"TrustedUserCAKeys {authority}.pub"]) as sshd:
        options = sshd.by_key(key)
        said = failure(tree.ssh(HOST, **options), AuthenticationError, "authenticate")
        assert "none of the keys" in said
        sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "tests", "-n", sshd.user, "-V"]
        subprocess.run([*sign, "-2h:-1h", str(key) + ".pub"], check=True)
        failure(tree.ssh(HOST, **options), AuthenticationError, "authenticate")     # it was good until an hour ago
        subprocess.run([*sign, "-1m:+1h", str(key) + ".pub"], check=True)
        assert tree.ssh(HOST, **options).call(remote.whoami) == sshd.user


def test_an_agent(tree: Tree, sshd: Sshd) -> None:
    """A key with a passphrase that only the agent knows."""
    key = sshd.key("in-agent")
    socket_path = sshd.folder / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL) as agent:
        try:
            env = {**os.environ, "SSH_AUTH_SOCK": str(socket_path)}
            add = ["ssh-add", "-q", str(key)]
            until(lambda: not subprocess.run(add, env=env, stdin=subprocess.DEVNULL, capture_output=True).returncode,
                  "the agent takes no key")
            key.unlink()
            options = {key: value for key, value in sshd.by_key().items() if key != "identity_file"}
            node = tree.ssh(HOST, **more(options, "-o", f"IdentityAgent={socket_path}", "-o", "IdentitiesOnly=no"))
            assert node.call(remote.whoami) == sshd.user
        finally:
            agent.terminate()


# ---------------------------------------------------------------------- gone in the middle


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_the_host_ends_the_session_in_mid_call(tree: Tree, sshd: Sshd, sent: signal.Signals) -> None:
    node = tree.ssh(HOST, **sshd.by_key())
    pid = node.call(os.getpid)
    call = node.start(time.sleep, 1000)

    def sessions() -> list[leaks.Process]:
        return [process for process in leaks.processes() if f"sshd: {sshd.user}@notty" in process.command]
    until(sessions, "no session shows its account")
    for session in sessions():
        with contextlib.suppress(ProcessLookupError):
            os.kill(session.pid, sent)
    with pytest.raises(NodeLostError):
        call.result(HANGS_S)
    assert all_end(pid)     # and nothing is left over there


def test_a_node_is_ended_from_outside(tree: Tree, sshd: Sshd) -> None:
    check_ending(lambda **more: tree.ssh(HOST, **sshd.by_key(**more)))


def test_nothing_is_left_on_the_host(sshd: Sshd) -> None:
    """No process of the account, no file in its home or among the temporary ones."""
    def files() -> set[str]:
        assert sshd.home is not None
        found = {str(path) for path in sshd.home.rglob("*")}
        argv = ["find", "/tmp", "/var/tmp", "/dev/shm", "-maxdepth", "1", "-user", sshd.user]
        owned = subprocess.run(argv, capture_output=True, text=True)
        return found | {path for path in owned.stdout.split("\n") if not path.startswith(str(sshd.folder))}

    needs.root()
    before = files()
    with Tree() as tree:
        node = tree.ssh(HOST, **sshd.by_password())
        child = node.local()
        pids = [node.call(os.getpid), child.call(os.getpid), child.call(remote.start_sleeper)]
        assert files() == before
    assert all_end(*pids)
    assert files() == before
    ps = ["ps", "-o", "stat=,ppid=,args=", "-u", sshd.user]
    ended = re.compile(r"Z\S*\s+1\s")      # what the machine's first process takes its time to wait for

    def left() -> list[str]:
        own = subprocess.run(ps, capture_output=True, text=True).stdout.splitlines()
        return [line for line in own if not ended.match(line) and "sshd" not in line]
    until(lambda: not left(), "a process of the account is left")
