"""Calls to a node that doesn't read, or isn't connected: what waits for it is bounded, and who makes more waits, or is told."""
from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import ramet
from ramet import backlog
from ramet.backlog import WAITING_BYTES_MAX
from ramet.kernel.core import Core
from support import remote, remote_bulk
from support.eventually import stop

ITEM = b"x" * 8000


@pytest.fixture
def branch() -> Iterator[tuple[ramet.Tree, ramet.Node, ramet.Node, int]]:
    """A tree, a node, one below it that is stopped, and that one's process."""
    with ramet.Tree() as tree:
        middle = tree.local()
        leaf = middle.local()
        leaf.call(remote_bulk.size_of, ITEM)
        middle.call(remote_bulk.size_of, ITEM)
        pid = leaf.call(remote.pid)
        stop(pid)
        try:
            yield tree, middle, leaf, pid
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def fill(leaf: ramet.Node, why: str = "doesn't read them fast enough", item: bytes = ITEM) -> None:
    """Make casts until one isn't sent any more; not only since the node between hasn't come to read what it will take."""
    impatient = leaf.options(timeout=0.05)
    for _ in range(3 * WAITING_BYTES_MAX // max(len(item), 1000)):
        for_good = is_stopped(leaf)
        try:
            impatient.cast(remote_bulk.size_of, item)
        except ramet.CallTimeout as error:
            assert why in str(error)
            if for_good:
                return
    raise AssertionError("there is no bound")


def is_stopped(leaf: ramet.Node) -> bool:
    """Whether the node between wants no more of it, or it isn't connected."""
    link = leaf._tree._core.routes.link_to(leaf.id)
    if link is None or not leaf._state.open:
        return True
    return any(getattr(flow, "stopped", False) for key, flow in list(link.queue.flows.items()) if key[1] == leaf.id)


def waiting(tree: ramet.Tree, node: ramet.Node) -> int:
    link = tree._core.routes.link_to(node.id)
    assert link is not None
    return link.queue.size


def test_who_makes_calls_waits_and_others_do_not(branch: tuple[ramet.Tree, ramet.Node, ramet.Node, int]) -> None:
    tree, middle, leaf, pid = branch
    fill(leaf)
    assert waiting(tree, leaf) < WAITING_BYTES_MAX + (4 << 20)
    with pytest.raises(ramet.CallTimeout):
        leaf.options(timeout=0.05).cast(remote_bulk.size_of, ITEM)
    assert middle.start(remote_bulk.size_of, ITEM).result() == len(ITEM)    # over the same link
    sent = threading.Event()

    def patient() -> None:
        assert leaf.start(remote_bulk.size_of, ITEM).result() == len(ITEM)
        sent.set()
    thread = threading.Thread(target=patient)
    thread.start()
    os.kill(pid, signal.SIGCONT)
    thread.join()
    assert sent.is_set()


def test_an_event_loop_is_told(branch: tuple[ramet.Tree, ramet.Node, ramet.Node, int]) -> None:
    _, middle, leaf, _ = branch
    fill(leaf)

    async def main() -> None:
        for make in (leaf.start, leaf.cast, leaf.stream):
            with pytest.raises(ramet.BusyError, match="await some"):
                make(remote_bulk.size_of, ITEM)
        assert await middle.start(remote_bulk.size_of, ITEM) == len(ITEM)

    asyncio.run(main())


def test_who_waits_hears_of_the_loss(branch: tuple[ramet.Tree, ramet.Node, ramet.Node, int]) -> None:
    _, _, leaf, pid = branch
    fill(leaf)
    found: list[object] = []

    def patient() -> None:
        found.append(leaf.start(remote_bulk.size_of, ITEM).exception())
    thread = threading.Thread(target=patient)
    thread.start()
    os.kill(pid, signal.SIGKILL)
    thread.join()
    assert isinstance(found[0], ramet.NodeLostError)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[ramet.Node, Callable[[], object]]]:
    """A node whose interpreter is started when the function beside it is called."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with ramet.Tree() as tree:
        words = ["sh", "-c", 'read open <"$0" && exec "$@"', str(gate)]
        node = tree.command(words, python=sys.executable, connect_timeout_s=300)
        yield node, lambda: gate.write_text("open\n")


@pytest.mark.parametrize("item", [ITEM, b""], ids=["large", "small"])
def test_calls_before_it_is_connected_are_bounded(
        gated: tuple[ramet.Node, Callable[[], object]], item: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    node, connect = gated
    most = 4 << 20      # less than there is, so that it doesn't take long
    monkeypatch.setattr(backlog, "WAITING_BYTES_MAX", most)
    node.cast(remote_bulk.size_of, item)
    tracemalloc.start()
    try:
        fill(node, "isn't connected yet", item)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most * 3 // 4 < held < most * 3 // 2     # what these calls really take here
    begun = threading.Event()
    answers: list[int] = []

    def patient() -> None:
        begun.set()
        answers.append(node.start(remote_bulk.size_of, b"patient").result())
    thread = threading.Thread(target=patient)
    thread.start()
    begun.wait()
    connect()
    thread.join()
    assert answers == [7] and node._state.held_bytes == 0 and not node._state.held
    assert node.call(remote_bulk.size_of, ITEM) == len(ITEM)


def test_an_event_loop_is_told_before_it_is_connected(gated: tuple[ramet.Node, Callable[[], object]]) -> None:
    node, connect = gated
    service = node.service("none")
    fill(node, "isn't connected yet")

    async def main() -> None:
        for make in (node.start, node.cast, node.stream):
            with pytest.raises(ramet.BusyError, match="isn't connected yet.*await some"):
                make(remote_bulk.size_of, ITEM)
        with pytest.raises(ramet.BusyError, match="isn't connected yet"):
            service.method.start(ITEM)
        connect()
        await node
        with pytest.raises(ramet.ServiceError):     # sent, and answered
            while True:
                try:
                    await service.method.start(ITEM)
                except ramet.BusyError:
                    await asyncio.sleep(0.01)

    asyncio.run(main())


def test_who_waits_hears_that_it_could_not_be_connected(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    found: list[object] = []
    begun = threading.Event()
    with ramet.Tree() as tree:
        node = tree.command(["sh", "-c", 'read open <"$0"; exit 3', str(gate)], connect_timeout_s=300)
        fill(node, "isn't connected yet")

        def patient() -> None:
            begun.set()
            found.append(node.start(remote_bulk.size_of, ITEM).exception())
        thread = threading.Thread(target=patient)
        thread.start()
        begun.wait()
        gate.write_text("open\n")
        thread.join()
        assert isinstance(found[0], ramet.ConnectError)


def test_map_goes_on_where_an_item_fills_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next item is sent by who reads the answer to one, and can't wait until the one between is sent: all that were left
    failed by BusyError."""
    def too_much(core: Core, node: ramet.Node) -> bool:
        link = core.routes.link_to(node.id)
        return threading.get_ident() in (core.loop.thread, link and link.parsing)
    with ramet.Tree() as tree:
        node = tree.local().wait()
        monkeypatch.setattr(backlog, "_too_much", too_much)
        assert list(tree.map(abs, range(100), [node])) == list(range(100))
