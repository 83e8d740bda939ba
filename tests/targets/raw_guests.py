"""Guests of a door that speak frames by hand."""
from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from ramet.bootstrap import packing
from ramet.kernel import core, fragments, values
from ramet.kernel.frames import CONTINUES, CONTROL, ERROR, HEADER_BYTES, MORE


class Context(values.Context):
    """What comes is data; a channel is what it is known by."""

    def unpack(self, kind: str, items: list[object]) -> object:
        assert kind == "K"
        return items


CONTEXT = Context()


def knocked(path: Path) -> socket.socket:
    """Who stands before the door, and has been greeted."""
    sock = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        sock.connect(path.name)
    finally:
        os.chdir(here)
    sock.settimeout(60)
    assert sock.recv(1000).split()[1] == packing.version().encode()
    return sock


def said(handle: int, value: object, dst: int = 7, src: int = 0, authority: int = 0, reply_to: int = 0,
         flags: int = 0) -> bytes:
    chunks = values.encode(value)
    return fragments.whole(flags, 0, dst, src, authority, handle, reply_to, chunks)


def config(id: object = 7, ancestors: object = (0,)) -> bytes:
    return said(core.CONFIG, {"id": id, "ancestors": list(ancestors) if isinstance(ancestors, tuple) else ancestors},
                flags=CONTROL)


def entered(path: Path) -> socket.socket:
    sock = knocked(path)
    sock.sendall(config())
    data = sock.recv(9)
    assert data == b"ok guest\n"
    return sock


def answers(sock: socket.socket, *handles: int) -> list[bytes]:
    """The bodies of what comes to these handles."""
    data, found = b"", dict[int, bytes]()
    while not found.keys() >= set(handles):
        more = sock.recv(65536)
        assert more, "it was thrown out"
        data += more
        while len(data) >= HEADER_BYTES and len(data) >= (size := HEADER_BYTES + struct.unpack_from(">I", data, 24)[0]):
            found[struct.unpack_from(">I", data, 16)[0]] = data[HEADER_BYTES:size]
            data = data[size:]
    return [found[handle] for handle in handles]


def thrown_out(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass


class Raw:
    """A guest that has entered. The door is node 7 of its tree, and it is 0."""

    def __init__(self, path: Path) -> None:
        self.sock = entered(path)
        self.asked = 2000
        self.data = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def say(self, handle: int, value: object, flags: int = 0) -> None:
        self.sock.sendall(said(handle, value, flags=flags))

    def raw(self, handle: int, body: bytes) -> None:
        """A message whose body is no value; in fragments, if it is long."""
        parts = [body[at:at + 100_000] for at in range(0, len(body), 100_000)]
        for at, part in enumerate(parts):
            flags = (MORE if part is not parts[-1] else 0) | (CONTINUES if at else 0)
            self.sock.sendall(fragments.whole(flags, 0, 7, 0, 0, handle, 0, [part]))

    def say_channel(self, what: int, number: int, token: str, stream: int) -> None:
        """Begin to send or to receive; it is answered when that is over."""
        self.asked += 1
        self.sock.sendall(said(17, [what, number, token, stream], reply_to=self.asked))

    def message(self) -> tuple[int, int, int, bytes]:
        """The next one that comes: its handle, where it is to be answered, flags, body."""
        while True:
            if len(self.data) >= HEADER_BYTES:
                _, flags, _, _, _, _, handle, reply_to, size = struct.unpack_from(">BBHIIIIII", self.data)
                end = HEADER_BYTES + size
                if len(self.data) >= end:
                    body, self.data = self.data[HEADER_BYTES:end], self.data[end:]
                    return handle, reply_to, flags, body
            more = self.sock.recv(65536)
            assert more, "it was thrown out"
            self.data += more

    def ask(self, *request: object, handle: int = 21) -> tuple[int, bytes]:
        """Flags and body of the answer; all else that comes before it is dropped."""
        self.asked += 1
        self.sock.sendall(said(handle, list(request), reply_to=self.asked))
        while True:
            found, _, flags, body = self.message()
            if found == self.asked:
                return flags, body

    def service(self, method: str, *args: object) -> object:
        """What the desk answers."""
        flags, body = self.ask("desk", method, list(args), {}, {})
        assert not flags & ERROR, body
        return values.decode(body, CONTEXT)
