"""What the stress test calls in nodes."""
import asyncio
import os
import subprocess
import time


def quick(number):
    return number


def blocking(number, seconds):
    time.sleep(seconds)
    return number


def subprocess_of(number, seconds):
    subprocess.call(["sleep", str(seconds)])
    return number


def busy(number, steps):
    total = 0
    for step in range(steps):
        total += step
    return number


def failing(number):
    raise ValueError(number)


async def waiting(number, seconds):
    await asyncio.sleep(seconds)
    return number


def items(count):
    for number in range(count):
        yield number


def left():
    """What a node has besides the usual: its threads' names, and its descriptors."""
    import threading
    return sorted(thread.name for thread in threading.enumerate()), len(os.listdir("/proc/self/fd"))
