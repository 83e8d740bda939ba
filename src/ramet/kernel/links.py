"""A link: the byte stream between a parent and a child, with what waits to be sent on it.

The only module besides ``loop`` that reads and writes descriptors. Must not know what messages mean: frames go to
``on_frame``. Any thread may ``send``: it writes straight to the descriptor when nothing is queued, else the keeper does.
One thread at a time reads: the keeper, or one that has borrowed the link while it waits for a reply.
"""
import os
import select
import sys

from ramet.kernel import compat, limits
from ramet.kernel.flow import FairQueue
from ramet.kernel.frames import LONG, Parser
from ramet.kernel.loop import IN, Poll, interrupted

MYPY = False
if MYPY:
    from typing import Any, Callable, List, Optional

    from ramet.kernel.loop import Loop


class Waiter(object):
    """What one thread waits with: it polls a pipe of its own, so that any other thread can wake it."""

    def __init__(self):
        # type: () -> None
        self.fds = compat.pipe()  # type: Any
        self.thread = compat.thread_id()
        self.poller = Poll()
        self.poller.register(self.fds[0], IN)

    def wake(self):
        # type: () -> None
        """End the wait. Any thread; costs nothing when the waiting thread itself calls it."""
        if compat.thread_id() != self.thread:
            try:
                os.write(self.fds[1], b"!")
            except (OSError, IndexError):
                pass    # full: it will wake anyway; closed: it doesn't wait

    def wait(self, seconds):
        # type: (Optional[float]) -> List[int]
        """Wait until woken, a descriptor is ready, or time is up. Returns the ready descriptors but its own."""
        try:
            ready = [fd for fd, _ in self.poller.poll(None if seconds is None else max(0, seconds * 1000))]
        except (OSError, select.error) as error:
            if not interrupted(error):
                raise
            return []
        if self.fds[0] in ready:
            os.read(self.fds[0], 99)
            ready.remove(self.fds[0])
        return ready

    def close(self, close=os.close):
        # type: (Callable[[int], None]) -> None
        """Give the pipe back. Only when its thread doesn't wait."""
        fds, self.fds = self.fds, ()
        for fd in fds:
            close(fd)

    __del__ = close


