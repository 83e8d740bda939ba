"""Calls that would wait for themselves by way of a coroutine; and those that could go on, which are never refused."""
from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ramet
from support import needs, remote_circles_async
from support.eventually import HANGS_S, until

WAYS = "waits", "starts_and_waits", "waits_for_both", "waits_for_a_task", "blocks"
REST = "leaves_a_task", "leaves_the_second", "waits_so_long"


@pytest.fixture(params=["3.7", "", "3.13"])
def node(request: pytest.FixtureRequest) -> Iterator[ramet.Node]:
    with ramet.Tree() as tree:
        yield tree.local(python=needs.python(request.param)) if request.param else tree.local()


# ---------------------------------------------------------------------- in a node


@pytest.mark.parametrize("lane", [None, "x"])
@pytest.mark.parametrize("way", WAYS)
def test_a_coroutine_that_waits_for_the_lane_that_waits_for_it(node: ramet.Node, way: str, lane: str | None) -> None:
    begins = node.options(lane=lane)
    name = lane or "main"
    for how in remote_circles_async.call, remote_circles_async.start_first:
        with pytest.raises(ramet.DeadlockError, match=f"itself: node 1, lane {name} -> .*node 1, lane {name}"):
            begins.start(how, way, lane).result(timeout=HANGS_S)
    assert begins.start(remote_circles_async.call, way, "free").result(timeout=HANGS_S) == 1


@pytest.mark.parametrize("way", REST)
def test_a_coroutine_that_goes_on_is_in_no_circle(node: ramet.Node, way: str) -> None:
    """The lane is free when the coroutine has ended: then what it has left behind gets its turn."""
    for count, how in enumerate((remote_circles_async.call, remote_circles_async.call), 1):
        assert node.start(how, way, None).result(timeout=HANGS_S) == "went on"
        until(lambda count=count: len(node.call(remote_circles_async.found)) == count, "its turn never came")
    assert node.call(remote_circles_async.found) == [1, 1]


def test_what_is_left_of_two_is_in_no_circle(node: ramet.Node) -> None:
    assert node.start(remote_circles_async.call, "gives_up", None).result(timeout=HANGS_S) == "went on"
    node.call(remote_circles_async.open_gate)
    until(lambda: node.call(remote_circles_async.found), "it never came to its end")
    assert node.call(remote_circles_async.found) == [1]


@pytest.mark.parametrize("way", ["waits", "starts_and_waits", "waits_for_both"])
def test_a_service_whose_coroutine_waits_for_who_asks(node: ramet.Node, way: str) -> None:
    below = node.local().wait()
    node.serve("asks", remote_circles_async.Asks, allow="anyone")
    cycle = f"node {below.id}, lane main -> .*node {node.id}, lane service asks.{way} -> node {below.id}, lane main"
    for ask in remote_circles_async.ask, remote_circles_async.ask_first:
        with pytest.raises(ramet.DeadlockError, match=cycle):
            below.start(ask, node.id, "asks", way, below.id).result(timeout=HANGS_S)
    assert below.start(remote_circles_async.ask, node.id, "asks", way, below.id, "free").result(timeout=HANGS_S) == 1


def test_time_and_end_travel_through_a_service_s_coroutine(node: ramet.Node) -> None:
    below = node.local().wait()     # before, `peer` knows nothing of it
    asks = node.serve("asks", remote_circles_async.Asks, allow="anyone")
    assert asks.time_left(below.id) is None
    assert 1 < below.call(remote_circles_async.ask_within, 1000, node.id, "asks", "time_left", below.id) < 1000
    call = asks.for_ever.start(below.id)
    until(lambda: below.call(remote_circles_async.found) == ["begun"], "it doesn't begin")
    assert call.cancel()
    until(lambda: below.call(remote_circles_async.found) == ["begun", "ended"], "it goes on below")
    until(lambda: not node.stats()["ending"], "its end isn't told")


# ---------------------------------------------------------------------- by a service of the program


