"""Asynchronous generators in nodes, and streams read by ``async for``."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import ramet
from support import remote_async_streams, remote_streams
from support.eventually import HANGS_S, until


@pytest.fixture(scope="module")
def grown() -> Iterator[dict[str, ramet.Node]]:
    with ramet.Tree() as tree:
        middle = tree.local(name="middle")
        nodes = {"a child": tree.local(), "a grandchild": middle.local()}
        for node in nodes.values():
            node.call(remote_streams.clear)     # it is up, with all that belongs to it, before a test looks for leaks
        yield nodes


@pytest.fixture(params=["a child", "a grandchild"])
def node(grown: dict[str, ramet.Node], request: pytest.FixtureRequest) -> ramet.Node:
    found = grown[request.param]
    found.call(remote_streams.clear)
    return found


# ---------------------------------------------------------------------- read by `async for`


def test_waits_that_are_given_up_leave_nothing(node: ramet.Node) -> None:
    """`asyncio.wait_for` in a loop: something was kept of each, as long as nothing came."""
    async def main() -> None:
        async with node.options(lane="asyncio").stream(remote_async_streams.noted, 5, -1, 0) as stream:
            for _ in range(300):
                task = asyncio.create_task(anext(stream))    # type: ignore[arg-type]
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert len(stream._intake.callbacks) < 10
    asyncio.run(main())


@pytest.mark.parametrize(("many", "size"), [(0, 0), (5_000, 0), (1_000, 4_096), (3, 3_000_000)])
def test_async_for(node: ramet.Node, many: int, size: int) -> None:
    async def main() -> list[Any]:
        return [item async for item in node.stream(remote_streams.count, many, size)]
    assert [item[0] if size else item for item in asyncio.run(main())] == list(range(many))


def test_many_at_once_on_one_loop_without_a_thread_each(node: ramet.Node) -> None:
    async def read(n: int) -> list[int]:
        return [item async for item in node.stream(remote_streams.count, n)]

    async def main() -> tuple[list[list[int]], int]:
        tasks = [asyncio.create_task(read(n)) for n in range(50)]
        found = await asyncio.gather(*tasks)
        return found, threading.active_count()
    before = threading.active_count()
    found, threads = asyncio.run(main())
    assert found == [list(range(n)) for n in range(50)]
    assert threads <= before        # one of before may have ended meanwhile


def test_others_get_their_turn_while_items_are_there(node: ramet.Node) -> None:
    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)
        task = asyncio.create_task(other())
        assert [item async for item in stream] == list(range(1_000))
        task.cancel()
        return turns
    stream = node.stream(remote_streams.count, 1_000)
    until(lambda: stream._intake.ended, "it hasn't come")       # so there is nothing to wait for
    assert asyncio.run(main()) > 0


def test_errors_and_the_end_under_async_for(node: ramet.Node) -> None:
    async def main() -> list[int]:
        got = []
        with pytest.raises(ValueError, match="at 700"):
            async for item in node.stream(remote_streams.noted, 1_000, 700):
                got.append(item)
        return got
    assert asyncio.run(main()) == list(range(700))


def test_a_cancelled_task_leaves_the_stream_and_async_with_closes_it(node: ramet.Node) -> None:
    async def read(stream: ramet.Stream[Any]) -> None:
        async with stream:
            async for _ in stream:
                pass

    async def main() -> None:
        stream = node.stream(remote_streams.grows_slowly, 3)
        task = asyncio.create_task(read(stream))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [item async for item in stream] == []
    asyncio.run(main())
    node.options(lane="gate").call(remote_streams.open_gate)


def test_a_wait_that_was_given_up_takes_no_item_along(node: ramet.Node) -> None:
    async def main() -> list[int]:
        stream = node.stream(remote_streams.grows_slowly, 3)
        got = [await anext(stream)]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        for _ in range(2):
            await node.options(lane="gate").start(remote_streams.open_gate)
            got.append(await anext(stream))
        await node.options(lane="gate").start(remote_streams.open_gate)
        return got
    assert asyncio.run(main()) == [0, 1, 2]


def test_breaking_off_async_for_closes_the_generator(node: ramet.Node) -> None:
    async def main() -> None:
        async for _ in node.stream(remote_streams.noted, 1_000_000):
            break
    asyncio.run(main())
    gc.collect()
    assert node.call(remote_streams.wait_for, "end")[-2:] == ["exit", "end"]


def test_a_stream_that_two_loops_and_a_thread_read(node: ramet.Node) -> None:
    stream = node.stream(remote_streams.count, 3_000)
    got: list[list[int]] = [[], [], []]

    async def read(mine: list[int]) -> None:
        async for item in stream:
            mine.append(item)
    threads = [threading.Thread(target=got[0].extend, args=(stream,))]
    threads += [threading.Thread(target=lambda mine=mine: asyncio.run(read(mine))) for mine in got[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGS_S)
    assert sorted(n for mine in got for n in mine) == list(range(3_000))


# ---------------------------------------------------------------------- asynchronous generators over there


@pytest.mark.parametrize(("many", "size", "pause"), [(0, 0, None), (5_000, 0, None), (500, 4_096, 0), (3, 3_000_000, 0.001)])
def test_an_asynchronous_generator(node: ramet.Node, many: int, size: int, pause: float | None) -> None:
    got = list(node.stream(remote_async_streams.count, many, size, pause))
    assert [item[0] if size else item for item in got] == list(range(many))


def test_it_is_one_task_all_the_time(node: ramet.Node) -> None:
    assert len(set(node.stream(remote_async_streams.tasks))) == 1


def test_other_asynchronous_iterators_in_the_asyncio_lane(node: ramet.Node) -> None:
    lane = node.options(lane="asyncio")
    assert list(lane.stream(remote_async_streams.Steps, 3)) == [2, 1, 0]
    with pytest.raises(TypeError, match="asyncio lane"):
        list(node.stream(remote_async_streams.Steps, 3))
    with pytest.raises(TypeError, match="asynchronous generator"):
        list(lane.stream(remote_streams.count, 3))


def test_what_is_not_read_is_not_made_and_others_run_meanwhile(node: ramet.Node) -> None:
    with node.stream(remote_async_streams.noted, 1_000_000) as stream:
        assert next(stream) == 0
        made = node.call(remote_streams.wait_for, 1_000)
        assert len(made) < 3_000
        assert list(node.stream(remote_async_streams.count, 5)) == [0, 1, 2, 3, 4]


def test_an_exception_of_an_asynchronous_generator(node: ramet.Node) -> None:
    got = []
    with pytest.raises(ValueError, match="at 50"):
        for item in node.stream(remote_async_streams.noted, 100, 50):
            got.append(item)
    assert got == list(range(50))
    assert node.call(remote_streams.wait_for, "end")


@pytest.mark.parametrize("wait_at", [-1, 1])
def test_leaving_early_closes_an_asynchronous_generator(node: ramet.Node, wait_at: int) -> None:
    with node.stream(remote_async_streams.noted, 1_000_000, -1, wait_at) as stream:
        assert next(stream) == 0
        node.call(remote_streams.wait_for, "waits" if wait_at > 0 else 1_000)
    made = node.call(remote_streams.wait_for, "end")
    assert made[-2:] == (["cancelled", "end"] if wait_at > 0 else ["exit", "end"])
