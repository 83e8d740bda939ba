"""One stream through a door, from one core to another: what each end may, and how it ends. Without processes."""
from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import channels, limits_late, loop_late, passages, rooms, stand_ins, start, values
from ramet.kernel.core import LOG, OUTPUT, Core, Message
from ramet.kernel.ends import BACK, CHANNEL, RECEIVE, SEND
from ramet.kernel.errors import ProtocolError
from ramet.kernel.fragments import whole
from ramet.kernel.frames import Parser
from ramet.kernel.holding import Held
from ramet.kernel.loop import Loop
from ramet.kernel.streams import CREDIT, ENDS, FAILS, HEAD, ITEMS, WANTS


class Recording(Core):
    """Keeps what it is told to send."""

    def __init__(self, id: int, loop: Loop) -> None:
        super().__init__(id, [0], loop)
        self.sent: list[tuple[int, int, bytes]] = []

    def send(self, dst: int, handle: int, chunks: Any, reply_to: int = 0, flags: int = 0, flow: int = 0,
             later: bool = False) -> Any:
        self.sent.append((dst, handle, b"".join(map(bytes, chunks))))
        return SimpleNamespace(dead=False)

    def said(self, wanted: int) -> list[Any]:
        """What was sent of that kind, since the last time."""
        found = [values.decode(body) for _, handle, body in self.sent if handle == wanted]
        self.sent = [one for one in self.sent if one[1] != wanted]
        return found


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop(lambda error: None)
    yield made
    loop_late.close(made)


class Through:
    """A passage from node 5 of one tree, as stream 3, to node 6 of the other, as stream 9."""

    def __init__(self, loop: Loop, window: tuple[int, int] = (0, 0), packed: bool = False) -> None:
        self.one, self.other = Recording(1, loop), Recording(2, loop)
        self.sides = passages.Side(self.one), passages.Side(self.other)
        self.over: list[Any] = []
        self.passage = passages.Passage((self.sides[0], 5, 3), (self.sides[1], 6, 9, 77), window, packed, self.over.append)

    def items(self, *items: bytes, flags: int = 0, number: int = 3, count: int | None = None) -> None:
        body = HEAD.pack(0xdd, 2 + (len(items) if count is None else count), 0xce, number, flags) + b"".join(items)
        self.one.handlers[ITEMS](Message(5, 5, ITEMS, 0, 0, None, body))

    def credit(self, *said: int) -> None:
        self.other.handlers[CREDIT](Message(6, 6, CREDIT, 0, 0, None, b"".join(values.encode([9, *said]))))


def test_items_and_credit(loop: Loop) -> None:
    through = Through(loop)
    with pytest.raises(ProtocolError, match="more than it had credit for"):
        Through(loop).items(b"\x01", b"\x02")
    through.credit(0, 0, 3, 10)
    assert through.one.said(CREDIT) == [[3, 0, 0, 3, 10]]
    through.items(b"\x01", b"\x02", b"\x03")
    through.items(flags=WANTS)
    through.items(flags=WANTS)
    assert through.other.said(ITEMS) == [[9, 0, 1, 2, 3], [9, WANTS]]
    for wrong in ((4, 3), (3, 4), (1 << 60, 0)):
        with pytest.raises(ProtocolError, match="more was taken"):
            through.credit(*wrong, 100, 100)
    through.credit(3, 3, 3, 10)
    through.credit(3, 3, 3, 10)
    through.credit(1, 1, 1, 1)
    assert through.one.said(CREDIT) == [[3, 3, 3, 3, 10]]
    through.items(b"\xa4long")      # alone it may be larger
    with pytest.raises(ProtocolError, match="more than it had credit for"):
        through.items(b"\x01")
    assert through.one.said(CREDIT) == [[3]], "who sends isn't told to stop"
    (_, *first), (_, flags, failure) = through.other.said(ITEMS)
    assert first == [0, "long"] and flags == FAILS and "broken the rules" in failure["text"]
    assert through.over == [through.passage]
    through.items(b"\x01")
    through.credit(3, 3, 3, 10)
    assert through.one.sent == through.other.sent == [], "late messages are passed on"


