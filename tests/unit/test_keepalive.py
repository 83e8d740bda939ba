"""Keepalive without a clock: looks are called one by one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import ramet
from ramet.kernel import keepalive, start, values
from ramet.kernel.core import KEEPALIVE, Message
from ramet.kernel.handles import SILENT
from ramet.kernel.keepalive import Watch
from ramet.lookout import NEVER_S, Lookout, checked


class Peer:
    """A link, as far as ``Watch`` knows one."""

    def __init__(self) -> None:
        self.bytes_in = 100
        self.signs = 0
        self.closed: list[str] = []
        self.close = self.closed.append


class Net:
    """A core and a loop, as far as ``Watch`` knows them."""

    def __init__(self, keepalive_s: float, lost_after_s: float, peers: dict[int, Peer]) -> None:
        self.loop = self
        self.peers = peers
        self.timers: list[tuple[float, Callable[[], Any]]] = []
        self.asked: list[int] = []
        self.told: list[tuple[int, bool]] = []
        self.watch = Watch(self, keepalive_s, lost_after_s, self.neighbours,  # type: ignore[arg-type]
                           lambda id, silent: self.told.append((id, silent)))

    def call_later(self, seconds: float, fn: Callable[[], Any]) -> None:
        self.timers.append((seconds, fn))

    def send(self, dst: int, handle: int, chunks: list[bytes], reply_to: int, flags: int) -> None:
        assert handle == KEEPALIVE and not chunks and reply_to
        self.asked.append(dst)

    def neighbours(self) -> Iterator[tuple[int, Any, Callable[[], Any]]]:
        for id, peer in self.peers.items():
            yield id, peer, lambda peer=peer: peer.signs  # type: ignore[misc]

    def look(self) -> None:
        (_, fn), = self.timers      # one timer, whatever happens
        self.timers.clear()
        fn()


def test_traffic_asks_nothing_and_an_idle_link_every_other_time() -> None:
    peer = Peer()
    net = Net(30, 600, {1: peer})
    for _ in range(10):
        peer.bytes_in += 1
        net.look()
    assert net.asked == []
    for number in range(1, 11):
        net.look()
        if len(net.asked) == number:
            peer.bytes_in += 28     # it answers
        net.look()
        assert len(net.asked) == number
    assert net.told == [] and peer.closed == []
    assert [seconds for seconds, _ in net.timers] == [30]


def test_silent_back_and_lost() -> None:
    peer, other = Peer(), Peer()
    net = Net(30, 120, {1: peer, 2: other})

    def look() -> None:
        other.bytes_in += 1
        net.look()
    look()      # what came before
    look()
    assert net.told == []
    look()
    assert net.told == [(1, True)]
    look()
    assert net.told == [(1, True)] and net.asked == [1, 1, 1]
    peer.bytes_in += 1
    look()
    assert net.told == [(1, True), (1, False)]
    for _ in range(3):
        look()
    assert peer.closed == []
    look()
    assert len(peer.closed) == 1 and "120 s" in peer.closed[0] and other.closed == []


def test_other_signs_of_life_keep_it_but_it_is_silent() -> None:
    peer = Peer()
    net = Net(30, 120, {1: peer})
    for number in range(100):
        peer.signs = number // 3
        net.look()
    assert net.told == [(1, True)] and peer.closed == []
    for _ in range(4):
        net.look()
    assert peer.closed


def test_a_process_that_stops_gives_no_sign_of_life_by_that() -> None:
    peer = Peer()
    peer.signs = 7
    net = Net(30, 120, {1: peer})
    net.look()
    net.look()
    peer.signs = 0
    for _ in range(3):
        net.look()
        assert peer.closed == []
    net.look()
    assert peer.closed


def test_another_link_is_another_neighbour() -> None:
    peers = {1: Peer()}
    net = Net(1, 2, peers)
    net.look()
    net.look()
    peers[1] = Peer()
    net.look()
    net.look()
    assert net.told == [] and peers[1].closed == []
    del peers[1]
    net.look()
    assert net.watch.seen == {}


def test_a_process_runs_or_is_stopped_or_gone() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    try:
        assert keepalive.runs(process.pid) != keepalive.runs(process.pid)
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert keepalive.runs(process.pid) == 0
    finally:
        process.kill()
        process.wait()
    assert keepalive.runs(process.pid) == 0


def test_a_process_runs_whose_name_is_cut_within_a_letter() -> None:
    said = "with open('/proc/self/comm', 'wb') as comm: comm.write('обработка'.encode())"
    program = f"{said}\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        assert keepalive.runs(process.pid)
        process.communicate(b"\n")


def test_only_an_ancestor_says_that_neighbours_are_to_be_looked_after() -> None:
    """For that a thread is started: not for a child that says so as often as it can. It is answered, as anybody."""
    threads: list[int] = []
    replies: list[int] = []
    node = start.Self.__new__(start.Self)
    node.core = SimpleNamespace(  # type: ignore[assignment]
        reply=lambda message, *_: replies.append(message.authority),
        routes=SimpleNamespace(commands=lambda authority: authority == 0))
    node.calls = SimpleNamespace(late=lambda _part, message: threads.append(message.authority))  # type: ignore[assignment]
    for authority in (7, 0):
        for body in (b"", b"\xc3"):
            node.on_keepalive(Message(authority, authority, KEEPALIVE, 1000, 0, None, body))
    assert replies == [7, 7, 0, 0] and threads == [0]


@pytest.mark.parametrize("bad", [0, -1, True, "30", float("nan"), float("inf")])
def test_settings_are_seconds(bad: Any) -> None:
    with pytest.raises(ValueError, match="keepalive_s must be"):
        ramet.Tree(keepalive_s=bad)
    with pytest.raises(ValueError, match="lost_after_s must be"):
        ramet.Tree(lost_after_s=bad)


def test_settings_fit_together() -> None:
    with pytest.raises(ValueError, match="at least twice"):
        ramet.Tree(keepalive_s=10, lost_after_s=19)
    assert checked(10, 20) == (10, 20)
    assert checked(10, None) == (10, NEVER_S)
    assert checked(None, 1) is None


class Told:
    """A lookout, as far as it is told of a node 2 by that one's parent 1: what is to be done soon or later is done by hand."""

    def __init__(self, settings: tuple[float, float] | None) -> None:
        self.todo: list[tuple[float, Callable[..., Any], Any]] = []
        loop = SimpleNamespace(call_soon=lambda fn, *args: self.todo.append((0, fn, args)),
                               call_later=lambda seconds, fn, *args: self.todo.append((seconds, fn, args)))
        self.core = SimpleNamespace(loop=loop, refused=0)
        state = SimpleNamespace(up=True, ended="", silent=False)
        self.node = SimpleNamespace(id=2, name="x", parent=SimpleNamespace(id=1), _state=state)
        self.blamed: list[int] = []
        self.link = SimpleNamespace(watcher=SimpleNamespace(blame=lambda *blamed: self.blamed.append(blamed[1])))
        self.heard: list[bool] = []
        tree: Any = SimpleNamespace(_core=self.core, _nodes={2: self.node})
        self.lookout = Lookout(tree, settings, lambda _node, silent: self.heard.append(silent))

    def say(self, silent: bool) -> None:
        body = b"".join(values.encode([2, silent]))
        self.lookout.on_message(Message(1, 1, SILENT, 0, 0, self.link, body))

    def work(self) -> list[float]:
        """Do all that is to be done by now. Returns when."""
        todo, self.todo = self.todo, []
        for _, fn, args in todo:
            fn(*args)
        return [seconds for seconds, _, _ in todo]


