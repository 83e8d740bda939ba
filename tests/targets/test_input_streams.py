"""Iterators as arguments: run here, read there, under credit, as long as the call lasts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import ramet
from ramet.kernel import streams
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


class Source:
    """A generator that notes what becomes of it, and in which thread."""

    def __init__(self, to: int, fail_at: int = -1, gate: threading.Event | None = None) -> None:
        self.to, self.fail_at, self.gate = to, fail_at, gate
        self.made = 0
        self.ended = threading.Event()
        self.how = ""
        self.thread = ""

    def items(self) -> Iterator[int]:
        self.thread = threading.current_thread().name
        try:
            for n in range(self.to):
                if n == self.fail_at:
                    raise ValueError(f"at {n}")
                self.made += 1
                yield n
                if self.gate is not None:
                    self.gate.wait(HANGS_S)
        except GeneratorExit:
            self.how = "exit"
            raise
        finally:
            self.ended.set()

    async def items_async(self) -> AsyncIterator[int]:
        try:
            for n in range(self.to):
                if n == self.fail_at:
                    raise ValueError(f"at {n}")
                self.made += 1
                yield n
                await asyncio.sleep(0)
        finally:
            self.ended.set()


def no_feeds(tree: ramet.Tree) -> None:
    """Wait until the threads that ran iterators have let go of them."""
    until(lambda: not tree._streams.feeds, lambda: str(tree._streams.feeds))


@pytest.mark.parametrize("many", [0, 1, 5_000])
def test_a_generator_is_an_iterator_over_there(node: ramet.Node, many: int) -> None:
    source = Source(many)
    assert node.call(remote_streams.total, source.items()) == sum(range(many))
    assert source.ended.wait(HANGS_S)
    assert source.thread == "ramet-input"


def test_several_and_by_name_and_other_iterators(node: ramet.Node) -> None:
    assert node.call(remote_streams.collect, map(str, [1, 2]), more=zip("ab", "cd", strict=True)) == [
        ["1", "2"], [("a", "c"), ("b", "d")]]
    assert node.call(remote_streams.collect, iter([b"x" * 300_000] * 5)) == [[b"x" * 300_000] * 5, []]


def test_a_stream_of_streams(node: ramet.Node) -> None:
    assert list(node.stream(remote_streams.doubled, node.stream(remote_streams.count, 2_000))) == [
        n * 2 for n in range(2_000)]


def test_what_is_not_asked_for_is_not_made(node: ramet.Node) -> None:
    source = Source(1_000_000)
    call = node.options(lane="reader").start(remote_streams.one_then_wait, source.items())
    node.call(remote_streams.wait_for, "read one")
    assert 0 < source.made < 3_000
    node.options(lane="gate").call(remote_streams.open_gate)
    assert call.result(HANGS_S) == 0
    assert source.ended.wait(HANGS_S) and source.how == "exit", "the call is over, so the generator is closed"
    held = Source(1_000_000)
    assert node.call(remote_streams.keep, held.items()) == 0
    assert held.ended.wait(HANGS_S) and held.how == "exit", "whoever holds it over there"
    untouched = Source(5)
    assert node.call(remote_streams.never_read, untouched.items()) == "nothing"
    assert untouched.made == 0
    no_feeds(node._tree)


def test_its_exception_arrives_there_behind_the_items_before_it(node: ramet.Node) -> None:
    source = Source(100, 50)
    assert node.call(remote_streams.error_of, source.items()) == [list(range(50)), "RemoteError", True, "at 50"]
    with pytest.raises(ValueError, match="at 3"):
        node.call(remote_streams.total, Source(5, 3).items())
    with pytest.raises(ValueError, match="at 3"):   # of the program's code, none has met it over there
        node.call(list, Source(5, 3).items())


def test_an_item_that_cannot_travel(node: ramet.Node) -> None:
    with pytest.raises(ramet.RemoteError, match=r"item\[0\]: a _thread.lock can't travel"):
        node.call(remote_streams.total, iter([1, [threading.Lock()]]))


def test_closing_it_there_closes_it_here(node: ramet.Node) -> None:
    source = Source(1_000_000)
    assert node.call(remote_streams.close_after, source.items(), 3) == [0, 1, 2]
    assert source.ended.wait(HANGS_S) and source.how == "exit"


def test_a_lost_node_closes_it() -> None:
    with ramet.Tree() as tree:
        node = tree.local()
        source = Source(1_000_000)
        call = node.options(lane="reader").start(remote_streams.one_then_wait, source.items())
        node.call(remote_streams.wait_for, "read one")
        node.kill()
        with pytest.raises((ramet.NodeLostError, ramet.ClosedError)):
            call.result(HANGS_S)
        assert source.ended.wait(HANGS_S)
        no_feeds(tree)


def test_asynchronous_iterators_both_ways(node: ramet.Node) -> None:
    async def main() -> None:
        assert await node.start(remote_async_streams.collect, Source(3_000).items_async()) == list(range(3_000))
        assert await node.start(remote_streams.total, Source(100).items_async()) == sum(range(100))
        assert await node.start(remote_async_streams.collect, Source(100).items()) == list(range(100))
        source = Source(1_000_000)
        assert await node.start(remote_async_streams.first_of, source.items_async(), 3) == [0, 1, 2]
        assert await asyncio.to_thread(source.ended.wait, HANGS_S)
        with pytest.raises(ValueError, match="at 3"):
            await node.start(remote_async_streams.collect, Source(5, 3).items_async())
    asyncio.run(main())


@pytest.mark.parametrize("how", ["returns", "is cancelled"])
def test_an_asynchronous_one_that_waits_is_closed_when_its_call_ends(node: ramet.Node, how: str) -> None:
    """It waited on for its next item, as long as the event loop ran; and when that came, it was taken and lost."""
    async def main() -> None:
        waits, closed = asyncio.Event(), asyncio.Event()
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def items() -> AsyncIterator[int]:
            try:
                yield 1
                waits.set()
                yield await queue.get()
            finally:
                await asyncio.sleep(0)
                closed.set()
        if how == "returns":
            assert await node.start(remote_async_streams.first_of, items(), 1) == [1]
        else:
            call = node.start(remote_async_streams.first_of, items(), 2)
            await asyncio.wait_for(waits.wait(), HANGS_S)
            call.cancel()
            with pytest.raises(ramet.CallCancelled):
                await call
        await asyncio.wait_for(closed.wait(), HANGS_S)
        queue.put_nowait(2)
        assert queue.qsize() == 1
    asyncio.run(main())


def test_a_wait_that_is_given_up_there_loses_no_item(node: ramet.Node) -> None:
    gate = threading.Event()

    def slow() -> Iterator[int]:
        gate.wait(HANGS_S)
        yield 1
        yield 2
    call = node.start(remote_async_streams.gave_up, slow())
    node.options(lane="watch").call(remote_streams.wait_for, "gave up")
    gate.set()
    assert call.result(HANGS_S) == [1, 2]


def test_what_is_refused(node: ramet.Node) -> None:
    with pytest.raises(ramet.ValueNotPortableError, match=r"use start\(\)"):
        node.cast(remote_streams.total, iter([1]))
    with pytest.raises(ramet.ValueNotPortableError, match="event loop"):
        node.start(remote_streams.total, Source(3).items_async())
    with open(__file__) as file, pytest.raises(ramet.ValueNotPortableError, match="open it over there"):
        node.start(remote_streams.total, file)
    with pytest.raises(ramet.ValueNotPortableError, match=r"arguments\[1\]"):
        node.start(remote_streams.total, iter([1]), threading.Lock())
    no_feeds(node._tree)


def forge_credit(number: int, *rest: int) -> None:
    from ramet.kernel import start
    start.node.core.tell(0, streams.CREDIT, [number, *rest])


def test_credit_of_another_node_is_refused_and_counted() -> None:
    with ramet.Tree() as tree:
        node, other = tree.local(), tree.local()
        source = Source(1_000_000)
        call = node.options(lane="reader").start(remote_streams.one_then_wait, source.items())
        node.call(remote_streams.wait_for, "read one")
        (_, number), = tree._streams.feeds
        other.call(forge_credit, number)
        other.call(forge_credit, number, 0, 0, 1 << 30, 1 << 30)
        node.call(forge_credit, number, 1 << 40, 1 << 40, 1, 1)
        node.call(forge_credit, number, -1, 0, 1, 1)
        assert tree.stats()["refused"] == 4
        node.options(lane="gate").call(remote_streams.open_gate)
        assert call.result(HANGS_S) == 0


def send_reference(_: Any = None) -> Any:
    from ramet.kernel import portable, start

    class Forged(portable.Reference):
        kind = "J"

        def parts(self) -> list[int]:
            return [start.node.core.id, 7]
    return Forged()


def test_an_iterator_from_below_is_refused(node: ramet.Node) -> None:
    with pytest.raises(ramet.ValueNotPortableError):
        node.call(send_reference)


def test_an_item_larger_than_the_window_may_be_the_last_one(node: ramet.Node) -> None:
    """What ends a stream isn't under credit."""
    for _ in range(5):
        assert node.call(remote_streams.sizes, iter([b"x" * 3_000_000])) == [3_000_000]
