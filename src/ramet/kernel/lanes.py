"""Lanes other than the main one: a thread for each name, a thread for each call, the asyncio loop. Late part of the kernel.

A named lane runs its calls in order; its thread ends when nothing has come for a while. Must not know how messages travel.
"""
import threading

from ramet.kernel import compat, values
from ramet.kernel.errors import Error
from ramet.kernel.frames import ERROR

MYPY = False
if MYPY:
    from typing import Any, Dict

    from ramet.kernel.calls import Calls
    from ramet.kernel.core import Message


THREADS_MAX = 256       # calls of lane ANY at once, and named lanes; more wait or fail
LANES = {}  # type: Dict[str, Any]
LOCK = threading.Lock()
ROOM = threading.Semaphore(THREADS_MAX)
ASYNCIO = []  # type: Any


def start(calls, lane, message, fn, args, kwargs):
    # type: (Calls, str, Message, Any, Any, Any) -> None
    """Run a call in a lane; returns at once."""
    job = calls, message, fn, args, kwargs
    if lane == "asyncio":
        _start_coroutine(*job)
    elif lane == "*":
        ROOM.acquire()
        _thread(_run_one, job)
    else:
        with LOCK:
            if lane in LANES:
                LANES[lane].append(job)
                return
            if len(LANES) >= THREADS_MAX:
                raise Error("this node has %d lanes already" % THREADS_MAX)
            LANES[lane] = compat.deque([job])
        _thread(_run_lane, (lane,))


def _thread(target, args):
    # type: (Any, Any) -> None
    thread = threading.Thread(target=target, args=args)
    thread.daemon = True
    thread.start()


def _run_one(*job):
    # type: (*Any) -> None
    try:
        run(*job)
    finally:
        ROOM.release()


def _run_lane(lane):
    # type: (str) -> None
    while True:
        with LOCK:
            if not LANES[lane]:
                del LANES[lane]
                return
            job = LANES[lane].popleft()
        run(*job)


def run(calls, message, fn, args, kwargs):
    # type: (Calls, Message, Any, Any, Any) -> None
    """Run a call in this thread and send its reply."""
    flags = 0
    try:
        chunks = values.encode(fn(*args, **kwargs), calls.context(message.authority), "result")
    except BaseException:
        chunks = calls.failure(message)
        flags = ERROR
    calls.finish(message, chunks, flags)


def _start_coroutine(calls, message, fn, args, kwargs):
    # type: (Calls, Message, Any, Any, Any) -> None
    import asyncio
    with LOCK:
        if not ASYNCIO:
            ASYNCIO.append(asyncio.new_event_loop())
            _thread(ASYNCIO[0].run_forever, ())

    def finished(future):
        # type: (Any) -> None
        run(calls, message, future.result, (), {})

    def begin():
        # type: () -> None
        try:
            task = ASYNCIO[0].create_task(fn(*args, **kwargs))
        except Exception:       # other arguments were expected, or it isn't a coroutine function
            calls.finish(message, calls.failure(message), ERROR)
        else:
            task.add_done_callback(finished)
    ASYNCIO[0].call_soon_threadsafe(begin)
