"""What the stress test calls in nodes, and the soak: on 2.7 as well."""
import itertools
import os
import subprocess
import threading
import time

HANGS = -1      # what a generator yields before it hangs
CASTS = itertools.count()
OPEN = set()    # what has begun and not ended
NUMBERS = itertools.count()


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


def items(count, pause=0):
    me = next(NUMBERS)
    OPEN.add(("items", me))
    try:
        for number in range(count):
            if pause and number % 50 == 0:
                time.sleep(pause / 1e6)
            yield number
    finally:
        OPEN.discard(("items", me))


def hanging(count):
    """Ends only when it is left."""
    me = next(NUMBERS)
    OPEN.add(("hanging", me))
    try:
        for number in range(count):
            yield number
        yield HANGS
        while True:
            time.sleep(0.002)
    finally:
        OPEN.discard(("hanging", me))


class Served(object):
    """What services are asked for."""

    def work(self, number, seconds):
        me = next(NUMBERS)
        OPEN.add(("work", me))
        try:
            threading.Event().wait(seconds)
            return number
        finally:
            OPEN.discard(("work", me))

    def items(self, count):
        return items(count)


def cast():
    next(CASTS)


def count_casts():
    """How many have come. Asked once."""
    return next(CASTS)


def still_open():
    return sorted(OPEN)


def left():
    """What a node has besides the usual: its threads' names, and its descriptors."""
    import threading
    return sorted(thread.name for thread in threading.enumerate()), len(os.listdir("/proc/self/fd"))
