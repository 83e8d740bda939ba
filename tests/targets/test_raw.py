"""``node.raw()`` for real: exact arguments through every shell, input and output, statuses, times, passwords, depth, and errors
by stage; where there is no Python, and where there is."""
from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet import AuthenticationError, CallCancelled, CallTimeout, ConnectError, PythonNotFoundError, Secret, Tree
from ramet.connectors import docker, ssh, su
from ramet.connectors.rules import OWN_PROCESS_1
from ramet.kernel import spawn
from ramet.raw import raw_plan, script
from support import needs, remote
from support.eventually import HANGS_S, all_end, in_time, until
from targets.accounts import Accounts
from targets.sshd import HOST, Sshd

ODD = ["", " ", "a b", "it's", '"double"', "back\\slash", "\\", "two\nlines\n", "$HOME `id` $(id)", "!history!", "*", "~", "-n",
       "é", "a=b", ";&|<>(){}", "#", "\t", "\\n", "%s", "end\\"]


def each_argument(output: bytes) -> list[str]:
    return [part.decode() for part in output.split(b"\0")[:-1]]


def test_arguments_arrive_exactly(tree: Tree) -> None:
    for node in (tree.local(), tree.command(["env"]), tree.command(["sh", "-c"], shell=True)):
        done = node.raw(["printf", "%s\\0", *ODD]).result(HANGS_S)
        assert (done.status, each_argument(done.stdout), done.stderr, done.cut) == (0, ODD, b"", False)


def test_arguments_arrive_exactly_through_every_login_shell(tree: Tree, sshd: Sshd) -> None:
    for shell in ("sh", "bash", "tcsh", "fish", "zsh"):
        if shell != "sh":
            try:
                sshd.set_shell(shell)
            except pytest.skip.Exception:
                continue
        done = tree.ssh(HOST, **sshd.by_key()).raw(["printf", "%s\\0", *ODD]).result(HANGS_S)
        assert each_argument(done.stdout) == ODD, shell
    if sshd.root:
        sshd.set_shell("sh")


def test_input_output_and_status(tree: Tree) -> None:
    node = tree.local()
    data = bytes(range(256)) * 2000
    assert node.raw(["cat"], input=data).result(HANGS_S).stdout == data
    done = node.raw(["sh", "-c", "echo out; echo err >&2; exit 7"]).result(HANGS_S)
    assert (done.status, done.stdout, done.stderr, done.ok) == (7, b"out\n", b"err\n", False)
    assert node.raw(["no-such-program"]).result(HANGS_S).status == 127
    assert node.raw(["true"], input="never read" * 100_000).result(HANGS_S).ok
    assert node.raw(["sh", "-c", "kill -9 $$"]).result(HANGS_S).status == -9
    many = node.raw(["sh", "-c", "seq 1 100000"], keep_bytes=100).result(HANGS_S)
    assert many.cut and len(many.stdout) == 100 and many.stdout.endswith(b"100000\n")
    assert node.raw(["seq", "100"], keep_bytes=10).result(HANGS_S).cut, "of what came at once, too"

    async def awaited() -> int:
        return (await node.raw(["true"])).status
    assert asyncio.run(awaited()) == 0


def test_on_a_host_without_python(tree: Tree, tmp_path: Path) -> None:
    """What failed to connect can still be used, to install one."""
    node = tree.command(["env", f"PATH={tmp_path}:/bin"], python="python-to-be")
    with pytest.raises(PythonNotFoundError):
        node.wait(HANGS_S)
    done = node.raw(["sh", "-c", 'ln -s "$1" "$2"', "sh", sys.executable, str(tmp_path / "python-to-be")]).result(HANGS_S)
    assert done.ok, done
    assert tree.command(["env", f"PATH={tmp_path}:/bin"], python="python-to-be").call(remote.add, 2, 3) == 5


@pytest.mark.parametrize("label", ["2.7", "3.13"])
def test_deeper_in_the_tree(tree: Tree, label: str, tmp_path: Path) -> None:
    middle = tree.local(python=needs.python(label)).local()
    node = middle.command(["env"], python="/no/such/python")
    done = node.raw(["sh", "-c", 'cat; printf "%s\\0" "$@"; exit 3', "sh", *ODD], input=b"in\0").result(HANGS_S)
    assert (done.status, each_argument(done.stdout)) == (3, ["in", *ODD])


    def said(seconds: float) -> str:
        with pytest.raises(CallTimeout, match=rf"longer than {seconds:g} s") as caught:
            node.raw(["sh", "-c", "echo on it; sleep 1000"], timeout=seconds).result(HANGS_S)
        return str(caught.value)
    assert "; it said last: on it" in in_time(said, lambda text: "on it" in text.partition("said last")[2], 0.3)
    started = node.raw(["sh", "-c", f"echo $$ >{tmp_path}/pid; sleep 1000"])
    pid = _pid(tmp_path / "pid")
    started.cancel()
    with pytest.raises(CallCancelled):
        started.result(HANGS_S)
    assert all_end(pid)
    os.kill(middle.parent.facts["pid"], signal.SIGKILL)  # type: ignore[union-attr]
    with pytest.raises(ConnectError, match="can't be started"):
        node.raw(["true"]).result(HANGS_S)


def _pid(file: Path) -> int:
    until(lambda: file.exists() and file.read_text().endswith("\n"), "it isn't written")
    return int(file.read_text())


