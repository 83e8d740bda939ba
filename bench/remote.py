"""Functions that the benchmarks run in nodes. What it imports at its top counts for every first call: nothing."""
from __future__ import annotations

MYPY = False
if MYPY:
    from collections.abc import Iterator
    from typing import Any


def nothing(value: object = None) -> object:
    return value


def answer(end: Any) -> None:
    end.send(nothing())


def blocks(many: int, size: int) -> Iterator[bytes]:
    item = b"x" * size
    for _ in range(many):
        yield item


def mitogen_blocks(sender: Any, many: int, size: int) -> None:
    item = b"x" * size
    for _ in range(many):
        sender.send(item)
    sender.close()


def echo(incoming: Any, outgoing: Any) -> None:
    for item in incoming:
        outgoing.send(item)


def write(code: str, count: int) -> int:
    """Run a program that writes so many bytes to this node's stdout."""
    import subprocess
    import sys
    return subprocess.call([sys.executable, "-c", code, str(count)])


def size_of(data: bytes) -> int:
    return len(data)


def given(size: int) -> bytes:
    return b"x" * size


_kept: dict[int, bytes] = {}


def kept(size: int) -> bytes:
    """As ``given``, made once."""
    return _kept.setdefault(size, _kept.get(size) or b"x" * size)


def cpu() -> float:
    """What processor time this process has used, in seconds."""
    import time
    return time.process_time()
