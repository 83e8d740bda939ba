"""The rarer kinds of values: the standard library's types, registered classes; and what makes refusals readable.

====  ============================================  ====  ================================================================
kind  type: items                                   kind  type: items
====  ============================================  ====  ================================================================
o     OrderedDict: key, value, ...                  P     pathlib: name of the class, text
d     defaultdict: builtin factory's name or None,  I     ipaddress: name of the class, text
      key, value, ...                               R     range (2.7: xrange): start, stop, step
n     Counter: key, count, ...                      S     slice: start, stop, step
q     deque: maxlen, its items                      Q     result of os, time, pwd ...: name of its class, tuple, dict
Y     date: year, month, day                        W     subprocess.CompletedProcess: args, status, stdout, stderr
T     time: h, min, s, microsecond, tzinfo, fold    A a   numpy array: dtype, shape, bin; numpy scalar: dtype, bin
D     datetime: the same behind a date's items      V     registered class: module, qualified name, what it packed
L     timedelta: days, seconds, microseconds        E e   enum member by name, combination of flags by value   (instances)
Z     timezone: seconds, microseconds, name         N     namedtuple: module, qualified name, items            (instances)
z     ZoneInfo: key                                 O     dataclass: module, qualified name, name, value ...   (instances)
U     UUID: 16 bytes                                X     exception: see ``instances``                         (instances)
m     Decimal: text                                 G-M   what the Context packs: nodes, channels
r     Fraction: numerator, denominator              b     bytearray: bin
C     code, downwards only: see ``by_value``        J     iterator, downwards only: node, number of the stream
c     complex: real, imaginary                      i j   int of 65 bits or more, negative: bin, its absolute value
v     one of these as bin, in failures; and its text, for who can't take it
====  ============================================  ====  ================================================================

Late part, with ``instances`` and ``keys``. No module is imported to encode: who has a Decimal has imported it.
Pure; any thread may call it.
"""
import binascii
import sys

from ramet.kernel import compat, values
from ramet.kernel.faults import Error, ProtocolError, ValueNotPortableError

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from ramet.kernel.values import Context

UNTRUSTED_DIGITS_MAX = 4300     # of a Decimal or a Fraction from below: some of their arithmetic is quadratic

MODULES = {
    "o": "collections", "d": "collections", "n": "collections", "q": "collections",
    "Y": "datetime", "T": "datetime", "D": "datetime", "L": "datetime", "Z": "datetime", "z": "zoneinfo",
    "U": "uuid", "m": "decimal", "r": "fractions", "P": "pathlib", "I": "ipaddress", "W": "subprocess", "A": "numpy",
    "C": "code", "R": int.__module__, "S": int.__module__, "b": int.__module__, "c": int.__module__,
}
KINDS = {
    "OrderedDict": "o", "defaultdict": "d", "Counter": "n", "deque": "q", "date": "Y", "time": "T", "datetime": "D",
    "timedelta": "L", "timezone": "Z", "ZoneInfo": "z", "UUID": "U", "Decimal": "m", "Fraction": "r", "slice": "S",
    "PurePosixPath": "P", "PureWindowsPath": "P", "PosixPath": "P", "WindowsPath": "P", "range": "R", "xrange": "R",
    "IPv4Address": "I", "IPv6Address": "I", "IPv4Network": "I", "IPv6Network": "I", "IPv4Interface": "I",
    "IPv6Interface": "I", "CompletedProcess": "W", "ndarray": "A", "bytearray": "b", "complex": "c",
}
SEQUENCES = {   # classes whose instances are tuples with names, made in C: where they are found
    "stat_result": "os", "statvfs_result": "os", "uname_result": "os", "times_result": "os", "terminal_size": "os",
    "struct_time": "time", "struct_passwd": "pwd", "struct_group": "grp", "struct_rusage": "resource",
}
FACTORIES = {kind.__name__: kind for kind in (
    list, dict, set, frozenset, tuple, int, float, complex, bool, str, bytes, bytearray)}  # type: Dict[str, Any]
HINTS = {
    "generator": "node.stream(...) gives its items one by one; or return a list of them",
    "async_generator": "node.stream(...) gives its items one by one; or return a list of them",
    "function": "code travels down the tree only",
    "module": "import it over there", "TextIOWrapper": "open it over there", "coroutine": "call the coroutine function",
    "lock": "it is of one process only", "type": "code travels down the tree only",
}

_registered = {}    # type: Dict[Any, Callable[[Any], Any]]
_by_name = {}       # type: Dict[Tuple[str, str], Callable[[Any], Any]]


