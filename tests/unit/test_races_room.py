"""A stream's sending end, when two threads tell who waits for room. Without processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ramet.kernel import feeds, loop_late, streams
from ramet.kernel.core import Core
from ramet.kernel.ends import End
from ramet.kernel.loop import Loop


class Waiting(list[Any]):
    """Another thread takes the last one out as soon as this one has looked whether there is one."""

    def __bool__(self) -> bool:
        found = len(self) > 0
        self.clear()
        return found


@pytest.fixture
def ours() -> Iterator[streams.Streams]:
    loop = Loop(lambda error: None)
    yield streams.of(Core(0, [], loop))
    loop_late.close(loop)


def test_credit_that_comes_while_a_thread_has_sent_its_item(ours: streams.Streams) -> None:
    """IndexError came out of `channel.send`, though the item was sent; or the credit's message was refused."""
    feed = feeds.Feed(ours, 5, 3, 1, (100, 100))
    feed.waiting = Waiting([bool])
    feed.wake()
    end = End.__new__(End)
    end.feed = feed
    end.core, end.owner, end.number, end.token, end.reader, end.handles = ours.core, 5, 1, "", None, []
    feed.waiting = Waiting([bool])
    end._others()


def test_who_stops_a_stream_that_ends_is_content(ours: streams.Streams) -> None:
    """TypeError: what it was to call was taken away after it had looked."""
    class Feed(feeds.Feed):
        looks = 0

        @property
        def on_stop(self) -> Any:  # type: ignore[override]
            self.looks += 1
            return bool if self.looks == 1 else None

        @on_stop.setter
        def on_stop(self, _: Any) -> None:
            pass
    Feed(ours, 5, 3, 1, (100, 100)).stop()
