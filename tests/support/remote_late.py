"""Coroutines whose event loop comes late: what test_attaching.py runs in nodes of Python 3."""
import asyncio
import os
import time

from ramet.kernel import start
from support import remote_lasting


def hold_event_loops(path):
    """Let no event loop be made before there is that file."""
    make = asyncio.new_event_loop

    def make_late():
        while not os.path.exists(path):
            time.sleep(0.01)
        return make()
    asyncio.new_event_loop = make_late


def waiting():
    """How many coroutines wait for their event loop."""
    lanes = start.node.calls.lanes
    return len(lanes.tasks.queue) if lanes and lanes.tasks else 0


def lay_aside():
    """Let the thread that brings calls into their lanes come late: just when the node has seen that nothing runs any more."""
    held, lanes = start.node.held, start.node.calls.lanes
    settled = held.settled
    lanes.drain = bool

    def begin():
        found = settled()
        if found and "drain" in lanes.__dict__:
            del lanes.drain
            lanes.drain()
            while not lanes.running:
                time.sleep(0.01)
        return found
    held.settled = begin


def aside():
    """How many calls haven't come into their lanes."""
    return len(start.node.calls.aside)


async def work(name):
    """Remember it, and when it was ended."""
    remote_lasting.items.append(name)
    try:
        await asyncio.sleep(1000)
    finally:
        remote_lasting.ended.append(name)


async def state():
    """As there, behind all that came before."""
    return remote_lasting.state()
