"""What is said of refusals: by a node to the controller, and by that in the log. No link, no thread."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from ramet import codec
from ramet.kernel import refusing
from ramet.kernel.core import CALL, Message
from ramet.kernel.errors import ProtocolError
from ramet.kernel.handles import REFUSED
from ramet.refusals import WatchfulCore


class Refuses:
    """A core of node 7 that refuses what isn't from node 8, and what is for handle 99."""

    def __init__(self) -> None:
        self.id, self.refused = 7, 0
        self.told: list[Any] = []
        self.routes = SimpleNamespace(id=7, ancestors=(0,), down={}, behind=lambda id, link: id == 8, link_to=lambda id: None)
        self.loop = SimpleNamespace(now=lambda: 0.0)
        self.others = 0     # frames that another thread refuses while one is taken

    def on_frame(self, link: object, header: Any, frame: bytes) -> None:
        self.refused += self.others + (header[4] != 8 or header[6] == 99)

    def tell(self, dst: int, handle: int, value: Any) -> None:
        assert (dst, handle) == (0, REFUSED)
        self.told.append(value)


class Waits:
    """A link on which answers wait for a child."""

    def __init__(self) -> None:
        self.queue = self
        self.size = self.bytes_out = 0

    def send(self, count: int) -> None:
        self.size += count

    def write(self, count: int) -> None:
        self.size -= count
        self.bytes_out += count


def header(dst: int, src: int, handle: int = CALL) -> tuple[int, ...]:
    return (0, 0, 0, dst, src, src, handle, 0, 0)


def test_a_node_tells_when_its_count_has_doubled() -> None:
    core = Refuses()
    take, link = refusing.Watcher(core, 8).on_frame, Waits()  # type: ignore[arg-type]
    for _ in range(100):
        take(link, header(0, 5), b"")
        take(link, header(7, 8), b"")
    assert core.told == [[8, count, CALL, 0, 5] for count in (1, 2, 4, 8, 16, 32, 64)]
    other = refusing.Watcher(core, 9).on_frame  # type: ignore[arg-type]
    other(link, header(7, 8, 99), b"")
    assert core.told[-1] == [9, 1, 99, 7, 8], "each child has its own count"


def test_nobody_is_blamed_for_what_another_thread_refuses_of_another_child() -> None:
    core = Refuses()
    core.others = 1
    refusing.Watcher(core, 8).on_frame(Waits(), header(0, 8), b"")  # type: ignore[arg-type]
    assert core.told == []


class Answers:
    """A core that answers each frame with so many bytes."""

    def __init__(self, id: int, count: int) -> None:
        self.id, self.count, self.refused = id, count, 0

    def on_frame(self, link: Any, header: Any, frame: bytes) -> None:
        link.send(self.count)


@pytest.mark.parametrize("id", [0, 7])
def test_who_asks_and_does_not_read_the_answers_loses_its_link(id: int) -> None:
    """It would fill the memory of who answers, as fast as it can ask."""
    link, take = Waits(), refusing.Watcher(Answers(id, 100), 8).on_frame  # type: ignore[arg-type]
    asked = 0
    with pytest.raises(ProtocolError, match="doesn't read the answers"):
        while asked < 1 << 20:
            take(link, header(id, 8), b"")
            asked += 1
    assert link.size < refusing.unread_bytes_max + 1000


def test_who_reads_may_ask_for_ever_and_what_others_send_meanwhile_is_not_its_own() -> None:
    link, watcher = Waits(), refusing.Watcher(Answers(0, 60_000), 8)  # type: ignore[arg-type]
    for _ in range(10_000):     # 600 MB
        watcher.on_frame(link, header(0, 8), b"")
        link.write(60_000)
    link.send(1 << 30)          # a large argument, from another thread
    for _ in range(1000):
        watcher.on_frame(link, header(0, 8), b"")
    assert watcher.owed < refusing.unread_bytes_max


def test_the_controller_believes_it_of_the_senders_own_children_and_at_a_bounded_rate(
        caplog: pytest.LogCaptureFixture) -> None:
    parent = SimpleNamespace(id=7, name="par\x1bent", parent=None)
    nodes: Any = {7: parent, 8: SimpleNamespace(id=8, name="chi\x9bld", parent=parent)}
    core = WatchfulCore(None, nodes)  # type: ignore[arg-type]

    def tell(src: int, value: Any) -> None:
        core.on_told(Message(src, src, REFUSED, 0, 0, None, b"".join(map(bytes, codec.encode(value)))))
    for count in (1, 2, 1, 3, 4, *range(5, 5000)):
        tell(7, [8, count, 3, 0, 5])
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 13 and core.refused == 0
    assert said[0].startswith(r"refused by node par\x1bent from node chi\x9bld or below it: 1 so far; the last was")
    for src, id in ((8, 8), (5, 8), (7, 7), (7, 9), (7, 0)):
        tell(src, [id, 1 << 20, 3, 0, 5])
    assert core.refused == 5
    for wrong in (None, [], [8, 1, 3, 0], [8, True, 3, 0, 5], [8, -1, 3, 0, 5], [8, 1 << 32, 3, 0, 5], ["8", 1, 3, 0, 5]):
        with pytest.raises(ProtocolError):
            tell(7, wrong)
    assert len(caplog.records) == 13
