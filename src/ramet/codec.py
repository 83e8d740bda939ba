"""The controller's values: the format of ``ramet.kernel.values``, through the msgpack package's C code where that is safe.

Whatever C can't do, or would do otherwise, is left to the kernel's encoder and decoder, which also decide what is an error:

* msgpack turns a bytearray into bytes, and packs its own ExtType and Timestamp: what it packed is looked through for any,
* while our hook for tuples runs, another thread may change a list that is half packed: the result is checked for being whole,
* it counts no depth that suits us; it packs bytes of any size by copying them;
* it reads no int of more than 64 bits, no lone surrogate, and (as we want it) no key that isn't text or bytes,
* before 1.2.4 it believes an array's length before it has seen the items.

One difference is left: a MessagePack timestamp, which ramet never sends, is read as an int instead of refused.
Any thread may call it.
"""
from __future__ import annotations

import builtins
import struct
import sys
from collections.abc import Callable
from itertools import chain
from typing import Any

import msgpack  # type: ignore[import-untyped]

from ramet.kernel import values
from ramet.kernel.errors import ValueNotPortableError
from ramet.kernel.limits import value_depth_max
from ramet.kernel.values import BIG, MARK, Context

__all__ = ["Context", "decode", "encode"]

#: Nothing of so few bytes can be nested too deeply.
SHALLOW_BYTES = 0 if hasattr(builtins, "frozendict") else value_depth_max
#: What ext types, bin, bytearray and memoryview begin with. Text and numbers may hold them as well.
SUSPECTS = bytes([*range(0xC4, 0xCA), *range(0xD4, 0xD9)])
MAPS = bytes([*range(0x80, 0x90), 0xDE, 0xDF])
#: How much of a message's top is looked through for a big payload: the arguments of a call, a result, a few items of it.
TOP_ITEMS = 8
#: Up to here a message is looked through for marks before it is read; that takes 0.6 us for each KB. A longer one is read as if
#: there were none: the first one ends that.
SCANNED_BYTES_MAX = 4096
#: A packer keeps the memory that it ever needed, so those that needed more aren't kept.
KEPT_BYTES_MAX = 1 << 20

LEAVES = frozenset({str, int, float, bool, type(None), bytes})
CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
LISTS = frozenset({list, tuple, dict})
BLOBS = frozenset({bytes, bytearray, memoryview})
UNREAD = memoryview, list      # what C doesn't take, or not so
NONE = b"\xc0"


class _Kind:
    """Stands for the mark at the head of an array while C reads it."""

    def __init__(self, code: int) -> None:
        self.code = code


class _Marked(Exception):
    """There is a mark in what was read as if there were none."""


_MARKS = {kind: msgpack.ExtType(1, code) for kind, code in values.KINDS.items()}
_KINDS = {bytes([code]): _Kind(code) for code in range(256)}
_packers: list[msgpack.Packer] = []

_probe = sys.intern("".join(["a name ", "of nobody"]))
#: msgpack interns keys. On 3.12 an interned text is never freed: a leak that a node could feed.
INTERNS_FOR_EVER = getattr(sys, "getrefcount", bool)(_probe) > 1 << 20     # PyPy counts none
USES_C = msgpack.Packer.__module__.endswith("_cmsgpack")
READS_IN_C = USES_C and msgpack.version >= (1, 2, 4) and bool(sys.flags.hash_randomization)


def _marked(value: Any) -> list[Any]:
    return [_MARKS[type(value)], *value]


def encode(value: Any, ctx: Context | None = None, root: str = "value", small: bool = False) -> list[Any]:
    """Make bytes of a value: see ``ramet.kernel.values.encode``.

    Args:
        small: it certainly holds no byte string that mustn't be copied.
    """
    if not USES_C or (not small and _holds_big(value)):
        return _encode(value, ctx, root)
    try:
        packer = _packers.pop()
    except IndexError:
        packer = msgpack.Packer(default=_marked, strict_types=True, buf_size=4096)
    try:
        packed = packer.pack(value)
    except Exception:
        _packers.append(packer)
        return _encode(value, ctx, root)
    size = len(packed)
    if size < KEPT_BYTES_MAX:
        _packers.append(packer)
    if size < SHALLOW_BYTES and len(packed.translate(None, SUSPECTS)) == size:     # a mark begins with a suspect, too
        return [packed]
    if MARK in packed and not _is_whole(packed):
        return values.encode(value, ctx, root)
    if _is_plain(value, ctx.depth_max if ctx else value_depth_max):
        return [packed]
    return values.encode(value, ctx, root)


