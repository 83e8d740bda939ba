"""Calls to a node that doesn't read: what waits for it is bounded, and who makes more waits, or is told."""
from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

import ramet
from ramet.backlog import WAITING_BYTES_MAX
from support import remote, remote_bulk

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
        os.kill(pid, signal.SIGSTOP)
        try:
            yield tree, middle, leaf, pid
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def fill(leaf: ramet.Node) -> None:
    """Make casts until one isn't sent any more."""
    impatient = leaf.options(timeout=0.05)
    for _ in range(3 * WAITING_BYTES_MAX // len(ITEM)):
        try:
            impatient.cast(remote_bulk.size_of, ITEM)
        except ramet.CallTimeout as error:
            assert "doesn't read them fast enough" in str(error)
            return
    raise AssertionError("there is no bound")


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
