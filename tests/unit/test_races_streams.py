"""Streams and channels that two threads are at, in the one order that did harm. Without processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import (
    channels,
    compat_late,
    ends,
    feeds,
    limits,
    limits_late,
    peers,
    readers,
    streams,
    values,
)
from ramet.kernel.core import Core, Message
from ramet.kernel.ends import BACK, CHANNEL, RECEIVE, SEND
from ramet.kernel.errors import CallCancelled, CallTimeout, ProtocolError
from ramet.kernel.frames import DEAD
from ramet.kernel.holding import Held
from support.eventually import HANGS_S, until


@pytest.fixture
def ours(core: Core) -> streams.Streams:
    return streams.of(core)


# ---------------------------------------------------------------------- who takes

def test_what_one_thread_has_taken_for_all_wakes_the_others(ours: streams.Streams) -> None:
    """They looked whether a message is there, which the quickest had taken: items lay there till the next message came."""
    intake = streams.Intake(ours, 5, 2, None)
    reader = readers.Taker(intake)
    got: list[object] = []
    slow = threading.Thread(target=lambda: got.append(next(reader)), daemon=True)
    slow.start()
    until(lambda: intake.waiting, "it doesn't wait")

    def quick() -> None:
        """Another thread that waits, and is the first to look."""
        intake.waiting.remove(quick)
        got.extend(reader.look() or ())
    intake.waiting.insert(0, quick)
    body = streams.HEAD.pack(0xdd, 4, 0xce, 2, 0) + b"\x01\x02"
    intake.arrived(body, 2, 2, 0)
    slow.join(HANGS_S)
    left = list(reader.items)
    intake.end()
    assert got == [1, 2] and not left


# ---------------------------------------------------------------------- who sends

class Waiting(list[Any]):
    """Another thread takes the last one out as soon as this one has looked whether there is one."""

    def __bool__(self) -> bool:
        found = len(self) > 0
        self.clear()
        return found


def test_credit_that_comes_while_a_thread_has_sent_its_item(ours: streams.Streams) -> None:
    """IndexError: the credit's message was refused."""
    feed = feeds.Feed(ours, 5, 3, 1, (100, 100))
    feed.waiting = Waiting([bool])
    feed.wake()