class Reference(object):
    """What travels as a reference to something that stays where it is: a channel, an iterator."""

    kind = ""

    def parts(self):
        # type: () -> List[Any]
        """The items of that kind."""
        return []


class OrText(Reference):
    """A value in a failure, which mustn't be lost where the value can't be had: then its text is there.

    Args:
        packed: the value, encoded.
    """

    kind = "v"

    def __init__(self, packed, text):
        # type: (bytes, Any) -> None
        self._parts = [compat.Bytes(packed), text]

    def parts(self):
        # type: () -> List[Any]
        """See ``Reference``."""
        return self._parts


def register(cls, pack, unpack):
    # type: (type, Callable[[Any], Any], Callable[[Any], Any]) -> None
    """Let instances of exactly this class travel. See ``ramet.register``."""
    from ramet.kernel import instances
    _registered[cls] = pack
    _by_name[instances.wire_name(cls)] = unpack


def pack(value, ctx=None):
    # type: (Any, Optional[Context]) -> Tuple[bytes, Any]
    """Kind and items of a value that isn't of the plain types.

    Raises:
        ValueNotPortableError: it can't travel; the text tells why, not where it is.
    """
    kind = type(value)
    try:
        found = _pack(value, kind, ctx)
    except ValueNotPortableError:
        raise
    except Exception as error:
        raise ValueNotPortableError("a %s can't be packed: %s: %s" % (kind.__name__, type(error).__name__, error))
    if ctx:
        ctx.rare = True
    return found


def _pack(value, kind, ctx):
    # type: (Any, Any, Optional[Context]) -> Tuple[bytes, Any]
    name = kind.__name__  # type: str
    code = KINDS.get(name, "")
    if kind in compat.integers:
        digits = "%x" % abs(value)      # linear in both directions, and there on every Python
        return b"j" if value < 0 else b"i", [compat.Bytes(binascii.unhexlify("0" * (len(digits) & 1) + digits))]
    if kind in _registered:
        from ramet.kernel import instances
        return b"V", instances.wire_name(kind) + (_registered[kind](value),)
    if code and getattr(sys.modules.get(MODULES[code]), name, None) is kind:
        return code.encode("ascii"), PACK[code](value)
    if getattr(sys.modules.get(SEQUENCES.get(name, "")), name, None) is kind:
        return b"Q", (name,) + value.__reduce__()[1]
    if isinstance(value, Reference):
        return value.kind.encode("ascii"), value.parts()
    hook = getattr(ctx, "pack", None)
    found = hook and hook(value)
    if not found:
        from ramet.kernel import instances
        found = instances.pack(value, kind)
    generic = getattr(sys.modules.get("numpy"), "generic", ())  # type: Any
    if not found and isinstance(value, generic):
        return b"a", (_dtype_spec(value.dtype), compat.Bytes(value.tobytes()))
    if not found:
        plain = [base.__name__ for base in kind.__mro__[1:] if base in PLAIN] if hasattr(kind, "__mro__") else []
        hint = HINTS.get(name) or (plain and "convert it with %s()" % plain[0]) or "ramet.register() can teach that"
        raise ValueNotPortableError("a %s.%s can't travel: %s" % (kind.__module__, name, hint))
    return found


PLAIN = (bool,) + compat.integers + (float, complex, compat.text, str, bytes, bytearray, list, tuple, dict, set, frozenset)


def unpack(kind, items, ctx=None):
    # type: (str, List[Any], Optional[Context]) -> Any
    """The value of a kind and its items.

    Raises:
        ValueNotPortableError: this Python has no such type, or the items are none of its.
    """
    try:
        if kind in UNPACK:
            return UNPACK[kind](items, ctx)
        if kind in "EeNOX":
            from ramet.kernel import instances
            return instances.UNPACK[kind](items, ctx)
        if kind == "J":
            from ramet.kernel import readers
            return readers.unpack(items, ctx)
        if kind == "H":
            raise ValueNotPortableError("a channel was in an item: through a door it passes as an argument or a result only")
        if kind == "K" and not getattr(ctx, "unpack", None):
            from ramet.kernel import channels
            return channels.unpack(items, ctx)
        if kind == "C":
            if not (ctx and ctx.trusted):
                raise ValueNotPortableError("code came from below or beside: refused unread, only an ancestor may send it")
            from ramet.kernel import by_value
            return by_value.unpack(items, ctx)
    except (Error, MemoryError):
        raise
    except Exception as error:
        from ramet.kernel import instances
        raise ValueNotPortableError("no value of kind %r (%s) can be made of what came: %s: %s" % (
            kind, MODULES.get(kind, "such"), type(error).__name__, instances.shown(error)))
    hook = getattr(ctx, "unpack", None)
    if hook and "G" <= kind <= "M":
        return hook(kind, items)
    raise ProtocolError("unknown kind of value: %r" % kind)