def test_a_node_that_tells_of_its_child_without_end_is_heard_twice_in_a_period() -> None:
    told = Told((30, 600))
    told.todo.clear()       # its own look at the neighbours
    for _ in range(2000):
        told.say(True)
        told.say(False)
    assert told.work() == [0] and told.heard == []      # the last one says nothing new
    assert told.blamed == [1] * 3999
    told.say(True)
    told.say(False)
    told.say(True)
    assert told.heard == []
    assert told.work() == [15] and told.heard == [True]
    told.say(False)
    assert told.work() == [15] and told.heard == [True, False], "it isn't forgotten"
    assert told.work() == [15] and told.todo == [] and told.lookout.said == {}
    told.say(True)
    assert told.work() == [0] and told.heard == [True, False, True]


def test_a_log_filter_that_raises_is_not_the_last_that_is_heard() -> None:
    """The news that came since was waited for by nobody: of that node nothing was heard ever after."""
    told = Told((30, 600))
    told.todo.clear()
    logger = logging.getLogger("ramet.node.x")

    def fails(_: object) -> bool:
        raise ZeroDivisionError
    logger.addFilter(fails)
    try:
        told.say(True)
        with pytest.raises(ZeroDivisionError):
            told.work()
    finally:
        logger.removeFilter(fails)
    told.say(False)
    assert told.work() == [15] and told.heard == [False]


def test_without_keepalive_nobody_is_silent() -> None:
    told = Told(None)
    told.say(True)
    assert told.core.refused == 1 and told.todo == [] and told.heard == []
