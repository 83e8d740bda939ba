"""A channel at its holder, in the orders that did harm: items that come while others are moved. Without processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import loop_late, streams, values
from ramet.kernel.core import Core
from ramet.kernel.holding import Held
from ramet.kernel.loop import Loop


class Sender(streams.Intake):
    """What comes to a channel; ``between`` is called once, in the middle of its being looked at."""

    between: Callable[[], Any] | None = None

    def take(self) -> Any:
        found = super().take()
        call, self.between = self.between, None
        if call:
            call()
        return found

    def comes(self, items: bytes, count: int, flags: int = 0) -> None:
        body = streams.HEAD.pack(0xdd, 2 + count, 0xce, self.number, flags) + items
        self.arrived(body, len(items), count, flags)


@pytest.fixture
def core() -> Iterator[Core]:
    loop = Loop(lambda error: None)
    yield Core(0, [], loop)
    loop_late.close(loop)


@pytest.fixture
def sender(core: Core) -> Sender:
    return Sender(streams.of(core), 5, 3, None)


@pytest.fixture
def held(core: Core, sender: Sender) -> Held:
    made = Held(core, "token", 10)
    made.add_sender(sender, SimpleNamespace(src=5, reply_to=0))
    return made


LAST = b"".join(values.encode(b"x")) + b"\xc0"      # an item, and the end: as who sends one and lets go of the channel


def test_what_comes_with_its_end_while_a_sender_is_looked_at_is_kept(held: Held, sender: Sender) -> None:
    """It was dropped with the sender, which had nothing first, and then had ended."""
    sender.between = lambda: sender.comes(LAST, 2, streams.ENDS)
    held.pump()
    assert held.look() == [b"x"]


def test_a_closed_channel_isnt_over_while_its_last_items_are_moved(held: Held, sender: Sender) -> None:
    """Who received just then was told that it is, and the items stayed in it."""
    said: list[bool] = []
    other = threading.Thread(target=lambda: said.append(held.over()))

    def look() -> None:
        other.start()
        other.join(0.3)     # it waits now, or has got its answer
    held.close()
    sender.between = look
    sender.comes(LAST, 2, streams.ENDS)
    other.join()
    assert said == [False] and held.look() == [b"x"]


def test_an_item_that_cant_be_read_doesnt_stop_who_reads_the_link(held: Held, sender: Sender) -> None:
    """In a closed channel: it waited for a lock that it had, for ever."""
    held.close()
    reader = threading.Thread(target=sender.comes, args=(b"\xc1", 1), daemon=True)
    reader.start()
    reader.join(5)
    assert not reader.is_alive()
