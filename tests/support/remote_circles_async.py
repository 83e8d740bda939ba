"""Coroutine functions that call on from a node, in circles and not; and what calls them. For nodes of Python 3.7 and newer."""
import asyncio
import contextvars
import functools
import threading
import time

import ramet

GATE = threading.Event()
FOUND = []


def one():
    return 1


def found():
    return list(FOUND)


def open_gate():
    GATE.set()


def gated_one(lane):
    """Call into a lane of this node when somebody has opened the gate."""
    GATE.wait(60)
    return note(functools.partial(lane_of(lane).call, one))


def note(fn):
    """Call a function, and keep what came of it."""
    try:
        FOUND.append(fn())
    except Exception as error:
        FOUND.append("%s: %s" % (type(error).__name__, error))


def lane_of(lane):
    """This node, for calls into one of its lanes."""
    return ramet.here().itself.options(lane=lane)


def in_thread(fn, *args):
    """Have a thread of the loop's run something: what ``asyncio.to_thread`` does, on every Python."""
    run = functools.partial(contextvars.copy_context().run, fn, *args)
    return asyncio.get_event_loop().run_in_executor(None, run)


async def threaded(fn, *args):
    return await in_thread(fn, *args)


# Coroutines that wait for a lane, each in its way.


async def waits(lane):
    return await in_thread(lane_of(lane).call, one)


async def starts_and_waits(lane):
    call = lane_of(lane).start(one)
    return await in_thread(call.result)


async def waits_for_both(lane):
    return (await asyncio.gather(threaded(lane_of(lane).call, one), threaded(lane_of("another").call, one)))[0]


async def waits_for_a_task(lane):
    return await asyncio.ensure_future(threaded(lane_of(lane).call, one))


async def blocks(lane):
    return lane_of(lane).call(one)


# Coroutines that begin something like that, and go on.


async def leaves_a_task(lane):
    asyncio.ensure_future(threaded(note, functools.partial(lane_of(lane).call, one)))
    await in_thread(started)
    return "went on"


async def leaves_the_second(lane):
    task = asyncio.ensure_future(threaded(note, functools.partial(lane_of(lane).call, one)))
    done, _ = await asyncio.wait([task, asyncio.ensure_future(threaded(started))], return_when=asyncio.FIRST_COMPLETED)
    return "it was refused" if task in done else "went on"


async def waits_so_long(lane):
    task = asyncio.ensure_future(threaded(note, functools.partial(lane_of(lane).call, one)))
    done, _ = await asyncio.wait([task], timeout=0.05)
    return "it was refused" if done else "went on"


async def gives_up(lane):
    """Wait for two, of which one fails, and leave the other."""
    try:
        await asyncio.gather(threaded(lane_of("x").call, gated_one, lane), fails())
    except ValueError:
        return "went on"


async def fails():
    raise ValueError("one of two")


def started():
    """Wait until a call stands in line for the main lane of this node, or has been refused."""
    from ramet.kernel import start
    while not FOUND and not in_line(start.node.calls):
        time.sleep(0.002)


def in_line(calls):
    return calls.waiting or calls.lanes and any([lane.queue for lane in list(calls.lanes.named.values())])


# What calls them, from a lane.


def call(name, lane):
    return ramet.here().itself.call(globals()[name], lane)


def start_first(name, lane):
    """Wait for it only when it waits itself."""
    begun = ramet.here().itself.start(globals()[name], lane)
    started()
    return begun.result()


class Asks(object):
    """A service whose methods are coroutines."""

    async def waits(self, id, lane=None):
        return await in_thread(ramet.here().peer(id).options(lane=lane).call, one)

    async def starts_and_waits(self, id, lane=None):
        begun = ramet.here().peer(id).options(lane=lane).start(one)
        return await in_thread(begun.result)

    async def waits_for_both(self, id, lane=None):
        peer = ramet.here().peer(id).options(lane=lane)
        return (await asyncio.gather(threaded(peer.call, one), threaded(peer.options(lane="another").call, one)))[0]

    async def time_left(self, id):
        """Whether a call from here has no more time than this request."""
        return await in_thread(ramet.here().peer(id).options(lane="z").call, left)

    async def for_ever(self, id):
        return await in_thread(ramet.here().peer(id).options(lane="z").call, spin)


def left():
    from ramet.kernel import cancelling, start
    return cancelling.current_job(start.node.calls).left()


def spin():
    FOUND.append("begun")
    try:
        while True:
            time.sleep(0.001)
    finally:
        FOUND.append("ended")


def ask(id, service, method, *args):
    return getattr(ramet.here().peer(id).service(service), method)(*args)


def ask_within(seconds, id, service, method, *args):
    return getattr(ramet.here().peer(id).options(timeout=seconds).service(service), method)(*args)


def ask_first(id, service, method, *args):
    """The same in another lane, and wait for that only when something waits for this one."""
    begun = lane_of("asks").start(ask, id, service, method, *args)
    started()
    return begun.result()
