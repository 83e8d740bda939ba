"""What of the loop isn't needed at a node's start: its end; and kqueue, for systems without epoll, BSD and macOS. Late part.

A node there begins with poll. What it gains by kqueue is that a thread that waits for a reply can read the link itself, as with
epoll (``links.Link.borrow``).
"""
import os
import select

from ramet.kernel import compat
from ramet.kernel.loop import IN, OUT

MYPY = False
if MYPY:
    from typing import Any, Dict, List

    from ramet.kernel.loop import Loop


def use_kqueue(loop):
    # type: (Loop) -> None
    """Make a loop wait by kqueue from now on, if the system has that and nothing better. On the keeper, or before it runs."""
    if not loop.shareable and hasattr(select, "kqueue"):
        with loop.lock:
            queue = Kqueue()
            for fd, mask in loop.masks.items():
                queue.register(fd, mask)
            loop.poller = queue
            loop.shareable = True


def stop(loop):
    # type: (Loop) -> None
    """Make ``run`` return. Any thread."""
    loop.running = False
    loop.call_soon(bool)


def close(loop, core=None):
    # type: (Loop, Any) -> None
    """Give its descriptors back, and those of threads that waited for a core's messages. Only when ``run`` has returned, all
    links are closed, and nobody waits.
    """
    fds = loop.wake_r, loop.wake_w
    loop.wake_r = loop.wake_w = -1      # who would wake it yet mustn't write to what may get their numbers
    for fd in fds:
        os.close(fd)
    if loop.shareable:
        loop.poller.close()
    for weak in list(core.waiters) if core else ():
        waiter = weak()
        if waiter:
            waiter.close()
    if core:
        core.threads = compat.thread_local()


class Kqueue(object):
    """kqueue with the methods of an epoll object. Thread-safe as far as ``Loop`` needs it: changes are under its lock."""

    def __init__(self):
        # type: () -> None
        self.queue = select.kqueue()  # type: ignore[attr-defined]
        self.close = self.queue.close
        self.masks = {}  # type: Dict[int, int]
        self.register = self.modify

    def modify(self, fd, mask):
        # type: (int, int) -> None
        """Say anew what to wait for. A hang-up comes with what was asked for."""
        for bit, filter in (IN, -1), (OUT, -2):     # EVFILT_READ, EVFILT_WRITE; then EV_ADD, EV_DELETE
            if (mask ^ self.masks.get(fd, 0)) & bit:
                self.queue.control([select.kevent(fd, filter, 1 if mask & bit else 2)], 0)  # type: ignore[attr-defined]
        self.masks[fd] = mask

    def unregister(self, fd):
        # type: (int) -> None
        """Wait for it no longer."""
        self.modify(fd, 0)
        del self.masks[fd]

    def poll(self, seconds):
        # type: (float) -> List[Any]
        """[(descriptor, IN or OUT)] of those that are ready. A negative time: wait until one is."""
        events = self.queue.control(None, 64, None if seconds < 0 else seconds)
        return [(int(event.ident), IN if event.filter == -1 else OUT) for event in events]
