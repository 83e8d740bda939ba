"""Functions that the benchmarks run in nodes."""
import subprocess
import sys
from collections.abc import Iterator
from typing import Any


def nothing(value: object = None) -> object:
    return value


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
    return subprocess.call([sys.executable, "-c", code, str(count)])
