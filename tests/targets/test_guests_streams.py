"""Guests read streams and use channels through a door: under credit, until either end or the door is gone."""
from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from support import needs, pythons, remote_guest_streams, remote_guests
from support.eventually import until
from support.remote_guest_streams import Desk
from support.source import TOP

NEWEST = pythons.interpreters()[-1][0] if "pypy" not in pythons.interpreters()[-1][0] else "3.13"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    return folder / "shop"


@contextlib.contextmanager
def admitted(path: Path, label: str = "") -> Iterator[tuple[ramet.Tree, ramet.Node, ramet.Node]]:
    """A tree, its door, and a node that serves a desk to it, as the program does."""
    with ramet.Tree(remember=False) as tree:
        keeper = tree.local()
        python = {"python": needs.python(label)} if label else {}
        door = tree.admit(str(path), {"desk": keeper, "own": tree}, **python)
        keeper.serve("desk", Desk, allow="anyone")
        tree.serve("own", Own(tree), allow=door)
        yield tree, door, keeper


class Own(Desk):
    """The program's own."""

    def __init__(self, tree: ramet.Tree) -> None:
        self.tree = tree

    def keep(self, name: str, size: int = 1000) -> object:
        """One of the program's channels."""
        return remote_guest_streams.KEPT.setdefault(name, self.tree.channel(size))


@contextlib.contextmanager
def guest(path: Path) -> Iterator[tuple[ramet.Tree, ramet.Node]]:
    with ramet.Tree(remember=False) as mine:
        yield mine, mine.attach(str(path))


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    remote_guest_streams.KEPT.clear()
    del remote_guest_streams.MADE[:], remote_guest_streams.CLOSED[:]


# ---------------------------------------------------------------------- streams


@pytest.mark.parametrize("label", ["2.7", NEWEST])
def test_streams(path: Path, label: str) -> None:
    with admitted(path, label) as (_, door, _), guest(path) as (_, shop):
        for name in "desk", "own":
            desk = shop.service(name)
            assert list(desk.rows(5000)) == list(range(5000))
            for size, count in ((700, 2000), (70_000, 40), (1_000_000, 4), (5_000_000, 2)):
                assert [(n, len(data)) for n, data in desk.rows(count, size)] == [(n, size) for n in range(count)]
            stream = desk.fails()
            assert next(stream) == 1
            with pytest.raises(KeyError, match="no more"):
                next(stream)
        both = [iter(shop.service(name).rows(20000)) for name in ("desk", "own", "desk")]
        assert [list(pair) for pair in zip(*both, strict=True)] == [[n] * 3 for n in range(20000)]
        until(lambda: door.call(remote_guest_streams.door_has) == [0, 0, 0, 0, 0], "streams that have ended are still known")


def test_streams_in_coroutines(path: Path) -> None:
    async def total(shop: ramet.Node, to: int) -> int:
        return sum([n async for n in await shop.service("desk").rows.start(to)])

    async def all_of_them(shop: ramet.Node) -> list[int]:
        return await asyncio.gather(*(total(shop, to) for to in (10, 1000, 3000)))
    with admitted(path), guest(path) as (_, shop):
        assert asyncio.run(all_of_them(shop)) == [sum(range(to)) for to in (10, 1000, 3000)]


def test_what_isnt_read_isnt_made(path: Path) -> None:
    """The generator waits, and nothing lies at the door beyond what is under way; then it goes on."""
    with admitted(path) as (_, door, _), guest(path) as (_, shop):
        with shop.service("desk").many(10_000) as stream:
            assert len(next(stream)) == 10_000
            until(lambda: shop.service("desk").made() > 200_000, "it makes nothing ahead")
            assert sum(len(next(stream)) for _ in range(2000)) == 20_000_000
            until(lambda: shop.service("desk").made() > 20_100_000, "it doesn't go on")
            for _ in range(20):
                assert shop.service("desk").made() < 20_000_000 + 2_200_000
                assert door.call(remote_guest_streams.waits_unread) < 2_000_000
        until(lambda: shop.service("desk").closed() == ["many"], "what was left isn't closed")


def test_credit_that_was_held_back_comes(path: Path) -> None:
    """While something lies at the door for it, a guest gets no more: here while anything does."""
    with admitted(path) as (_, door, _), guest(path) as (_, shop):
        door.call(remote_guests.set_limit, "credit_bytes_max", 0)
        both = [shop.service("desk").rows(3000, 3000), shop.service("desk").rows(3000, 3000)]
        assert [[n for n, _ in pair] for pair in zip(*both, strict=True)] == [[n, n] for n in range(3000)]


