"""Frames: three feeds for every input, long messages, and what must be refused."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramet.kernel import limits, values
from ramet.kernel.errors import ProtocolError
from ramet.kernel.fragments import LENGTH, PIECE, Assembler, Outgoing, Partial, whole
from ramet.kernel.frames import CONTINUES, CONTROL, HEADER_BYTES, MAGIC, MORE, Parser, pack_header


def message(body: bytes, flow: int = 3) -> list[bytes]:
    return [whole(CONTROL, flow, 7, 5, 4, 1, 1001, [body])]


def cut(chunks: list[Any], most: int = limits.frame_bytes_max, handle: int = 1001) -> list[bytes]:
    """The fragments of a long message."""
    outgoing = Outgoing((0, 3, 7, 5, 4, handle, 0), chunks)
    assert len(outgoing) == sum(map(len, chunks))
    found = []
    while len(outgoing):
        buffers, count, ended = outgoing.take(most)
        found.append(b"".join(map(bytes, buffers)))
        assert count == len(found[-1]) and ended == (not len(outgoing))
    return found


def together(fragments: list[bytes], **options: Any) -> Any:
    assembler = Assembler()
    results = [assembler.add(header, frame, **options) for header, frame in parse(b"".join(fragments), 1 << 30)]
    assert results[:-1] == [None] * (len(fragments) - 1) and assembler.partial == {}
    return results[-1]


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


@pytest.mark.parametrize("most", [16384, limits.frame_bytes_max])
@pytest.mark.parametrize("size", [limits.frame_bytes_max + 1, 3 * limits.frame_bytes_max, 1_000_001])
def test_long_messages_come_together_again(size: int, most: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    frames = cut([body[:10], memoryview(body)[10:700], bytearray(body[700:1000]), body[1000:]], most)
    assert all(len(frame) <= most + HEADER_BYTES for frame in frames)
    headers = [header for header, _ in parse(b"".join(frames), 1 << 30)]
    assert [bool(h[1] & CONTINUES) for h in headers] == [False] + [True] * (len(frames) - 1)
    assert [bool(h[1] & MORE) for h in headers] == [True] * (len(frames) - 1) + [False]
    assert together(frames) == body


@given(st.recursive(st.integers(0, 3), lambda inner: st.lists(inner, max_size=4), max_leaves=8))
def test_large_byte_strings_are_apart_and_come_back_as_values(shape: Any) -> None:
    kinds = ["text", b"small", b"x" * values.BIG, "\u00e9" * (limits.frame_bytes_max + 7)]

    def grown(part: Any) -> Any:
        return kinds[part] if isinstance(part, int) else [grown(one) for one in part]
    value = [b"y" * 300_000, grown(shape), {"key": memoryview(b"z" * 200_000)}]
    body = together(cut(values.encode(value)))
    assert isinstance(body, list) and body[1] == value[0]
    expected = [*value[:2], {"key": b"z" * 200_000}]
    assert values.decode(body) == expected
    assert values.decode(together(cut(values.encode(value), handle=77))) == expected   # not apart, where nobody expects it


def test_a_large_byte_string_is_neither_copied_nor_read_where_it_does_not_belong() -> None:
    payload = b"p" * 1_000_000
    outgoing = Outgoing((0, 3, 7, 5, 4, 1001, 0), values.encode([payload]))
    outgoing.take(limits.frame_bytes_max)
    assert outgoing.take(limits.frame_bytes_max)[0][1].obj is payload
    body = together(cut(values.encode([payload, b"q" * values.BIG])))
    for broken in (body[:2], [*body, b"r" * values.BIG], [body[0], body[1][1:], body[2]], [body[0], body[2], body[1]]):
        with pytest.raises(ProtocolError):
            values.decode(broken)


def test_byte_strings_that_are_not_what_was_said_are_refused() -> None:
    def said(size: int, body: bytes, flags: int = PIECE) -> Any:
        length = struct.pack(">I", size) if flags & PIECE else b""
        return (header(MORE | flags), b"h" * HEADER_BYTES + length + body)
    for first, second in (
            (said(values.BIG - 1, b""), None),                          # so small ones have no place of their own
            (said(limits.message_bytes_max + 1, b""), None),
            ((header(MORE | PIECE), b"h" * HEADER_BYTES + b"12"), None),
            (said(values.BIG, b"x" * (values.BIG + 1)), None),
            (said(values.BIG, b"x"), said(values.BIG, b"", CONTINUES | PIECE)),
            (said(values.BIG, b"x"), said(0, b"x" * values.BIG, CONTINUES))):
        assembler = Assembler()
        with pytest.raises(ProtocolError):
            assembler.add(*first)
            assert second
            assembler.add(*second)
        assert assembler.partial == {}
    assembler = Assembler()
    assembler.add(*said(values.BIG, b"x"))
    with pytest.raises(ProtocolError, match="ends in the midst"):
        assembler.add(header(CONTINUES), b"h" * HEADER_BYTES + b"y")
    assert assembler.partial == {}


def test_what_nobody_waits_for_takes_no_memory() -> None:
    fragments = cut(values.encode([b"x" * 1_000_000, b"y" * 1_000_000]))
    assert together(fragments, sink=True) is None
    assembler = Assembler()
    for number, (head, frame) in enumerate(parse(b"".join(fragments), 1 << 30)):
        assert assembler.add(head, frame, sink=number > 3) is None
        [partial] = assembler.partial.values() or [None]
        assert partial is None or bool(partial.parts) == (number <= 3)


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


def test_what_nobody_asked_for_is_bounded_in_all() -> None:
    """Not each message by itself: 64 of them may be unfinished. What was announced counts, and is given back."""
    assembler = Assembler()

    def begin(flow: int, size: int, src: int = 5) -> None:
        body = LENGTH.pack(size) + b"x"
        header = (MAGIC, MORE | PIECE, flow, 0, src, src, 12, 0, len(body))
        assembler.add(header, pack_header(*header) + body, pool=(src, 200_000))
    begin(1, 100_000)
    begin(2, 100_000)
    with pytest.raises(ProtocolError, match="larger"):
        begin(3, 70_000)
    begin(3, 200_000, 6)    # another node's
    assert assembler.pools == {(5, 200_000): 200_000, (6, 200_000): 200_000}
    assembler.forget(5)
    begin(4, 200_000)
    for src in 5, 6:
        assembler.forget(src)
    assert assembler.pools == assembler.partial == {}


def test_other_threads_take_long_messages_of_other_nodes_meanwhile() -> None:
    """Each reads a link of its own. An item that was refused for that was missing in its stream."""
    class Beside(tuple[int, ...]):
        def __getitem__(self, at: Any) -> Any:
            assembler.partial[len(assembler.partial) + 100, 0, 0, 0, 0] = Partial(0, True)
            return tuple.__getitem__(self, at)
    assembler = Assembler()
    for source in 6, 8:
        assembler.partial[Beside((source, 0, 0, 0, 0))] = Partial(0, True)
    fragments = parse(b"".join(cut([b"x" * 300_000])), 1 << 30)
    assert [assembler.add(*fragment) for fragment in fragments] == [None] * (len(fragments) - 1) + [b"x" * 300_000]
    assembler.forget(6)
    assert not any(tuple.__getitem__(key, 0) == 6 for key in assembler.partial)
