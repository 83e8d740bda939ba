"""Guests: programs that ask services of a running tree through a door, what they can't do, and how they and the door end."""
from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from ramet.kernel import core, values
from ramet.kernel.frames import CONTROL, pack_header
from ramet.kernel.proxies import SERVICE
from support import needs, pythons, remote_guests
from support.eventually import until
from support.remote_guests import Shelf
from support.source import TOP
from targets.raw_guests import answers, config, entered, knocked, said, thrown_out

NOBODY = 65534
NEWEST = pythons.interpreters()[-1][0] if "pypy" not in pythons.interpreters()[-1][0] else "3.13"
LABELS = ["2.7", "3.6", NEWEST]
REFUSES = "a door lets guests ask services of its tree, and nothing else"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    return folder / "shop"


@contextlib.contextmanager
def admitted(path: Path, label: str = "") -> Iterator[tuple[ramet.Tree, ramet.Node, ramet.Node]]:
    """A tree, its door, and a node that serves a shelf to it."""
    with ramet.Tree(remember=False) as tree:
        keeper = tree.local()
        python = {"python": needs.python(label)} if label else {}
        door = tree.admit(str(path), {"shelf": keeper, "own": tree}, **python)
        keeper.serve("shelf", Shelf, allow=door)
        tree.serve("own", Shelf(), allow=door)
        yield tree, door, keeper


# ---------------------------------------------------------------------- what a guest may


@pytest.mark.parametrize("label", LABELS)
def test_a_guest_asks_services_and_nothing_else(path: Path, label: str) -> None:
    with admitted(path, label) as (tree, door, keeper), ramet.attach(str(path)) as shop:
        for name in "shelf", "own":
            shelf = shop.service(name)
            assert shelf.find("tea") == 3 and {"find", "same"} <= set(dir(shelf))
            assert shelf.find.__doc__ == "How many there are."
            with pytest.raises(KeyError):
                shelf.find("milk")
            for value in (None, [1, {"a": b"b"}], b"x" * 3_000_000, ["y" * 200_000, b"z" * 70_000, ("t",)], {1.5, 2}):
                assert shelf.same(value) == value
            assert list(shelf.many()) == [1]
            with pytest.raises(ramet.ServiceError, match="no method"):
                shelf.missing()
        with pytest.raises(ramet.RemoteError, match=REFUSES):
            shop.call(remote_guests.counts)
        with pytest.raises(ramet.ConnectError, match=REFUSES):
            shop.local().wait()
        with pytest.raises(ramet.ConnectError, match=REFUSES):
            shop.fork().wait()
        with pytest.raises(ramet.ServiceError, match="no service 'other' for guests here"):
            shop.service("other").find("tea")
        assert shop.id == 1 and door.call(remote_guests.id_here) == door.id == 2 and len(tree.nodes) == 2
        assert keeper.call(remote_guests.counts) == [0, 0]


def test_requests_end(path: Path) -> None:
    """By a cancel, a timeout, and when the guest leaves."""
    with admitted(path) as (_, _, keeper):
        with ramet.attach(str(path)) as shop:
            call = shop.service("shelf").wait.start()
            until(lambda: keeper.call(remote_guests.counts)[0] == 1, "it doesn't begin")
            call.cancel()
            with pytest.raises(ramet.CallCancelled):
                call.result()
            until(lambda: keeper.call(remote_guests.counts) == [1, 1], "what was cancelled goes on")
            with pytest.raises(ramet.CallTimeout):
                shop.options(timeout=0.2).service("shelf").wait()
            until(lambda: len(set(keeper.call(remote_guests.counts))) == 1, "what is out of time goes on")
            left = shop.service("shelf").wait.start()
            until(lambda: len(set(keeper.call(remote_guests.counts))) == 2, "it doesn't begin")
        with pytest.raises(ramet.ClosedError):
            left.result()
        until(lambda: len(set(keeper.call(remote_guests.counts))) == 1, "what a guest has asked for that has left goes on")


def test_a_guest_that_is_killed_leaves_nothing(path: Path) -> None:
    with admitted(path) as (_, _, keeper):
        guest = subprocess.Popen([sys.executable, "-m", "targets.guest", str(path)], cwd=TOP / "tests", stdout=subprocess.PIPE)
        assert guest.stdout and guest.stdout.readline() == b"asked\n"
        until(lambda: keeper.call(remote_guests.counts) == [1, 0], "it doesn't begin")
        guest.send_signal(signal.SIGKILL)
        guest.communicate()
        until(lambda: keeper.call(remote_guests.counts) == [1, 1], "what a guest has asked for that was killed goes on")
        with ramet.attach(str(path)) as shop:
            assert shop.service("shelf").find("tea") == 3