class Program:
    """Its coroutines call down into a node."""

    def __init__(self, node: ramet.Node) -> None:
        self.node = node
        self.left: list[Any] = []

    async def awaits(self, lane: str | None = None) -> Any:
        return await self.node.options(lane=lane).start(remote_circles_async.one)

    async def awaits_a_request(self, lane: str | None = None) -> Any:
        return await self.node.service("asks").waits.start(self.node.id, lane)

    async def awaits_both(self, lane: str | None = None) -> Any:
        node = self.node.options(lane=lane)
        return (await asyncio.gather(node.start(remote_circles_async.one),
                                     node.options(lane="another").start(remote_circles_async.one)))[0]

    async def awaits_a_task(self, lane: str | None = None) -> Any:
        return await asyncio.ensure_future(self.awaits(lane))

    async def awaits_what_calls(self, lane: str | None = None) -> Any:
        """By way of another lane of the node."""
        return await self.node.options(lane="on").start(remote_circles_async.call, "waits", lane)

    async def blocks(self, lane: str | None = None) -> Any:
        return self.node.options(lane=lane).call(remote_circles_async.one)

    async def leaves_a_task(self) -> str:
        self.left.append(asyncio.ensure_future(self.awaits()))
        await asyncio.sleep(0)      # it begins
        return "went on"

    async def leaves_the_second(self) -> str:
        task = asyncio.ensure_future(self.awaits())
        self.left.append(task)
        done, _ = await asyncio.wait([task, asyncio.ensure_future(asyncio.sleep(0.05))], return_when=asyncio.FIRST_COMPLETED)
        return "it was refused" if task in done else "went on"

    async def waits_so_long(self) -> str:
        task = asyncio.ensure_future(self.awaits())
        self.left.append(task)
        done, _ = await asyncio.wait([task], timeout=0.05)
        return "it was refused" if done else "went on"

    async def shields(self) -> str:
        call = self.node.start(remote_circles_async.one)
        self.left.append(asyncio.ensure_future(self.awaited(call)))
        try:
            await asyncio.wait_for(asyncio.shield(self.left[-1]), 0.05)
        except asyncio.TimeoutError:
            return "went on"
        return "?"

    async def awaited(self, call: ramet.Call[Any]) -> Any:
        return await call

    async def gives_up(self) -> str:
        gated = self.node.options(lane="x").start(remote_circles_async.gated_one, None)
        try:
            await asyncio.gather(gated, remote_circles_async.fails())
        except ValueError:
            return "went on"
        return "?"


def with_program(fn: Callable[[ramet.Node, Program], Any]) -> None:
    """Call a function in a thread, while a program whose coroutines are served has its loop for them."""
    async def main() -> None:
        async with ramet.Tree() as tree:
            node = tree.local()
            program = Program(node)
            tree.serve("program", program, allow="anyone")
            await asyncio.to_thread(fn, node, program)
            assert await asyncio.gather(*program.left) == [1] * len(program.left), "what was left never got its turn"

    asyncio.run(main())


@pytest.mark.parametrize("way", ["awaits", "awaits_a_request", "awaits_both", "awaits_a_task", "awaits_what_calls", "blocks"])
def test_a_coroutine_of_the_program_that_awaits_who_asks(way: str) -> None:
    def check(node: ramet.Node, program: Program) -> None:
        node.serve("asks", remote_circles_async.Asks, allow="anyone")
        cycle = f"node 1, lane main -> .*node 0, lane service program.{way} -> .*node 1, lane main"
        with pytest.raises(ramet.DeadlockError, match=cycle):
            node.start(remote_circles_async.ask, 0, "program", way).result(timeout=HANGS_S)
        with pytest.raises(ramet.DeadlockError, match=cycle):
            node.start(remote_circles_async.ask_first, 0, "program", way).result(timeout=HANGS_S)
        assert node.start(remote_circles_async.ask, 0, "program", way, "free").result(timeout=HANGS_S) == 1

    with_program(check)


@pytest.mark.parametrize("way", [*REST, "shields"])
def test_a_coroutine_of_the_program_that_goes_on_is_in_no_circle(way: str) -> None:
    def check(node: ramet.Node, program: Program) -> None:
        for ask in remote_circles_async.ask, remote_circles_async.ask_first:
            assert node.start(ask, 0, "program", way).result(timeout=HANGS_S) == "went on"

    with_program(check)


def test_what_is_left_of_two_by_the_program_is_in_no_circle() -> None:
    def check(node: ramet.Node, program: Program) -> None:
        assert node.start(remote_circles_async.ask, 0, "program", "gives_up").result(timeout=HANGS_S) == "went on"
        node.call(remote_circles_async.open_gate)
        until(lambda: node.call(remote_circles_async.found), "it never came to its end")
        assert node.call(remote_circles_async.found) == [1]

    with_program(check)
