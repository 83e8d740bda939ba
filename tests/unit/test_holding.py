"""A channel at the node that holds it: what it lays out for this node's threads, who take it without a lock."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import feeds, streams
from ramet.kernel.core import Core
from ramet.kernel.holding import OUT_BYTES, OUT_MAX, OUT_OF, Held
from support.eventually import HANGS_S

SIZE = 100


@pytest.fixture
def held(core: Core) -> Held:
    """One of which the first item was taken, of five."""
    made = Held(core, "token", SIZE)
    for n in range(5):
        assert made.offer(b"%d" % n)
    assert made.look() == [b"0"]
    return made


class Feed(feeds.Feed):
    """Items on their way to another node."""

    def __init__(self, core: Core) -> None:
        super().__init__(streams.of(core), 5, 2, 1, (1 << 18, 1024))
        self.sent: list[bytes] = []

    def put(self, chunks: list[Any], size: int) -> None:
        self.sent += chunks
        self.items += 1
        self.bytes += size

    def want(self) -> None:
        pass


def test_those_behind_the_first_are_laid_out_and_come_in_order(held: Held) -> None:
    assert list(held.here) == [b"1", b"2", b"3", b"4"] and not held.items and not held.bytes
    held.offer(b"5")
    assert [held.look() for _ in range(6)] == [[b"1"], [b"2"], [b"3"], [b"4"], [b"5"], None]


def test_they_go_to_another_node_that_begins_to_receive(held: Held, core: Core) -> None:
    feed = Feed(core)
    held.add_receiver(feed, SimpleNamespace(src=5))
    assert feed.sent == [b"\xc4\x01%d" % n for n in range(1, 5)] and not held.here


def test_they_wait_for_nobody_else_while_another_node_receives(held: Held, core: Core) -> None:
    feed = Feed(core)
    held.add_receiver(feed, SimpleNamespace(src=5))
    feed.window_items = 4   # no more of them
    for n in range(5):
        held.offer(b"%d" % n)
    assert held.look() == [b"0"] and not held.here


def test_a_closed_channel_is_over_when_the_last_of_them_is_taken(held: Held) -> None:
    over: list[bool] = []
    held.on_over = lambda: over.append(True)
    held.close()
    assert not held.here and not held.over() and not over
    assert [held.look() for _ in range(4)] == [[b"1"], [b"2"], [b"3"], [b"4"]]
    assert held.over() and over == [True]


def test_what_is_given_back_comes_before_them(held: Held) -> None:
    held.left[5] = [1, 1]
    assert held.take_back(5, [b"taken before"])
    assert [held.look() for _ in range(3)] == [[b"taken before"], [b"1"], [b"2"]]


@pytest.mark.parametrize("size", [1, OUT_OF - 1, OUT_OF, 10 * OUT_OF, 100 * OUT_OF])
def test_it_holds_an_eighth_more_at_most(core: Core, size: int) -> None:
    held = Held(core, "token", size)

    def fill() -> int:
        count = 0
        while held.offer(b"item"):
            count += 1
        return count
    assert fill() == size
    assert held.look()
    assert fill() - 1 == len(held.here) == min(size // OUT_OF, OUT_MAX)


def test_of_large_items_none_are_laid_out(core: Core) -> None:
    held = Held(core, "token", SIZE)
    for size in 10, OUT_BYTES - 10, 11, 1:
        held.offer(b"x" * size)
    assert held.look() and list(map(len, held.here)) == [OUT_BYTES - 10]


def test_who_waits_sees_them(held: Held) -> None:
    """Another thread has laid them out since this one has looked."""
    waiter = threading.Thread(target=held.wait, args=(None,), daemon=True)
    called: list[bool] = []
    held.on_ready(lambda: called.append(True))
    waiter.start()
    waiter.join(HANGS_S)
    assert called == [True] and not waiter.is_alive()


def test_while_somebody_waits_for_room_none_are_laid_out(core: Core) -> None:
    """Who takes one must tell him, and who takes it without a lock doesn't."""
    held = Held(core, "token", SIZE)
    while held.offer(b"item"):
        pass
    held.on_room(lambda: None)
    assert held.look() and not held.here


def test_what_nothing_is_before_goes_straight_to_the_one_receiver(core: Core) -> None:
    held, feed = Held(core, "token", SIZE), Feed(core)
    held.add_receiver(feed, SimpleNamespace(src=5))
    feed.window_items = 2
    for n in range(4):
        assert held.offer(b"%d" % n)
    assert feed.sent == [b"\xc4\x010", b"\xc4\x011"] and list(held.items) == [b"2", b"3"]
    feed.taken_items = 1
    held.offer(b"4")        # there is room, but others are before it
    assert feed.sent[2:] == [b"\xc4\x012"] and list(held.items) == [b"3", b"4"]


def test_it_doesnt_while_a_thread_here_waits(core: Core) -> None:
    held, feed = Held(core, "token", SIZE), Feed(core)
    held.add_receiver(feed, SimpleNamespace(src=5))
    feed.items = 1      # of which none was taken
    held.receiving = 1
    assert held.offer(b"for it") and not feed.sent and list(held.items) == [b"for it"]