def test_the_window_is_bounded(loop: Loop) -> None:
    through = Through(loop)
    through.sides[1].window_bytes_max, through.sides[1].window_items_max = 1000, 100
    through.credit(0, 0, 1 << 40, 1 << 40)
    assert through.one.said(CREDIT) == [[3, 0, 0, 1000, 100]]


def test_who_has_stopped_gets_nothing_more(loop: Loop) -> None:
    """And a method that yields is still known, until it says that it has ended."""
    through = Through(loop)
    through.credit(0, 0, 100, 10)
    through.credit()
    through.credit()
    assert through.one.said(CREDIT) == [[3, 0, 0, 100, 10], [3]]
    through.items(b"\x01")
    assert not through.over
    through.items(b"\xc0", flags=ENDS)
    assert through.over == [through.passage] and through.other.sent == []


@pytest.mark.parametrize("flags", [ENDS, FAILS])
def test_the_end_goes_through(loop: Loop, flags: int) -> None:
    through = Through(loop)
    through.items(b"\x2a", flags=flags)
    assert through.other.said(ITEMS) == [[9, flags, 42]] and through.over == [through.passage]
    assert not through.sides[0].streams.intakes and not through.sides[1].streams.feeds


def test_a_channels_items_are_byte_strings(loop: Loop) -> None:
    for wrong in (b"\x01", b"\xa1x", b"\xc4\x05\x01"):
        through = Through(loop, (100, 10), packed=True)
        with pytest.raises(ProtocolError):
            through.items(wrong)
        assert through.one.said(CREDIT) == [[3]] and through.other.said(ITEMS) == [[9, ENDS, None]] and through.over


def test_numbers_of_the_two_directions_may_be_equal(loop: Loop) -> None:
    """Each node counts those that it chooses for itself: what one sends and what it is sent may have the same."""
    core = Recording(1, loop)
    ours = channels.of(core)
    channel = ours.open(10)
    other: Any = SimpleNamespace(granted=None, stop=None), SimpleNamespace(core=core, streams=ours.streams)
    passages.Goes(*other, 5, 3, 0)
    message = Message(5, 5, 17, 2000, 1, None, b"".join(values.encode([SEND, channel.number, channel.token, 3])))
    ours.on_channel(message)
    with pytest.raises(ProtocolError, match="has a stream 3 already"):
        ours.on_channel(message)


def test_a_node_may_leave_for_several(loop: Loop) -> None:
    """As a door does for its guests: each gives back what it was sent, and together no more than that."""
    core = Recording(1, loop)
    ours = channels.of(core)
    channel = ours.open(10)
    held: Held = ours.held[channel.number]

    def say(what: int, stream: Any, reply_to: int = 0) -> None:
        body = b"".join(values.encode([what, channel.number, channel.token, stream]))
        ours.on_channel(Message(5, 5, 17, reply_to, 1, None, body))
    for stream in (2, 4):
        say(RECEIVE, stream, 2000)
    for n in (b"1", b"2"):
        assert held.offer(n)
    assert len([1 for _, handle, _ in core.sent if handle == ITEMS]) >= 2
    assert not ours.long_max(5, CHANNEL)
    for stream in (2, 4):
        say(BACK, stream)
    assert (ours.long_max(5, CHANNEL), ours.long_max(6, CHANNEL)) == (limits_late.untold_bytes_max, 0)
    say(BACK, [b"1", b"2", b"3"])
    assert core.refused == 1
    say(BACK, [b"1"])
    say(BACK, [b"2"])
    assert core.refused == 1 and not held.left
    assert [held.look(), held.look()] == [[b"2"], [b"1"]] and held.look() is None
    say(BACK, [])
    assert core.refused == 2 and not ours.long_max(5, CHANNEL)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("gone", [True, False])
