"""Modules that are packed while the node runs the first of them: it waits for those that are coming, and asks for none of them.

The keeper's next piece is held back by the test, so that nothing here depends on who is faster.
"""
from __future__ import annotations

import errno
import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ramet
from ramet import coming
from ramet.modules.server import ModuleServer
from support import sources

BARE = [sys.executable, "-S"]   # it sees nothing but the standard library
PARTS = 2 * coming.MODULES_MIN


@pytest.fixture(autouse=True)
def empty_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was ever packed, and no host has been seen."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ModuleType]:
    """A module of the program's own, and a library of 72 modules of 10 KB, of which each imports the next."""
    files = {"chain/__init__.py": ""}
    for n in range(PARTS):
        below = f"from chain.p{n + 1} import total as below\n" if n + 1 < PARTS else "def below(): return 0\n"
        names = "".join(f"name_{i} = '{hashlib.sha256(b'%d %d' % (n, i)).hexdigest()}'\n" for i in range(130))
        files[f"chain/p{n}.py"] = below + "def total(): return below() + 1\n" + names
    sources.write(tmp_path / "site-packages", files)
    sources.write(tmp_path / "own", {
        "useschain.py": "from chain.p0 import total as first\ndef total(): return first()\n",
        "useslater.py": "def total():\n    from chain.p0 import total\n    return total()\n"})  # fmt: skip
    with sources.on_path(tmp_path / "site-packages", tmp_path / "own"):
        import useschain  # type: ignore[import-not-found]
        import useslater  # type: ignore[import-not-found]
        useschain.later = useslater
        yield useschain


@pytest.fixture
def begun() -> threading.Event:
    """Set when something is coming to a node."""
    return threading.Event()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, begun: threading.Event) -> list[Callable[[], Any]]:
    """Steps that the keeper would take, and doesn't until the test takes them."""
    steps: list[Callable[[], Any]] = []
    begin = coming.Coming.begin

    def hold(self: coming.Coming, node: ramet.Node | None, *args: Any) -> None:
        self._soon = steps.append
        begin(self, node, *args)
        if node is not None:
            begun.set()
    monkeypatch.setattr(coming.Coming, "begin", hold)
    return steps


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a node has been told of all that is coming to it, and its request has been answered.

    What a node has told of itself is acted on when its request is here, which follows: else modules could come between the two,
    and it would have none to ask for.
    """
    answered = threading.Event()
    shipper = ramet.shipping.Shipper  # type: ignore[attr-defined]
    take, known = shipper._next_request, shipper.installed_known
    told: list[tuple[Any, ramet.Node]] = []

    def taken(self: Any, *args: Any) -> None:
        while told:
            known(*told.pop(0))
        take(self, *args)
        answered.set()
    monkeypatch.setattr(shipper, "_next_request", taken)
    monkeypatch.setattr(shipper, "installed_known", lambda self, node: told.append((self, node)))
    return answered


def run(steps: list[Callable[[], Any]]) -> int:
    """Take all steps, and those that follow. Returns how many there were."""
    count = 0
    while steps:
        steps.pop(0)()
        count += 1
    return count


def test_a_node_waits_for_what_is_coming(own: ModuleType, held: list[Callable[[], Any]], asked: threading.Event) -> None:
    with ramet.Tree() as tree:
        node = tree.local(python=BARE)
        call = node.start(own.total)
        assert asked.wait(60)
        before = tree.stats()["modules_sent"]
        assert not call.done() and ("cp%d%d" % sys.version_info[:2], f"chain.p{PARTS - 1}") not in node._state.has
        assert run(held) >= PARTS // coming.PIECE_MODULES - 1
        assert call.result(60) == PARTS
        assert tree.stats()["module_requests"] == 1     # the first, which said what is installed there
        sent = tree.stats()["modules_sent"]
        assert sent - before == PARTS - coming.PIECE_MODULES + 1
        assert node.call(own.total) == PARTS and tree.stats()["modules_sent"] == sent


def test_what_is_coming_is_sent_before_anything_else(own: ModuleType, held: list[Callable[[], Any]],
                                                     asked: threading.Event) -> None:
    """The keeper never takes another step: another node's call brings the first one what it waits for."""
    with ramet.Tree() as tree:
        call = tree.local(python=BARE).start(own.total)
        assert asked.wait(60)
        node = tree.local(python=BARE)
        assert node.call(own.total) == PARTS
        assert call.result(60) == PARTS
        assert tree.stats()["module_requests"] == 1
        run(held)


def test_who_waits_for_it_in_a_lane_and_is_cancelled_ends_when_it_comes(own: ModuleType, held: list[Callable[[], Any]],
                                                                       asked: threading.Event) -> None:
    with ramet.Tree() as tree:
        work = tree.local(python=BARE).options(lane="work")
        call = work.start(own.total)
        assert asked.wait(60)
        assert call.cancel()
        with pytest.raises(ramet.CallCancelled):
            call.result(60)
        following = work.start(own.total)
        run(held)
        assert following.result(60) == PARTS


def test_what_can_not_be_packed_after_all_is_told(own: ModuleType, held: list[Callable[[], Any]], asked: threading.Event,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    with ramet.Tree() as tree:
        call = tree.local(python=BARE).start(own.total)
        assert asked.wait(60)

        def fail(*_: Any) -> None:
            raise OSError("the disk is gone")
        with monkeypatch.context() as broken:
            broken.setattr(ModuleServer, "records", fail)
            run(held)
        with pytest.raises(ramet.RemoteError, match="can't be packed: OSError.*the disk is gone"):
            call.result(60)


def test_what_can_not_be_packed_just_now_comes_later(own: ModuleType, held: list[Callable[[], Any]], asked: threading.Event,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """The node was told that it can't be had, and remembers that."""
    real, fails = ModuleServer.records, [OSError(errno.EMFILE, "Too many open files")]

    def fail_once(*args: Any) -> Any:
        if fails:
            raise fails.pop()
        return real(*args)
    with ramet.Tree() as tree:
        call = tree.local(python=BARE).start(own.total)
        assert asked.wait(60)
        monkeypatch.setattr(ModuleServer, "records", fail_once)
        run(held)
        assert call.result(60) == PARTS and not fails


def test_a_node_that_is_lost_gets_nothing_more(own: ModuleType, held: list[Callable[[], Any]], asked: threading.Event) -> None:
    with ramet.Tree() as tree:
        node = tree.local(python=BARE)
        call = node.start(own.total)
        assert asked.wait(60)
        node.kill()
        with pytest.raises(ramet.ClosedError):
            call.result(60)
        sent = tree.stats()["modules_sent"]
        run(held)
        assert tree.stats()["modules_sent"] == sent and not tree._shipper.coming._waiting


def test_a_fork_asks_for_what_was_coming_to_its_template(own: ModuleType, held: list[Callable[[], Any]],
                                                         begun: threading.Event) -> None:
    with ramet.Tree() as tree:
        options = {"preload": ["useslater"], "python": BARE}
        tree.fork(**options).wait(60)
        assert begun.wait(60)
        assert tree.fork(**options).start(own.later.total).result(60) == PARTS
