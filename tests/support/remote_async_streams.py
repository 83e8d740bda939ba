"""Asynchronous generators that tests run in nodes of Python 3.6 and newer."""
import asyncio

from support import remote_streams


async def count(to, size=0, pause=None):
    for n in range(to):
        if pause is not None:
            await asyncio.sleep(pause)
        yield (n, b"x" * size) if size else n


async def noted(to, fail_at=-1, wait_at=-1):
    """Notes what becomes of it, and cleans up by awaiting."""
    log = remote_streams.LOG
    try:
        for n in range(to):
            if n == fail_at:
                raise ValueError("at %d" % n)
            if n == wait_at:
                log.append("waits")
                await asyncio.sleep(1000)
            log.append(n)
            yield n
    except GeneratorExit:
        log.append("exit")
        raise
    except asyncio.CancelledError:
        log.append("cancelled")
        raise
    finally:
        await asyncio.sleep(0.01)
        log.append("end")


class Steps:
    """An asynchronous iterator that is no generator."""

    def __init__(self, to):
        self.left = to

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


async def tasks():
    """Is it one task from first to last?"""
    for _ in range(3):
        yield id(asyncio.current_task())
        await asyncio.sleep(0)


async def collect(items):
    return [item async for item in items]


async def first_of(items, many):
    found = []
    async for item in items:
        found.append(item)
        if len(found) == many:
            return found


async def gave_up(items):
    """Waits for an item in vain, and gets the next one all the same."""
    try:
        await asyncio.wait_for(items.__anext__(), 0.05)
    except asyncio.TimeoutError:
        remote_streams.LOG.append("gave up")
    return [item async for item in items]
