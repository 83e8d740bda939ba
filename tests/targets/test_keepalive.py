"""Nodes that are stopped, hang, or whose link is half open; and what of that happens to the program, and to guardians.

Times are short here, and what must go on has thirty times as long to answer as a look takes.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ramet
from support import remote, remote_silent
from support.eventually import all_end, stop
from support.source import TOP
from targets import stopped_controller, swallower
from targets.sshd import HOST, Sshd

pytestmark = pytest.mark.serial

LOST_AFTER_S = 8
TIMES = {"keepalive_s": 0.25, "lost_after_s": LOST_AFTER_S}
LONG_S = 60.0       # no test needs that long


class News:
    """What was told of unresponsive nodes."""

    def __init__(self) -> None:
        self.queue: queue.Queue[tuple[str, bool]] = queue.Queue()
        self.last: dict[str, bool] = {}

    def __call__(self, node: ramet.Node, unresponsive: bool) -> None:
        self.queue.put((node.name, unresponsive))

    def wait_for(self, node: ramet.Node, unresponsive: bool) -> None:
        while self.last.get(node.name) is not unresponsive:
            name, silent = self.queue.get(timeout=LONG_S)
            self.last[name] = silent


def lost_why(call: ramet.Call[int]) -> str:
    with pytest.raises(ramet.NodeLostError) as caught:
        call.result(timeout=LONG_S)
    return str(caught.value)


def test_who_is_lost_and_who_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    news = News()
    with ramet.Tree(on_unresponsive=news, **TIMES) as tree:
        argv = [sys.executable, swallower.__file__, str(tmp_path / "pid")]
        cut = tree.command(argv, python=[sys.executable], name="cut")
        stopped, paused, middle = tree.local(name="stopped"), tree.local(name="paused"), tree.local(name="middle")
        below, stopped_below = middle.local(name="below"), paused.local(name="stopped-below")
        fork, busy_fork = tree.fork(name="fork"), tree.fork(name="busy-fork")
        busy = [tree.local(name="busy"), tree.command(["env"], python=[sys.executable], name="busy-piped"), busy_fork]
        nodes = [cut, stopped, paused, middle, below, stopped_below, fork, *busy]
        pids = {node: node.call(remote.pid) for node in nodes}

        calls = [node.start(remote_silent.hold_the_gil, LOST_AFTER_S * 2) for node in busy]
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGUSR1)
        for node in (stopped, paused, middle, fork):
            stop(pids[node])
        waiting = {node: node.start(remote.pid) for node in (cut, stopped, middle, below, fork)}
        for node in (cut, stopped, paused, middle, fork, *busy):
            news.wait_for(node, True)
            assert node.stats()["unresponsive"] == 1
        assert tree.stats()["unresponsive"] == 8
        os.kill(pids[paused], signal.SIGCONT)
        news.wait_for(paused, False)
        assert paused.call(remote.add, 1, 2) == 3 and paused.stats()["unresponsive"] == 0
        stop(pids[stopped_below])     # whose parent tells of it
        waiting[stopped_below] = stopped_below.start(remote.pid)
        news.wait_for(stopped_below, True)

        for node in (cut, stopped, middle, fork, stopped_below):
            why = lost_why(waiting[node])
            assert f"node {node.name} was lost: nothing has come over its link for {LOST_AFTER_S} s" in why, why
        assert "node middle: nothing has come" in lost_why(waiting[below])
        assert all_end(*(pids[node] for node in (cut, stopped, middle, below, fork, stopped_below)))
        assert [call.result(timeout=LONG_S) >= LOST_AFTER_S * 2 for call in calls] == [True] * 3
        for node in busy:
            news.wait_for(node, False)
            assert node.call(remote.add, 1, 2) == 3
    told = [(record.name, record.getMessage()) for record in caplog.records]
    assert ("ramet.node.paused", "unresponsive: nothing has come from it for 0.5 s, and no answer") in told
    assert ("ramet.node.paused", "responsive again: it was silent for more than 0.5 s") in told


def test_a_busy_node_behind_ssh_is_not_lost() -> None:
    """Its guardian's word comes over ssh's own stderr, and what is below it waits."""
    news = News()
    with Sshd() as sshd, ramet.Tree(on_unresponsive=news, **TIMES) as tree:
        far = tree.ssh(HOST, **sshd.by_key(connect_timeout_s=LONG_S))
        if not far.call(remote_silent.can_hold_the_gil):
            pytest.skip("not on this machine: ctypes for the interpreter behind ssh")
        below = far.local()
        assert [node.call(remote.add, 1, 2) for node in (far, below)] == [3, 3]
        call = below.start(remote_silent.hold_the_gil, LOST_AFTER_S * 1.5)
        news.wait_for(below, True)
        assert far.call(remote_silent.hold_the_gil, LOST_AFTER_S * 1.5) >= LOST_AFTER_S * 1.5
        assert call.result(timeout=LONG_S) >= LOST_AFTER_S * 1.5
        assert [node.call(remote.add, 1, 2) for node in (far, below)] == [3, 3]


def test_a_program_that_is_stopped_is_left_by_its_nodes() -> None:
    """Its nodes can't know whether it ever goes on: they go. When it does, it is told why they aren't there."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP / "tests")])}
    with subprocess.Popen([sys.executable, stopped_controller.__file__], env=env, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:  # fmt: skip
        try:
            assert program.stdout is not None and program.stdin is not None
            pids = list(map(int, program.stdout.readline().split()))
            assert len(pids) == 4
            stop(program.pid)
            assert all_end(*pids)
            os.kill(program.pid, signal.SIGCONT)
            said = program.communicate("\n", timeout=LONG_S)[0].splitlines()
            assert len(said) == 4 and all("was lost" in line for line in said), said
        finally:
            program.kill()


@pytest.mark.parametrize("before", [remote.pid, remote_silent.hang_at_the_end])
def test_a_stopped_guardian_hinders_nobody(before: Callable[[], object]) -> None:
    """Nor does it stay, even if the node doesn't end by itself."""
    news = News()
    with ramet.Tree(on_unresponsive=news, **TIMES) as tree:
        node = tree.local()
        pid, guardian = node.call(remote_silent.pids)
        node.call(before)
        stop(guardian)
        assert node.call(remote.add, 1, 2) == 3
        node.close()
        assert all_end(pid, guardian)


def test_a_stopped_guardian_does_not_keep_a_node_whose_main_lane_fails() -> None:
    with ramet.Tree() as tree:
        node = tree.local()
        pid, guardian = node.call(remote_silent.pids)
        stop(guardian)
        with pytest.raises(ramet.NodeLostError):
            for _ in range(100):
                node.call(remote.break_main_lane)
        assert all_end(pid, guardian)


def test_no_keepalive() -> None:
    with ramet.Tree(keepalive_s=None) as tree:
        node = tree.local()
        pid = node.call(remote.pid)
        stop(pid)
        with pytest.raises(TimeoutError):
            node.start(remote.pid).result(timeout=1)
        assert node.stats()["unresponsive"] == 0
        os.kill(pid, signal.SIGCONT)
        assert node.call(remote.pid) == pid


def test_a_callback_that_raises_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: queue.Queue[object] = queue.Queue()
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: shown.put(error))

    def fail(node: ramet.Node, unresponsive: bool) -> None:
        raise ZeroDivisionError
    with ramet.Tree(on_unresponsive=fail, **TIMES) as tree:
        node = tree.local()
        pid = node.call(remote.pid)
        stop(pid)
        assert isinstance(shown.get(timeout=LONG_S), ZeroDivisionError)
        os.kill(pid, signal.SIGCONT)
        assert node.call(remote.pid) == pid


def test_news_of_nodes_that_are_not_its_own_are_refused() -> None:
    news = News()
    with ramet.Tree(on_unresponsive=news) as tree:
        node, other = tree.local(), tree.local()
        other.wait()
        for told in ([other.id, True], [node.id, True], [99, True], [other.id, 1], "x"):
            refused = tree.stats()["refused"]
            node.call(remote_silent.tell, 0, 20, told)
            assert tree.stats()["refused"] == refused + 1
        assert news.queue.empty() and other.stats()["unresponsive"] == 0
