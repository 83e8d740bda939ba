"""An object with asynchronous methods, to be served."""
import asyncio

from support.remote_streams import LOG


class AsyncSource:
    """Awaits, and yields in between."""

    def __init__(self):
        self.loops = set()

    async def add(self, a, b):
        await asyncio.sleep(0)
        self.loops.add(id(asyncio.get_event_loop()))
        return a + b

    async def rows(self, to):
        try:
            for n in range(to):
                self.loops.add(id(asyncio.get_event_loop()))
                await asyncio.sleep(0)
                yield n
        finally:
            await asyncio.sleep(0)
            LOG.append("end")

    async def for_ever(self):
        LOG.append("begun")
        try:
            await asyncio.sleep(1000)
        finally:
            LOG.append("ended")

    async def fail(self):
        raise KeyError("async")

    async def fail_later(self):
        yield 1
        raise KeyError("async")

    def count_loops(self):
        return len(self.loops)


async def this_loop():
    return id(asyncio.get_event_loop())


async def read(id, service, to):
    """A stream of a service, read by a coroutine of a node."""
    import ramet
    return [n async for n in ramet.here().peer(id).service(service).rows(to)]


class OneByOne:
    """Coroutines that take their time to clean up."""

    def __init__(self):
        self.begun = self.cleaning = self.inside = self.most = 0
        self.rests = None

    async def work(self):
        self.rests = self.rests or asyncio.Semaphore(0)
        self.begun += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(600)
        finally:
            self.cleaning += 1
            await self.rests.acquire()
            self.inside -= 1

    async def go_on(self):
        self.rests.release()

    def seen(self):
        return self.begun, self.cleaning, self.most
