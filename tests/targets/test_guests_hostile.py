"""Guests that break the rules of streams and channels: the door refuses it, and its tree hears nothing of it."""
from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from ramet.kernel import values
from ramet.kernel.core import CANCEL
from ramet.kernel.ends import BACK, CHANNEL, CLOSE, RECEIVE, SEND
from ramet.kernel.frames import CONTROL, DEAD, ERROR
from ramet.kernel.streams import CREDIT, ENDS, FAILS, HEAD, ITEMS, WANTS
from support import remote_guest_streams as remote
from support import remote_guests
from support.eventually import until
from support.remote_guest_streams import Desk
from targets.raw_guests import Raw


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    return folder / "shop"


@contextlib.contextmanager
def admitted(path: Path) -> Iterator[tuple[ramet.Node, ramet.Node]]:
    """A door, and a node that serves a desk to it. None of a guest's wrongs may come beyond the door."""
    with ramet.Tree(remember=False) as tree:
        keeper = tree.local()
        door = tree.admit(str(path), {"desk": keeper})
        keeper.serve("desk", Desk, allow=door)
        yield door, keeper
        assert keeper.call(remote.refused_here) == 0, "its tree has had to refuse something"
        assert door.call(remote.door_refused)[1] == 0
        assert tree.stats()["refused"] == 0


def items(number: int, flags: int, *packed: bytes, count: int | None = None) -> bytes:
    """The body of an ITEMS message."""
    return HEAD.pack(0xdd, 2 + (len(packed) if count is None else count), 0xce, number, flags) + b"".join(packed)


def packed(item: bytes) -> bytes:
    return b"\xc6" + struct.pack(">I", len(item)) + item


def refused(door: ramet.Node) -> int:
    return sum(door.call(remote.door_refused)[0])


def test_streams_of_others(path: Path) -> None:
    """Credit, the end and items of every stream but its own; and more taken of its own than was sent."""
    with admitted(path) as (door, _), ramet.attach(str(path)) as shop, Raw(path) as raw:
        theirs = shop.service("desk").many(1000)
        assert len(next(theirs)) == 1000
        raw.say(CREDIT, [1, 0, 0, 1, 1], CONTROL)
        nothing, own = raw.service("rows", 5)       # type: ignore[misc]
        assert nothing is None and own % 2
        before = refused(door)
        numbers = [number for number in range(900, 3200) if number != own]
        for number in numbers:
            raw.say(CREDIT, [number, 0, 0, 1 << 30, 1 << 30], CONTROL)
            raw.say(CREDIT, [number], CONTROL)
            raw.raw(ITEMS, items(number, 0, packed(b"1")))
        for taken in ([1, 0], [0, 1], [1 << 40, 1 << 40]):
            raw.say(CREDIT, [own, *taken, 1 << 20, 1000], CONTROL)
        raw.raw(ITEMS, items(own, 0, packed(b"1")))
        assert raw.service("closed") == [[]]
        assert refused(door) == before + 3 * len(numbers) + 4
        raw.say(CREDIT, [own, 0, 0, 1 << 20, 1000], CONTROL)
        while raw.message()[0] != ITEMS:
            pass        # its own begins now
        assert shop.service("desk").made() < 1_000_000 and shop.service("desk").closed() == []
        assert sum(len(next(theirs)) for _ in range(1000)) == 1_000_000


def test_channels_of_others(path: Path) -> None:
    """By wrong tokens, by what another guest knows it by, and by what its tree knows it by."""
    with admitted(path) as (door, keeper), ramet.attach(str(path)) as shop, Raw(path) as raw:
        theirs = shop.service("desk").keep("ours")
        theirs.send("theirs")
        owner, number, token, _ = keeper.call(remote.known_as, "ours")
        ((_, mine, secret, _),) = raw.service("keep", "mine")       # type: ignore[misc]
        before, wrong = refused(door), 0
        for what, stream in ((SEND, 3001), (RECEIVE, 3000), (CLOSE, 0)):
            for known in ([theirs.number, theirs.token], [number, token], [mine, token], [mine, theirs.token],
                          [mine, secret[::-1]], [mine, ""], [mine, None], [owner, secret]):
                flags, why = raw.ask(what, *known, stream, handle=CHANNEL)
                assert flags & DEAD and b"refused: " in why
                wrong += 1
        assert refused(door) == before + wrong
        # A reference in arguments, made up: another guest's, its tree's, and one of the door that there isn't.
        for reference in ([7, theirs.number, theirs.token, 10], [owner, number, token, 10], [7, mine, token, 10], [1, 2],
                          [7, mine, secret]):
            body = bytes([0x91 + len(reference)]) + b"\xd4\x01K" + b"".join(values.encode(reference))[1:]
            body = b"\x95\xa4desk\xa4take\x92\xa3its" + body + b"\x80\x80"
            raw.asked += 1
            raw.sock.sendall(_request(raw.asked, body))
            flags = 0
            while not flags:
                handle, _, flags, why = raw.message()
                assert handle != raw.asked or flags & ERROR, why
        assert "its" not in keeper.call(remote.names_kept)
        assert shop.service("desk").get("ours", 1) == ["theirs"]


