"""The sending end of a stream: gathers items into messages and sends them under credit. Late part of the kernel.

Whoever has items adds them, in a thread that may block. ``granted`` and ``stop`` run on whichever thread reads the link.
"""
import struct

from ramet.kernel import compat, jobs, values
from ramet.kernel.faults import ProtocolError
from ramet.kernel.streams import (
    BATCH_BYTES,
    BATCH_ITEMS,
    ENDS,
    FAILS,
    HEAD,
    ITEMS,
    LINGER_S,
    WANTS,
    WINDOW_BYTES_MAX,
    WINDOW_ITEMS_MAX,
)

MYPY = False
if MYPY:
    from typing import Any, Callable, List, Optional

    from ramet.kernel.streams import Streams


# How a byte string begins.
SHORT, MIDDLE, LARGE = [struct.Struct(form) for form in (">BB", ">BH", ">BI")]


class Feed(object):
    """The sending end of a stream. One thread at a time adds to it.

    Args:
        peer, number: the receiving node, and what the stream is called between the two.
        flow: in which the messages travel.
        window: bytes and items that may be under way before anything was taken.

    Attributes:
        stopped: nobody wants any more.
        waiting: each is called once, when something may have changed of that.
        on_stop: called when that becomes so, and on_room when there is credit again; by the thread that reads the link.
    """

    def __init__(self, streams, peer, number, flow, window):
        # type: (Streams, int, int, int, Any) -> None
        self.core = streams.core
        self.streams = streams
        self.peer = peer
        self.number = number
        self.flow = flow
        self.window_bytes, self.window_items = window
        self.bytes = self.items = 0     # added, in all
        self.taken_bytes = self.taken_items = 0
        self.parts = []     # type: List[Any]   # gathered
        self.count = self.size = 0      # of these
        self.last = -1.0    # when something was sent
        self.armed = False  # will the keeper send what is gathered?
        self.wants = False  # did the last message say so, and no credit has come since then?
        self.lock = compat.new_lock()
        self.stopped = False
        self.waiting = []   # type: List[Callable[[], Any]]
        self.on_stop = self.on_room = None      # type: Optional[Callable[[], Any]]
        streams.feeds[peer, number] = self

    def room(self, size):
        # type: (int) -> bool
        """Whether an item of that size may be added now: there is credit, or all before it was taken; or nobody wants it."""
        under_way = self.items - self.taken_items
        return (not under_way or self.stopped or under_way < self.window_items
                and self.bytes - self.taken_bytes + size <= self.window_bytes)

    def add(self, chunks, seconds=None):
        # type: (List[Any], Optional[float]) -> bool
        """Send an encoded item, soon: at once if nothing was sent within the last millisecond. Blocks while there is no credit.

        Returns:
            False if nobody wants it, or there was no credit for so many seconds.
        """
        size = size_of(chunks)
        if not self.room(size):
            self.on_room = self.core.waiter().wake
            self.want()
            if not jobs.wait(self.core, lambda: self.room(size), self.core.routes.link_to(self.peer), seconds):
                return False
        self.put(chunks, size)
        return not self.stopped

    def put(self, chunks, size):
        # type: (List[Any], int) -> None
        """Send an encoded item for which there is room."""
        with self.lock:
            if self.count and self.size + size > BATCH_BYTES:
                self._flush()
            self.parts += chunks
            self.size += size
            self.count += 1
            self.bytes += size
            self.items += 1
            if self.size >= BATCH_BYTES or self.count >= BATCH_ITEMS or self.core.loop.now() - self.last > LINGER_S:
                self._flush()
            elif not self.armed:
                self.armed = True
                self.core.loop.call_later(LINGER_S, self._tick)

    def want(self):
        # type: () -> None
        """Say that there is no credit for the next item, and send what was gathered."""
        with self.lock:
            if self.count or not self.wants:
                self._flush(WANTS)

    def flush(self):
        # type: () -> None
        """Send what was gathered."""
        with self.lock:
            if self.count:
                self._flush()

    def end(self, flags, chunks):
        # type: (int, List[Any]) -> None
        """Send what was gathered, and what comes last: that isn't under credit."""
        with self.lock:
            self.parts += chunks
            self.count += 1
            self._flush(flags)
        self.forget()

    def forget(self):
        # type: () -> None
        """Nothing more will be added."""
        self.stopped = True
        self.streams.forget(self)

    def granted(self, taken_bytes, taken_items, window_bytes, window_items):
        # type: (int, int, int, int) -> None
        """Credit has come. On whichever thread reads the link."""
        if taken_bytes > self.bytes or taken_items > self.items:
            raise ProtocolError("more was taken of stream %d than was sent" % self.number)
        self.taken_bytes = max(self.taken_bytes, taken_bytes)
        self.taken_items = max(self.taken_items, taken_items)
        self.window_bytes = min(max(self.window_bytes, window_bytes), WINDOW_BYTES_MAX)
        self.window_items = min(max(self.window_items, window_items), WINDOW_ITEMS_MAX)
        self.wants = False      # before they are told: who comes too late for that asks for more
        self.wake()

    def wake(self):
        # type: () -> None
        """Tell who waits for credit. Any thread."""
        call = self.on_room
        if call:
            call()
        calls = []
        while self.waiting:     # all of them first, who came first before others: a large item gets its turn
            try:
                calls.append(self.waiting.pop(0))
            except IndexError:
                break       # another thread tells it
        for one in calls:
            one()

    def stop(self):
        # type: () -> None
        """Nobody wants any more. Any thread."""
        stopped, self.stopped = self.stopped, True
        self.wake()
        call = self.on_stop     # its owner may take it away meanwhile
        if call and not stopped:
            call()

    def _tick(self):
        # type: () -> None
        self.armed = False
        self.flush()

    def _flush(self, flags=0):
        # type: (int) -> None
        parts, self.parts = self.parts, []
        if not flags and self.waiting:
            flags = WANTS   # the last message's word counts there, and somebody waits still
        self.wants = flags == WANTS
        head = HEAD.pack(0xdd, self.count + 2, 0xce, self.number, flags)
        self.count = self.size = 0
        self.last = self.core.loop.now()
        if self.stopped and not flags & (ENDS | FAILS):
            return
        if not self.core.send(self.peer, ITEMS, [head] + parts, 0, 0, self.flow):
            self.stopped = True


def packed(data):
    # type: (bytes) -> List[Any]
    """Chunks of a byte string, as ``values.encode`` makes them: in a tenth of the time."""
    size = len(data)
    if size < 256:
        return [SHORT.pack(0xc4, size) + data]
    if size < values.BIG:
        return [MIDDLE.pack(0xc5, size) + data]
    return [LARGE.pack(0xc6, size), data, b""]


def size_of(chunks):
    # type: (List[Any]) -> int
    """Bytes of chunks: mostly there is one."""
    return len(chunks[0]) if len(chunks) == 1 else sum(map(len, chunks))
