"""What a thread of the program waits with: as in nodes, and also where no descriptor can be had just then.

Must not know what is waited for. One for each thread, which alone calls ``wait``; any thread may call ``wake``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeVar

from ramet.kernel import compat
from ramet.kernel.limits_late import wait_s_max
from ramet.kernel.links import Waiter
from ramet.kernel.loop import IN, Poll
from ramet.kernel.spinning import Spinner

# How long nobody is heard who wakes a thread that has no pipe.
LOOK_S = 0.05

NO_PIPE = (-1, -1)

T = TypeVar("T")


def waitable(seconds: float | None) -> float | None:
    """A timeout as Python's own waits take it: the longest ones, ``inf`` too, are none.

    Raises ValueError: it is no number. Before the wait, so that nothing is ended for it.
    """
    if seconds is None or seconds > threading.TIMEOUT_MAX:
        return None
    if seconds != seconds:
        raise ValueError(f"that is no number of seconds: {seconds}")
    return seconds


def awaited(future: Future[T], core: Any) -> Generator[Any, None, T]:
    """``await`` of what is completed by who reads a link. Raises ClosedError: nobody does in this process."""
    import asyncio  # who awaits has loaded it; the others needn't wait for it

    if not future.done():
        core.check_here()
    return asyncio.wrap_future(future).__await__()


class PatientWaiter(Waiter):
    """A ``Waiter`` that looks again and again as long as it can have no pipe: the answer may come by any thread."""

    def __init__(self) -> None:
        self.fds = NO_PIPE
        self.thread = compat.thread_id()
        self.poller = Spinner(Poll())
        self._has_pipe()

    def _has_pipe(self) -> bool:
        """Whether it can have one now, which it takes."""
        try:
            self.fds = compat.pipe()
        except OSError:     # too many open files
            return False
        self.poller.register(self.fds[0], IN)
        return True

    def wait(self, seconds: float | None) -> list[int]:
        """Wait until woken, a descriptor is ready, or time is up: no longer than a day; without a pipe, than ``LOOK_S``."""
        if self.fds == NO_PIPE and not self._has_pipe():
            seconds = LOOK_S if seconds is None else min(seconds, LOOK_S)
        return Waiter.wait(self, seconds if seconds is None else min(seconds, wait_s_max))

    def close(self, close: Callable[[int], None] = os.close) -> None:
        """Give the pipe back. Only when its thread doesn't wait."""
        if self.fds == NO_PIPE:
            self.fds = ()
        super().close(close)

    __del__ = close