def _request(reply_to: int, body: bytes) -> bytes:
    return struct.pack(">BBHIIIIII", 0x72, 0, 0, 7, 0, 0, 21, reply_to, len(body)) + body


def test_items_that_break_the_rules(path: Path) -> None:
    """More than there is credit for, what isn't packed, ends that are none: it sends nothing more, the channel is as it was."""
    small = packed(b"\x01")
    with admitted(path) as (door, keeper), Raw(path) as raw:
        ((_, number, token, _),) = raw.service("keep", "ours", 10)      # type: ignore[misc]
        for at, wrong in enumerate((
                items(0, 0, *[packed(b"x" * 140_000)] * 2), items(0, 0, *[small] * 11), items(0, 0, b"\x01"),
                items(0, 0, small, count=2), items(0, 0, small) + b"\x01", items(0, FAILS, b"\x80"), items(0, ENDS),
                items(0, ENDS, small), items(0, 0, b"\xc4\x05\x01"), items(0, 0, b"\xc6\xff\xff\xff\xff"))):
            stream = 3001 + 2 * at
            raw.asked += 1
            raw.say_channel(SEND, number, token, stream)
            raw.raw(ITEMS, items(stream, 0, small))
            before = refused(door)
            raw.raw(ITEMS, wrong[:6] + struct.pack(">I", stream) + wrong[10:])
            handle, said = 0, b""
            while handle != CREDIT or values.decode(said) != [stream]:
                handle, _, _, said = raw.message()
            raw.raw(ITEMS, items(stream, 0, small))     # it is late, for all that is known
            assert raw.service("get", "ours", 1) == [[1]], at
            assert refused(door) == before + 1
        until(lambda: keeper.call(remote.holds) == [1, 0, 0, 0], "its parts in the channel stay")


def test_giving_back_what_it_never_had(path: Path) -> None:
    with admitted(path) as (door, keeper), ramet.attach(str(path)) as shop, Raw(path) as raw:
        ((_, number, token, _),) = raw.service("keep", "ours")      # type: ignore[misc]
        raw.say_channel(RECEIVE, number, token, 3000)
        until(lambda: keeper.call(remote.holds)[3] == 1, "it doesn't begin")
        shop.service("desk").put("ours", [1, 2])
        got = b""
        while got.count(b"\xc4") < 2:
            handle, _, _, body = raw.message()
            got += body[HEAD.size:] if handle == ITEMS else b""
        theirs = shop.service("desk").kept("ours")
        for wrong in ([BACK, 3002], [BACK, []], [BACK, [b"1"]]):
            raw.say(CHANNEL, [wrong[0], number, token, wrong[1]])
        raw.say(CHANNEL, [BACK, number, token, 3000])
        while raw.message()[0] != ITEMS:
            pass        # the end
        for items_back in ([b"\x05"] * 3, [1], ["x"], [b"\x05", None], [b"\x05"], [b"\x06"], []):
            raw.say(CHANNEL, [BACK, number, token, items_back])
        assert raw.service("closed") == [[]]    # and all that was said before it is there
        shop.service("desk").put("ours", [7])
        assert theirs.receive() == 5 and theirs.receive() == 7
        assert refused(door) == 9


