"""Waiting for what becomes so by itself. The bound is for what hangs, not for what is slow."""
from __future__ import annotations

import time
from collections.abc import Callable

HANGS_S = 60


def until(condition: Callable[[], object], what: str, seconds: float = HANGS_S) -> None:
    """Look again and again, until the condition holds. Fails with ``what`` when it doesn't."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)
