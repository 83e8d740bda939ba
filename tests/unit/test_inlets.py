"""Reading into place: whatever the reads and the sizes, what arrives is what the plain parser would have cut out."""

import os
import random
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import compat_late, inlets, limits, streams, values
from ramet.kernel.errors import ProtocolError
from ramet.kernel.fragments import whole
from ramet.kernel.frames import HEADER_BYTES, MAGIC, Parser, pack_header
from ramet.kernel.limits_late import in_place_bytes_min

pytestmark = pytest.mark.skipif(not compat_late.READS_IN_PLACE, reason="not on this machine: a Python that reads into place")

HERE = 7


class Reading:
    """A link as far as an inlet knows it, with a socket to be read."""

    def __init__(self) -> None:
        self.far, self.near = socket.socketpair()
        self.far.setblocking(False)
        self.near.setblocking(False)
        self.read: Any = os.read
        self.parser: Any = Parser()
        self.bytes_in = 0
        inlets.begin(SimpleNamespace(id=HERE), self)  # type: ignore[arg-type]

    def come(self) -> list[Any]:
        """Read as a link does until there is nothing left: [(header, body)]."""
        found: list[Any] = []
        while True:
            try:
                data = self.read(self.near.fileno(), max(65536, self.parser.need))
            except BlockingIOError:
                return found
            if data:
                self.bytes_in += len(data)
                frames = list(self.parser.feed(data))
                assert all(type(frame) is bytes for header, frame in frames if header[3] != HERE), "passed on as it came"
                found += [(header, frame[HEADER_BYTES:]) for header, frame in frames]

    def close(self) -> None:
        self.far.close()
        self.near.close()


@pytest.fixture
def link() -> Any:
    reading = Reading()
    yield reading
    reading.close()


def frame(body: bytes, handle: int = 1001, dst: int = HERE) -> bytes:
    return whole(0, 3, dst, 5, 5, handle, 0, [body])


def items(item: bytes, number: int = 6, flags: int = 0) -> bytes:
    """An ITEMS message with one item."""
    return streams.HEAD.pack(0xDD, 3, 0xCE, number, flags) + b"".join(values.encode(item))


def joined(body: Any) -> bytes:
    return b"".join(body) if type(body) is list else body


def some_frame(rng: random.Random) -> bytes:
    size = rng.choice([0, 1, 100, in_place_bytes_min - 1, in_place_bytes_min, 70_000, values.BIG, 131_072])
    body = rng.randbytes(size)
    kind = rng.randrange(4)
    if kind == 0:
        return frame(items(body), streams.ITEMS)
    if kind == 1:
        return frame(body, dst=rng.choice([HERE, 9]))
    return frame(rng.randbytes(rng.randrange(60)) if kind == 2 else items(body)[:limits.frame_bytes_max], 1001)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_reads_the_frames_are_those_that_were_sent(link: Reading, seed: int) -> None:
    rng = random.Random(seed)
    data = b"".join(some_frame(rng) for _ in range(12))
    expected = [(header, one[HEADER_BYTES:]) for header, one in Parser().feed(data)]
    found, at = [], 0
    most = rng.choice([1500, 70_000, 200_000])
    while at < len(data):
        try:
            at += link.far.send(data[at:at + rng.randint(1, most)])
        except BlockingIOError:
            pass
        found += link.come()
    assert [(header, joined(body)) for header, body in found] == expected
    assert link.bytes_in == len(data)


def test_a_large_byte_string_that_is_an_item_is_its_own_value(link: Reading) -> None:
    item = os.urandom(131_072)
    for _ in range(3):
        data = frame(items(item), streams.ITEMS)
        found: list[Any] = []
        while data:
            data = data[link.far.send(data[:65_536]):]
            found += link.come()
        [(_, body)] = found
        assert type(body) is list and body[1] == item and values.decode(body)[2:] == [item]


def test_an_item_that_is_all_there_is_what_the_system_gave(link: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is copied by nobody."""
    given: list[bytes] = []

    def read(fd: int, most: int) -> bytes:
        given.append(os.read(fd, most))
        return given[-1]
    monkeypatch.setattr(inlets, "os", SimpleNamespace(read=read))
    data = frame(items(bytes(70_000)), streams.ITEMS)
    for _ in range(2):
        assert link.far.send(data) == len(data)
        [(_, body)] = link.come()
        assert body[1] is given[-1]


def test_behind_a_large_frame_that_came_in_one_read_the_next_is_read_into_place(link: Reading) -> None:
    """As much was read at once as the one before had needed, so nothing of the next one came with it."""
    data = frame(items(bytes(70_000)), streams.ITEMS)
    link.parser.large, link.parser.need = False, len(data)
    kinds = []
    for _ in range(2):
        assert link.far.send(data) == len(data)
        [(_, body)] = link.come()
        kinds.append(type(body))
    assert kinds == [bytes, list]


@pytest.mark.parametrize("handle, body", [
    (1001, items(b"x" * 70_000)),                                       # no stream's
    (streams.ITEMS, items(b"x" * 70_000)[:-1]),                         # longer than it is
    (streams.ITEMS, items(b"x" * 70_000) + b"\xc0"),                    # something behind it
    (streams.ITEMS, b"\xdd\x00\x00\x00\x02" + items(b"x" * 70_000)[5:]),
], ids=["another handle", "cut", "more", "another count"])
def test_what_is_not_exactly_such_an_item_comes_as_one_piece(link: Reading, handle: int, body: bytes) -> None:
    data = frame(body, handle)
    link.far.send(data[:50_000])
    found = link.come()
    link.far.send(data[50_000:])
    assert [got for _, got in found + link.come()] == [body]


def test_garbage_behind_a_large_frame_is_found(link: Reading) -> None:
    data = frame(bytes(70_000))
    link.far.send(data[:50_000])
    assert link.come() == []
    link.far.send(data[50_000:] + b"garbage" * 20)
    with pytest.raises(ProtocolError, match="not a frame"):
        link.come()


def test_no_memory_is_taken_for_a_length_that_no_frame_may_have(link: Reading) -> None:
    link.far.send(frame(bytes(70_000)))
    link.come()
    link.far.send(pack_header(MAGIC, 0, 3, HERE, 5, 5, 1001, 0, limits.fragment_bytes_max + 1) + b"x" * 100)
    with pytest.raises(ProtocolError, match="not a frame"):
        link.come()
    assert link.parser.target is None


def test_the_end_of_the_bytes_in_the_midst_of_a_large_frame_is_told(link: Reading) -> None:
    link.far.send(frame(bytes(70_000))[:50_000])
    assert link.come() == []
    link.far.close()
    assert link.read(link.near.fileno(), 65_536) == b""
