"""Coroutine functions to be called in nodes of Python 3."""


import asyncio

import ramet
from support import remote_failures


async def unportable():
    # type: () -> object
    return asyncio.Lock()


async def double(number):
    return number * 2


async def answer_without_memory():
    """There is none for the answer, three times."""
    import sys
    import threading
    core, thread, left = sys.modules["ramet.kernel.start"].node.core, threading.get_ident(), [1, 2, 3]
    reply = core.reply

    def scarcely(*args):
        if left and threading.get_ident() == thread:
            left.pop()
            raise MemoryError
        return reply(*args)
    core.reply = scarcely


async def double_by_a_thread(number):
    """The loop goes on while a thread waits for what it is to run."""
    loop = asyncio.get_event_loop()
    if hasattr(asyncio, "to_thread"):
        return await asyncio.to_thread(ramet.here().itself.call, double, number)    # the thread belongs to this call
    return await loop.run_in_executor(None, ramet.here().itself.call, double, number)


async def double_and_block(number):
    return ramet.here().itself.call(double, number)


async def raise_circle():
    remote_failures.raise_circle()


async def yield_circle():
    yield 1
    remote_failures.raise_circle()


class Falls:
    """An asynchronous iterator that has nothing but what it must have."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        remote_failures.raise_circle()


class Circles:
    """A service that raises them, in coroutines."""

    async def one(self):
        remote_failures.raise_circle()

    async def many(self):
        yield 1
        remote_failures.raise_circle()
