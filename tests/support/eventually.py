"""Waiting for what becomes so by itself. The bound is for what hangs, not for what is slow."""
from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

HANGS_S = 60

T = TypeVar("T")


def until(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = HANGS_S) -> None:
    """Look again and again, until the condition holds. Fails with ``what``, or what that says then, when it doesn't."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.005)


def in_time(attempt: Callable[[float], T], enough: Callable[[T], object], seconds: float) -> T:
    """What becomes of an attempt that ends after so many seconds, in which something has to have come first.

    On a busy machine it may not have: then there is more time in the next attempt.

    Args:
        enough: whether it has come, as the attempt's result shows. Of the last one, the caller finds out by itself.
    """
    while True:
        found = attempt(seconds)
        if enough(found) or seconds > HANGS_S / 4:
            return found
        seconds *= 4


def is_gone(pid: int) -> bool:
    """Whether a process has ended, by /proc: one that nobody has waited for has, too."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def all_end(*pids: int) -> bool:
    """Wait until these processes have ended. Fails when one doesn't."""
    until(lambda: all(map(is_gone, pids)), f"of these, one goes on: {pids}")
    return True


def stop(pid: int) -> None:
    """SIGSTOP a process, and wait until none of its threads runs: the first that meets the signal tells the others."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: all(state in "TtZX" for state in _states(pid)), f"process {pid} isn't stopped")


def _states(pid: int) -> list[str]:
    found = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):    # that thread has ended
            found.append(stat.read_text().rpartition(")")[2].split()[0])
    return found
