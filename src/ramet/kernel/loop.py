"""The loop: one thread, the *keeper*, that waits for descriptors and time: by epoll, kqueue, poll or select.

Must not know of frames. ``watch``, ``forget``, ``pause``, ``call_soon`` and ``call_later`` may be called by any thread;
callbacks run on the keeper and never block. A thread that waits for a reply may read a link in the keeper's place
(``links.Link.borrow``): with epoll or kqueue it takes the descriptor out of the keeper's sight with one system call and
without waking it. That is what makes a call two thread switches cheaper; docs/decisions/0003-borrowed-links.md has the figures.
"""
import errno
import os
import select
import sys

from ramet.kernel import compat

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

IN = 1      # the same values in poll and epoll
OUT = 4


def interrupted(error):
    # type: (BaseException) -> bool
    """Whether a system call just has to be made again."""
    return error.args[0] in (errno.EINTR, errno.EAGAIN)


class Select(object):
    """``select.select`` with the methods of a poll object: where the system has nothing better. Hang-ups alone aren't seen."""

    def __init__(self):
        # type: () -> None
        self.masks = {}  # type: Dict[int, int]
        self.register = self.modify = self.masks.__setitem__
        self.unregister = self.masks.__delitem__

    def poll(self, milliseconds=None):
        # type: (Optional[float]) -> List[Any]
        """[(descriptor, IN or OUT)] of those that are ready. No time, or a negative one: wait until one is."""
        fds = [[fd for fd, mask in list(self.masks.items()) if mask & bit] for bit in (IN, OUT)]
        wait = None if milliseconds is None or milliseconds < 0 else milliseconds / 1000.0
        ready = select.select(fds[0], fds[1], [], wait)
        return [(fd, IN) for fd in ready[0]] + [(fd, OUT) for fd in ready[1]]


Poll = getattr(select, "poll", Select)  # type: Any


class Timer(object):
    """What ``Loop.call_later`` returns."""

    def __init__(self, when, fn, args):
        # type: (float, Callable[..., Any], Any) -> None
        self.when = when
        self.fn = fn  # type: Optional[Callable[..., Any]]
        self.args = args

    def cancel(self):
        # type: () -> None
        """Make sure that it isn't called. Thread-safe; harmless when it was called already."""
        self.fn = None
        self.args = ()


class Loop(object):
    """Waits for descriptors and time, and calls back.

    Args:
        on_error: called with (exception) when a callback raises; the loop goes on.
    """

    def __init__(self, on_error):
        # type: (Callable[[BaseException], Any]) -> None
        self.on_error = on_error
        kind = getattr(select, "epoll", Poll)
        self.shareable = kind is not Poll   # may interests change while another thread waits? ``loop_late`` can turn it on
        self.poller = kind()
        self.readers = {}  # type: Dict[int, Any]
        self.writers = {}  # type: Dict[int, Any]
        self.masks = {}  # type: Dict[int, int]
        self.lock = compat.new_lock()
        self.timers = []  # type: List[Timer]
        self.soon = compat.deque()  # type: Any
        self.thread = 0
        self.running = True
        self.woken = False
        self.now = compat.monotonic
        self.wake_r, self.wake_w = compat.pipe()
        self.watch(self.wake_r, self._woken)

    def watch(self, fd, readable=None, writable=None):
        # type: (int, Optional[Callable[[], Any]], Optional[Callable[[], Any]]) -> None
        """Say what to call when a descriptor is ready (or has failed). None: no interest. Replaces what was said."""
        with self.lock:
            self._set(self.readers, fd, readable)
            self._set(self.writers, fd, writable)
            self._arm(fd, IN * bool(readable) | OUT * bool(writable))

    def watch_write(self, fd, writable):
        # type: (int, Optional[Callable[[], Any]]) -> None
        """Change only the interest in writing."""
        with self.lock:
            self._set(self.writers, fd, writable)
            mask = self.masks.get(fd, 0)
            self._arm(fd, mask | OUT if writable else mask & ~OUT)

    def pause(self, fd, paused):
        # type: (int, bool) -> None
        """Switch the interest in reading off and on again; who called it reads in the meantime."""
        with self.lock:
            if fd in self.readers:
                self.masks[fd] = mask = self.masks[fd] & ~IN | (not paused)
                self.poller.modify(fd, mask)
                if not self.shareable:
                    self._wake()

    def forget(self, fd):
        # type: (int) -> None
        """Lose all interest. Call it before the descriptor is closed. Harmless if it isn't watched."""
        self.watch(fd)

    def call_soon(self, fn, *args):
        # type: (Callable[..., Any], Any) -> None
        """Call from the keeper as soon as it can."""
        self.soon.append((fn, args))
        self._wake()

    def call_later(self, seconds, fn, *args):
        # type: (float, Callable[..., Any], Any) -> Timer
        """Call from the keeper when so many seconds have passed."""
        timer = Timer(self.now() + seconds, fn, args)
        with self.lock:
            at, end = 0, len(self.timers)
            while at < end:
                half = (at + end) // 2
                if self.timers[half].when > timer.when:
                    end = half
                else:
                    at = half + 1
            self.timers.insert(at, timer)
            if not at:
                self._wake()
        return timer

    def run(self):
        # type: () -> None
        """Be the keeper, until ``stop``."""
        self.thread = compat.thread_id()
        while self.running:
            self.once()

    def once(self):
        # type: () -> None
        """Wait for something, and do what is due."""
        wait = 0 if self.soon else max(0, self.timers[0].when - self.now()) if self.timers else -1
        try:
            events = self.poller.poll(wait if self.shareable or wait < 0 else wait * 1000 + 1)
        except (OSError, IOError, select.error) as error:
            if self.shareable and not interrupted(error):
                raise       # select and poll: one that was forgotten and closed just now is no descriptor any more
            events = []
        for fd, event in events:
            if event & ~OUT:     # a failure is reported even when nothing was asked for
                self._do(self.readers.get(fd))
            if event & ~IN:
                self._do(self.writers.get(fd))
        for _ in range(len(self.soon)):
            self._do(*self.soon.popleft())
        now = self.now()
        while self.timers and self.timers[0].when <= now:
            with self.lock:
                timer = self.timers.pop(0)
            self._do(timer.fn, timer.args)

    def _do(self, fn, args=()):
        # type: (Optional[Callable[..., Any]], Any) -> None
        try:
            if fn:
                fn(*args)
        except Exception:
            self.on_error(sys.exc_info()[1])  # type: ignore[arg-type]

    @staticmethod
    def _set(where, fd, fn):
        # type: (Dict[int, Any], int, Any) -> None
        if fn:
            where[fd] = fn
        else:
            where.pop(fd, None)

    def _arm(self, fd, mask):
        # type: (int, int) -> None
        old = self.masks.get(fd)
        if fd not in self.readers and fd not in self.writers:
            if old is not None:
                del self.masks[fd]
                self.poller.unregister(fd)
        elif old is None:
            self.masks[fd] = mask
            self.poller.register(fd, mask)
        elif old != mask:
            self.masks[fd] = mask
            self.poller.modify(fd, mask)
        if not self.shareable:
            self._wake()

    def _wake(self):
        # type: () -> None
        if not self.woken and compat.thread_id() != self.thread:
            self.woken = True
            try:
                os.write(self.wake_w, b"!")
            except OSError:
                pass    # full: it is awake; closed: nobody is there any more

    def _woken(self):
        # type: () -> None
        os.read(self.wake_r, 99)
        self.woken = False
