"""Coroutine functions to be called in nodes of Python 3."""


async def double(number):
    return number * 2
