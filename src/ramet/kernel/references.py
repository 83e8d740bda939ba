"""Channels in values that are passed on as bytes, unread: where they are, and others in their place. Late part of the kernel.

A reference to a channel (kind K) names a node by its number, which means something in its own tree only. A door (``doors``)
puts another one in its place, in arguments and results. In items of streams and channels it can't: what counts there are bytes,
at both ends, so an item must keep its length. There the kind becomes H, by which the receiver knows what that was.

Pure. Any thread, also one that reads a link: of the value itself nothing is decoded.
"""
import struct

from ramet.kernel import compat, streams, values
from ramet.kernel.faults import ProtocolError

MYPY = False
if MYPY:
    from typing import Any, Callable, List, Tuple

CHANNEL = values.MARK + b"K"
BARRED = ord("H")


def found(data, count=1, apart=False):
    # type: (Any, int, bool) -> List[Tuple[int, int, int]]
    """Where references are in so many encoded values, one behind the other: [(begin, where the items begin, end) ...].

    Args:
        apart: the large byte strings aren't in it: see ``fragments``.

    Raises:
        ProtocolError: that are no values. Not looked for where there is none.
    """
    if CHANNEL not in data:
        return []
    spots = []
    at, left = 0, count
    data = data if type(data) in compat.indexed else bytearray(data)
    try:
        while left:
            begin, first = at, data[at]
            kind, size, form = values.FORMS[first]
            at += 1
            if form:
                size, = form.unpack_from(data, at)
                at += form.size
            left -= 1
            if kind == 3 and size and data[at:at + 3] == CHANNEL:
                at = inner = at + 3
                for _ in range(size - 1):
                    at = streams.skip(data, at)
                spots.append((begin, inner, at))
            elif kind in (3, 4):
                left += size * (kind - 2)
            elif kind in (1, 2):
                at += 0 if apart and size >= values.BIG else size
            elif first == 0xd4:
                at += 2     # of another kind
            elif kind:
                raise IndexError
    except (IndexError, struct.error):
        raise ProtocolError("a value that can't be read")
    return spots


def replaced(body, change):
    # type: (Any, Callable[[Any], Any]) -> Any
    """A message's body with other channels in it.

    Args:
        body: one encoded value; or a list of all but the large byte strings in it, and these.
        change: makes [owner, number, token, size] of the same of another channel; raises what is raised here.
    """
    around = body[0] if type(body) is list else body
    spots = found(around, 1, type(body) is list)
    if not spots:
        return body
    around = bytes(around)
    parts, at = [], 0
    for begin, inner, end in spots:
        parts += [around[at:begin], b"\x95" + CHANNEL, b"".join(values.encode(change(_items(around[inner:end]))))[1:]]
        at = end
    around = b"".join(parts + [around[at:]])
    return [around] + body[1:] if type(body) is list else around


def _items(data):
    # type: (bytes) -> Any
    """What is known of a channel. Numbers and text are read, no more: it may come from anybody."""
    at, kinds = 0, []
    while at < len(data):
        kinds.append(values.FORMS[bytearray(data[at:at + 1])[0]][0])
        at = streams.skip(data, at)
    if kinds == [0, 0, 1, 0]:
        items = values.decode(b"\x94" + data)
        if all(type(n) in compat.integers and 0 <= n < 1 << 32 for n in items[:2] + items[3:]) and len(items[2]) == 32:
            return items
    raise ProtocolError("malformed reference to a channel")


def barred(body):
    # type: (bytes) -> bytes
    """Items of a stream (the body of an ITEMS message), without channels."""
    head = streams.HEAD
    spots = found(body[head.size:], head.unpack_from(body)[1] - 2)
    return _barred(body, [head.size + inner for _, inner, _ in spots])


def packed(body, last):
    # type: (bytes, bool) -> bytes
    """Items of a channel, without channels. Each must be a byte string, and what comes last, when it ends, nil.

    Raises:
        ProtocolError: they aren't.
    """
    data = body if type(body) in compat.indexed else bytearray(body)
    at, spots = streams.HEAD.size, []  # type: int, List[int]
    try:
        for _ in range(streams.HEAD.unpack_from(body)[1] - 2 - last):
            kind, size, form = values.FORMS[data[at]]
            at += 1
            if kind != 2:
                raise IndexError
            size, = form.unpack_from(data, at)
            at += form.size + size
            if CHANNEL in body[at - size:at]:
                spots += [at - size + inner for _, inner, _ in found(body[at - size:at])]
        if at + last != len(body) or last and data[at] != 0xc0:
            raise IndexError
    except (IndexError, struct.error):
        raise ProtocolError("what comes are no items of a channel")
    return _barred(body, spots)


def _barred(body, spots):
    # type: (bytes, List[int]) -> bytes
    if not spots:
        return body
    data = bytearray(body)
    for at in spots:
        data[at - 1] = BARRED
    return bytes(data)


def chunks_of(body):
    # type: (Any) -> List[Any]
    """An answer as it was sent: the large byte strings, which came apart (see ``fragments``), are where they belong."""
    if type(body) is not list:
        return [body]
    around, strings = body[0], iter(body[1:])
    data = around if type(around) in compat.indexed else bytearray(around)
    chunks, begin, at, left = [], 0, 0, 1  # type: List[Any], int, int, int
    while left:
        first = data[at]
        kind, count, form = values.FORMS[first]
        at += 1
        if form:
            count, = form.unpack_from(data, at)
            at += form.size
        left -= 1
        if kind in (3, 4):
            left += count * (kind - 2)
        elif kind in (1, 2) and count >= values.BIG:
            chunks += [around[begin:at], next(strings)]
            begin = at
        elif kind in (1, 2):
            at += count
        elif first == 0xd4:
            at += 2
    return chunks + [around[begin:]]