def _encode(value: Any, ctx: Context | None, root: str) -> list[Any]:
    try:
        return values.encode(value, ctx, root)
    except struct.error:    # the kernel's has no room to say so
        raise ValueNotPortableError(f"{root}: it holds something of 4 GiB or more: send it in parts") from None


def _is_whole(packed: bytes) -> bool:
    """Do all counts in it agree with what follows them?"""
    unpacker = msgpack.Unpacker(max_buffer_size=len(packed))
    unpacker.feed(packed)
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        return False
    return bool(unpacker.tell() == len(packed))


def _holds_big(value: Any) -> bool:
    """Is there a payload that must not be copied at the top: among arguments, in a result, or one level below?"""
    if type(value) in BLOBS:
        return len(value) >= BIG
    if type(value) is list:
        for item in value[:TOP_ITEMS]:
            kind = type(item)
            if kind in BLOBS:
                if len(item) >= BIG:
                    return True
            elif kind in LISTS and item:
                parts = item.values() if kind is dict else item[:TOP_ITEMS]
                if not BLOBS.isdisjoint(map(type, parts)) and any(type(part) in BLOBS and len(part) >= BIG for part in parts):
                    return True
    return False


def _is_plain(value: Any, depth_max: int) -> bool:
    """Is a value that C has packed made of nothing but plain types, and not nested too deeply?

    Level by level, so that most of the work is done in C as well: 20 ns an item.
    """
    level = [value]
    for _ in range(depth_max):
        kinds = set(map(type, level))
        if not kinds & CONTAINERS:
            return kinds <= LEAVES
        if not kinds <= LEAVES | CONTAINERS:
            return False
        inner = [item for item in level if type(item) in CONTAINERS] if kinds & LEAVES else level
        if dict in kinds:
            inner += [item.values() for item in inner if type(item) is dict]
        level = list(chain.from_iterable(inner))
    return set(map(type, level)) <= LEAVES | CONTAINERS and not any(type(item) in CONTAINERS and item for item in level)


def decode(data: bytes | bytearray | memoryview | list[bytes], ctx: Context | None = None) -> Any:
    """Make a value of bytes: see ``ramet.kernel.values.decode``."""
    if data == NONE:    # what most functions return
        return None
    if not READS_IN_C or isinstance(data, UNREAD):
        return values.decode(data, ctx)
    if INTERNS_FOR_EVER and len(data.translate(None, MAPS)) < len(data):
        return values.decode(data, ctx)
    try:
        if len(data) < SCANNED_BYTES_MAX:
            if MARK[0] in data and MARK in data:    # looking for one byte is several times as fast
                return _decode_marked(data, ctx)
        else:
            try:
                return msgpack.unpackb(data, ext_hook=_found, timestamp=2)
            except _Marked:
                return _decode_marked(data, ctx)
        return msgpack.unpackb(data, ext_hook=_refuse, timestamp=2)
    except Exception:
        return values.decode(data, ctx)


def _refuse(code: int, data: bytes) -> Any:
    raise ValueError("an ext type")


def _found(code: int, data: bytes) -> Any:
    raise _Marked if code == 1 else ValueError("an ext type")


def _decode_marked(data: bytes | bytearray, ctx: Context | None) -> Any:
    open_marks = 0

    def ext_hook(code: int, payload: bytes) -> _Kind:
        nonlocal open_marks
        if code != 1:
            raise ValueError("an ext type")
        open_marks += 1
        return _KINDS[payload]

    def list_hook(items: list[Any]) -> Any:
        nonlocal open_marks
        if not items or type(items[0]) is not _Kind:
            return items
        open_marks -= 1
        code = items[0].code
        del items[0]
        return tuple(items) if code == 116 else made(code, items, ctx)

    made: Callable[..., Any] = values.made
    value = msgpack.unpackb(data, ext_hook=ext_hook, list_hook=list_hook, timestamp=2)
    if open_marks:
        raise ValueError("a mark that isn't at the head of an array")
    return value