def test_the_door_stays_whatever_a_guest_does_with_it(path: Path) -> None:
    """A guest ends nothing: neither by closing nor by killing what it takes for its node. And nothing of it stays."""
    with admitted(path) as (_, door, _):
        def visit(number: int) -> None:
            shop = ramet.attach(str(path))
            with shop:
                assert shop.service("own").find("tea") == 3
                if number % 3 == 1:
                    shop.close()
                elif number % 3 == 2:
                    shop.kill()
        for number in range(3):
            visit(number)
        until(lambda: door.call(remote_guests.guests) == 0, "a guest that is gone is still in")
        before = door.call(remote_guests.what_it_has)
        for number in range(6):
            visit(number)
        until(lambda: door.call(remote_guests.guests) == 0, "a guest that is gone is still in")
        # Less than one thing a guest stays.
        until(lambda: all(now <= was + 3 for now, was in zip(door.call(remote_guests.what_it_has), before, strict=True)),
              "guests that are gone leave something")


def test_the_door_is_closed(path: Path) -> None:
    """Guests are told, the name is free, and nobody comes any more."""
    with admitted(path) as (_, door, keeper), ramet.attach(str(path)) as shop:
        call = shop.service("shelf").wait.start()
        until(lambda: keeper.call(remote_guests.counts) == [1, 0], "it doesn't begin")
        door.close()
        with pytest.raises(ramet.NodeLostError):
            call.result()
        until(lambda: keeper.call(remote_guests.counts) == [1, 1], "it goes on")
        with pytest.raises(ramet.ConnectError, match="no node waits at"):
            ramet.attach(str(path))
        until(lambda: not path.exists(), "its name stays")