def _type(kind, name):
    # type: (str, str) -> Any
    """A class of the standard library by its kind and name. Imports its module."""
    if KINDS.get(name) != kind:
        raise ProtocolError("no %r of kind %r" % (name, kind))
    __import__(MODULES[kind])
    return getattr(sys.modules[MODULES[kind]], name)


def _flat(mapping):
    # type: (Any) -> List[Any]
    return [x for pair in list(mapping.items()) for x in pair]


def _pairs(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    return zip(values.guarded(items[::2], ctx), items[1::2])


def _pack_defaultdict(value):
    # type: (Any) -> List[Any]
    factory = value.default_factory
    if factory is not None and FACTORIES.get(getattr(factory, "__name__", "")) is not factory:
        raise ValueNotPortableError("a defaultdict travels only with a factory such as list or int")
    return [factory and factory.__name__] + _flat(value)


def _unpack_defaultdict(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    factory = items[0] if items[0] is None else FACTORIES[items[0]]
    return _type("d", "defaultdict")(factory, _pairs(items[1:], ctx))


def _unpack_timed(kind, name, items):
    # type: (str, str, List[Any]) -> Any
    made = _type(kind, name)(*items[:-1])
    return made.replace(fold=1) if items[-1] else made


def _pack_timezone(value):
    # type: (Any) -> List[Any]
    initial = value.__getinitargs__()
    return [initial[0].days * 86400 + initial[0].seconds, initial[0].microseconds] + list(initial[1:] or [None])


def _unpack_timezone(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    seconds, microseconds, name = items
    cls = _type("Z", "timezone")
    offset = sys.modules["datetime"].timedelta(0, seconds, microseconds)
    return cls(offset) if name is None else cls(offset, name)


def _pack_zone(value):
    # type: (Any) -> List[Any]
    if value.key is None:
        raise ValueNotPortableError("a ZoneInfo without a key can't travel")
    return [value.key]


def _unpack_number(kind, items, ctx):
    # type: (str, List[Any], Optional[Context]) -> Any
    for item in items:
        digits = len(item + "") if kind == "m" else item.bit_length() * 0.30103     # text: it takes digits one by one, too
        if digits > UNTRUSTED_DIGITS_MAX and not (ctx and ctx.trusted):
            raise ValueNotPortableError("a number of more than %d digits is refused from below" % UNTRUSTED_DIGITS_MAX)
    return _type(kind, "Decimal" if kind == "m" else "Fraction")(*items)


def _unpack_sequence(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    name, content, named = items
    __import__(SEQUENCES[name])
    kind = getattr(sys.modules[SEQUENCES[name]], name)      # 3.14 refuses names that it doesn't know, such as PyPy's own
    return kind(tuple(content), {key: named[key] for key in named if hasattr(kind, key)})


def _unpack_registered(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    module, name, packed = items
    if (module, name) not in _by_name and ctx and ctx.trusted and ctx.find_class:
        ctx.find_class(module, name)    # importing its module registers it
    if (module, name) not in _by_name:
        from ramet.kernel import instances
        raise ValueNotPortableError("%s isn't registered here" % instances.shown(module, name))
    return _by_name[module, name](packed)


def _dtype_spec(dtype):
    # type: (Any) -> Any
    if dtype.hasobject:
        raise ValueNotPortableError("a numpy array of objects can't travel")
    if dtype.fields and _dtype(dtype.descr, None) != dtype:     # that names what is between the fields as if it were some
        raise ValueNotPortableError("a numpy array of records with gaps or titles can't travel: "
                                    "numpy.lib.recfunctions.repack_fields() takes gaps out")
    return dtype.descr if dtype.fields else dtype.str


def _dtype(spec, ctx):
    # type: (Any, Optional[Context]) -> Any
    """A numpy dtype; nothing but numbers, texts and dates, however nested, of a spec that may be anything."""
    if isinstance(spec, list):
        spec = [tuple([str(field[0]), _dtype(field[1], ctx)] + [tuple(shape) for shape in field[2:3]]) for field in spec]
    elif len(spec) > 40 or spec[:1] not in "<>|=" or spec[1:2] not in "biufcSUVMm" or "," in spec or "(" in spec:
        raise ValueError("no dtype")
    if "numpy" not in sys.modules and not (ctx and ctx.trusted):    # it takes 30 MB and starts threads
        raise ValueNotPortableError("a numpy array came, but numpy isn't loaded here: import it")
    __import__("numpy")
    return sys.modules["numpy"].dtype(spec)


def _unpack_array(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    spec, shape, data = items
    dtype = _dtype(spec, ctx)
    size = dtype.itemsize
    for length in shape:
        size *= length
        if not 0 <= length < 1 << 62:
            raise ValueError("no shape")
    if size != len(data) or not dtype.itemsize:
        raise ValueError("shape and data don't fit")
    return sys.modules["numpy"].ndarray(tuple(shape), dtype, bytearray(data))


def _unpack_scalar(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    return _unpack_array([items[0], [1], items[1]], ctx)[0]


def _unpack_int(items, ctx):
    # type: (List[Any], Optional[Context]) -> int
    return int(binascii.hexlify(_data(items)), 16)


def _unpack_or_text(items, ctx):
    # type: (List[Any], Optional[Context]) -> Any
    packed, text = items
    # One in another would be copied as often as they are deep; and no door could put another channel in a channel's place.
    if values.MARK + b"v" in _data([packed]) or values.MARK + b"K" in packed:
        return text
    try:
        return values.decode(packed, ctx)
    except ValueNotPortableError:
        return text


def _data(items):
    # type: (List[Any]) -> Any
    """The bytes that must be the only item."""
    data, = items
    if type(data) is not compat.Bytes:
        raise ValueError("bytes expected")
    return data


PACK = {
    "b": lambda v: [compat.Bytes(v)], "c": lambda v: (v.real, v.imag),
    "o": _flat, "n": _flat, "d": _pack_defaultdict,
    "q": lambda v: [v.maxlen] + list(v),
    "Y": lambda v: (v.year, v.month, v.day),
    "T": lambda v: (v.hour, v.minute, v.second, v.microsecond, v.tzinfo, getattr(v, "fold", 0)),
    "D": lambda v: (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond, v.tzinfo, getattr(v, "fold", 0)),
    "L": lambda v: (v.days, v.seconds, v.microseconds),
    "Z": _pack_timezone, "z": _pack_zone,
    "U": lambda v: (compat.Bytes(v.bytes),),
    "m": lambda v: (str(v),),
    "r": lambda v: (v.numerator, v.denominator),
    "P": lambda v: (type(v).__name__, str(v)), "I": lambda v: (type(v).__name__, str(v)),
    "R": lambda v: v.__reduce__()[1],
    "S": lambda v: (v.start, v.stop, v.step),
    "W": lambda v: (v.args, v.returncode, v.stdout, v.stderr),
    "A": lambda v: (_dtype_spec(v.dtype), v.shape, compat.Bytes(v.tobytes())),
}  # type: Dict[str, Callable[[Any], Any]]

UNPACK = {
    "b": lambda items, ctx: bytearray(_data(items)), "c": lambda items, ctx: complex(*items),
    "i": _unpack_int, "j": lambda items, ctx: -_unpack_int(items, ctx),
    "o": lambda items, ctx: _type("o", "OrderedDict")(_pairs(items, ctx)),
    "n": lambda items, ctx: _type("n", "Counter")(dict(_pairs(items, ctx))),
    "d": _unpack_defaultdict,
    "q": lambda items, ctx: _type("q", "deque")(items[1:], items[0]),
    "Y": lambda items, ctx: _type("Y", "date")(*items),
    "T": lambda items, ctx: _unpack_timed("T", "time", items),
    "D": lambda items, ctx: _unpack_timed("D", "datetime", items),
    "L": lambda items, ctx: _type("L", "timedelta")(*items),
    "Z": _unpack_timezone,
    "z": lambda items, ctx: _type("z", "ZoneInfo")(*items),
    "U": lambda items, ctx: _type("U", "UUID")(bytes=_data(items)),
    "m": lambda items, ctx: _unpack_number("m", items, ctx),
    "r": lambda items, ctx: _unpack_number("r", items, ctx),
    "P": lambda items, ctx: _type("P", items[0])(items[1]),
    "I": lambda items, ctx: _type("I", items[0])(items[1]),
    "R": lambda items, ctx: getattr(sys.modules[int.__module__], "xrange", range)(*items),
    "S": lambda items, ctx: slice(*items),
    "W": lambda items, ctx: _type("W", "CompletedProcess")(*items),
    "Q": _unpack_sequence, "A": _unpack_array, "a": _unpack_scalar, "V": _unpack_registered,
    "v": _unpack_or_text,
}  # type: Dict[str, Callable[[List[Any], Optional[Context]], Any]]