def test_an_answer_that_is_a_stream_is_read_at_any_time(loop: Loop, early: bool, gone: bool) -> None:
    """By another thread, before ``ask`` has returned, say; and when the guest has just gone: then who yields is told."""
    tree, guest, answers = Recording(1, loop), Recording(7, loop), list[Any]()
    room = rooms.Room.__new__(rooms.Room)

    def ask(_: int, __: int, ___: Any, answered: Any) -> int:
        answers.append(lambda: answered(0, b"\x92\xc0\x09"))
        if early:
            answers.pop()()
        return 77
    tree.ask = ask  # type: ignore[method-assign]
    room.tree, room.core, room.side = tree, guest, passages.Side(guest)     # type: ignore[assignment]
    room.link = SimpleNamespace(bytes_out=0, dead=gone, queue=SimpleNamespace(size=0))  # type: ignore[assignment]
    room.door = SimpleNamespace(services={"rows": 5}, side=passages.Side(tree))  # type: ignore[assignment]
    room.lock, room.asked, room.early = threading.Lock(), {}, {}    # type: ignore[assignment]
    room.bytes = room.owed = room.written = room.largest = 0
    body = b"".join(map(bytes, values.encode(["rows", "all", [], {}, {}])))
    room.on_request(Message(0, 0, 21, 1000, 0, None, body))
    for answer in answers:
        answer()
    if gone:
        assert tree.said(CREDIT) == [[9]] and not room.asked and not room.door.side.streams.intakes
    else:
        ((nothing, number),) = guest.said(1000)
        assert nothing is None and number % 2 and room.asked[0, 1000].handle == 77
        room.on_cancel(Message(0, 0, 4, 0, 0, None, b"".join(values.encode([1000]))))
        assert tree.said(4) == [[77]]


def test_a_guest_has_no_say_in_what_the_door_shows_and_logs(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its controller is node 0 for the room, as the door's own is for the door."""
    output, log = SimpleNamespace(shown=1), SimpleNamespace(level=30)
    node = SimpleNamespace(core=Core(3, [0], loop), loop=loop, output=output, log_hook=log)
    monkeypatch.setattr(start, "node", node)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    door: Any = SimpleNamespace(node=node, side=passages.Side(node.core), rooms={})
    with theirs:
        room = rooms.Room(door, 7, [0], ours.detach(), b"")
        for handle, value in (OUTPUT, [5, 0]), (LOG, [10, ""]):
            [(header, frame)] = Parser().feed(whole(0, 0, 7, 0, 0, handle, 0, values.encode(value)))
            room.on_frame(room.link, header, frame)
        assert (output.shown, log.level) == (1, 30)
        assert not room.core.refused, "an honest guest tells all its nodes"
        room.link.close("it has gone")
        loop.once()
    assert room.link.fd_in == -1


def test_who_leaves_may_give_back_as_soon_as_it_hears_that_all_has_come(loop: Loop) -> None:
    """Another thread read that before the end was noted: it was refused, and who holds the channel waited for it for ever."""
    here, there = Recording(1, loop), Recording(2, loop)
    stand_in = stand_ins.StandIn(passages.Side(here), passages.Side(there), [7, 1000, "token", 10], [], False, lambda: True)
    stand_in.begin(Message(5, 5, CHANNEL, 1001, 77, None, b""), RECEIVE, 4)
    (part,) = stand_in.parts.values()

    def item(data: bytes, flags: int = 0) -> None:
        head = HEAD.pack(0xdd, 3, 0xce, part.comes.number, flags)
        there.handlers[ITEMS](Message(7, 7, ITEMS, 0, 0, None, head + data))
    item(b"\xc4\x01x")
    assert stand_in.leave(5, 4)
    given: list[bool] = []
    send = here.send

    def answer(dst: int, handle: int, *args: Any) -> Any:
        given.append(stand_in.take_back(5, [b"x"]))
        return send(dst, handle, *args)
    here.send = answer  # type: ignore[method-assign, assignment]
    item(b"\xc0", ENDS)
    assert given == [True]
    assert [said for said in there.said(CHANNEL) if said[0] == BACK] == [
        [BACK, 1000, "token", part.comes.number], [BACK, 1000, "token", [b"x"]]]