def test_the_owner_is_gone(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with admitted(path):
            shop = stack.enter_context(ramet.attach(str(path)))
            call = shop.service("own").find.start("tea")
            assert call.result() == 3
        with pytest.raises(ramet.NodeLostError):
            shop.service("own").find("tea")


def test_who_serves_is_gone(path: Path) -> None:
    with admitted(path) as (_, _, keeper), ramet.attach(str(path)) as shop:
        call = shop.service("shelf").wait.start()
        until(lambda: keeper.call(remote_guests.counts) == [1, 0], "it doesn't begin")
        keeper.kill()
        with pytest.raises(ramet.ServiceError, match="the one who serves that doesn't answer"):
            call.result()
        with pytest.raises(ramet.ServiceError, match="the one who serves that doesn't answer"):
            shop.service("shelf").find("tea")
        assert shop.service("own").find("tea") == 3


def test_the_service_must_allow_it_as_well(path: Path) -> None:
    with ramet.Tree(remember=False) as tree:
        other = tree.local()
        tree.admit(str(path), ["own", "later"])
        tree.serve("own", Shelf(), allow=other)
        with ramet.attach(str(path)) as shop:
            for name in "own", "later":
                with pytest.raises(ramet.ServiceError, match=f"no service '{name}'"):
                    shop.service(name).find("tea")
            tree.serve("later", Shelf(), allow="anyone")
            assert shop.service("later").find("tea") == 3


# ---------------------------------------------------------------------- limits, and what is wrong


def test_limits(path: Path) -> None:
    with admitted(path) as (_, door, keeper):
        door.call(remote_guests.set_limit, "guests_max", 1)
        door.call(remote_guests.set_limit, "requests_max", 3)
        with ramet.attach(str(path)) as shop:
            with pytest.raises(ramet.ConnectError, match="it has 1 guests, and lets no more in"):
                ramet.attach(str(path))
            waiting = [shop.service("shelf").wait.start() for _ in range(3)]
            with pytest.raises(ramet.ServiceError, match="too many requests of this guest wait"):
                shop.service("shelf").find("tea")
            waiting.pop().cancel()
            until(lambda: _asks(shop), "a request that has ended counts for ever")
        until(lambda: len(set(keeper.call(remote_guests.counts))) == 1, "what was asked for goes on")


def _asks(shop: ramet.Node) -> bool:
    try:
        return bool(shop.service("shelf").find("tea") == 3)
    except ramet.ServiceError:
        return False


def test_wrong_arguments(path: Path) -> None:
    with ramet.Tree(remember=False) as tree, ramet.Tree(remember=False) as other:
        with pytest.raises(TypeError, match="a list of names"):
            tree.admit(str(path), "shelf")
        many = [f"s{n}" for n in range(257)]
        for wrong in ([], [""], [1], {"shelf": None}, {"shelf": other}, {"shelf": other.local()}, many):
            with pytest.raises(ValueError, match="service"):
                tree.admit(str(path), wrong)    # type: ignore[arg-type]
        assert tree.nodes == []
        with pytest.raises(TypeError, match="name must be text"):
            tree.admit(path, ["shelf"])     # type: ignore[arg-type]
        with pytest.raises(ValueError, match="1 to 64 of"):
            tree.admit("a name", ["shelf"])
        tree.admit(str(path), ["shelf"])
        with pytest.raises(ramet.Error, match="the name is taken"):
            other.admit(str(path), ["shelf"])
        path.parent.chmod(0o755)
        with pytest.raises(ramet.Error, match="is open to others"):
            other.admit(str(path.parent / "more"), ["shelf"])
        path.parent.chmod(0o700)
        until(lambda: len(tree.nodes) == 1, "a door that couldn't be opened stays")
        with pytest.raises(ramet.ConnectError, match="no node waits"):
            ramet.attach(str(path.parent / "nobody"))


# ---------------------------------------------------------------------- hostile guests


def test_who_knocks_and_talks_nonsense_is_sent_away(path: Path) -> None:
    with admitted(path):
        for nonsense in (b"\xff" * 100, config(ancestors=()), config(ancestors=[-1]), config(id="x"),
                         config(ancestors=[0] * 65), said(core.CALL, {"id": 7, "ancestors": [0]}), said(core.CONFIG, [1]),
                         pack_header(0x72, CONTROL, 0, 7, 0, 0, core.CONFIG, 0, 1 << 17)):
            with knocked(path) as sock:
                sock.sendall(nonsense)
                thrown_out(sock)
        with knocked(path) as silent, ramet.attach(str(path)) as shop:
            assert shop.service("own").find("tea") == 3
            silent.close()


def test_another_user_is_told_nothing() -> None:
    """Even where the folder and the socket have been opened to all."""
    needs.root()
    # Not in pytest's folder, which others may not enter.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own" / "shop"
        path.parent.mkdir(mode=0o700)
        with admitted(path):
            for open_to_all, mode in ((Path(folder), 0o755), (path.parent, 0o755), (path, 0o777)):
                open_to_all.chmod(mode)
            knock = (f"import os, socket; sock = socket.socket(socket.AF_UNIX); os.chdir({str(path.parent)!r}); "
                     f"os.setgid({NOBODY}); os.setuid({NOBODY}); sock.connect('shop'); print(sock.recv(100))")
            found = subprocess.run([sys.executable, "-S", "-c", knock], capture_output=True, text=True, timeout=100)
            assert found.stdout == "b''\n", found.stderr
            path.parent.chmod(0o700)
            with ramet.attach(str(path)) as shop:
                assert shop.service("own").find("tea") == 3


def test_a_hostile_guest_reaches_nothing(path: Path) -> None:
    """Forged sources, messages that are no requests, control of the tree, garbage: the door drops it."""
    with admitted(path) as (tree, door, keeper), entered(path) as sock, ramet.attach(str(path)) as shop:
        refused = tree.stats()["refused"]
        ask = ["own", "find", ["tea"], {}, {}]
        sock.sendall(b"".join([
            said(SERVICE, ask, src=9, authority=9, reply_to=2000), said(SERVICE, ask, authority=9, reply_to=2001),
            said(SERVICE, ask, dst=0, reply_to=2002), said(SERVICE, ask, dst=3, reply_to=2003),
            *(said(handle, value, reply_to=2004 + handle, flags=CONTROL)
              for handle in range(1, 30) if handle not in (core.END, SERVICE)
              for value in (None, [], [1], [[1], "x"], {"a": 1}, ["x"] * 5, [keeper.id, door.id])),
            *(said(SERVICE, value, reply_to=2100) for value in (
                None, [], ["own"], ["own", "find", ["tea"], {}, 1], [["own"], "find", [], {}, {}], {1: 2}, [*ask, 1])),
            *(said(core.CANCEL, [number], flags=CONTROL) for number in range(1100)),
            *(said(1000 + number, "a lie") for number in range(50)),
            said(SERVICE, ask, reply_to=3000)]))
        nobody, three = answers(sock, 2003, 3000)
        assert nobody == b"there is no node 3", "who calls a child that isn't grown waits for ever"
        assert values.decode(three) == [3]
        assert shop.service("own").find("tea") == 3 and keeper.call(remote_guests.counts) == [0, 0]
        assert tree.stats()["refused"] == refused, "its tree hears of it"
        sock.sendall(b"\xff" * 100)
        thrown_out(sock)
        assert shop.service("shelf").find("tea") == 3


def test_who_asks_and_never_reads_is_thrown_out(path: Path) -> None:
    with admitted(path) as (_, door, _), entered(path) as sock, ramet.attach(str(path)) as shop:
        door.call(remote_guests.set_limit, "unread_bytes_max", 100_000)
        frames = said(SERVICE, ["nobody's", "find", [], {}, {}], reply_to=2000) * 100
        with pytest.raises(ConnectionError):
            while True:
                sock.sendall(frames)
        assert shop.service("own").find("tea") == 3