def test_times_and_the_end_of_the_tree(tmp_path: Path) -> None:
    with Tree() as tree:
        node = tree.local()
        with pytest.raises(CallTimeout):
            node.raw(["sleep", "1000"], timeout=0.2).result(HANGS_S)
        with pytest.raises(ConnectError, match=r"wasn't started within 0\.3 s") as caught:
            tree.command(["sh", "-c", "sleep 1000"], connect_timeout_s=0.3).raw(["true"]).result(HANGS_S)
        assert caught.value.stage == "start"
        left = node.raw(["sh", "-c", f"echo $$ >{tmp_path}/pid; sleep 1000"])
        pid = _pid(tmp_path / "pid")
    with pytest.raises(ramet.Error):
        left.result(HANGS_S)
    assert all_end(pid)
    with pytest.raises(ramet.ClosedError):
        node.raw(["true"])


def test_over_ssh_with_a_password(tree: Tree, sshd: Sshd) -> None:
    node = tree.ssh(HOST, **sshd.by_password(password=Secret.call(lambda: str(sshd.password)), python="/no/such/python"))
    assert node.raw(["id", "-un"]).result(HANGS_S).stdout.decode().strip() == sshd.user
    with pytest.raises(AuthenticationError, match="the password was refused") as caught:
        tree.ssh(HOST, **sshd.by_password(password="wr0ng-word")).raw(["id"]).result(HANGS_S)
    error = caught.value
    assert error.stage == "authenticate" and "wr0ng" not in str(error) + error.seen
    assert error.command.endswith(f"{HOST} id")
    with pytest.raises(ConnectError) as refused:
        tree.ssh(HOST, port=1, connect_timeout_s=HANGS_S).raw(["id"]).result(HANGS_S)
    assert (refused.value.stage, refused.value.status) == ("start", 255)
    status = tree.ssh(HOST, **sshd.by_key()).raw(["sh", "-c", "exit 255"]).result(HANGS_S).status
    assert status == 255, "behind the marker it is the command's own"


@pytest.mark.xdist_group("accounts")
def test_as_another_account(accounts: Accounts, tree: Tree) -> None:
    asks = accounts.node(tree, accounts.asks)
    for node in (asks.sudo(password=accounts.password, python="/no/such"),
                 asks.su(accounts.other, password=accounts.password, python="/no/such")):
        done = node.raw(["sh", "-c", "id -un; cat; printf 'Password: ' >&2; exit 4"], input=b"input\n").result(HANGS_S)
        who = "root" if node.what.startswith("sudo") else accounts.other
        assert (done.status, done.stdout.decode()) == (4, f"{who}\ninput\n")
        assert done.stderr.endswith(b"Password: "), "no prompt of the command's is answered"
    with pytest.raises(AuthenticationError) as caught:
        asks.sudo(password="wr0ng", python="/no/such").raw(["id"]).result(HANGS_S)
    assert caught.value.stage == "escalate"


def test_no_prompt_of_the_command_gets_a_secret(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the marker nothing is a question, on no channel."""
    typed: list[Any] = []
    monkeypatch.setattr(spawn.Process, "answer", lambda self, data: typed.append(data) or True)
    rules = [{"on": source, "match": "Password: \\Z", "do": "send", "secret": "pw"} for source in ("tty", "stderr", "output")]
    node = tree.command(["env"], rules=rules, secrets={"pw": "s3cret"}, terminal=True)
    asks = "printf 'Password: '; printf 'Password: ' >&2; printf 'Password: ' >/dev/tty; read x; echo [$x]"
    assert node.raw(["sh", "-c", asks], input="\n").result(HANGS_S).stdout == b"Password: []\n"
    assert typed == []


def test_what_can_not_be_a_command(tree: Tree) -> None:
    node = tree.local()
    wrong: list[tuple[Any, type[Exception]]] = [([], ValueError), ([""], ValueError), ("ls", TypeError), (["a\0b"], ValueError),
                                                (["ls", 7], TypeError)]
    for argv, kind in wrong:
        with pytest.raises(kind):
            node.raw(argv)
    for options in ({"timeout": 0}, {"keep_bytes": 0}, {"keep_bytes": 1 << 40}):
        with pytest.raises(ValueError):
            node.raw(["true"], **options)  # type: ignore[arg-type]


def test_plans_of_other_connectors() -> None:
    plan = raw_plan(docker.plan("app", user="u"), ["apk", "add", "python3"])
    assert plan["argv"] == ["docker", "exec", "-i", "--user", "u", "app", "sh", "-c", script(["apk", "add", "python3"])]
    plan = raw_plan(docker.plan(image="alpine"), ["apk"])
    shell = ["docker", "run", "--rm", "-i", "--entrypoint", "sh", "alpine", *OWN_PROCESS_1[1:]]
    assert plan["argv"] == [*shell, "sh", "-c", script(["apk"])]
    assert raw_plan(su.plan("u", python=">=3.8"), ["a b"])["argv"][:3] == ["su", "u", "-c"]
    plan = raw_plan(ssh.plan("h", python="/srv/venv"), ["it's"])
    assert plan["argv"][-1].startswith("exec sh -c 'printf ") and plan["command"].endswith("h 'it'\"'\"'s'")
    with pytest.raises(ValueError, match="doesn't end in an interpreter"):
        raw_plan({**docker.plan("app"), "argv": ["telnet", "x"]}, ["id"])


def test_a_command_that_is_cancelled_before_its_node_is_known_is_not_run(tree: Tree, tmp_path: Path) -> None:
    """It was, to its end: only its result was dropped."""
    gate, ran = tmp_path / "gate", tmp_path / "ran"
    os.mkfifo(gate)
    above = tree.command(["sh", "-c", 'read open <"$0" && exec "$@"', str(gate)], python=sys.executable, connect_timeout_s=300)
    node = above.command(["env"])
    never = node.raw(["touch", str(ran)])
    assert never.cancel()
    done = node.raw(["true"])
    gate.write_text("open\n")
    assert done.result(HANGS_S).status == 0
    node.raw(["true"]).result(HANGS_S)
    assert not ran.exists()
