"""Frames: three feeds for every input, long messages, and what must be refused."""

import pytest

from ramet.kernel import limits
from ramet.kernel.errors import ProtocolError
from ramet.kernel.fragments import Assembler
from ramet.kernel.frames import CONTINUES, CONTROL, HEADER_BYTES, MAGIC, MORE, Parser, pack_header, split


def message(body: bytes, flow: int = 3) -> list[bytes]:
    return split(CONTROL, flow, 7, 5, 4, 1, 1001, [body])


def parse(data: bytes, step: int) -> list[tuple[tuple[int, ...], bytes]]:
    parser, found = Parser(), []
    for at in range(0, len(data), step):
        found += list(parser.feed(data[at : at + step]))
    assert parser.rest == []
    return found


@pytest.mark.parametrize("step", [1, 7, 28, 100, 10_000_000])
def test_whatever_the_reads_the_frames_are_the_same(step: int) -> None:
    data = b"".join(message(b"") + message(b"one") + message(b"x" * 300))
    frames = parse(data, step)
    assert [frame[HEADER_BYTES:] for _, frame in frames] == [b"", b"one", b"x" * 300]
    assert frames[1][0] == (MAGIC, CONTROL, 3, 7, 5, 4, 1, 1001, 3)


def test_trailing_bytes_wait_for_the_rest() -> None:
    parser = Parser()
    [frame] = message(b"whole")
    assert len(list(parser.feed(frame + frame[:30]))) == 1
    assert list(parser.feed(frame[30:])) != []


@pytest.mark.parametrize("size", [limits.frame_bytes_max + 1, 3 * limits.frame_bytes_max, 1_000_001])
def test_long_messages_come_together_again(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    frames = split(0, 3, 7, 5, 4, 1, 1001, [body[:10], memoryview(body)[10:700], bytearray(body[700:])])
    assert all(len(frame) <= limits.frame_bytes_max + HEADER_BYTES for frame in frames)
    headers = [header for header, _ in parse(b"".join(frames), 1 << 30)]
    assert [bool(h[1] & CONTINUES) for h in headers] == [False] + [True] * (len(frames) - 1)
    assert [bool(h[1] & MORE) for h in headers] == [True] * (len(frames) - 1) + [False]
    assembler = Assembler()
    results = [assembler.add(header, frame) for header, frame in zip(headers, frames, strict=True)]
    assert results[:-1] == [None] * (len(frames) - 1)
    assert results[-1] == body
    assert assembler.partial == {}


def test_what_is_no_frame_is_refused() -> None:
    for garbage in (b"HTTP/1.1 400 Bad Request\r\n\r\n....", b"\0" * 28, pack_header(MAGIC, 0, 0, 0, 0, 0, 0, 0, 1 << 31)):
        with pytest.raises(ProtocolError):
            Parser().feed(garbage)


def header(flags: int, src: int = 5, flow: int = 0) -> tuple[int, int, int, int, int, int, int, int, int]:
    return (MAGIC, flags, flow, 7, src, src, 3, 1001, 10)


def test_a_sender_cannot_pin_memory_with_unfinished_messages() -> None:
    assembler = Assembler(bytes_max=1000)
    frame = b"h" * HEADER_BYTES + b"b" * 600
    with pytest.raises(ProtocolError, match="never began"):
        assembler.add(header(CONTINUES), frame)
    assembler.add(header(MORE), frame)
    with pytest.raises(ProtocolError, match="larger than 1000"):
        assembler.add(header(MORE | CONTINUES), frame)
    assert assembler.partial == {}
    for flow in range(limits.partial_messages_max):
        assembler.add(header(MORE, flow=flow), frame)
    with pytest.raises(ProtocolError, match="too many"):
        assembler.add(header(MORE, flow=999), frame)
    assembler.add(header(MORE, src=6), frame)
    assembler.forget(5)
    assert [key[0] for key in assembler.partial] == [6]
