"""Another process behind a socketpair, with nothing in between but the system: the floor of what a library could reach.

Where a row is about many small messages, the floor does with each what no library in Python can do without, and nothing else:
the values there and back, a header, finding the function by its name and calling it. Over there by the kernel's own encoder
and decoder, since nodes have no other. It knows of no lanes, credit, cancelling, losses, signals, threads or other nodes.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator

import msgpack  # type: ignore[import-untyped]

from ramet.kernel import values

HEADER = struct.Struct(">II")   # of a message: a number, how many bytes follow
WRITTEN_BYTES = 8192            # as much as ramet gathers for one write


def process(answer: Callable[[socket.socket, bytes], None]) -> socket.socket:
    """Fork a process that answers each byte that it gets, until there are no more. To be called before there are threads.

    Args:
        answer: gets the other end of the returned socket, and the byte.
    """
    near, far = socket.socketpair()
    if os.fork() == 0:
        near.close()
        while asked := far.recv(1):
            answer(far, asked)
        os._exit(0)
    far.close()
    return near


def messages(link: socket.socket, count: int) -> Iterator[tuple[int, bytes]]:
    """So many of what comes: (number, body)."""
    data = b""
    while count:
        data += link.recv(1 << 16)
        at = 0
        while len(data) - at >= HEADER.size:
            number, size = HEADER.unpack_from(data, at)
            end = at + HEADER.size + size
            if end > len(data):
                break
            yield number, data[at + HEADER.size:end]
            count -= 1
            at = end
        data = data[at:]


class Gathered:
    """Messages that are written when there are some, or at ``flush``."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, number: int, body: bytes) -> None:
        self.parts.append(HEADER.pack(number, len(body)) + body)
        self.size += len(body)
        if self.size > WRITTEN_BYTES:
            self.flush()

    def flush(self) -> None:
        self.link.sendall(b"".join(self.parts))
        self.parts, self.size = [], 0


def answer_calls(link: socket.socket, _: bytes) -> None:
    """Over there: run so many calls, and answer those that have a number."""
    many, _ = HEADER.unpack(link.recv(HEADER.size, socket.MSG_WAITALL))
    answers = Gathered(link)
    context = values.Context(True)
    for number, body in messages(link, many):
        target, args, kwargs, _ = values.decode(body, context)
        module, _, name = target.partition(":")
        result = getattr(sys.modules[module], name)(*args, **kwargs)
        if number:
            answers.add(number, values.encode(result, context)[0])
    answers.add(0, b"")
    answers.flush()


def calls(link: socket.socket, fn: Callable[..., object], args: list[object], many: int, answered: bool) -> list[object]:
    """Here: so many calls of a function of a module, and their results, if they have any."""
    link.sendall(b"c" + HEADER.pack(many, 0))
    out, pack = Gathered(link), msgpack.Packer(strict_types=True).pack
    waiting: dict[int, list[object]] = {}
    target = f"{fn.__module__}:{fn.__qualname__}"
    for number in range(1, many + 1):
        if answered:
            waiting[number] = []
        out.add(number if answered else 0, pack([target, list(args), {}, {}]))
    out.flush()
    found = list(waiting.values())
    for number, body in messages(link, len(found) + 1):
        if number:
            waiting.pop(number).append(msgpack.unpackb(body))
    return [result for [result] in found]


def echo_items(link: socket.socket, _: bytes) -> None:
    """Over there: so many items, read and sent back."""
    many, _ = HEADER.unpack(link.recv(HEADER.size, socket.MSG_WAITALL))
    back = Gathered(link)
    for _, body in messages(link, many):
        back.add(0, values.encode(values.decode(body))[0])
    back.flush()


def echoed(link: socket.socket, many: int) -> None:
    """Here: so many items, sent and received."""
    link.sendall(b"e" + HEADER.pack(many, 0))
    out, pack = Gathered(link), msgpack.Packer(strict_types=True).pack
    for item in range(many):
        out.add(0, pack(item))
    out.flush()
    assert [msgpack.unpackb(body) for _, body in messages(link, many)] == list(range(many))
