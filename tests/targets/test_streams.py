"""Streams of nodes on this machine: order, credit, early ends, errors; a generator there, an iterator here."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import ramet
from ramet.kernel import streams, values
from support import remote, remote_streams
from support.eventually import HANGS_S, in_time, until


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


# ---------------------------------------------------------------------- items


@pytest.mark.parametrize(("many", "size"), [(0, 0), (1, 0), (5_000, 0), (3_000, 4_096), (20, 131_072), (3, 3_000_000)])
def test_all_items_come_in_order(node: ramet.Node, many: int, size: int) -> None:
    got = list(node.stream(remote_streams.count, many, size))
    assert [item[0] if size else item for item in got] == list(range(many))
    assert not size or {len(item[1]) for item in got} == {size}


def test_an_item_comes_at_once_though_the_next_one_takes_long(node: ramet.Node) -> None:
    stream = node.stream(remote_streams.grows_slowly, 3)
    for n in range(3):
        assert next(stream) == n    # the generator hangs behind each
        node.options(lane="gate").call(remote_streams.open_gate)
    assert list(stream) == []


def test_a_reader_that_takes_its_time_holds_up_nobody(node: ramet.Node) -> None:
    """The thread that takes the items has kept the link for the next ones."""
    stream = node.stream(remote_streams.count, 1_000, 10_000)
    for _ in range(200):
        next(stream)
    call = node.options(lane="other").start(remote_streams.log)
    answered = threading.Event()
    call.add_done_callback(lambda _: answered.set())
    assert answered.wait(HANGS_S)            # this thread doesn't read, though it has been the one that did
    assert len(list(stream)) == 800


def test_whatever_is_iterable_will_do(node: ramet.Node) -> None:
    assert list(node.stream(remote_streams.a_list, 5)) == [0, 1, 2, 3, 4]
    assert list(node.stream(range, 3)) == [0, 1, 2]
    assert list(node.stream(lambda text: (letter for letter in text), "abc")) == ["a", "b", "c"]
    with pytest.raises(TypeError, match="something iterable, not a int"):
        list(node.stream(remote_streams.no_iterator))


def test_it_keeps_what_the_generator_returned(node: ramet.Node) -> None:
    stream = node.stream(returning, "its value")
    assert stream.value is None
    assert (list(stream), stream.value) == ([1, 2], "its value")
    with pytest.raises(StopIteration):
        next(stream)


def returning(value: str) -> Any:
    yield 1
    yield 2
    return value


def test_a_call_in_the_body_does_not_wait_for_the_generator(node: ramet.Node) -> None:
    for n in node.stream(remote_streams.count, 3_000, 1_000):
        if n[0] % 500 == 0:
            assert node.call(remote.add, 1, b=2) == 3


def test_lanes(node: ramet.Node) -> None:
    assert list(node.stream(remote_streams.thread_of)) != ["MainThread"]
    mine = node.options(lane="mine")
    stream = mine.stream(remote_streams.noted, 3)
    assert mine.call(remote_streams.log) == [0, 1, 2, "end"], "in order with the lane's calls"
    assert list(stream) == [0, 1, 2]


def test_several_threads_take_each_item_once(node: ramet.Node) -> None:
    stream = node.stream(remote_streams.count, 5_000)
    got: list[list[int]] = [[], [], [], []]
    threads = [threading.Thread(target=mine.extend, args=(stream,)) for mine in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGS_S)
    assert sorted(n for mine in got for n in mine) == list(range(5_000))
    assert all(mine == sorted(mine) for mine in got)


def test_a_hundred_at_once(node: ramet.Node) -> None:
    opened = [node.stream(remote_streams.count, 300, 100) for _ in range(100)]
    for items in zip(*opened, strict=True):
        assert len({item[0] for item in items}) == 1


# ---------------------------------------------------------------------- credit


def test_what_is_not_read_is_not_made(node: ramet.Node) -> None:
    with node.stream(remote_streams.noted, 100_000, -1, 4_096) as stream:
        assert next(stream)[0] == 0
        made = node.call(remote_streams.wait_for, streams.WINDOW_BYTES // 4_200)
        assert len(made) <= streams.WINDOW_BYTES // 4_096 + 30, "more than the window, and a message"
        assert stream._intake.bytes <= streams.WINDOW_BYTES


def test_small_items_are_under_credit_too(node: ramet.Node) -> None:
    with node.stream(remote_streams.noted, 100_000) as stream:
        assert next(stream) == 0
        made = node.call(remote_streams.wait_for, streams.WINDOW_ITEMS - 1)
        assert len(made) <= streams.WINDOW_ITEMS + streams.BATCH_ITEMS + 1


# ---------------------------------------------------------------------- ends


def test_an_exception_comes_after_the_items_before_it(node: ramet.Node) -> None:
    stream = node.stream(remote_streams.noted, 5_000, 2_500)
    got = []
    with pytest.raises(ValueError, match="at 2500") as caught:
        for item in stream:
            got.append(item)
    assert isinstance(caught.value, ramet.RemoteError) and "in noted" in caught.value.traceback_text
    assert got == list(range(2_500))
    assert list(stream) == []


def test_a_function_that_fails_before_it_yields(node: ramet.Node) -> None:
    with pytest.raises(ValueError, match="oops"):
        next(node.stream(remote.fail, "oops"))


def test_an_item_that_cannot_travel(node: ramet.Node) -> None:
    stream = node.stream(remote_streams.with_culprit)
    assert next(stream) == 1
    with pytest.raises(ramet.ValueNotPortableError, match=r"item\[1\]\['a'\]"):
        next(stream)
    assert node.call(remote.add, 1, b=2) == 3


@pytest.mark.parametrize("way", ["close", "with", "break", "dropped", "dropped unread"])
def test_leaving_early_closes_the_generator_over_there(node: ramet.Node, way: str) -> None:
    stream = node.stream(remote_streams.noted, 10_000_000, -1, 1_000)
    if way == "with":
        with stream:
            next(stream)
    elif way == "break":
        for _ in stream:
            break
        del stream
    elif way != "dropped unread":
        next(stream)
    if way == "close":
        stream.close()
        stream.close()
        assert list(stream) == []
    elif way.startswith("dropped"):
        if way == "dropped unread":
            node.call(remote_streams.wait_for, 1)   # else it may never have begun
        del stream
    made = node.call(remote_streams.wait_for, "end")
    assert made[-2:] == ["exit", "end"]
    until(lambda: not node.stats()["calls"], "its call goes on")


def test_a_generator_that_somebody_else_holds_is_closed_too(node: ramet.Node) -> None:
    with node.stream(remote_streams.kept, 10_000_000, -1, 1_000) as stream:
        next(stream)
    assert node.call(remote_streams.wait_for, "end")[-2:] == ["exit", "end"]


def test_a_stream_closed_while_a_thread_waits_for_it_just_ends(node: ramet.Node) -> None:
    stream = node.stream(remote_streams.grows_slowly, 5)
    assert next(stream) == 0
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(list(stream)))
    thread.start()
    stream.close()
    thread.join(HANGS_S)
    assert got == [[]]
    node.options(lane="gate").call(remote_streams.open_gate)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_generator_of_a_lost_node(tree: ramet.Tree, depth: int) -> None:
    node = tree.local() if depth == 1 else tree.local().local()
    stream = node.stream(remote_streams.count, 100_000, 4_096)
    first = next(stream)
    node.kill()
    with pytest.raises((ramet.NodeLostError, ramet.ClosedError)):
        for _ in stream:
            pass
    assert first[0] == 0


def test_a_timeout_bounds_the_work(node: ramet.Node) -> None:
    def begun(seconds: float) -> int:
        got = 0
        with pytest.raises(ramet.CallTimeout):
            for _ in node.options(timeout=seconds).stream(remote_streams.noted, 100_000_000, -1, 1_000):
                got += 1
        return got
    assert in_time(begun, bool, 0.5)
    assert node.call(remote_streams.wait_for, "end")


def test_a_generator_as_a_result_says_what_to_do(node: ramet.Node) -> None:
    with pytest.raises(ramet.ValueNotPortableError, match=r"node\.stream"):
        node.call(remote_streams.count, 3)


def test_arguments_that_cannot_travel_are_named(node: ramet.Node) -> None:
    intakes = node._tree._streams.intakes
    before = set(intakes)       # another test's may just be ending
    with pytest.raises(ramet.ValueNotPortableError, match=r"arguments\[1\]"):
        node.stream(remote_streams.count, 1, threading.Lock())
    with pytest.raises(ramet.ValueNotPortableError, match=r"arguments\['size'\]"):
        node.stream(remote_streams.count, 1, size=threading.Lock())
    assert set(intakes) <= before


# ---------------------------------------------------------------------- what isn't allowed


def send_items(to: int, number: int, count: int, size: int = 0) -> None:
    """As a hostile node would."""
    from ramet.kernel import start
    body = [streams.HEAD.pack(0xdd, count + 2, 0xce, number, 0), *values.encode("x" * size) * count]
    start.node.core.send(to, streams.ITEMS, body)


def send_body(to: int, handle: int, body: bytes) -> None:
    from ramet.kernel import start
    start.node.core.send(to, handle, [body])


def test_items_of_another_node_are_refused_and_counted(tree: ramet.Tree) -> None:
    node, other = tree.local(), tree.local()
    stream = node.stream(remote_streams.grows_slowly, 2)
    assert next(stream) == 0
    other.call(send_items, 0, stream._intake.number, 1)
    assert tree.stats()["refused"] == 1
    node.options(lane="gate").call(remote_streams.open_gate)
    assert list(stream) == [1]


def test_more_than_there_was_credit_for_ends_the_stream(tree: ramet.Tree) -> None:
    node = tree.local()
    stream = node.stream(remote_streams.grows_slowly, 2)
    for _ in range(20):
        node.call(send_items, 0, stream._intake.number, 5, 10_000)
    with pytest.raises(ramet.ProtocolError, match="credit"):
        for _ in stream:
            pass
    assert tree.stats()["refused"] >= 1
    assert stream._intake.bytes <= streams.WINDOW_BYTES
    node.options(lane="gate").call(remote_streams.open_gate)


@pytest.mark.parametrize("body", [b"", b"\xdd", b"\x93\x01\x00\x01" * 4, b"\xdd\x00\x00\x00\x01\xce\x00\x00\x00\x01\x00"])
@pytest.mark.parametrize("handle", [streams.ITEMS, streams.CREDIT])
def test_garbage_is_refused(tree: ramet.Tree, handle: int, body: bytes) -> None:
    node = tree.local()
    node.call(send_body, 0, handle, body)
    assert tree.stats()["refused"] == 1
    assert list(node.stream(remote_streams.count, 2)) == [0, 1]


def test_an_item_that_cannot_be_read_comes_as_an_error_after_those_before_it(tree: ramet.Tree) -> None:
    node = tree.local()
    stream = node.stream(remote_streams.grows_slowly, 2)
    assert next(stream) == 0
    body = streams.HEAD.pack(0xdd, 5, 0xce, stream._intake.number, 0) + b"\x07\x91\x08\xc1"
    node.call(send_body, 0, streams.ITEMS, body)
    assert [next(stream), next(stream)] == [7, [8]]
    with pytest.raises(ramet.ProtocolError):
        next(stream)
    node.options(lane="gate").call(remote_streams.open_gate)


def test_an_error_holds_nothing_that_was_dropped(node: ramet.Node) -> None:
    """It is raised in the reader's frame, which holds other streams: these are let go with the frame, without the collector."""
    def read() -> None:
        others = [node.stream(remote_streams.noted, 1 << 40) for _ in range(2)]
        assert [next(other) for other in others] == [0, 0]
        for _ in node.stream(remote_streams.count, "no number"):
            pass

    gc.disable()
    try:
        with pytest.raises(TypeError) as caught:
            read()
        del caught
        made = node.call(remote_streams.wait_for, "end")
        assert "exit" in made
    finally:
        gc.enable()


def test_what_one_thread_has_taken_is_there_for_all_that_wait(node: ramet.Node) -> None:
    """It took the whole message. The others weren't told, and slept until the next one, which didn't come before that."""
    node.call(remote_streams.clear)
    stream = node.options(lane="some").stream(remote_streams.some_at_once, 6)
    threads = [threading.Thread(target=next, args=(stream,), daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    until(lambda: len(stream._intake.waiting) == 6, "they don't all wait")
    node.call(remote_streams.open_gate)
    for thread in threads:
        thread.join(HANGS_S)
    assert not any(thread.is_alive() for thread in threads)
    node.call(remote_streams.clear)
    assert list(stream) == []
