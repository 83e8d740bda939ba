"""What compat/pair_controller.py does with asyncio: it runs in controllers of every Python from 3.10 on."""
from __future__ import annotations

import asyncio
import functools

import ramet
from support import (
    remote,
    remote_async,
    remote_async_streams,
    remote_cancel,
    remote_cancel_async,
    remote_channels,
    remote_streams,
)


def check(node: ramet.Node) -> None:
    """Calls, streams and channels of that node, awaited; and coroutines there, if it has asyncio."""
    asyncio.run(_check(node))


async def _check(node: ramet.Node) -> None:
    assert [n async for n in node.stream(remote_streams.count, 3000)] == list(range(3000))
    assert await asyncio.gather(*(node.start(remote.add, n, b=1) for n in range(50))) == list(range(1, 51))
    there, back = node._tree.channel(5), node._tree.channel(5)
    call = node.options(lane="*").start(remote_channels.echo, there, back)
    sending = asyncio.create_task(_send_all(there))
    assert [n async for n in back] == list(range(200))
    await sending
    await call
    if await node.start(remote_cancel.has_asyncio):
        assert await node.start(remote_async.double, 2) == 4
        assert [n async for n in node.stream(remote_async_streams.count, 3000)] == list(range(3000))
        with node.stream(remote_async_streams.count, 1000000) as stream:
            assert await anext(stream) == 0
        await node.start(remote_cancel.forget)
        asleep = node.start(remote_cancel_async.sleep)
        while await node.start(remote_cancel.noted) != ["begun"]:
            pass
        task = asyncio.create_task(_result(asleep))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() and isinstance(asleep.exception(), ramet.CallCancelled)
        while await node.start(remote_cancel.noted) != ["begun", "ended"]:
            pass


async def _result(call: ramet.Call[object]) -> object:
    return await call


async def _send_all(channel: ramet.Channel) -> None:
    for n in range(200):
        await channel.asend(n)
    await asyncio.get_running_loop().run_in_executor(None, functools.partial(channel.close))