def test_who_says_that_it_has_taken_what_it_never_read(path: Path) -> None:
    """Of what lies at the door for it there is never more than a little."""
    with admitted(path) as (door, keeper), Raw(path) as raw:
        door.call(remote_guests.set_limit, "credit_bytes_max", 1_000_000)
        _, own = raw.service("many", 10_000)    # type: ignore[misc]
        raw.say(CREDIT, [own, 0, 0, 3 << 19, 1 << 16], CONTROL)
        until(lambda: keeper.call(remote.made_here) > 1_000_000, "it doesn't begin")
        for _ in range(400):
            count = keeper.call(remote.made_here) // 10_000 - 1
            size = len(packed(b"x" * 10_000)) - 2      # a bin 16
            for many in range(count - 5, count + 1):
                raw.say(CREDIT, [own, many * size, many, 3 << 19, 1 << 16], CONTROL)
            assert door.call(remote.waits_unread) < 4_000_000
        assert keeper.call(remote.made_here) < 6_000_000


def test_floods_stay_at_the_door(path: Path) -> None:
    """What says nothing new isn't passed on."""
    with admitted(path) as (_, keeper), Raw(path) as raw:
        ((_, number, token, _),) = raw.service("keep", "ours", 10)      # type: ignore[misc]
        _, own = raw.service("rows", 5)     # type: ignore[misc]
        raw.say_channel(SEND, number, token, 3001)
        raw.asked += 1
        hangs = raw.asked
        raw.sock.sendall(_request(hangs, b"".join(values.encode(["desk", "wait_for_ever", [], {}, {}]))))
        assert raw.service("closed") == [[]]
        before = keeper.call(remote.messages_in)
        for _ in range(1000):
            raw.say(CREDIT, [own, 0, 0, 1 << 18, 1000], CONTROL)
            raw.say(CANCEL, [hangs], CONTROL)
            raw.raw(ITEMS, items(3001, WANTS))
            raw.raw(ITEMS, items(3001, 0))
            raw.say(CHANNEL, [CLOSE, number, token, 0])
            raw.say(CREDIT, [own], CONTROL)
        assert raw.service("closed") == [[]]
        assert keeper.call(remote.messages_in) < before + 30


def test_ends_of_channels_are_bounded(path: Path) -> None:
    with admitted(path) as (door, keeper), Raw(path) as raw:
        door.call(remote_guests.set_limit, "streams_max", 5)
        ((_, number, token, _),) = raw.service("keep", "ours")      # type: ignore[misc]
        for at in range(5):
            raw.say_channel(SEND, number, token, 3001 + 2 * at)
        for _ in range(50):
            flags, why = raw.ask(RECEIVE, number, token, 4000, handle=CHANNEL)
            assert flags & DEAD and b"too many are at channels of guests" in why
        flags, why = raw.ask(SEND, number, token, 3001, handle=CHANNEL)
        assert flags & DEAD and b"has a stream 3001 already" in why
        assert door.call(remote.door_has)[4] == 5
        raw.raw(ITEMS, items(3001, ENDS, b"\xc0"))
        raw.say_channel(RECEIVE, number, token, 4000)
        until(lambda: keeper.call(remote.holds)[1:] == [9, 4, 1], "who has left is still counted")


def test_a_guest_that_holds_a_channel_and_lies(path: Path) -> None:
    """What it answers isn't passed on, nor credit that it can't give; who sends to it is told that it is closed."""
    with admitted(path) as (door, keeper), Raw(path) as raw:
        reference = b"\x95\xd4\x01K\x00\x4d\xd9\x20" + b"t" * 32 + b"\x0a"
        raw.asked += 1
        raw.sock.sendall(_request(raw.asked, b"\x95\xa4desk\xa4take\x92\xa3its" + reference + b"\x80\x80"))
        while raw.message()[0] != raw.asked:
            pass
        call = keeper.options(lane="*").start(remote.put_here, "its", 100)
        handle = 0
        while handle != CHANNEL:
            handle, reply_to, _, body = raw.message()
        what, number, token, stream = values.decode(body)
        assert [what, number, token] == [SEND, 0x4d, "t" * 32]
        while handle != ITEMS:
            handle, _, _, body = raw.message()
        before = refused(door)
        for wrong in ([1 << 30, 5], [0, 11], [5, 1 << 30]):
            raw.say(CREDIT, [stream, *wrong, 1 << 20, 1 << 16], CONTROL)
        assert raw.service("closed") == [[]]
        assert refused(door) == before + 3
        came = keeper.call(remote.bytes_in)
        raw.raw(reply_to, b"\x95\xd4\x01" + b"x" * 1_000_000)
        assert call.result() == "ClosedError"
        assert keeper.call(remote.bytes_in) < came + 100_000