def test_a_guest_that_reads_nothing_holds_little(path: Path) -> None:
    """Its program is stopped: nobody reads, neither its streams nor its link."""
    with admitted(path) as (_, door, keeper):
        with running(path, keeper) as program:
            program.send_signal(signal.SIGSTOP)
            keeper.call(remote_guest_streams.put_many, "ours")
            with ramet.attach(str(path)) as shop:
                for _ in range(10):
                    assert shop.service("desk").made() < 2_000_000
                    assert door.call(remote_guest_streams.waits_unread) < 3_000_000
                assert list(shop.service("desk").rows(3000)) == list(range(3000)), "others aren't served"


def test_a_stream_is_left(path: Path) -> None:
    """By close(), by the last reference, and where it hangs in something else than its ``yield``."""
    with admitted(path) as (_, door, _), guest(path) as (_, shop):
        desk = shop.service("desk")
        stream = desk.many(100)
        assert len(next(stream)) == 100
        stream.close()
        until(lambda: desk.closed() == ["many"], "what was closed goes on")
        stream = desk.many(100)
        assert len(next(stream)) == 100
        del stream
        gc.collect()
        until(lambda: desk.closed() == ["many"] * 2, "what nobody holds goes on")
        stream = desk.hangs()
        assert next(stream) == 1
        stream.close()
        until(lambda: desk.closed() == ["many", "many", "hangs"], "what hangs isn't interrupted")
        desk.many(100).close()      # it hasn't begun
        with pytest.raises(ramet.CallTimeout):
            for _ in shop.options(timeout=0.5).service("desk").hangs():
                pass
        until(lambda: door.call(remote_guest_streams.door_has) == [0, 0, 0, 0, 0], "streams that were left are still known")


def test_the_door_is_closed_while_streams_run(path: Path) -> None:
    with admitted(path) as (_, door, keeper), guest(path) as (mine, shop):
        stream, own = shop.service("desk").many(100), mine.channel()
        shop.service("desk").take("its", own)
        ours = shop.service("desk").keep("ours")
        ours.send(1)
        assert len(next(stream)) == 100 and ours.receive() == 1
        door.close()
        with pytest.raises(ramet.NodeLostError):
            for _ in stream:
                pass
        with pytest.raises(ramet.NodeLostError):
            ours.receive()
        until(lambda: keeper.call(remote_guest_streams.closed_here) == ["many"], "the generator goes on")
        assert "NodeLostError" in keeper.call(remote_guest_streams.how_it_ends_here, "its")
        until(lambda: keeper.call(remote_guest_streams.holds)[1:] == [0, 0, 0], "what the door had is still kept")


def test_who_serves_is_gone(path: Path) -> None:
    with admitted(path) as (_, door, keeper), guest(path) as (_, shop):
        stream, ours = shop.service("desk").rows(10 ** 9), shop.service("desk").keep("ours")
        ours.send(1)
        assert next(stream) == 0 and ours.receive() == 1
        keeper.kill()
        with pytest.raises(ramet.ServiceError, match="the one who serves that doesn't answer"):
            for _ in stream:
                pass
        with pytest.raises(ramet.NodeLostError):
            ours.receive()
        with pytest.raises(ramet.NodeLostError):
            while True:
                ours.send(1)
        assert list(shop.service("own").rows(3)) == [0, 1, 2]
        until(lambda: door.call(remote_guest_streams.door_has)[:4] == [0, 0, 0, 0], "what was lost is still known")


