"""Values: what arguments and results may be, as bytes and back. MessagePack, and one rule more.

The rule: an array whose first item is the ext ``d4 01 KIND`` isn't a list. It is a value of that kind, made of the items
that follow. So every type is a kind and a list of plainer values, and nothing needs to know its length beforehand.

The kinds ``t`` tuple, ``s`` set, ``f`` frozenset hold their items; ``portable``, loaded when one is met, has the others:
also int of more than 64 bits, complex, bytearray.

Text is UTF-8, lone surrogates included (as three bytes each). On Python 2.7, ``str`` travels as text, a byte that isn't
UTF-8 as a lone surrogate U+DC80..U+DCFF; text arrives as ``str`` if it is ASCII or holds such surrogates, else as
``unicode``; bytes arrive as ``compat.Bytes``, a ``str`` that travels back as bytes. A memoryview arrives as bytes.
An object that is held twice arrives as two. MessagePack's own ext types (timestamps) aren't used.

Pure: bytes in, values out. Must not know of frames or links. Any thread may call it. Values of another kind than those
above load ``portable``: not on the thread that reads the links, which might have to fetch it.
"""
import struct
import sys

from ramet.kernel.compat import Bytes, flat, indexed, integers, native_text, native_utf8, text, view
from ramet.kernel.faults import Error, ProtocolError, ValueNotPortableError
from ramet.kernel.limits import message_bytes_max, value_depth_max

MYPY = False
if MYPY:
    from typing import Any, Callable, List, Optional, Tuple, Union

    Buffer = Union[bytes, bytearray, memoryview]

BIG = 65536             # bytes; a payload of that size or more is a chunk of its own, and isn't copied
DEPTH_READ_MAX = 1024   # as deep as the msgpack package reads; value_depth_max bounds what is sent
PLAIN_KEYS = {text, bytes, Bytes, float, bool, type(None)}.union(integers)
TEXTS = {text, bytes, Bytes} if sys.flags.hash_randomization else set()  # types of keys whose hashes nobody can choose

# Of each first byte: what begins there (0 a value, 1 text, 2 bytes, 3 array, 4 map, 5 nothing that we know), its value
# or length, and how to read that where it stands behind it.
FORMS = [(op, n, None) for op, count in ((0, 128), (4, 16), (3, 16), (1, 32)) for n in range(count)]  # type: List[Any]
FORMS += [(int(op), {"2": False, "3": True}.get(code), struct.Struct(">" + code) if code > "A" else None)
          for op, code in zip("05002225550000000000555551113344", "0.23BHI...fdBHIQbhiq.....BHIHIHI")]
FORMS += [(0, n, None) for n in range(-32, 0)]
WIDTHS = [(n > 8) + (n > 16) + (n > 32) for n in range(65)]  # of a number of bits: the exponent of its bytes
# Of short ones: the first byte and how many that says; then the first byte of those of less than 64 KiB.
TEXT, BIN, ARRAY, MAP = (0xa0, 32, 0xda), (0, 0, 0xc5), (0x90, 16, 0xdc), (0x80, 16, 0xde)
MARK = b"\xd4\x01"
ATOMS = {None: 0xc0, False: 0xc2, True: 0xc3}
FLAT = {bytes: (TEXT, native_utf8), memoryview: (BIN, flat)}  # type: Any
KINDS = {tuple: b"t", set: b"s", frozenset: b"f"}  # type: Any


class Context(object):
    """What values need to know of who sent them.

    A subclass may have two hooks, for nodes and channels: ``pack(value)`` gives a kind (one of b"G" to b"M", which are free
    for that) and a list of items, or None; ``unpack(kind, items)`` makes the value, of items from whom ``trusted`` says.

    Args:
        trusted: they come from an ancestor: it may run any code here, so instances of any class may be made.
        find_class: module and qualified name to a class; raises what it likes if that isn't allowed. Where it isn't
            trusted, it is only asked for classes of modules that are loaded already.

    Attributes:
        depth_max: how deep values to be sent may be nested.
        rare: turns True when a value was encoded that takes ``portable`` to read.
    """

    depth_max = value_depth_max
    rare = False

    def __init__(self, trusted=False, find_class=None):
        # type: (bool, Optional[Callable[[str, str], Any]]) -> None
        self.trusted = trusted
        self.find_class = find_class


def encode(value, ctx=None, root="value"):
    # type: (Any, Optional[Context], str) -> List[Any]
    """Make bytes of a value.

    Args:
        ctx: see ``Context``; without one, nodes and channels can't be sent.
        root: what the value is called in errors: "args", "result" ...

    Returns:
        Chunks, to be sent one after the other. bytes of 64 KiB or more are chunks themselves, uncopied, and so are
        memoryviews: leave what is behind those alone until it is sent. A bytearray is copied: its owner may change it.

    Raises:
        ValueNotPortableError: it can't travel, holds itself, or is nested too deeply.
    """
    if value is None:
        return [b"\xc0"]    # what most functions return
    depth_max = ctx.depth_max if ctx else value_depth_max
    try:
        return _encode(value, ctx, depth_max)
    except ValueNotPortableError as error:
        from ramet.kernel import culprits
        raise culprits.located(value, ctx, root, depth_max, error)