class Link(object):
    """The stream to a parent or a child. It can be sent to before it is open: what waits then goes out first.

    Args:
        on_frame: called with (link, header, frame) by whichever thread reads.
        on_lost: called once with (link, reason), on the keeper.

    Attributes:
        bytes_in, bytes_out: totals.
    """

    def __init__(self, loop, on_frame, on_lost):
        # type: (Loop, Callable[[Any, Any, bytes], Any], Callable[[Any, str], Any]) -> None
        self.loop = loop
        self.on_frame = on_frame
        self.on_lost = on_lost
        self.fd_in = self.fd_out = -1
        self.parser = Parser()
        self.queue = FairQueue()
        self.tail = b""  # type: Any    # of frames that were written in part
        self.read = os.read  # type: Any    # ``longs`` has better ones for long messages
        self.write = os.write  # type: Any
        self.writing = compat.new_lock()  # type: Any    # ``longs`` has a fair one
        self.reading = compat.new_lock()
        self.dead = False
        self.armed = False      # is the keeper told to write?
        self.postponed = False  # will the keeper write what was sent with `later`?
        self.borrower = None  # type: Optional[Waiter]
        self.parsing = 0        # the thread that handles frames now: it must not wait for others
        self.bytes_in = self.bytes_out = 0

    def open(self, fd_in, fd_out, data=b""):
        # type: (int, int, bytes) -> None
        """Begin to read and write; the descriptors, non-blocking, are the link's from now on. ``data`` was read already."""
        self.fd_in = fd_in
        with self.reading:
            if data:
                self._parse(data)
        with self.writing:
            self.fd_out = fd_out
            self._pump()
        self.loop.watch(fd_in, self._readable)
        if self.armed:
            self.loop.watch_write(fd_out, self._writable)

    def send(self, flow, flags, frame, later=False):
        # type: (Any, int, Any, bool) -> None
        """Send a frame. Any thread. Frames for a dead link are dropped: the sender hears of it by ``on_lost``.

        Args:
            later: more will follow at once: write when there is enough for a system call, at ``flush``, or after 1 ms.
        """
        with self.writing:
            if self.dead:
                return
            idle = self.fd_out >= 0 and not self.tail
            if idle and not later and not self.queue.size and not flags & LONG:
                self.tail = frame
            else:
                self.queue.push(flow, flags, frame)
            if idle:
                if not later or self.queue.size > limits.batch_bytes:
                    self._pump()
                elif not self.postponed:
                    self.postponed = True
                    self.loop.call_later(0.001, self._catch_up)

    def flush(self):
        # type: () -> None
        """Write what waits, as far as the descriptor takes it now."""
        if self.queue.size:
            with self.writing:
                if not self.tail and not self.dead:
                    self._pump()

    def _catch_up(self):
        # type: () -> None
        self.postponed = False
        self.flush()

    def borrow(self, waiter):
        # type: (Waiter) -> bool
        """Take the keeper's place as the reader of this link, until ``give_back``. Best before what wants a reply is sent.

        Returns:
            False if that can't be done now: another thread reads, or the system has neither epoll nor kqueue.
        """
        if not self.loop.shareable or not self.reading.acquire(False):
            return False
        if self.fd_in < 0 or self.dead:     # not before: the keeper may just be at its end
            self.reading.release()
            return False
        self.borrower = waiter
        self.loop.pause(self.fd_in, True)
        return True

    def read_until(self, ready, seconds=None):
        # type: (Callable[[], Any], Optional[float]) -> None
        """Read the borrowed link until ``ready()``, the link is dead, or the seconds have passed."""
        waiter = self.borrower
        fd = self.fd_in     # a signal's handler may wait, too, and see the link's end
        waiter.poller.register(fd, IN)  # type: ignore[union-attr]
        end = None if seconds is None else self.loop.now() + seconds
        try:
            while not ready() and not self.dead:
                left = None if end is None else end - self.loop.now()
                if left is not None and left <= 0:
                    break
                if fd in waiter.wait(left):  # type: ignore[union-attr]
                    self._read()
        finally:
            waiter.poller.unregister(fd)  # type: ignore[union-attr]

    def give_back(self, waiter):
        # type: (Waiter) -> None
        """Let the keeper read again. Harmless if it wasn't borrowed, or was given back already."""
        if self.borrower is waiter:
            self.borrower = None
            if not self.dead:
                self.loop.pause(self.fd_in, False)
            self.reading.release()

    def close(self, reason):
        # type: (str) -> None
        """Be lost: close the descriptors and say so to ``on_lost``. Any thread; the second time it does nothing."""
        with self.writing:
            if self.dead:
                return
            self.dead = True
        borrower = self.borrower
        if borrower:
            borrower.wake()
        self.loop.call_soon(self._bury, reason)

    def _bury(self, reason):
        # type: (str) -> None
        fds = {self.fd_in, self.fd_out} - {-1}
        for fd in fds:
            self.loop.forget(fd)
        if not self.reading.acquire(False):     # a borrower is at it: it sees `dead` when the hang-up wakes it
            self.loop.call_later(0.01, self._bury, reason)
            return
        with self.writing:
            self.fd_in = self.fd_out = -1
            self.queue = FairQueue()
            for fd in fds:
                os.close(fd)
        self.reading.release()
        self.on_lost(self, reason)

    def _readable(self):
        # type: () -> None
        if self.reading.acquire(False):
            try:
                if not self.dead:
                    self._read()
            finally:
                self.reading.release()

    def _read(self):
        # type: () -> None
        try:
            data = self.read(self.fd_in, max(65536, self.parser.need))
        except OSError as error:
            if interrupted(error):
                return
            data = b""
        if data:
            self._parse(data)
        elif data is not None:      # None: nothing that needs parsing
            self.close("its link was closed")

    def _parse(self, data):
        # type: (bytes) -> None
        self.bytes_in += len(data)
        self.parsing = compat.thread_id()
        try:
            for header, frame in self.parser.feed(data):
                self.on_frame(self, header, frame)
        except Exception:       # what was read is lost in part
            self.close("protocol error: %s" % sys.exc_info()[1])
        finally:
            self.parsing = 0

    def _writable(self):
        # type: () -> None
        with self.writing:
            if not self.dead:
                self._pump()

    def _pump(self):
        # type: () -> None
        """Write until there is nothing left or the descriptor takes no more. Holds the lock ``writing``."""
        while self.fd_out >= 0 and (self.tail or self.queue.size):
            if not self.tail:
                self.tail = self.queue.take(limits.write_bytes_max)
                if not self.tail:
                    break       # what waits has no credit
            try:
                count = self.write(self.fd_out, self.tail)
            except OSError as error:
                if not interrupted(error):
                    self.tail = b""
                    self.loop.call_soon(self.close, "its link was closed")
                    return
                self._arm(True)
                return
            self.bytes_out += count
            self.tail = self.tail[count:]
        if self.armed:
            self._arm(False)

    def _arm(self, on):
        # type: (bool) -> None
        self.armed = on
        if self.fd_in >= 0:
            self.loop.watch_write(self.fd_out, self._writable if on else None)
