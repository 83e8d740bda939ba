"""Whoever is killed, whatever the nodes do meanwhile: soon nothing of the tree is left, and who survives says who was lost.
Controller, nodes, guardians, ssh; SIGKILL, and SIGSTOP some time before it. Nothing of it would end by itself in the time that
a test has.
"""
from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import leaks, needs, pythons, remote, remote_silent
from support.eventually import HANGS_S, until
from support.source import TOP
from targets import doomed
from targets.sshd import HOST, Sshd

pytestmark = pytest.mark.serial

MOMENTS = ["idle", "call", "gil", "stopped", "flood", "subprocess"]


def moments_and_ways(moments: list[str]) -> Any:
    """SIGKILL at each of these moments; SIGSTOP some time before it only where that takes another course."""
    pairs = [(doing, "kill") for doing in moments] + [(doing, "stop-then-kill") for doing in ["call"]]
    return pytest.mark.parametrize(("doing", "way"), pairs)


@pytest.fixture(scope="module")
def ssh() -> Iterator[dict[str, Any] | None]:
    """Options of the connector ``ssh``, or None where there is no sshd: then these tests do without that node."""
    with contextlib.ExitStack() as stack:
        try:
            sshd = stack.enter_context(Sshd())
        except pytest.skip.Exception:
            yield None
        else:
            yield sshd.by_key(connect_timeout_s=HANGS_S)


@pytest.fixture
def name() -> str:
    return "k" + uuid.uuid4().hex[:8]


@pytest.fixture
def left() -> Callable[[], None]:
    """Call it when something was killed: fails unless all that was started since the test began goes."""
    before = leaks.processes()

    def check() -> None:
        try:
            until(lambda: not leaks.processes() - before, "left")
        except AssertionError:
            pytest.fail("left:\n" + "\n".join(map(str, leaks.processes() - before)))
    return check


def kill(pid: int, way: str = "kill") -> None:
    if way == "stop-then-kill":
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------------- the controller


@contextlib.contextmanager
def controller(name: str, doing: str, ssh: dict[str, Any] | None) -> Iterator[subprocess.Popen[str]]:
    """A controller in a process of its own, which has begun."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP / "tests")])}
    argv = [sys.executable, doomed.__file__, name, doing, json.dumps(ssh)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if doing != "connect":
                said = process.stdout.readline()
            assert said, process.communicate()[1]
            yield process
        finally:
            process.kill()


@moments_and_ways(MOMENTS)
def test_the_controller(doing: str, way: str, name: str, left: Callable[[], None], ssh: dict[str, Any] | None) -> None:
    with controller(name, doing, ssh) as process:
        kill(process.pid, way)
        process.wait()
        left()


def test_the_controller_while_it_connects(name: str, left: Callable[[], None], ssh: dict[str, Any] | None,
                                          rng: random.Random) -> None:
    for number in range(4):
        with controller(f"{name}-{number}", "connect", ssh) as process:
            time.sleep(rng.random() * 0.4)
            kill(process.pid)
            process.wait()
            left()


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGABRT"])
def test_the_controller_by_another_signal(number: str, name: str, left: Callable[[], None]) -> None:
    with controller(name, "call", None) as process:
        process.send_signal(getattr(signal, number))
        process.wait()
        left()


# ---------------------------------------------------------------------- the controller ends by itself


@pytest.mark.parametrize("doing", ["idle", "call", "gil", "flood", "subprocess"])
def test_ctrl_c(doing: str, name: str, left: Callable[[], None], ssh: dict[str, Any] | None) -> None:
    with controller(name, doing, ssh) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=HANGS_S)
        assert process.returncode == -signal.SIGINT, said
        assert only_one_traceback(said, "KeyboardInterrupt")
        left()


def test_ctrl_c_while_it_connects(name: str, left: Callable[[], None], rng: random.Random) -> None:
    for number in range(6):
        with controller(f"{name}-{number}", "connect", None) as process:
            time.sleep(rng.random() * 0.3)
            process.send_signal(signal.SIGINT)
            try:
                _, said = process.communicate(timeout=HANGS_S)
            except subprocess.TimeoutExpired:       # Python itself loses what a handler raises in a destructor, and says so
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=HANGS_S)
                assert "Exception ignored" in said, said
            assert process.returncode == -signal.SIGINT, said
            assert "Exception ignored" in said or only_one_traceback(said, "KeyboardInterrupt")
            left()


def test_an_exception_in_the_block(name: str, left: Callable[[], None]) -> None:
    with controller(name, "raise", None) as process:
        _, said = process.communicate(timeout=HANGS_S)
        assert process.returncode == 1 and only_one_traceback(said, "ZeroDivisionError")
        left()


def only_one_traceback(said: str, last: str) -> bool:
    lines = said.strip().splitlines()
    assert said.count("Traceback (most recent call last)") == 1, said
    assert "ignored" not in said and lines[-1].startswith(last), said
    return True


PROGRAM = """
import os, sys, threading, time
import ramet
from support import remote
if __name__ == "__main__":
    tree = ramet.Tree()
    child = tree.local(name={name!r})
    grandchild = child.local(name={name!r} + "-2")
    grandchild.call(remote.start_sleeper)
    call = child.start(remote.sleep, 1000)
    {ends}
