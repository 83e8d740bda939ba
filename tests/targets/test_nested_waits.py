"""Waiting for a node while the same thread does: in a signal's handler it may, in a done callback it can't."""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet import shelter
from ramet.kernel.links import Link, Waiter
from ramet.kernel.spinning import Spinner
from ramet.shelter import ShelteredWaiter
from ramet.waiting import PatientWaiter
from support import remote_channels, remote_lanes
from support.eventually import HANGS_S, until


@pytest.fixture
def nodes() -> Iterator[list[ramet.Node]]:
    with ramet.Tree() as tree:
        yield [tree.local().wait(), tree.local().wait()]


@pytest.fixture
def alarm() -> Iterator[Any]:
    """Sets the handler of SIGALRM, and takes it back."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler: signal.signal(signal.SIGALRM, handler)
    signal.signal(signal.SIGALRM, before)


def waiting(node: ramet.Node, then: Any) -> ramet.Call[Any]:
    """A call of the main lane that goes on when its gate is opened. ``then`` is called when it has begun."""
    node.options(lane="watch").call(remote_lanes.shut_gate)
    call = node.start(remote_lanes.hold)

    def run() -> None:
        until(lambda: node.options(lane="watch").call(remote_lanes.held), "it doesn't begin")
        then()
    threading.Thread(target=run).start()
    return call


@pytest.mark.parametrize("other", [False, True], ids=["the same node", "another one"])
@pytest.mark.parametrize("bounded", [None, HANGS_S])
def test_the_handler_of_a_signal_may_wait(nodes: list[ramet.Node], alarm: Any, other: bool, bounded: float | None) -> None:
    """What the thread waited for before may be read by the handler's wait: it is told of it."""
    node = nodes[0]
    said: list[object] = []

    def handler(*_: object) -> None:
        said.append(nodes[other].options(lane="other").call(abs, -1))
        node.options(lane="watch").call(remote_lanes.open_gate)
        said.extend(nodes[other].options(lane="other").stream(range, 3))
    alarm(handler)
    for _ in range(10):
        said.clear()
        call = waiting(node, lambda: os.kill(os.getpid(), signal.SIGALRM))
        assert call.result(bounded)
        assert said == [1, 0, 1, 2]
        assert [one.call(abs, -5) for one in nodes] == [5, 5]


@pytest.mark.parametrize("way", ["wait", "each", "connect_all", "raw", "detach", "many bytes"])
def test_the_handler_of_a_signal_may_wait_by_other_means(nodes: list[ramet.Node], alarm: Any, tmp_path: Path, way: str) -> None:
    """What it waits for comes over the link that its thread reads: it hung."""
    node = nodes[0]
    other = node.options(lane="other")
    said: list[object] = []

    def handler(*_: object) -> None:
        if way == "wait":
            said.append(node.local().wait().call(abs, -1))
        elif way == "each":
            said.extend(outcome.value for _, outcome in node._tree.each([other], abs, -1))
        elif way == "connect_all":
            said.extend(below.call(abs, -1) for below in node.connect_all([sys.executable], "local").result())
        elif way == "raw":
            said.append(node.local().raw(["sh", "-c", "exit 1"]).result().status)
        elif way == "detach":
            below = node.local()
            path = below.detach(str(tmp_path / "kept"))
            node.attach(path).wait().close()
            said.append(below._state.ended == "detached" or below._state.ended)
        else:
            said.extend({call.result() >> 20 for call in [other.start(len, bytes(1 << 20)) for _ in range(40)]})
        node.options(lane="watch").call(remote_lanes.open_gate)
    alarm(handler)
    call = waiting(node, lambda: os.kill(os.getpid(), signal.SIGALRM))
    assert call.result()
    assert said == [1]
    assert node.call(abs, -5) == 5


@pytest.mark.parametrize("fn", [ShelteredWaiter.wait, PatientWaiter.wait, Waiter.wait, Spinner.poll],
                         ids=lambda fn: fn.__qualname__)
def test_a_signal_at_the_first_instruction_of_what_waits(
        nodes: list[ramet.Node], alarm: Any, monkeypatch: pytest.MonkeyPatch, fn: Any) -> None:
    """What the thread reads is given back by the handler's wait. That was missed in one place: it read beside the keeper."""
    node, stopped, go_on = nodes[0], threading.Event(), threading.Event()
    waiter, loop = node._tree._core.waiter(), node._tree._loop
    strays: list[Link] = []
    handled: list[object] = []
    read = Link._read

    def handler(*_: object) -> None:
        handled.append(node.options(lane="other").call(abs, -1))
        loop.call_soon(lambda: (stopped.set(), go_on.wait(HANGS_S)))
        stopped.wait(HANGS_S)       # so that the keeper reads nothing: the answer is left for this thread
        node.options(lane="watch").start(remote_lanes.open_gate)

    def at(frame: Any, event: str, _: object) -> None:
        """The interpreter looks for signals where a function is entered, and calls the handler just so."""
        if event == "call" and frame.f_code is fn.__code__ and waiter.waits:
            sys.setprofile(None)
            signal.getsignal(signal.SIGALRM)(signal.SIGALRM, frame)     # type: ignore[misc, operator]

    def reads(link: Link) -> None:
        if threading.get_ident() == waiter.thread and link.borrower is not waiter:
            strays.append(link)
        read(link)
    alarm(handler)
    monkeypatch.setattr(shelter, "PATIENCE_S", float("inf"))
    monkeypatch.setattr(Link, "_read", reads)
    node.options(lane="watch").call(remote_lanes.shut_gate)
    call = node.start(remote_lanes.hold)
    until(lambda: node.options(lane="watch").call(remote_lanes.held), "it doesn't begin")
    try:
        sys.setprofile(at)
        assert call.result()
    finally:
        sys.setprofile(None)
        go_on.set()
    assert handled == [1] and not strays