@contextlib.contextmanager
def running(path: Path, keeper: ramet.Node) -> Iterator[subprocess.Popen[bytes]]:
    """A guest that is a program of its own, and has a stream and channels."""
    program = subprocess.Popen([sys.executable, "-m", "targets.guest_streams", str(path)], cwd=TOP / "tests",
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        until(lambda: keeper.call(remote_guest_streams.has_it, "its"), "it doesn't come")
        keeper.call(remote_guest_streams.give_it, "its", "to the guest")
        assert program.stdout and program.stdout.readline() == b"1000 from the guest to the guest\n"
        yield program
    finally:
        program.kill()
        program.communicate()


def test_a_guest_that_is_killed_leaves_nothing(path: Path) -> None:
    with admitted(path) as (_, door, keeper):
        with running(path, keeper) as program:
            program.send_signal(signal.SIGKILL)
            until(lambda: keeper.call(remote_guest_streams.closed_here) == ["many"], "its stream goes on")
            assert keeper.call(remote_guest_streams.how_it_ends_here, "its").startswith(("NodeLostError", "ClosedError"))
        until(lambda: door.call(remote_guests.guests) == 0, "it is still in")
        until(lambda: door.call(remote_guest_streams.door_has) == [0, 0, 0, 0, 0], "what it had is still known")
        until(lambda: keeper.call(remote_guest_streams.holds) == [1, 0, 0, 0], "its parts in a channel are still kept")


def test_streams_count_as_requests(path: Path) -> None:
    with admitted(path) as (_, door, _), guest(path) as (_, shop):
        door.call(remote_guests.set_limit, "requests_max", 2)
        streams = [shop.service("desk").many(10) for _ in range(2)]
        with pytest.raises(ramet.ServiceError, match="too many requests of this guest wait"):
            shop.service("own").many(10)
        streams.pop().close()
        until(lambda: _asks(shop), "a stream that has ended counts for ever")


def _asks(shop: ramet.Node) -> bool:
    try:
        return bool(shop.service("own").closed() == [])
    except ramet.ServiceError:
        return False


# ---------------------------------------------------------------------- channels


@pytest.mark.parametrize("label", ["2.7", NEWEST])
def test_channels(path: Path, label: str) -> None:
    """As arguments and results, held by either side, used in both directions."""
    with admitted(path, label), guest(path) as (mine, shop):
        for name in "desk", "own":
            desk, own = shop.service(name), mine.channel()
            desk.take("its " + name, own)
            desk.put("its " + name, [1, "two", b"3" * 100_000])
            assert [own.receive() for _ in range(3)] == [1, "two", b"3" * 100_000]
            for n in range(3):
                own.send((n, "x"))
            assert desk.get("its " + name, 3) == [(0, "x"), (1, "x"), (2, "x")]
            assert desk.kept("its " + name) == own and desk.kept("its " + name).owner == 0, "it doesn't come back as what it is"
            ours = desk.keep("ours " + name)
            assert desk.is_kept("ours " + name, ours), "it doesn't go back as what it is"
            assert desk.kept("ours " + name) == ours
            for n in range(3000):
                ours.send(n)
                if n % 1000 == 999:
                    assert desk.get("ours " + name, 1000) == list(range(n - 999, n + 1))
            desk.put("ours " + name, [1, b"2" * 200_000])
            assert [ours.receive(), ours.receive()] == [1, b"2" * 200_000]
            ours.send("last")
            ours.close()
            assert list(ours) == ["last"] and desk.rest("ours " + name) == []
            with pytest.raises(ramet.ClosedError):
                ours.receive()
            desk.put("its " + name, ["last"])
            desk.close("its " + name)
            assert desk.rest("its " + name) == ["last"] and list(own) == []
            with pytest.raises(ramet.ClosedError):
                own.send(1)


def test_channels_within_values(path: Path) -> None:
    with admitted(path), guest(path) as (mine, shop):
        one, more = mine.channel(), [mine.channel() for _ in range(3)]
        deep = [[channel, b"z" * 100_000] for channel in more]
        found = shop.service("desk").swap(one, pairs={"deep": deep, "x": "y" * 70_000})
        assert [channel.receive() for channel in more] == [0, 1, 2]
        assert found == {"first": one, "rest": more, "big": b"y" * 100_000}


def test_closed_by_the_other_side(path: Path) -> None:
    with admitted(path), guest(path) as (mine, shop):
        desk, own = shop.service("desk"), mine.channel()
        ours = desk.keep("ours")
        desk.put("ours", [1, 2])
        desk.close("ours")
        assert list(ours) == [1, 2]
        with pytest.raises(ramet.ClosedError):
            while True:
                ours.send(1)
        desk.take("its", own)
        desk.put("its", [1, 2])
        own.close()
        until(lambda: desk.outcome_of_send("its", 0.01) == "ClosedError", "who sends isn't told")
        assert list(own)[:2] == [1, 2]


def test_a_channel_that_is_full_waits(path: Path) -> None:
    with admitted(path), guest(path) as (mine, shop):
        desk = shop.service("desk")
        ours, own = desk.keep("ours", 10), mine.channel(10)
        sent = 0
        with pytest.raises(ramet.CallTimeout):
            for _ in range(1000):
                ours.send(sent, timeout=0.3)
                sent += 1
        assert sent < 40
        assert desk.get("ours", sent) == list(range(sent))
        desk.take("its", own)
        outcomes = []
        while "CallTimeout" not in outcomes:
            outcomes.append(desk.outcome_of_send("its", 0.3))
        assert len(outcomes) < 40
        assert [own.receive() for _ in outcomes[1:]] == [1] * (len(outcomes) - 1)
        assert desk.outcome_of_send("its", None) == "sent" and own.receive() == 1


def test_who_leaves_gives_back(path: Path) -> None:
    """Guests that receive no more, two at a time: no item is lost, and none is there twice."""
    with admitted(path) as (_, _, keeper), guest(path) as (_, shop):
        desk = shop.service("desk")
        desk.keep("ours")
        got = []
        with guest(path) as (_, first), guest(path) as (_, second):
            one, other = first.service("desk").kept("ours"), second.service("desk").kept("ours")
            for channel in one, other:
                with pytest.raises(ramet.CallTimeout):
                    channel.receive(timeout=0)
            until(lambda: keeper.call(remote_guest_streams.holds)[3] == 2, "they don't come")
            desk.put("ours", list(range(900)))
            for _ in range(20):
                got += [one.receive(), other.receive()]
            del one, other, channel
            gc.collect()
            until(lambda: keeper.call(remote_guest_streams.holds)[1:] == [0, 0, 0], "those who have left are still kept")
        assert sorted(got + desk.get("ours", 860)) == list(range(900))


def test_from_one_guest_to_another(path: Path) -> None:
    with admitted(path) as (_, door, _), guest(path) as (_, other):
        with guest(path) as (mine, shop):
            own = mine.channel()
            shop.service("desk").take("its", own)
            found = other.service("desk").kept("its")
            for n in range(2000):
                found.send(n)
                assert n % 500 or [own.receive() for _ in range(500 if n else 1)]
            assert other.service("desk").is_kept("its", found)
            assert [own.receive() for _ in range(499)] == list(range(1501, 2000))
            own.send("back")
            assert found.receive() == "back"
        with pytest.raises(ramet.NodeLostError):
            found.receive()
        with pytest.raises(ramet.ServiceError, match="a channel of a guest that has left"):
            other.service("desk").kept("its")
        until(lambda: door.call(remote_guest_streams.door_has)[:4] == [0, 0, 0, 0], "what has left is still known")


def test_what_is_in_items_doesnt_pass(path: Path) -> None:
    """A channel in an item of a stream, or of a channel: whoever reads that item is told, the rest goes on."""
    with admitted(path), guest(path) as (mine, shop):
        desk = shop.service("desk")
        ours, own = desk.keep("ours"), mine.channel()
        stream = desk.in_items("ours")
        assert next(stream) == 1
        with pytest.raises(ramet.ValueNotPortableError, match="through a door it passes as an argument or a result only"):
            next(stream)
        desk.take("its", own)
        desk.put("its", [ours, 5])
        with pytest.raises(ramet.ValueNotPortableError, match="through a door it passes as an argument or a result only"):
            own.receive()
        assert own.receive() == 5
        ours.send([own])
        ours.send(6)
        with pytest.raises(ramet.ValueNotPortableError, match="through a door it passes as an argument or a result only"):
            desk.get("ours", 1)
        assert desk.get("ours", 1) == [6]
        lookalike = b"\x95\xd4\x01K\x00\xcd\x03\xe8" + b"\xd9\x20" + b"t" * 32 + b"\x10"
        ours.send([lookalike, lookalike.decode("latin-1")])
        assert desk.get("ours", 1) == [[lookalike, lookalike.decode("latin-1")]]


def test_channels_of_other_nodes_dont_pass(path: Path) -> None:
    with admitted(path), guest(path) as (mine, shop):
        held = mine.local().call(remote_guest_streams.make_one)
        with pytest.raises(ramet.ServiceError, match="holds that channel: through a door pass those of the program itself"):
            shop.service("desk").take("its", held)


def test_the_oldest_unused_channel_is_forgotten(path: Path) -> None:
    with admitted(path) as (_, door, _), guest(path) as (_, shop):
        door.call(remote_guests.set_limit, "channels_max", 3)
        desk = shop.service("desk")
        found = [desk.keep(f"ours {n}") for n in range(2)]
        found[0].send(1)
        assert desk.get("ours 0", 1) == [1]
        found += [desk.keep(f"ours {n}") for n in range(2, 5)]
        found[0].send(2)
        assert desk.get("ours 0", 1) == [2]
        with pytest.raises(ramet.ServiceError, match="the door has forgotten that channel"):
            desk.is_kept("ours 1", found[1])
        with pytest.raises(ramet.ClosedError):
            found[1].receive()
        for n in 3, 4:
            found[n].send(n)
            assert desk.get(f"ours {n}", 1) == [n]
        with pytest.raises(ramet.ServiceError, match="this guest uses 3 channels at a time"):
            desk.keep("ours 5")


def test_large_answers_pass_beside_others(path: Path) -> None:
    """One of any size, while others are asked for."""
    with admitted(path), guest(path) as (_, shop):
        large = shop.service("desk").large.start(50_000_000)
        while not large.done():
            assert shop.service("own").closed() == []
        assert len(large.result()) == 50_000_000