"""

ENDS = {
    "runs off its end": "pass",
    "sys.exit": "sys.exit(0)",
    "a thread that still works":
        "threading.Thread(target=lambda: (time.sleep(0.3), grandchild.call(remote.pid))).start()",
    "os._exit": "os._exit(0)",
    "exec": 'os.execv("/bin/true", ["true"])',
    "a forked child that exits as usual": "if not os.fork(): sys.exit(0)\n    os.wait(); grandchild.call(remote.pid)",
    "a forked child that lives on":
        "r, w = os.pipe(); pid = os.fork()\n    if not pid: time.sleep(1000)\n    print(pid, flush=True); os._exit(0)",
    "a subprocess that lives on": "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); sys.exit(0)",
    "a node that hangs": "child.start(remote.pid); grandchild.start(remote.hang_with_the_gil); time.sleep(0.3)",
}  # fmt: skip


@pytest.mark.parametrize("way", ENDS)
def test_a_program_that_does_not_close_its_tree(way: str, name: str, left: Callable[[], None], tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(name=name, ends=ENDS[way]))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP / "tests")])}
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        status = subprocess.call([sys.executable, str(script)], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                 timeout=HANGS_S)  # fmt: skip
        said = (tmp_path / "out").read_text()
        other = int(said) if said.strip() else None
        try:
            assert (status, (tmp_path / "err").read_text()) == (0, "")
            if other:       # it isn't the tree's: it may live, but keeps no node alive
                until(lambda: not [p for p in leaks.processes() if name in p.command], "a node is left")
        finally:
            if other:
                os.kill(other, signal.SIGKILL)
    left()


# ---------------------------------------------------------------------- nodes, ssh, guardians


@contextlib.contextmanager
def tree(name: str, doing: str, ssh: dict[str, Any] | None) -> Iterator[tuple[list[ramet.Node], list[ramet.Call[Any]]]]:
    """A tree in this process whose nodes are at it, and their calls (the last node's first).

    If anybody waited for the end of a dead node, that would take longer than a test may.
    """
    with ramet.Tree(on_output=lambda node, stream, text: None, close_grace_s=1000) as tree:
        nodes = doomed.grow(tree, name, ssh)
        yield nodes, doomed.begin(nodes, doing)
        for node in nodes:
            node.close()


def guardian(node: ramet.Node) -> int:
    """The pid of a node's guardian: its child that shows the same name."""
    pid = node.facts["pid"]
    mine = [p for p in leaks.processes() if p.parent == pid and f"(ramet:{node.name})" in p.command]
    return min(p.pid for p in mine)


def lost(call: ramet.Call[Any], *words: str) -> None:
    with pytest.raises(ramet.NodeLostError) as caught:
        call.result(timeout=HANGS_S)
    for word in words:
        assert word in str(caught.value)


@moments_and_ways(["call", "gil", "thread", "stopped", "flood"])
def test_a_node(doing: str, way: str, name: str, left: Callable[[], None]) -> None:
    with tree(name, doing, None) as (nodes, calls):
        kill(nodes[0].facts["pid"], way)
        for call in calls:
            lost(call, f"{name}-child", "signal 9")
        left()
        with pytest.raises(ramet.NodeLostError, match=f"{name}-child"):
            nodes[1].call(remote.pid)


@pytest.mark.parametrize("doing", ["idle", "subprocess"])
def test_an_idle_node(doing: str, name: str, left: Callable[[], None]) -> None:
    with tree(name, doing, None) as (nodes, _):
        kill(nodes[0].facts["pid"])
        left()
        for node in nodes:
            with pytest.raises(ramet.NodeLostError, match=f"{name}-child.*signal 9"):
                node.call(remote.pid)
            assert isinstance(node.error, ramet.NodeLostError)


def test_a_grandchild(name: str) -> None:
    with tree(name, "call", None) as (nodes, calls):
        kill(nodes[1].facts["pid"])
        lost(calls[0], f"{name}-grandchild", "signal 9")
        assert calls[1].cancel()
        assert nodes[0].call(remote.add, 1) == 1
        assert nodes[0].local().call(remote.add, 2) == 2


@moments_and_ways(["idle", "call", "gil", "stopped", "flood"])
def test_ssh(doing: str, way: str, name: str, left: Callable[[], None], ssh: dict[str, Any] | None) -> None:
    if ssh is None:
        pytest.skip("not on this machine: sshd")
    with ramet.Tree(on_output=lambda node, stream, text: None) as tree:
        node = tree.ssh(HOST, name=name, **ssh)
        nodes = [node, node.local(name=name + "-behind")]
        calls = doomed.begin(nodes, doing)
        program = next(p for p in leaks.processes() if p.parent == os.getpid() and p.command.startswith("ssh "))
        kill(program.pid, way)
        for call in calls if doing != "idle" else []:
            lost(call, name, "signal 9")
        left()
        for node in nodes:
            with pytest.raises(ramet.NodeLostError, match=name):
                node.call(remote.pid)
        assert tree.local().call(remote.add, 1) == 1


@moments_and_ways(["idle", "call", "gil", "flood"])
def test_a_guardian(doing: str, way: str, name: str, left: Callable[[], None]) -> None:
    """A node without a guardian is lost with a word about it, or goes on; either way nothing is left when the tree ends."""
    with tree(name, doing, None) as (nodes, calls):
        kill(guardian(nodes[0]), way)
        time.sleep(0.2)
        if doing == "idle":
            try:
                assert nodes[0].call(remote.add, 1) == 1
            except ramet.NodeLostError as error:
                assert f"{name}-child" in str(error)
        nodes[0].kill()
        for call in calls if doing != "idle" else ():
            error = call.exception(timeout=HANGS_S)
            gone = isinstance(error, ramet.NodeLostError | ramet.ClosedError)
            assert gone or (doing == "flood" and isinstance(error, BrokenPipeError)), repr(error)
        left()


@pytest.mark.parametrize("doing", ["gil", "stopped", "subprocess"])
def test_the_guardians_and_then_the_controller(doing: str, name: str, left: Callable[[], None]) -> None:
    """Who could end a node that hangs is killed first; so the node is ended with it."""
    needs_linux()
    with controller(name, doing, None) as process:
        named = {p.pid: p for p in leaks.processes() if f"(ramet:{name}-" in p.command}
        guardians = [p.pid for p in named.values() if p.parent in named and p.command == named[p.parent].command]
        assert len(guardians) == 2
        for pid in guardians:
            kill(pid)
        kill(process.pid)
        process.wait()
        left()


@pytest.mark.parametrize("label", pythons.labels([label for label, _ in pythons.interpreters()]))
def test_a_guardian_of_any_python(label: str, name: str, left: Callable[[], None]) -> None:
    needs_linux()
    with ramet.Tree() as tree:
        node = tree.local(python=needs.python(label), name=f"{name}-child")
        node.call(remote.start_sleeper)
        until(lambda: node.call(remote_silent.has_idled), "it has been idle once")
        call = node.start(remote.hang_with_the_gil)
        time.sleep(0.2)
        kill(guardian(node))
        lost(call, name, "signal 9")
        left()


def needs_linux() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("not on this machine: Linux, whose pipes tell of a reader's end by a signal")


def test_a_node_while_it_connects(name: str, left: Callable[[], None], ssh: dict[str, Any] | None, rng: random.Random) -> None:
    """Any process that has begun is killed, at any moment: each node works, or has an error that says what became of it."""
    before = leaks.processes()
    for number in range(10):
        with ramet.Tree() as tree:
            nodes = doomed.grow(tree, f"{name}-{number}", ssh)
            time.sleep(rng.random() * 0.3)
            victims = sorted(leaks.processes() - before, key=lambda p: p.pid)
            if victims:
                with contextlib.suppress(ProcessLookupError):
                    kill(rng.choice(victims).pid)
            for node in nodes:
                outcome = node.start(remote.add, 1).outcome(timeout=HANGS_S)
                if not outcome.ok:
                    assert isinstance(outcome.error, ramet.NodeLostError | ramet.ConnectError), repr(outcome.error)
                    who = (f"{name}-{number}", "ssh " + HOST, "local python")
                    assert any(word in str(outcome.error) for word in who), repr(outcome.error)
        left()