def test_no_number_is_no_time(nodes: list[ramet.Node]) -> None:
    """It was looked without a pause until the answer was there."""
    for wait in (lambda timeout: nodes[0].start(remote_lanes.hold).result(timeout),
                 lambda timeout: nodes[0].start(remote_lanes.hold).exception(timeout), nodes[0]._tree.channel().receive):
        with pytest.raises(ValueError, match="nan"):
            wait(timeout=float("nan"))
    assert nodes[0].stats() | {"modules": 0} == {"calls": 2, "ending": 0, "stuck": 0, "modules": 0, "unresponsive": 0}
    with pytest.raises(ValueError, match="nan"):
        nodes[1].options(timeout=HANGS_S).call(remote_channels.receive, nodes[0]._tree.channel(), 1, float("nan"))


def test_a_second_wait_for_a_call_may_last_for_ever(nodes: list[ramet.Node]) -> None:
    """It failed with OverflowError, and the work was ended for both."""
    nodes[0].options(lane="watch").call(remote_lanes.shut_gate)
    call, found = nodes[0].start(remote_lanes.hold), list[object]()
    threads = [threading.Thread(target=lambda seconds=seconds: found.append(call.result(seconds)))  # type: ignore[misc]
               for seconds in (None, float("inf"))]
    threads[0].start()
    until(lambda: call._waiter, "nobody waits")
    threads[1].start()
    until(lambda: call._watched, "no second one waits")
    nodes[0].options(lane="watch").call(remote_lanes.open_gate)
    until(lambda: len(found) == 2, "one of them isn't told")
    for thread in threads:
        thread.join()


def test_waits_of_all_kinds_may_last_for_ever(nodes: list[ramet.Node]) -> None:
    tree, ever = nodes[0]._tree, float("inf")
    assert tree.local().wait(ever).call(abs, -1) == 1
    assert nodes[0].local().raw(["true"]).result(ever).ok and nodes[0].local().raw(["true"]).exception(ever) is None
    assert len(tree.connect_all([sys.executable], "local").result(ever)) == 1


@pytest.mark.parametrize("lent", [False, True])
def test_a_node_that_is_lost_while_a_handler_waits_for_it(nodes: list[ramet.Node], alarm: Any, lent: bool) -> None:
    """The wait below was told of a descriptor that there is none, and the next one looked for it, again and again."""
    node = nodes[0]

    def handler(*_: object) -> None:
        with suppress(ramet.NodeLostError):
            node.options(lane="other").call(os._exit, 1)
    alarm(handler)
    if lent:
        list(node.stream(range, 3))
    call = waiting(node, lambda: os.kill(os.getpid(), signal.SIGALRM))
    with pytest.raises(ramet.NodeLostError):
        call.result()
    assert node._tree._core.waiter().poller.look(0) == []
    assert nodes[1].call(abs, -5) == 5


def test_the_handler_of_a_signal_may_wait_for_the_same_call(nodes: list[ramet.Node], alarm: Any) -> None:
    node = nodes[0]
    calls: list[ramet.Call[Any]] = []
    said: list[object] = []

    def handler(*_: object) -> None:
        node.options(lane="watch").call(remote_lanes.open_gate)
        said.append(calls[0].result())

    def interrupt() -> None:
        until(lambda: calls, "it isn't noted")
        os.kill(os.getpid(), signal.SIGALRM)
    alarm(handler)
    calls.append(waiting(node, interrupt))
    assert calls[0].result() == said[0]


@pytest.mark.parametrize("reader", ["the keeper", "who waits"])
def test_a_done_callback_that_waits_is_refused(nodes: list[ramet.Node], reader: str) -> None:
    """Nobody would read the answer. It hung, with the whole tree; or who had waited got a KeyError."""
    node = nodes[0]
    tree = node._tree
    added, done = threading.Event(), threading.Event()
    raised: list[BaseException] = []
    ways: list[Callable[[], Any]] = [
        lambda: node.call(abs, -1), lambda: list(node.stream(range, 3)), lambda: node.run(["true"]),
        lambda: node.start(abs, -1).result(HANGS_S), lambda: node.start(abs, -1).exception(), lambda: node.local().facts,
        lambda: list(tree.each([node], abs, -1)), lambda: list(tree.map(abs, [-1], [node])),
        lambda: node.raw(["true"]).result(), lambda: node.raw(["true"]).exception(HANGS_S),
        lambda: tree.connect_all(["one"], "local").result(), lambda: list(tree.connect_all(["one"], "local"))]

    def wait(_: object) -> None:
        for way in ways:
            try:
                way()
            except ramet.Error as error:
                raised.append(error)
        node.start(abs, -1).add_done_callback(lambda call: done.set() if call.result() == 1 else None)

    def go_on() -> None:
        added.wait(HANGS_S)     # a callback that comes too late is called by who adds it, and that thread may wait
        node.options(lane="watch").start(remote_lanes.open_gate)
    call = waiting(node, go_on)
    call.add_done_callback(wait)
    added.set()
    if reader == "who waits":
        assert call.result()
    assert done.wait(HANGS_S)
    assert [type(error) for error in raised] == [ramet.DeadlockError] * len(ways)
    assert "wait in a thread of your own" in str(raised[0])
    assert call.result() and node.call(abs, -1) == 1