def test_who_sends_while_others_are_quicker_waits_no_longer_for_that(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that there was room, and another one took it, all of its seconds began anew."""
    core.descendants = True
    channel = channels.of(core).open(1)
    channel.send("fills it")
    waits: list[None] = []
    monkeypatch.setattr(core.loop, "now", lambda: len(waits))

    def wait(*_: Any) -> bool:
        waits.append(None)
        assert len(waits) < 20
        return True
    monkeypatch.setattr(Held, "_wait", wait)
    with pytest.raises(CallTimeout):
        channel.send("no room", timeout=5)
    assert len(waits) == 5


def test_who_waits_for_room_is_not_forgotten_for_what_others_send(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small item took back that a large one waits for credit, so none came; and as long as others sent, it had no turn."""
    said: list[int] = []
    monkeypatch.setattr(core, "ask", lambda *_: 1000)
    monkeypatch.setattr(core, "send", lambda *what: said.append(streams.HEAD.unpack_from(what[2][0])[4]) or True)
    core.descendants = True
    end = ends.End(channels.of(core), SimpleNamespace(owner=5, number=1000, token="", size=1000))
    assert end.offer(b"small")
    end.feed.put([b"gathered"], 8)
    assert not end.offer(bytes(streams.WINDOW_BYTES)) and said[-1] == streams.WANTS
    woken: list[int] = []
    end.feed.put([b"of another thread"], 17)
    end.feed.flush()
    end.on_room(lambda: woken.append(1))
    assert said[-1] == streams.WANTS
    end.feed.put([b"of one that has just looked"], 27)
    end.feed.flush()
    assert said[-1] == streams.WANTS and not end.offer(b"later")
    sent = len(said)
    end.feed.want()
    assert len(said) == sent, "it is known there"
    end.feed.granted(end.feed.bytes, end.feed.items, streams.WINDOW_BYTES, streams.WINDOW_ITEMS)
    assert woken and end.offer(bytes(streams.WINDOW_BYTES))
    end.feed.granted(end.feed.bytes, end.feed.items, streams.WINDOW_BYTES, streams.WINDOW_ITEMS)
    end.on_room(lambda: woken.append(2))
    assert woken[-1] == 2, "a door passes on no credit that says nothing new"


def test_who_waits_for_room_is_told_in_turn(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one was told first, and filled the window; and who looked meanwhile found others waiting, who were just told."""
    monkeypatch.setattr(core, "ask", lambda *_: 1000)
    monkeypatch.setattr(core, "send", lambda *_: True)
    core.descendants = True
    end = ends.End(channels.of(core), SimpleNamespace(owner=5, number=1000, token="", size=1000))
    assert end.offer(b"a") and end.offer(b"b")
    order: list[object] = []
    end.on_room(lambda: order.append(("first", bool(end.feed.waiting))))
    end.on_room(lambda: order.append("second"))
    end.feed.granted(end.feed.taken_bytes + 1, 1, streams.WINDOW_BYTES, streams.WINDOW_ITEMS)
    assert order == [("first", False), "second"]


def test_who_waits_for_room_hears_that_there_is_nobody_any_more(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread had found out when it sent, so the loss that was told afterwards woke nobody."""
    monkeypatch.setattr(core, "ask", lambda *_: 1000)
    core.descendants = True
    end = ends.End(channels.of(core), SimpleNamespace(owner=5, number=1000, token="", size=1000))
    end._begin()
    woken: list[int] = []
    end.feed.waiting.append(lambda: woken.append(1))
    end.feed.put([b"no route"], 8)
    assert end.feed.stopped and not woken
    end.ended(DEAD, b"lost")
    assert woken


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


# ---------------------------------------------------------------------- the end

def test_the_end_of_a_stream_is_told_once(ours: streams.Streams) -> None:
    """Its last message was handled by one thread, another stopped it: TypeError came out of `close`, or it was told twice."""
    class Intake(streams.Intake):
        looked = False

        @property
        def on_end(self) -> Any:  # type: ignore[override]
            found = self.__dict__.get("end_")
            if found and not self.looked:
                self.looked = True
                other.start()
                other.join(0.3)     # it has gone past, or waits
            return found

        @on_end.setter
        def on_end(self, call: Any) -> None:
            self.__dict__["end_"] = call
    intake = Intake(ours, 5, 2, None)
    told: list[int] = []
    intake.on_end = lambda: told.append(1)
    other = threading.Thread(target=intake.stop)
    intake.end()
    other.join()
    assert told == [1]


def test_what_comes_while_a_stream_is_forgotten_is_late(ours: streams.Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was refused as a stranger's, and its sender, to whom the word to stop had come too early, never heard that again."""
    message = Message(5, 5, streams.ITEMS, 0, 1, None, streams.HEAD.pack(0xdd, 3, 0xce, 2, streams.WANTS) + b"\x01")
    told: list[Any] = []
    monkeypatch.setattr(ours.core, "tell", lambda *what: told.append(what))

    class Intakes(dict[Any, Any]):
        def __delitem__(self, key: Any) -> None:
            super().__delitem__(key)
            ours.on_items(message)      # by another thread

        def pop(self, key: Any, *default: Any) -> Any:
            found = super().pop(key, *default)
            ours.on_items(message)
            return found
    ours.intakes = Intakes()
    intake = streams.Intake(ours, 5, 2, None)
    intake.stop()
    assert told == [(5, streams.CREDIT, [2])] * 2


def test_a_stream_that_ends_with_its_reader_doesnt_end_as_if_it_were_whole(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who read it was woken by that before he was interrupted: he went on with what he had, as with all."""
    job = SimpleNamespace(cancelled=False, enders=[])
    monkeypatch.setattr(peers.cancelling, "current_job", lambda _: job)
    monkeypatch.setattr(peers, "chain_of", lambda _: [])
    monkeypatch.setattr(peers, "PeerCall", lambda *_: SimpleNamespace(_handle=1000))
    monkeypatch.setattr(core, "send", lambda *_: None)
    monkeypatch.setattr(core.routes, "link_to", lambda _: SimpleNamespace(dead=False))
    peer: Any = peers.Peer(SimpleNamespace(core=core, calls=None, context=lambda _: None), 5)
    monkeypatch.setattr(peer, "_time", lambda _: (None, None), raising=False)
    monkeypatch.setattr(peer, "_address", lambda: 5, raising=False)
    monkeypatch.setattr(peer, "_answer_of", lambda _: [None, 3], raising=False)
    stream = peer._serve(["t", "items"], [], {})
    job.cancelled = True
    compat_late.call_each(job.enders)
    with pytest.raises(CallCancelled):
        next(stream)


def test_what_is_late_of_a_stream_may_be_long(ours: streams.Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is dropped, not refused: an honest node was warned of, and in the end read slowly."""
    monkeypatch.setattr(ours.core, "tell", lambda *_: None)
    intake = streams.Intake(ours, 5, 2, None)
    assert ours.long_max(5, streams.ITEMS) == limits.message_bytes_max
    intake.stop()
    assert [ours.long_max(src, streams.ITEMS) for src in (5, 6)] == [limits_late.untold_bytes_max, 0]
    assert not ours.long_max(5, streams.CREDIT)


# ---------------------------------------------------------------------- a channel at its holder

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


def test_a_sender_that_is_lost_while_it_is_looked_at_has_ended(held: Held, sender: Sender) -> None:
    """It wasn't in the line just then, so nobody told it: a closed channel never came to its end."""
    other = threading.Thread(target=held.lost, args=(5,))

    def lose() -> None:
        other.start()
        other.join(0.3)     # it waits now, or has looked for it
    sender.between = lose
    held.pump()
    other.join()
    held.close()
    assert sender.ended and held.over()


def test_an_item_that_cant_be_read_doesnt_stop_who_reads_the_link(held: Held, sender: Sender) -> None:
    """In a closed channel: it waited for a lock that it had, for ever."""
    held.close()
    reader = threading.Thread(target=sender.comes, args=(b"\xc1", 1), daemon=True)
    reader.start()
    reader.join(HANGS_S)
    assert not reader.is_alive()


def test_who_leaves_a_channel_that_is_over_isnt_refused(core: Core) -> None:
    """Both were right: but the controller said that something was refused."""
    core.descendants = True
    ours = channels.of(core)
    channel = ours.open(10)
    channel.close()
    assert not ours.held
    ours.on_channel(Message(5, 5, CHANNEL, 0, 1, None, b"".join(values.encode([BACK, channel.number, channel.token, 2]))))


def begin(ours: channels.Channels, channel: channels.Channel, what: int, stream: int, src: int = 5) -> None:
    body = b"".join(values.encode([what, channel.number, channel.token, stream]))
    ours.on_channel(Message(src, src, CHANNEL, 1001, 1, None, body))


@pytest.mark.parametrize("what", [SEND, RECEIVE])
def test_a_node_has_a_bounded_number_of_ends_of_a_channel_and_others_have_theirs(
        core: Core, monkeypatch: pytest.MonkeyPatch, what: int) -> None:
    """Each took memory, and each item that anybody sent or received moved past all of them."""
    monkeypatch.setattr(channels, "ENDS_MAX", 50)
    monkeypatch.setattr(channels, "ENDED_MAX", 80)
    core.descendants = True
    ours = channels.of(core)
    channel = ours.open(10)
    held = ours.held[channel.number]
    held.watches = dict.fromkeys((5, 6), 1000)      # nobody is asked for its loss here
    for n in range(50):
        begin(ours, channel, what, 2 * n + (what == SEND))
    for n in range(50, 60):
        with pytest.raises(ProtocolError, match="too many ends"):
            begin(ours, channel, what, 2 * n + (what == SEND))
    assert len(held.senders) + len(held.receivers) == 50
    begin(ours, channel, SEND, 1, src=6)
    begin(ours, channel, RECEIVE, 2, src=6)


def test_ends_that_wait_for_room_in_a_full_channel_arent_refused_so_soon(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many calls of a function that sends one item: each is an end of its own, which is over before there is room."""
    monkeypatch.setattr(channels, "ENDS_MAX", 50)
    monkeypatch.setattr(channels, "ENDED_MAX", 80)
    core.descendants = True
    ours = channels.of(core)
    channel = ours.open(1)
    held = ours.held[channel.number]
    held.watches = {5: 1000}
    held.offer(b"x")
    for n in range(80):
        begin(ours, channel, SEND, 2 * n + 1)
        held.senders[-1].ended = True
    with pytest.raises(ProtocolError, match="too many ends"):
        begin(ours, channel, SEND, 161)
