"""What the program leaves before it is done, a wait or a loop: what ends over there, and what doesn't."""
from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import ramet
from support import remote_lanes
from support.eventually import HANGS_S, until

LONG_S = 1000


@pytest.fixture
def nodes(tree: ramet.Tree) -> list[ramet.Node]:
    return [tree.local().wait(HANGS_S) for _ in range(2)]


def watch(node: ramet.Node) -> ramet.Node:
    return node.options(lane="watch")


def waits(where: str) -> bool:
    """Whether the main thread is in a function of that name, or in one that it has called."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code.co_name != where:
        frame = frame.f_back
    return frame is not None


@contextmanager
def pressed(number: int, nodes: list[ramet.Node], where: str) -> Iterator[None]:
    """A signal comes when these nodes are at work, and the main thread waits there."""
    def press() -> None:
        until(lambda: waits(where) and all(watch(node).call(remote_lanes.held) for node in nodes), "nobody waits")
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        yield
    finally:
        pressing.join()


def nothing_goes_on(nodes: list[ramet.Node]) -> None:
    until(lambda: not any(node.stats()["calls"] for node in nodes), lambda: f"it goes on: {[node.stats() for node in nodes]}")


WAITS: dict[str, tuple[str, Callable[[ramet.Tree, list[ramet.Node]], Any]]] = {
    "result": ("result", lambda tree, nodes: nodes[0].start(remote_lanes.hold, LONG_S).result()),
    "bounded": ("result", lambda tree, nodes: nodes[0].start(remote_lanes.hold, LONG_S).result(LONG_S)),
    "exception": ("exception", lambda tree, nodes: nodes[0].start(remote_lanes.hold, LONG_S).exception()),
    "outcome": ("outcome", lambda tree, nodes: nodes[0].start(remote_lanes.hold, LONG_S).outcome()),
    "each": ("__iter__", lambda tree, nodes: list(tree.each(nodes, remote_lanes.hold, LONG_S))),
    "map": ("results", lambda tree, nodes: list(tree.map(remote_lanes.hold, [LONG_S] * 10, nodes))),
}


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_ends_what_is_waited_for(name: str, tree: ramet.Tree, nodes: list[ramet.Node]) -> None:
    """It went on; and ``map`` began all that was left, one item after the other."""
    where, wait = WAITS[name]
    busy = nodes if name in ("each", "map") else nodes[:1]
    with pressed(signal.SIGINT, busy, where), pytest.raises(KeyboardInterrupt):
        wait(tree, nodes)
    nothing_goes_on(nodes)


@pytest.mark.parametrize("name", ["result", "bounded"])
def test_so_does_what_another_handler_raises(name: str, tree: ramet.Tree, nodes: list[ramet.Node]) -> None:
    """Also where it raises what a wait raises whose time is up."""
    def alarmed(*_: object) -> None:
        raise TimeoutError("by the program")
    where, wait = WAITS[name]
    before = signal.signal(signal.SIGALRM, alarmed)
    try:
        with pressed(signal.SIGALRM, nodes[:1], where), pytest.raises(TimeoutError, match="by the program"):
            wait(tree, nodes)
    finally:
        signal.signal(signal.SIGALRM, before)
    nothing_goes_on(nodes)


def test_a_wait_whose_time_is_up_ends_nothing(nodes: list[ramet.Node]) -> None:
    call = nodes[0].start(remote_lanes.hold, LONG_S)
    for wait in call.result, call.exception, call.outcome:
        with pytest.raises(concurrent.futures.TimeoutError):
            wait(0.01)
    assert not call.done()
    watch(nodes[0]).call(remote_lanes.open_gate)
    assert call.result(HANGS_S)


def test_a_break_out_of_each_ends_nothing(tree: ramet.Tree, nodes: list[ramet.Node]) -> None:
    watch(nodes[0]).call(remote_lanes.open_gate)
    for node, outcome in tree.each(nodes, remote_lanes.hold, LONG_S):
        assert node is nodes[0] and outcome.ok
        break
    gc.collect()
    until(lambda: watch(nodes[1]).call(remote_lanes.held), "it isn't called")
    assert nodes[1].stats()["calls"] == 1 and nodes[1].stats()["ending"] == 0
    watch(nodes[1]).call(remote_lanes.open_gate)
    nothing_goes_on(nodes)


@pytest.mark.parametrize("how", ["break", "an error"])
def test_a_map_that_is_left_ends(how: str, tree: ramet.Tree, nodes: list[ramet.Node]) -> None:
    try:
        for _ in tree.map(remote_lanes.hold, [0] + [LONG_S] * 10, nodes):
            if how == "break":
                break
            raise LookupError
    except LookupError:
        pass
    gc.collect()
    nothing_goes_on(nodes)


def test_the_others_go_on_when_an_item_of_a_map_fails(tree: ramet.Tree, nodes: list[ramet.Node]) -> None:
    results = tree.map(remote_lanes.hold, ["no number", LONG_S, LONG_S], nodes[:1])
    with pytest.raises(TypeError):
        next(results)
    del results
    gc.collect()
    until(lambda: nodes[0].stats()["calls"] == 2, "they don't")
    assert nodes[0].stats()["ending"] == 0
    watch(nodes[0]).call(remote_lanes.open_gate)
    nothing_goes_on(nodes)


def test_a_map_is_dropped_behind_its_tree() -> None:
    with ramet.Tree() as tree:
        results = tree.map(remote_lanes.hold, [0, LONG_S], [tree.local()])
        next(results)
    del results
    gc.collect()


def test_what_cancels_a_task_that_waits_for_each_ends_its_work(tree: ramet.Tree, nodes: list[ramet.Node]) -> None:
    async def wait() -> None:
        async for _ in tree.each(nodes, remote_lanes.hold, LONG_S):
            pass

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.05)

    asyncio.run(main())
    nothing_goes_on(nodes)
