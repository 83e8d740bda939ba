"""Coroutine functions that tests cancel in nodes of Python 3."""
import asyncio
import os
import time

from support import remote_cancel


async def sleep():
    remote_cancel.begin()
    try:
        await asyncio.sleep(1000)
    finally:
        remote_cancel.LOG.append("ended")


async def run_subprocess():
    fd = remote_cancel.written_to()
    process = await asyncio.create_subprocess_exec("sh", "-c", remote_cancel.SHELL % (fd, fd), pass_fds=[fd])
    remote_cancel.begin()
    await process.wait()


async def swallow(seconds):
    remote_cancel.begin()
    end = time.time() + seconds
    while time.time() < end:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass


async def leave():
    raise SystemExit(3)


async def pid():
    return os.getpid()
