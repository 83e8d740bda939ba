"""asyncio: the same objects as for threads, in any loop; what ends a task ends its work over there; no thread for each call."""
from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import needs, remote, remote_async, remote_hostile
from support.eventually import HANGS_S

Main = Callable[[], Coroutine[Any, Any, None]]

uvloop: Any = None
with contextlib.suppress(ImportError):
    uvloop = importlib.import_module("uvloop")
    uvloop.new_event_loop().close()     # libuv keeps a pipe from its first loop on, for as long as the process lives


def run_by_uvloop(main: Main) -> None:
    if uvloop is None:
        needs.lacking("uvloop for this Python")
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def run_by_asyncio(main: Main) -> None:
    asyncio.run(main())


@pytest.fixture(params=[run_by_asyncio, run_by_uvloop])
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    return request.param  # type: ignore[no-any-return]


def held_back(tree: ramet.Tree, gate: Path) -> ramet.Node:
    """A node that connects when that file is there."""
    return tree.command(["sh", "-c", 'until [ -e "$0" ]; do sleep 0.01; done; exec "$@"', str(gate)], python=[sys.executable])


async def ended(node: ramet.Node) -> None:
    """Wait until the node's main lane is free: until what ran there has ended."""
    assert await asyncio.wait_for(node.start(remote.add, 1), HANGS_S) == 1


def test_leaving_the_block_takes_no_thread_of_the_loop_s(run: Callable[[Main], None]) -> None:
    """All of them may wait for nodes of this tree: it hung."""
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            loop.set_default_executor(pool)
            async with ramet.Tree() as tree:
                node = await tree.local()
                waiting = loop.run_in_executor(None, node.call, remote.sleep, 1000)
                await node.options(lane="other").start(abs, -1)
            with pytest.raises(ramet.ClosedError):
                await waiting

    run(main)


def test_a_tree_in_a_loop(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with ramet.Tree() as tree:
            node = await tree.local()
            assert await node.start(remote.add, 1, 2) == 3
            assert await node.start(remote_async.double, 4) == 8
            assert await asyncio.gather(*(node.start(remote.add, n) for n in range(50))) == list(range(50))
            with pytest.raises(ValueError, match="x"):
                await node.start(remote.fail, "x")
        with pytest.raises(ramet.ClosedError):
            node.start(remote.add, 1)

    run(main)


def test_what_ends_a_task_ends_its_work(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with ramet.Tree() as tree:
            node = await tree.local()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(node.start(remote.sleep, 1000), 0.1)
            await ended(node)
            task = asyncio.ensure_future(asyncio.wait_for(node.start(remote.sleep, 1000), None))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await ended(node)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="not on this machine: asyncio.TaskGroup and timeout in this Python")
def test_a_task_group_and_a_timeout_end_all_work_of_theirs(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with ramet.Tree() as tree:
            nodes = [await tree.local() for _ in range(3)]

            async def work(node: ramet.Node) -> None:
                await node.start(remote.sleep, 1000)

            async def fail(node: ramet.Node) -> None:
                await node.start(remote.fail, "enough")

            found: Any = None
            try:
                async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined,unused-ignore]
                    for node in nodes[:2]:
                        group.create_task(work(node))
                    group.create_task(fail(nodes[2]))
            except BaseException as error:
                found = error
            assert [type(one).__mro__[1] for one in found.exceptions] == [ramet.RemoteError]
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.1):  # type: ignore[attr-defined,unused-ignore]
                    await nodes[0].start(remote.sleep, 1000)
            for node in nodes:
                await ended(node)

    run(main)


def test_no_thread_for_each_call(tree: ramet.Tree) -> None:
    async def main() -> None:
        node = await tree.local()
        before = threading.active_count()
        calls = [asyncio.ensure_future(asyncio.wait_for(node.options(lane="a").start(remote.add, n), None)) for n in range(300)]
        await asyncio.sleep(0)
        assert threading.active_count() <= before       # one of what was there before may end
        assert await asyncio.gather(*calls) == list(range(300))
        assert threading.active_count() <= before

    asyncio.run(main())


