"""What users of Mitogen reported, re-enacted here: hangs, strays, zombies, descriptors, prompts. The numbers are its issues'.

The text of #264 wasn't to be had: what stands for it is what it was filed under, strays. And execnet's way with old Pythons.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from ramet.bootstrap import first_stage, packing
from ramet.kernel import stub
from support import leaks, needs, remote, remote_peers
from support.eventually import all_end, in_time, until
from support.source import TOP
from targets.accounts import Accounts
from targets.sshd import HOST, Sshd

LONG_S = 120


def test_957_and_249_more_descriptors_than_select_takes() -> None:
    """``select`` fails with numbers above 1,023. The program has those already when it grows its nodes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip("not on this machine: a process may have 1,400 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with ramet.Tree() as tree:
            node = tree.local()
            nodes = [node, node.local(), tree.command(["env"], python=[sys.executable])]
            assert [one.call(remote.add, 1, 2) for one in nodes] == [3] * 3
            assert nodes[1].run(["true"]).returncode == 0
            assert list(node.stream(range, 3)) == [0, 1, 2]
            assert max(link.fd_in for link in tree._gardener.links.values()) > 1023
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_598_many_targets_that_never_answer() -> None:
    """Beside them, those that do are connected; when the time is up, each of the others has its error."""
    with ramet.Tree() as tree:
        silent = [tree.command(["sh", "-c", "sleep 1000"], python=["python3"], connect_timeout_s=3) for _ in range(24)]
        good = [tree.local() for _ in range(4)]
        calls = [node.start(remote.pid) for node in silent]
        assert [node.call(remote.add, 1, 2) for node in good] == [3] * 4
        for call, node in zip(calls, silent, strict=True):
            with pytest.raises(ramet.ConnectError, match="within 3 s"):
                call.result(timeout=LONG_S)
            assert node.error is not None
        assert len(tree.nodes) == 4


@pytest.mark.parametrize("sent", ["nothing", "half of the kernel"])
def test_1348_a_first_stage_whose_parent_is_gone(sent: str) -> None:
    """It isn't left behind, waiting or spinning: at the end of its input it goes."""
    argv = first_stage.command([sys.executable], "peer")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        if sent != "nothing":
            payload = packing.payload("source")
            process.stdin.write(payload[:len(payload) // 2])
        process.stdin.close()
        process.stdin = None
        process.communicate(timeout=LONG_S)
        assert process.returncode != 0


def test_406_and_480_connecting_and_disconnecting_in_a_loop() -> None:
    """No hang, and no zombie. Some are closed while a call is under way, some killed, some before they are up."""
    before = leaks.processes()
    with ramet.Tree() as tree:
        for number in range(24):
            node = tree.local()
            if number % 4:
                call = node.start(remote.sleep, 1000) if number % 2 else node.start(remote.pid)
                if number % 4 == 2:
                    call.result()
            (node.kill if number % 3 else node.close)()
        until(lambda: not tree.nodes and not leaks.processes() - before, "something of it is left", LONG_S)
        assert tree.local().call(remote.add, 1, 2) == 3


def test_625_ctrl_c_while_it_shuts_down(tmp_path: Path) -> None:
    """One node is stopped, so closing takes until it is killed. Nobody waits for an answer that doesn't come."""
    script = tmp_path / "program.py"
    script.write_text("""
import os, signal, ramet
from support import remote
with ramet.Tree() as tree:
    nodes = [tree.local() for _ in range(3)]
    pids = [node.call(remote.pid) for node in nodes]
    os.kill(pids[0], signal.SIGSTOP)
    nodes[1].start(remote.sleep, 1000)
    print(*pids, flush=True)
""")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP / "tests")])}
    with subprocess.Popen([sys.executable, str(script)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pids = list(map(int, program.stdout.readline().split()))
        for _ in range(2):
            time.sleep(0.3)
            with contextlib.suppress(ProcessLookupError):
                program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=LONG_S)
        assert program.returncode in (-signal.SIGINT, 0) and errors.count("Traceback") <= 2, errors     # 0: it was quicker
    assert all_end(*pids)


# ---------------------------------------------------------------------- sudo: its log, its prompts


def rests(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has read all that it was sent and waits for more, or has ended."""
    assert process.stdin is not None
    left = fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z" or (state == "S" and not any(left))


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.13"])
def test_1306_a_link_that_is_non_blocking(label: str) -> None:
    """The first stage waits for what hasn't come yet, all the same: it neither fails nor spins."""
    argv = first_stage.command([needs.python(label)], "peer")
    payload = packing.payload("source")
    pieces = [payload[:1], payload[1:stub.HEAD_BYTES], payload[stub.HEAD_BYTES:5000], payload[5000:] + b"!"]
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with subprocess.Popen(argv, stdin=reading, stdout=subprocess.PIPE) as process, open(writing, "wb", 0) as process.stdin:
        os.close(reading)
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n" and process.stdout.readline().startswith(b"RAMET1 ")
        for piece in pieces:
            until(lambda: rests(process), "it waits without spinning")
            process.stdin.write(piece)
        assert process.stdout.readline() == b"\n" and process.stdout.readline() == b"RAMET2\n"
        until(lambda: rests(process), "it waits for its first message")
        process.stdin.close()
        assert process.wait() == 98


@pytest.fixture(scope="module")
def accounts() -> Iterator[Accounts]:
    needs.program("sudo")
    with Accounts() as made:
        yield made


@pytest.mark.xdist_group("accounts")
@pytest.mark.parametrize("logged", ["log_output, use_pty", "log_output, !use_pty", "log_output, log_input, use_pty"])
def test_1306_sudo_logs_what_passes(accounts: Accounts, logged: str) -> None:
    """Behind sshd standard input and output are one socket; sudo makes it non-blocking, to copy output by way of its log."""
    data = bytes(range(256)) * 4000
    with Sshd() as sshd, tempfile.TemporaryDirectory(prefix="rmt") as folder, ramet.Tree() as tree:
        rules = [f"{sshd.user} ALL=(ALL:ALL) NOPASSWD: ALL", f"Defaults:{sshd.user} {logged}, iolog_dir={folder}"]
        with accounts.sudoers_also(*rules):
            behind = tree.ssh(HOST, **sshd.by_key(), python=["sudo", "-n", accounts.python])
            login = tree.ssh(HOST, **sshd.by_key(), python=accounts.python)
            nodes = [behind, login.sudo(python=accounts.python), login.local(python=["sudo", "-n", accounts.python])]
            assert [node.call(remote.whoami) for node in nodes] == ["root"] * 3
            assert [node.call(remote.echo, data) == data for node in nodes] == [True] * 3
            for node in nodes:
                node.close()


#: Prompts of which Mitogen didn't know that they ask for a password: of sudo-rs and Ubuntu 26.04, which shows a star for each
#: letter; French with the space that no line is broken at; Polish; Chinese with the wide colon; an administrator's own.
PROMPTS = {
    "#1503 and #1509: sudo-rs": ("[sudo: authenticate] Password: ", True),
    "#1514: French": ("[sudo] Mot\u00a0de passe de %p\u00a0: ", False),
    "#1514: French, no line broken": ("[sudo] Mot\u00a0de\u00a0passe\u202f:\u00a0", False),
    "#1514: Polish": ("[sudo] hasło użytkownika %p: ", False),
    "#1518: Chinese": ("[sudo] %p 的密码：", False),
    "#1518: Chinese, sudo-rs": ("[sudo: authenticate] 密码：     ", True),
    "#1503: one's own": ("%u@%h: your password, please: ", False),
}


@pytest.mark.xdist_group("accounts")
@pytest.mark.parametrize("which", PROMPTS)
def test_1503_1509_1514_1518_prompts(accounts: Accounts, which: str) -> None:
    """The whole password is typed, once. Without a second factor sudo is told what to ask; with one, sudoers decide."""
    prompt, stars = PROMPTS[which]
    with ramet.Tree() as tree, accounts.sudoers_also(
            f'Defaults:ASKS passprompt_override, passprompt="{prompt}"', f"Defaults:ASKS {'' if stars else '!'}pwfeedback"):
        asks = accounts.node(tree, accounts.asks, LC_ALL="C.UTF-8")
        for more in ({}, {"second_factor": "000000"}):
            assert asks.sudo(password=accounts.password, python=accounts.python, **more).call(remote.whoami) == "root"
        with pytest.raises(ramet.AuthenticationError, match="the password was refused"):
            asks.sudo(password="wr0ng-word", python=accounts.python, second_factor="000000").wait(LONG_S)


@pytest.mark.xdist_group("accounts")
def test_1501_a_prompt_that_nobody_can_know(accounts: Accounts) -> None:
    """Where sudoers decide, it isn't answered: any program may ask anything. The error says what was asked."""
    with ramet.Tree() as tree, accounts.sudoers_also('Defaults:ASKS passprompt_override, passprompt="[sudo] %u@%h:"'):
        asks = accounts.node(tree, accounts.asks)
        assert asks.sudo(password=accounts.password, python=accounts.python).call(remote.whoami) == "root"

        def error(seconds: float) -> ramet.ConnectError:
            with pytest.raises(ramet.ConnectError) as caught:
                asks.sudo(password=accounts.password, second_factor="000000", python=accounts.python,
                          connect_timeout_s=seconds).wait(LONG_S)
            return caught.value
        says = f"asks what there is no answer to: [sudo] {accounts.asks}@"
        found = in_time(error, lambda error: says in str(error), 3)
        assert says in str(found) and accounts.password not in str(found) + found.seen


# ---------------------------------------------------------------------- hangs and strays


def test_150_forking_while_a_handler_of_logging_is_locked() -> None:
    """By a thread of the program, and by one in the node, which forks and starts programs meanwhile: the lock isn't copied."""
    handler = logging.StreamHandler()
    locked, over = threading.Event(), threading.Event()

    def hold() -> None:
        with contextlib.ExitStack() as stack:
            handler.acquire()
            stack.callback(handler.release)
            locked.set()
            over.wait()
    thread = threading.Thread(target=hold)
    with ramet.Tree() as tree:
        logging.getLogger("ramet").addHandler(handler)
        try:
            thread.start()
            locked.wait()
            for python in (sys.executable, needs.python("2.7")):
                node = tree.local(python=python)
                held = node.options(lane="holds").start(remote_peers.hold_the_handler)
                until(lambda node=node: node.call(remote_peers.is_held), "it is held over there")
                below = [node.fork(), node.fork(preload=["support.remote_peers"]), node.local(python=python)]
                node.cast(remote.log, logging.WARNING, "shown when the program's handler is free again")
                pids = {one.call(remote_peers.log_by_it, "one that isn't locked") for one in below}
                assert len(pids) == 3 and node.run(["true"]).returncode == 0
                node.call(remote_peers.let_go)
                held.result()
        finally:
            over.set()
            thread.join()
            logging.getLogger("ramet").removeHandler(handler)


def test_156_replies_that_come_just_as_the_wait_for_them_ends(rng: random.Random) -> None:
    """Many threads wait for short times. Nobody sleeps on beside a reply that is there, and nobody gets another's."""
    wrong: list[object] = []
    pauses = [rng.choice([0, 0.0001, 0.0003, 0.001]) for _ in range(1200)]

    def work(tree: ramet.Tree, node: ramet.Node, number: int) -> None:
        for at in range(number, len(pauses), 6):
            call = node.start(remote.add, at, 1)
            try:
                found = call.result(timeout=pauses[at])
            except TimeoutError:
                found = call.result(timeout=LONG_S)
            if found != at + 1:
                wrong.append((at, found))
    with ramet.Tree() as tree:
        nodes = [tree.local(), tree.local().local()]
        threads = [threading.Thread(target=work, args=(tree, nodes[n % 2], n)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.xdist_group("accounts")
def test_926_sudo_from_a_node_that_starts_programs_all_the_time(accounts: Accounts) -> None:
    """There a process between fork and exec hung, and everybody waited for it. Here sudo is started six times in the midst."""
    with ramet.Tree() as tree:
        free = accounts.node(tree, accounts.free)
        busy = [free.options(lane=ramet.ANY).start(remote_peers.start_programs, 30) for _ in range(3)]
        roots = [free.sudo(python=accounts.python) for _ in range(6)]
        tasks = [root.options(lane=ramet.ANY).start(remote_peers.start_programs, 3) for root in roots]
        assert [call.result(timeout=LONG_S) for call in tasks] == [[0] * 3] * 6
        assert [call.result(timeout=LONG_S) for call in busy] == [[0] * 30] * 3


#: A program whose node asks for sudo's password, which is never given: it says so, and waits.
ASKED_FOR = """
import sys, threading, ramet
def never():
    print("asked", flush=True)
    threading.Event().wait()
with ramet.Tree() as tree:
    asks = tree.command(sys.argv[2:], python=sys.argv[1], cwd="/")
    asks.sudo(password=never, python=sys.argv[1]).wait()
"""


@pytest.mark.xdist_group("accounts")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_264_and_others_strays_of_a_program_that_ends_at_a_prompt(accounts: Accounts, how: signal.Signals) -> None:
    """sudo waits at its terminal, below a node, when the program is killed: it is gone, with the node and the guardian."""
    before = leaks.processes()
    become = ["setpriv", "--reuid", accounts.asks, "--regid", accounts.asks, "--init-groups"]
    env = {**os.environ, "PYTHONPATH": str(TOP / "src")}
    with subprocess.Popen([sys.executable, "-c", ASKED_FOR, accounts.python, *become], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdout is not None and program.stdout.readline() == "asked\n"
        assert any(process.command.startswith("sudo") for process in leaks.processes() - before)
        program.send_signal(how)
        program.wait(LONG_S)
    until(lambda: not leaks.processes() - before, "nothing of it is left")


# ---------------------------------------------------------------------- execnet: success, and then failure


@pytest.mark.parametrize("version", ["2060cf0", "3050af0"])
def test_execnet_connects_to_a_python_that_it_does_not_run_on(version: str, tmp_path: Path) -> None:
    """There it failed at the first use, with a SyntaxError. Here connecting fails, and each call that was made meanwhile."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nprintf '\\nRAMET1 {version} c\\n'\nexec cat >/dev/null\n")
    python.chmod(0o755)
    with ramet.Tree() as tree:
        for parent in (tree, tree.local()):
            node = parent.command(["env"], python=str(python))
            call = node.start(remote.add, 1, 2)
            for attempt in (lambda node=node: node.wait(LONG_S), call.result):
                with pytest.raises(ramet.PythonNotFoundError, match="too old") as caught:
                    attempt()
                assert caught.value.stage == "find-python" and "2.7, or 3.6" in caught.value.remedy


@pytest.mark.parametrize("label", ["2.7", "3.6"])
def test_execnet_the_oldest_pythons_can_do_all_from_the_first_use_on(label: str) -> None:
    with ramet.Tree() as tree:
        node = tree.local(python=needs.python(label))
        assert list(node.stream(range, 3)) == [0, 1, 2]
        assert node.options(lane=ramet.ANY).call(remote.add, 1, 2) == 3
        assert node.run(["true"]).returncode == 0
        assert node.fork().call(remote.add, 1, 2) == 3
        assert node.local(python=needs.python(label)).call(remote.echo, {"a": [1, b"x", None]}) == {"a": [1, b"x", None]}