def _encode(value, ctx, depth_max):
    # type: (Any, Optional[Context], int) -> List[Any]
    chunks, stack, out = [], [], bytearray()  # type: List[Any], List[Any], bytearray
    upcoming = iter((value,))  # type: Any
    while 1:
        for v in upcoming:
            kind = type(v)
            (fix, room, code), mark = ARRAY, b""
            if kind is text:
                (fix, room, code), v = TEXT, v.encode("utf-8", "surrogatepass")
            elif kind in integers and -33 < v < 128:
                out.append(v & 255)
                continue
            elif v is None or kind is bool:
                out.append(ATOMS[v])
                continue
            elif kind is list:
                v = v[:]
            elif kind is dict:
                (fix, room, code), v = MAP, [x for pair in list(v.items()) for x in pair] if v else v
            elif kind is float:
                out += struct.pack(">Bd", 0xcb, v)
                continue
            elif kind is Bytes:
                fix, room, code = BIN
            elif kind in FLAT:
                (fix, room, code), flatten = FLAT[kind]
                v = flatten(v)
            else:
                bits = (v if v > 0 else v * -2 - 1).bit_length() if kind in integers else 65
                if bits < 65:
                    code = 0xcc + WIDTHS[bits] + (v < 0) * 4
                    out += struct.pack("B", code) + FORMS[code][2].pack(v)
                    continue
                mark, v = _parts(v, kind, ctx)
            n = (len(mark) > 0) + len(v) >> (fix == 0x80)
            if n < room:
                out.append(fix | n)
            else:
                code += (n > 65535) - (n < 256 and room != 16)
                out += struct.pack("B", code) + FORMS[code][2].pack(n)
            if room != 16:
                if n >= BIG:
                    chunks += bytes(out), v
                    out, v = bytearray(), b""
                out += v
                continue
            if mark:
                out += MARK + mark
            if v:
                stack.append(upcoming)
                upcoming = iter(v)
                if len(stack) > depth_max or len(out) > message_bytes_max:
                    raise ValueNotPortableError("it is nested too deeply, or too large")
                break
        else:
            if not stack:
                return chunks + [bytes(out)]
            upcoming = stack.pop()


def _parts(v, kind, ctx):
    # type: (Any, Any, Any) -> Tuple[bytes, Any]
    if kind in KINDS:
        return KINDS[kind], tuple(v)
    from ramet.kernel import portable
    return portable.pack(v, ctx)


def decode(data, ctx=None):
    # type: (Any, Optional[Context]) -> Any
    """Make a value of bytes, in time and memory linear in their number.

    Args:
        data: bytes; or a list of all but the large byte strings in it, and these: see ``fragments``.
        ctx: see ``Context``; without one, no instances of classes other than built-in ones are made.

    Raises:
        ProtocolError: that isn't a value.
        ValueNotPortableError: it can't be had here: its type is missing, or not allowed.
    """
    apart = []  # type: List[Any]
    if type(data) is list:
        data, apart = data[0], data[:0:-1]
    if type(data) not in indexed:
        data = bytearray(data)
    try:
        return _decode(data, apart, ctx)
    except (Error, MemoryError):
        raise
    except Exception as error:
        raise ProtocolError("not a value: %s at %s" % (type(error).__name__, error))


def _decode(data, apart, ctx):
    # type: (Any, List[Any], Optional[Context]) -> Any
    stack = []  # type: List[Any]
    items = []  # type: List[Any]
    size = len(data)
    i = op = kind = 0
    left = 1
    while 1:
        b = data[i]
        op, v, form = FORMS[b]
        i += 1
        if form:
            v, = form.unpack_from(data, i)
            i += form.size
        if op < 3:
            if op:
                if apart and v >= BIG:
                    raw = apart.pop()
                    if len(raw) != v:
                        raise ValueError(i)
                else:
                    end = i + v
                    if end > size:
                        raise ValueError(i)
                    raw = view(data)[i:end] if op > 1 else data[i:end]
                    i = end
                if op > 1:
                    v = Bytes(raw)
                else:
                    v = native_text(raw) if native_text else raw.decode("utf-8", "surrogatepass")
            items.append(v)
            left -= 1
        elif op < 5 and not v:      # the commonest: no keyword arguments, no options
            items.append([] if op < 4 else {})
            left -= 1
        else:
            stack.append((items, left, kind))
            items, left, kind = [], v * (op - 2), op
            if op > 4 or left > size - i or len(stack) > DEPTH_READ_MAX:
                raise ValueError(i)
            if op < 4 and data[i] == 0xd4 and data[i + 1] == 1:
                kind = -data[i + 2]
                i += 3
                left -= 1
        while not left:
            if kind == 3:
                v = items
            elif kind == 4:
                v = dict(zip(guarded(items[::2], ctx), items[1::2]))
            elif stack:
                v = made(-kind, items, ctx)
            elif i == size and not apart:
                return items[0]
            else:
                raise ValueError(i)
            items, left, kind = stack.pop()
            items.append(v)
            left -= 1


def made(kind, items, ctx):
    # type: (int, List[Any], Optional[Context]) -> Any
    """The value of a kind and its items."""
    if kind == 116:
        return tuple(items)
    if kind == 115:
        return set(guarded(items, ctx))
    if kind == 102:
        return frozenset(guarded(items, ctx))
    from ramet.kernel import portable
    return portable.unpack(chr(kind), items, ctx)


def guarded(keys, ctx):
    # type: (List[Any], Optional[Context]) -> List[Any]
    """The keys, after a look at those that come from below: hashing must not run others' code, nor be made slow."""
    kinds = set(map(type, keys))
    if not (ctx and ctx.trusted) and (kinds - PLAIN_KEYS or len(keys) > 64 and kinds - TEXTS):
        from ramet.kernel.keys import check
        check(keys)
    return keys