def test_several_loops_and_plain_threads_share_a_tree(tree: ramet.Tree) -> None:
    nodes = [tree.local() for _ in range(2)]
    failed: list[BaseException] = []

    async def many(start: int) -> None:
        for _ in range(20):
            calls = [nodes[n % 2].start(remote.add, n, start) for n in range(20)]
            assert await asyncio.gather(*calls) == [n + start for n in range(20)]

    def plain(start: int) -> None:
        for n in range(100):
            assert nodes[n % 2].call(remote.add, n, start) == n + start

    def guarded(fn: Callable[[int], Any], start: int) -> None:
        try:
            fn(start)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(fn, start)) for start, fn in enumerate(
        [lambda start: asyncio.run(many(start)), lambda start: asyncio.run(many(start)), plain, plain])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads)


def test_a_call_of_one_loop_is_awaited_in_another_and_by_a_thread(tree: ramet.Tree) -> None:
    call = tree.local().start(remote.add, 20, 22)

    async def wait() -> Any:
        return await call

    assert asyncio.run(wait()) == 42 and asyncio.run(wait()) == 42 and call.result() == 42


def test_the_loop_is_free_while_nodes_connect_and_work(tree: ramet.Tree, tmp_path: Path) -> None:
    """What they wait for is done by the loop meanwhile: if it were held up, this would hang."""
    gates = [tmp_path / name for name in ("connect", "work")]

    async def main() -> None:
        growing = [held_back(tree, gates[0]) for _ in range(2)]
        nodes = await asyncio.gather(*(wait(node) for node in growing), opened(gates[0]))
        await asyncio.gather(*(node.start(remote_hostile.until, str(gates[1])) for node in nodes if node), opened(gates[1]))

    async def wait(node: ramet.Node) -> ramet.Node:
        return await node

    async def opened(gate: Path) -> None:
        for _ in range(20):
            await asyncio.sleep(0.005)
        gate.touch()

    asyncio.run(main())


@pytest.mark.parametrize("connects", [True, False])
def test_a_wait_for_a_node_that_is_given_up_is_only_a_wait(run: Callable[[Main], None], connects: bool, tmp_path: Path,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    """It broke the node: who waited, too, or came later, got a CancelledError."""
    gate = tmp_path / "gate"

    async def main() -> None:
        async with ramet.Tree() as tree:
            node = held_back(tree, gate)
            other = asyncio.ensure_future(asyncio.wait_for(node, HANGS_S))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(node, 0.01)
            if connects:
                gate.touch()
                assert await other is node and await node is node and node.wait(HANGS_S) is node
                assert await node.local().start(remote.add, 1, 2) == 3
            else:
                node.kill()
                with pytest.raises(ramet.ClosedError):
                    await other
                with pytest.raises(ramet.ClosedError):
                    await node
            assert tree.stats()["refused"] == 0

    run(main)
    assert not caplog.records


def test_leaving_the_block_by_a_wait_that_is_given_up_closes_the_tree(run: Callable[[Main], None], tmp_path: Path) -> None:
    """InvalidStateError came out of ``close()``, which left the tree and a process running. The leak check looks for these."""
    kept: list[ramet.Node] = []

    async def main() -> None:
        async with ramet.Tree() as tree:
            node = held_back(tree, tmp_path / "never")
            kept.extend([node, node.local(), tree.local()])
            await asyncio.wait_for(asyncio.gather(*kept), 0.01)

    with pytest.raises(asyncio.TimeoutError):
        run(main)
    assert all(isinstance(node.error, ramet.ClosedError) for node in kept)


def test_leaving_the_block_by_an_exception_closes_the_tree(run: Callable[[Main], None]) -> None:
    kept: list[ramet.Node] = []

    async def main() -> None:
        with contextlib.suppress(LookupError):
            async with ramet.Tree() as tree:
                kept.append(await tree.local())
                kept[0].start(remote.sleep, 1000)
                raise LookupError
        assert isinstance(kept[0].error, ramet.ClosedError)

    run(main)
