"""Coroutine functions to be called in nodes of Python 3."""


import asyncio

import ramet


async def unportable():
    # type: () -> object
    return asyncio.Lock()


async def double(number):
    return number * 2


async def double_by_a_thread(number):
    """The loop goes on while a thread waits for what it is to run."""
    loop = asyncio.get_event_loop()
    if hasattr(asyncio, "to_thread"):
        return await asyncio.to_thread(ramet.here().itself.call, double, number)    # the thread belongs to this call
    return await loop.run_in_executor(None, ramet.here().itself.call, double, number)


async def double_and_block(number):
    return ramet.here().itself.call(double, number)
