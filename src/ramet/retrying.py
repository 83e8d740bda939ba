"""Trying again: which failures to connect may pass by themselves, and how long to wait for that. Pure: chance is handed in."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

TIMES_MAX = 100


@dataclass(frozen=True)
class Retry:
    """How often to try again, and when: the wait doubles from time to time, up to a bound.

    Each wait is shortened by chance, by up to half, so that hosts that failed together aren't tried together again.
    Only what may pass by itself is tried again: a refused, lost or slow connection, a host that takes no more connections
    now, a machine that has no process or descriptor left. Wrong passwords, changed host keys, missing interpreters and
    unknown names are not. Immutable, so thread-safe.

    Args:
        times: how often in all, besides the first time: 0 to 100.
        first_s: the first wait, in seconds.
        most_s: the longest wait, in seconds.

    Raises:
        TypeError, ValueError: one of them is unusable.
    """

    times: int
    first_s: float = 1.0
    most_s: float = 30.0

    def __post_init__(self) -> None:
        if isinstance(self.times, bool) or not isinstance(self.times, int):
            raise TypeError(f"retry= is a whole number of times, or a ramet.Retry; not {self.times!r}")
        if not 0 <= self.times <= TIMES_MAX:
            raise ValueError(f"retry= is a number of times from 0 to {TIMES_MAX}, not {self.times}")
        if not 0 < self.first_s <= self.most_s < float("inf"):
            raise ValueError(f"the waits of a Retry are seconds above 0, the first no longer than the longest; not "
                             f"{self.first_s!r} and {self.most_s!r}")

    def wait_s(self, tried: int, chance: Callable[[], float] = random.random) -> float | None:
        """How long to wait when it has failed for that time.

        Args:
            tried: how often it was tried again before: 0 when it has failed for the first time.
            chance: gives a number from 0 to 1.

        Returns:
            Seconds; None if that was enough.
        """
        if tried >= self.times:
            return None
        return min(self.most_s, self.first_s * 2.0 ** tried) * (1.0 - chance() / 2)


def retry_from(given: int | Retry | None) -> Retry:
    """What an option ``retry=`` means. Raises TypeError or ValueError."""
    return given if isinstance(given, Retry) else Retry(0 if given is None else given)


def may_pass(error: BaseException) -> bool:
    """Whether a failure to connect may be gone the next time. Whoever made the error knows."""
    return bool(getattr(error, "again", False))
