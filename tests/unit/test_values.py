"""Values: what is sent is what arrives, on both encoders; refusals name the culprit; nothing from below does harm."""
from __future__ import annotations

import builtins
import collections
import dataclasses
import enum
import functools
import gc
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, Generic, NamedTuple, TypeVar

import pytest

from ramet import codec
from ramet.kernel import compat, instances, keys, portable, values
from ramet.kernel.errors import ConnectError, ProtocolError, ValueNotPortableError
from ramet.kernel.values import Context
from support import needs, values_corpus

BOTH = [pytest.param(values, id="kernel"), pytest.param(codec, id="codec")]
RAN: list[str] = []


class Color(enum.Enum):
    RED = 1


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Point(NamedTuple):
    x: int
    y: Any


class Loud(NamedTuple):
    x: int

    def __hash__(self) -> int:
        RAN.append("hash")
        return 1


@dataclasses.dataclass
class Record:
    name: str
    items: list[Any] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        RAN.append("post_init")

    def __setattr__(self, name: str, value: Any) -> None:
        RAN.append("setattr")
        object.__setattr__(self, name, value)

    def save(self) -> None:
        """What an attribute from below must not hide."""

    @functools.cached_property
    def size(self) -> int:
        return len(self.name)


@dataclasses.dataclass
class Guarded:
    x: int

    @property
    def danger(self) -> int:
        return 0

    @danger.setter
    def danger(self, value: int) -> None:
        RAN.append("property")


@dataclasses.dataclass
class Mortal:
    x: int

    def __del__(self) -> None:
        RAN.append("del")


T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    x: T


class Unfit(ValueError, Generic[T]):
    """An exception that is generic."""


class Registered:
    def __init__(self, x: Any) -> None:
        self.x = x


class Oops(Exception):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
        RAN.append("init")


class Plain:
    pass


def find_class(module: str, name: str) -> Any:
    if module != __name__:
        raise LookupError("not allowed")
    return functools.reduce(getattr, name.split("."), sys.modules[module])


def dumps(value: Any) -> bytes:
    return b"".join(values.encode(value))


ABOVE, BELOW = Context(True, find_class), Context(False, find_class)


@pytest.fixture(autouse=True)
def _forget() -> None:
    RAN.clear()


values_corpus.prepare()
SENDERS = RECEIVERS = BOTH


@pytest.mark.parametrize("receiver", RECEIVERS)
@pytest.mark.parametrize("sender", SENDERS)
def test_what_is_sent_is_what_arrives(sender: Any, receiver: Any) -> None:
    """Every case of the corpus, from above and from below."""
    for expression in values_corpus.cases():
        value, can = values_corpus.make(expression)
        assert can, expression
        data = b"".join(sender.encode(value))
        for ctx in values_corpus.context(True), values_corpus.context(False):
            got = receiver.decode(data, ctx)
            assert type(got) is type(value), expression
            assert values_corpus.shown(got) == values_corpus.shown(value), expression


@pytest.mark.parametrize("value", [
    [1, bytearray(b"x")], {"a": (bytearray(b"x"), b"y")}, [{1: [bytearray(b"x") * 300]}], bytearray(b"x"),
    [2**70], {2**70: -(2**70)}, "\udc80", {"\udc80": 1}, {(1, 2): 3}, {1: 2}, [(), [()], {(): ()}, set(), frozenset()],
    ["\u0100\u0141", bytearray(b"x")], [None, True, False, 1, 1.0],
])  # fmt: skip
def test_what_the_msgpack_package_would_change_arrives_too(value: Any) -> None:
    data = b"".join(codec.encode(value))
    assert data == dumps(value)
    for got in codec.decode(data), values.decode(data), codec.decode(bytearray(data)), codec.decode(memoryview(data)):
        assert repr(got) == repr(value)


def test_both_encoders_write_the_same() -> None:
    for expression in values_corpus.cases():
        value, _ = values_corpus.make(expression)
        assert b"".join(codec.encode(value)) == dumps(value), expression


@pytest.mark.parametrize("module", BOTH)
def test_big_payloads_are_chunks_and_not_copied(module: Any) -> None:
    big = os.urandom(values.BIG)
    view = memoryview(os.urandom(values.BIG))
    chunks = module.encode(["mod:fn", [big, 1, {"k": view}], {"k": big}, {}])
    assert [id(chunk) for chunk in chunks].count(id(big)) == 2
    assert any(isinstance(chunk, memoryview) and chunk.obj is view.obj for chunk in chunks)
    got = module.decode(b"".join(chunks))
    assert got == ["mod:fn", [big, 1, {"k": bytes(view)}], {"k": big}, {}]


@pytest.mark.parametrize("module", BOTH)
def test_a_bytearray_may_be_changed_once_it_is_encoded(module: Any) -> None:
    value = bytearray(b"a" * values.BIG)
    chunks = module.encode([value])
    value[:] = b"b"
    assert module.decode(b"".join(chunks)) == [bytearray(b"a" * values.BIG)]


@pytest.mark.parametrize("module", BOTH)
def test_memoryviews_of_any_shape_arrive_as_bytes(module: Any) -> None:
    numbers = memoryview(struct.pack("8i", *range(8))).cast("i")
    for view in numbers, numbers[::2], memoryview(b""), memoryview(b"abc")[::-1], memoryview(bytes(70000))[::2]:
        assert module.decode(b"".join(module.encode([view]))) == [view.tobytes()]


# What can't travel.


def cyclic() -> list[Any]:
    value: list[Any] = [1]
    value.append({"a": value})
    return value


def deep(levels: int) -> Any:
    return functools.reduce(lambda inner, _: [inner], range(levels), 0)


@pytest.mark.parametrize("module", BOTH)
@pytest.mark.parametrize(("value", "said"), [
    ({"a": [1, 2, 3, len]}, r"result['a'][3]: a builtins.builtin_function_or_method can't travel"),
    ([(1, {2: object()})], r"result[0][1][2]: a builtins.object can't travel"),
    ({"a": {(1, Plain()): 1}}, "result['a'].key(a tuple)[1]: a "),
    ({Plain}, "result.item(a type): a builtins.type can't travel"),
    (Record("x", [1, (n for n in "")]), "result.items[1]: a builtins.generator can't travel: node.stream(...) gives its items"),
    (Point(1, [threading.Lock()]), "result.y[0]: a _thread.lock can't travel"),
    (ValueError(1, Plain()), "result.args[1]: a "),
    (collections.OrderedDict(a=[len]), "result['a'][0]: a "),
    (collections.deque([1, len]), "result[1]: a "),
    (type("Text", (str,), {})("x"), "result: a test_values.Text can't travel: convert it with str()"),
    ([type("Number", (int,), {})(1)], "convert it with int()"),
    ([type("Record2", (dict,), {})(a=1)], "convert it with dict()"),
    (collections.defaultdict(lambda: 1), "a defaultdict travels only with a factory such as list"),
    (cyclic(), "result[1]['a']: it holds itself"),
    (deep(201), "nested more than 200 deep"),
    ({1: deep(100000)}, "nested more than 200 deep"),
    (datetime(2020, 1, 1, tzinfo=type("Zone", (type(timezone.utc).__mro__[1],), {})()), "result[7]: a test_values.Zone"),
], ids=lambda value: "" if not isinstance(value, str) else value[:40])  # fmt: skip
def test_errors_name_the_culprit(module: Any, value: Any, said: str) -> None:
    with pytest.raises(ValueNotPortableError) as caught:
        module.encode(value, None, "result")
    assert said.replace("test_values", __name__) in str(caught.value)


@pytest.mark.parametrize("module", BOTH)
def test_a_value_may_be_nested_as_deep_as_said(module: Any) -> None:
    for value in deep(200), deep(199), {"a": deep(199)}, [deep(198), "\u0141" * 300], (deep(198),):
        assert module.decode(b"".join(module.encode(value))) == value
    with pytest.raises(ValueNotPortableError, match="more than 200 deep"):
        module.encode([deep(199), deep(200)])


def test_a_bomb_of_references_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "message_bytes_max", 1 << 20)
    value: Any = "x"
    for _ in range(50):
        value = [value] * 10
    with pytest.raises(ValueNotPortableError, match="too large"):
        values.encode(value)


@pytest.mark.parametrize("value", [b"x" * 70000, [memoryview(b"x" * 70000)], "x" * 70000, list(range(70000))],
                         ids=["bytes", "memoryview", "text", "list"])  # fmt: skip
def test_what_is_too_large_for_the_format(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    narrow = [(*form[:2], struct.Struct(">H")) if op in (0xC6, 0xDB, 0xDD) else form for op, form in enumerate(values.FORMS)]
    monkeypatch.setattr(values, "FORMS", narrow)    # as if it were 4 GiB
    monkeypatch.setattr(codec, "USES_C", False)
    with pytest.raises(ValueNotPortableError, match="result: it holds something of 4 GiB or more"):
        codec.encode(value, None, "result")


def test_a_failing_pack_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "_registered", {Registered: lambda value: 1 / 0})
    monkeypatch.setattr(portable, "_by_name", {})
    with pytest.raises(ValueNotPortableError, match=r"value\[0\]: a Registered can't be packed: ZeroDivisionError"):
        codec.encode([Registered(1)])


# Registered classes, classes by name, hooks.


def test_registered_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "_registered", {})
    monkeypatch.setattr(portable, "_by_name", {})
    with pytest.raises(ValueNotPortableError, match=r"ramet.register\(\) can teach that"):
        codec.encode(Registered(1))
    portable.register(Registered, lambda value: value.x, Registered)
    data = b"".join(codec.encode([Registered({"a": (1,)})]))
    for ctx in None, ABOVE, BELOW:
        assert codec.decode(data, ctx)[0].x == {"a": (1,)}
    portable._by_name.clear()
    for ctx in None, ABOVE, BELOW:
        with pytest.raises(ValueNotPortableError, match="isn't registered here"):
            codec.decode(data, ctx)


def test_a_value_or_its_text() -> None:
    def read(value: Any, ctx: Any = BELOW) -> Any:
        return codec.decode(dumps(portable.OrText(dumps(value), "text")), ctx)

    assert read(Color.RED) is Color.RED and read(Color.RED, None) == "text" and read((1, {2}), None) == (1, {2})
    assert read([portable.OrText(dumps(1), "inner")]) == "text", "one in another would cost the square of their depth"
    assert codec.decode(dumps(portable.OrText(b"\x95" + values.MARK + b"K" + bytes(4), "text"))) == "text", "a channel"
    for odd in (b"\xc1", b"", "x", 1, None, []):
        with pytest.raises((ProtocolError, ValueNotPortableError)):
            codec.decode(b"\x93" + values.MARK + b"v" + dumps(odd) + dumps("text"))


def test_nodes_and_channels_have_a_hook() -> None:
    class WithPlain(Context):
        def pack(self, value: Any) -> Any:
            return (b"G", [7, ("x",)]) if isinstance(value, Plain) else None

        def unpack(self, kind: str, items: list[Any]) -> Any:
            return (kind, items, self.trusted)

    ctx = WithPlain()
    assert not ctx.rare
    data = b"".join(codec.encode([Plain()], ctx))
    assert ctx.rare
    assert codec.decode(data, ctx) == [("G", [7, ("x",)], False)]
    with pytest.raises(ProtocolError, match="unknown kind"):
        codec.decode(data, BELOW)


def test_the_main_module_has_one_name_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("__ramet_main__")
    monkeypatch.setitem(sys.modules, "__ramet_main__", module)
    module.Color = enum.Enum("Color", "RED", module="__ramet_main__")  # type: ignore[attr-defined, misc]
    data = dumps(module.Color.RED)  # type: ignore[attr-defined]
    assert b"__main__" in data and b"__ramet" not in data
    ctx = Context(False, lambda name, qualname: getattr(sys.modules["__ramet_main__"], qualname))
    assert values.decode(data, ctx) is module.Color.RED  # type: ignore[attr-defined]


def test_what_the_standard_library_gives() -> None:
    found = [os.stat("/"), os.uname(), os.times(), time.localtime(), shutil.disk_usage("/"), os.statvfs("/")]
    found += [subprocess.CompletedProcess(["ls"], 1, b"out"), ConnectError("text", "resolve", "seen")]
    ctx = Context(False, lambda module, name: getattr(sys.modules[module], name))
    got = codec.decode(b"".join(codec.encode(found)), ctx)
    assert list(map(type, got)) == list(map(type, found))
    assert got[:6] == found[:6] and got[0].st_mtime_ns == found[0].st_mtime_ns
    assert vars(got[6]) == vars(found[6])
    assert (got[7].args, got[7].stage, got[7].seen) == (("text",), "resolve", "seen")


@pytest.mark.parametrize("error", [
    ImportError("x", name="n", path="p"), FileNotFoundError(2, "no", "a", None, "b"), BlockingIOError(11, "x", 5),
    SyntaxError("m", ("f", 1, 2, "t")), UnicodeEncodeError("ascii", "é", 0, 1, "r"), KeyboardInterrupt(),
    NameError("n", name="q"), AttributeError("a", name="q"), subprocess.CalledProcessError(3, ["ls"], b"o"),
    json.JSONDecodeError("bad", "doc", 2),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_exceptions_keep_what_they_know(error: BaseException) -> None:
    ctx = Context(False, lambda module, name: getattr(sys.modules[module], name))
    got = codec.decode(b"".join(codec.encode(error)), ctx)
    assert type(got) is type(error) and str(got) == str(error) and got.args == error.args and vars(got) == vars(error)
    for name in ("name", "path", "errno", "filename", "filename2", "characters_written", "lineno", "object", "pos"):
        assert getattr(got, name, None) == getattr(error, name, None), name


def test_exception_groups_and_chains() -> None:
    group = getattr(builtins, "ExceptionGroup", lambda text, members: ValueError(members))("g", [ValueError(1), KeyError(2)])
    group.__cause__, group.__context__ = OSError(1, "x"), IndexError()
    group.__notes__ = ["a note"]
    got = codec.decode(b"".join(codec.encode(group)))
    assert repr(got) == repr(group) and repr(got.__cause__) == repr(group.__cause__) and got.__suppress_context__
    assert repr(got.__context__) == repr(group.__context__) and got.__notes__ == ["a note"] and got.__traceback__ is None


# What comes from below.


def test_an_instance_that_was_made_through_an_alias() -> None:
    """``typing`` leaves in it what that was."""
    for ctx in ABOVE, BELOW:
        box, error = codec.decode(dumps([Box[int](3), Unfit[int](7)]), ctx)
        assert box == Box(3) and vars(box) == {"x": 3}
        assert type(error) is Unfit and error.args == (7,) and not vars(error)


def test_instances_from_below_run_no_code() -> None:
    found = [Record("a", [1]), Point(1, 2), Color.RED, Bits.A | Bits.B, Oops("x", 5), Guarded(1)]
    found[5].__dict__["danger"] = 1
    found[0].size  # noqa: B018  (now it is among the attributes)
    data = b"".join(codec.encode(found[:5]))
    RAN.clear()
    got = codec.decode(data, BELOW)
    assert not RAN
    assert got[:4] == found[:4] and got[0].__dict__ == {"name": "a", "items": [1], "size": 1}
    assert type(got[4]) is Oops and got[4].args == ("x",) and got[4].code == 5
    with pytest.raises(ValueNotPortableError, match="'danger'"):
        codec.decode(b"".join(codec.encode(found[5])), BELOW)
    assert codec.decode(b"".join(codec.encode(found[5])), ABOVE).__dict__ == {"x": 1, "danger": 1}
    assert not RAN


def crafted(kind: str, *items: Any) -> bytes:
    """A value of a kind as a liar may send it."""
    body = dumps(list(items))
    count = len(items) + 1
    return struct.pack(">BH", 0xDC, count) + values.MARK + kind.encode() + body[1 if len(items) < 16 else 3:]


@pytest.mark.parametrize("data", [
    crafted("O", __name__, "Record", "save", 1),
    crafted("O", __name__, "Record", "__class__", 1),
    crafted("O", __name__, "Record", 5, 1),
    crafted("O", __name__, "Plain"),
    crafted("O", __name__, "Mortal", "x", 1),
    crafted("O", __name__, "os", "x", 1),
    crafted("O", __name__, "NoSuch"),
    crafted("O", "subprocess", "Popen", "args", "reboot"),
    crafted("O", "antigravity", "x"),
    crafted("O", __name__, "Color.RED"),
    crafted("N", __name__, "Point", 1),
    crafted("N", __name__, "Record", 1),
    crafted("E", __name__, "Color", "__class__"),
    crafted("E", __name__, "Color", "RED", "RED"),
    crafted("E", __name__, "Point", "x"),
    crafted("e", __name__, "Color", 7),
    crafted("e", __name__, "Bits", "x"),
    crafted("X", __name__, "Color", (), None, None, False),
    crafted("X", "builtins", "int", ("5",), None, None, False),
    crafted("X", "builtins", "eval", ("5",), None, None, False),
    crafted("X", "builtins", "ValueError", 5, None, None, False),
    crafted("X", "builtins", "ValueError", (), 5, None, False),
    crafted("X", "builtins", "UnicodeDecodeError", (5,), None, None, False),
    crafted("X", "os", "error.__init__", (), None, None, False),
    crafted("V", __name__, "Registered", 1),
    crafted("W"), crafted("Q", "no", 1, 2), crafted("Q", "stat_result", 5, {}), crafted("Q", "stat_result", [1], {}),
    crafted("P", "Path", "x"), crafted("P", "UUID", "x"), crafted("I", "IPv4Address", "x"), crafted("P", "PosixPath", 5),
    crafted("z", "../../etc/passwd"), crafted("z", "/etc/passwd"), crafted("z", "No/Such"),
    crafted("d", "eval", 1, 2), crafted("d", "open", 1, 2), crafted("q", -5), crafted("q", 2**70),
    crafted("m", "x"), crafted("m", "1" * 5000), crafted("r", 1, 0), crafted("r", 10**5000, 3), crafted("r", 1.5, 1),
    crafted("U", b"x"), crafted("U", 5), crafted("Z", 10**9, 0, None), crafted("Y", 0, 0, 0), crafted("L", 10**12, 0, 0),
    crafted("o", [], 1), crafted("R", 1, 2, 0), crafted("S"), crafted("c", []), crafted("c", 1, 2, 3),
    crafted("b", 10**9), crafted("b", "x"), crafted("b"), crafted("i", b""), crafted("i", 5),
    crafted("\0", 1), crafted("\x03", 1), crafted("\x04", 1), crafted("!", 1),
    crafted("A", "O", [1], b"x" * 8), crafted("A", "<f8", [2**60], b""), crafted("A", "<f8", [-1, -1], b"x" * 8),
    crafted("A", "V0", [2**40], b""), crafted("A", "(1000,1000)f8", [0], b""), crafted("A", [["x", "O"]], [1], b"x" * 8),
    crafted("a", "<f8", b""), crafted("A", "<f8", [0.5], b"x" * 4),
])  # fmt: skip
def test_lies_from_below_are_refused(data: bytes) -> None:
    loaded = set(sys.modules)
    for module in values, codec:
        for ctx in None, BELOW:
            with pytest.raises((ValueNotPortableError, ProtocolError)):
                module.decode(data, ctx)
    assert "antigravity" not in sys.modules and "this" not in set(sys.modules) - loaded
    assert not RAN


def test_classes_that_are_not_loaded_are_not_asked_for() -> None:
    asked = []
    ctx = Context(False, lambda module, name: asked.append(module))
    with pytest.raises(ValueNotPortableError, match="isn't loaded here"):
        values.decode(crafted("O", "antigravity", "X"), ctx)
    assert not asked


@pytest.mark.parametrize("kind", ["V", "E", "e", "N", "O", "X"])
def test_errors_repeat_no_names_that_cant_be_encoded(kind: str) -> None:
    """They travel, so whoever told of such a name couldn't; nor is a name shown at any length."""
    for name in "\udc80", "x" * 100_000:
        for ctx in None, BELOW, Context(False, find_class), Context(False):
            with pytest.raises((ValueNotPortableError, ProtocolError)) as caught:
                values.decode(crafted(kind, name, name, None), ctx)
            assert len(str(caught.value).encode()) < 2000


def test_no_classes_without_a_context() -> None:
    with pytest.raises(ValueNotPortableError, match="no instance of"):
        codec.decode(b"".join(codec.encode(Record("x"))))
    assert isinstance(codec.decode(b"".join(codec.encode(KeyError(1)))), KeyError)


# Keys.


def test_keys_from_below_are_not_hashed_by_their_class() -> None:
    data = dumps({"key": 1}).replace(b"\xa3key", crafted("N", __name__, "Loud", 1))
    for module in values, codec:
        with pytest.raises(ValueNotPortableError, match="a Loud as a key is refused from below"):
            module.decode(data, BELOW)
        assert not RAN
        assert module.decode(data, ABOVE) == {Loud(1): 1}
        RAN.clear()


def test_keys_from_below_may_be_of_the_standard_library() -> None:
    found = {Point(1, (2, Color.RED)): 1, Decimal("1.5"): 2, Fraction(1, 3): 3, uuid.UUID(int=5): 4, timedelta(1): 5,
             datetime(2020, 1, 1, tzinfo=timezone.utc): 6, PurePosixPath("/x"): 7, 1.5j: 8, frozenset([(1,)]): 9}  # fmt: skip
    for module in values, codec:
        assert module.decode(dumps(found), BELOW) == found
        assert module.decode(dumps(set(found)), BELOW) == set(found)


def test_a_decimal_from_below_is_of_text() -> None:
    """Of text it is seen how long it is."""
    long = b"\x92" + values.MARK + b"m"
    for odd in [0, [9] * 5000, 0], (0, (9,), 0), compat.Bytes(b"1"), 1, None, ["1"]:
        for module in values, codec:
            with pytest.raises(ValueNotPortableError, match="no value of kind 'm'"):
                module.decode(long + dumps(odd), BELOW)
    with pytest.raises(ValueNotPortableError, match="more than 4300 digits"):
        values.decode(long + dumps("9" * 4301), BELOW)


@pytest.mark.parametrize("chosen", [
    pytest.param([n * (2**61 - 1) << 200 for n in range(1, 5000)], id="big numbers of one hash"),
    pytest.param([Decimal(n * (2**61 - 1)) for n in range(1, 5000)], id="decimals of one hash"),
    pytest.param([uuid.UUID(int=n * (2**61 - 1)) for n in range(1, 5000)], id="uuids of one hash"),
    pytest.param([(n, (2**61 - 1) * n) for n in range(1, 3)] + [complex(-1000003 * n, n) for n in range(5000)], id="complex"),
])  # fmt: skip
def test_keys_of_one_hash_are_refused_at_once(chosen: list[Any]) -> None:
    data = dumps(chosen)
    data = struct.pack(">BH", 0xDC, len(chosen) + 1) + values.MARK + b"s" + data[3:]
    start = time.process_time()
    for module in values, codec:
        with pytest.raises(ValueNotPortableError, match="hash"):
            module.decode(data, BELOW)
    assert time.process_time() - start < 5


def probing_attack(many: int, bits: int) -> list[int]:
    """Small numbers that CPython's dict takes a walk past all the others to put in."""
    mask = (1 << bits) - 1
    place, walk = 1, []
    for _ in range(many // 2):
        walk.append(place)
        place = place * 5 + 1 & mask
    return walk + [walk[0] + (n << bits) for n in range(1, many // 2)]


def test_numbers_chosen_to_collide_are_refused() -> None:
    attack = probing_attack(60000, 17)
    assert keys.is_crowded(attack, 0)
    with pytest.raises(ValueNotPortableError, match="hash"):
        values.decode(dumps(dict.fromkeys(attack)), BELOW)
    assert len(values.decode(dumps(dict.fromkeys(attack)), ABOVE)) == len(attack)


@pytest.mark.parametrize("honest", [
    range(100000), range(0, 10**8, 1000), [n << 12 for n in range(50000)], [n << 40 for n in range(50000)],
    [-n for n in range(20000)], [n / 8 for n in range(20000)], [n * 1e300 for n in range(20000)],
    [(x, y) for x in range(-100, 100) for y in range(-50, 50)], [n * 2654435761 % 2**64 for n in range(50000)],
], ids=range(9))  # fmt: skip
def test_honest_keys_are_taken(honest: Any) -> None:
    found = set(honest)
    assert values.decode(dumps(found), BELOW) == found
    assert values.decode(dumps(dict.fromkeys(honest)), BELOW) == dict.fromkeys(honest)


# What isn't a value.


@pytest.mark.parametrize("module", BOTH)
@pytest.mark.parametrize("data", [
    b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff" * 1000, b"\xdf\x7f\xff\xff\xff\xc0", b"\x00\x00", b"\xa1\xff", b"\xa2\xc3\x28", b"\xa5abc",
    b"\xc7\x01\x05a", b"\xd4\x02\x00", b"\x92\xd4\x02t\x00", b"\xd4\x01t", b"\x92\x00\xd4\x01t", b"\x92\xd4\x01t\xd4\x01t",
    b"\x81\xd4\x01t\x00", b"\x81\x00\xd4\x01t", b"\x81\x90\x00", b"\x81\x80\x00", b"\x92\xd4\x01s\x90", b"\x91" * 5000,
    b"\x91" * 2000 + b"\x00", b"\x81\x00" * 1500 + b"\x00", b"\x92\xd4", b"\x92\xd4\x01", b"\xcb\x00", b"\xcf",
    b"\xdc\x00", b"\xd9", b"\x92\xd4\x01G\x00",
], ids=lambda data: repr(data[:8]) if isinstance(data, bytes) else "")  # fmt: skip
def test_garbage_is_a_protocol_error(module: Any, data: bytes) -> None:
    for given in data, bytearray(data), memoryview(data):
        with pytest.raises(ProtocolError):
            module.decode(given, BELOW)


@pytest.mark.parametrize("module", BOTH)
def test_every_truncation_and_every_tail_is_a_protocol_error(module: Any) -> None:
    ctx = values_corpus.context(False)
    for expression in values_corpus.cases():
        value, _ = values_corpus.make(expression)
        data = dumps(value)
        for cut in range(len(data) if len(data) < 300 else 40):
            with pytest.raises(ProtocolError):
                module.decode(data[:cut], ctx)
        with pytest.raises(ProtocolError):
            module.decode(data + b"\x00", ctx)


@pytest.mark.parametrize("module", BOTH)
def test_lying_counts_cost_no_memory(module: Any) -> None:
    attacks = [b"\xdd\x00\x00\xc3\x50" * 10000, b"\x91" * 50000, b"\xdc\xff\xff" * 20000, b"\xde\x7f\xff" * 20000]
    for data in attacks:
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError):
                module.decode(data, BELOW)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 100 << 20     # the msgpack package prepares at most 10,000 places on each of 1,024 levels


def test_the_package_is_new_enough_for_hostile_input() -> None:
    assert codec.USES_C and codec.READS_IN_C


@pytest.mark.parametrize("at", ["first", "in the midst", "last", "inside a text", "nowhere"])
@pytest.mark.parametrize("size", [100, codec.SCANNED_BYTES_MAX, 100_000])
def test_marks_are_found_wherever_they_are(at: str, size: int) -> None:
    """In long messages they aren't looked for beforehand."""
    found: Any = [1, "x" * size, values.MARK * size]
    if at != "nowhere":
        what = "\ud401" if at == "inside a text" else ({1, 2}, (b"x" * size, [()]))
        found.insert({"first": 0, "in the midst": 1}.get(at, 3), what)
    data = b"".join(codec.encode(found))
    got = codec.decode(data)
    assert got == found == values.decode(data) and list(map(type, got)) == list(map(type, found))
    with pytest.raises(ProtocolError):
        codec.decode(data[:-1] + values.MARK)


@pytest.mark.parametrize("module", BOTH)
def test_decoding_is_linear(module: Any) -> None:
    """Twice as much must not take four times as long; said of time, so with a wide margin."""
    def seconds(count: int) -> float:
        data = dumps([[n, str(n), {"k": (n, 1.5)}] for n in range(count)])
        gc.disable()    # a pass over all that the tests before have left would be counted
        start = time.process_time()
        module.decode(data, BELOW)
        taken = time.process_time() - start
        gc.enable()
        return taken
    assert min(seconds(20000) for _ in range(3)) < 16 * min(seconds(5000) for _ in range(3))


@pytest.mark.parametrize("meddle", [list.clear, list.reverse, lambda value: value.extend(range(100))])
def test_a_list_that_changes_while_it_is_packed_does_no_harm(meddle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    changing: list[Any] = [1, (2,), 3, 4]

    def marked(value: Any) -> list[Any]:
        meddle(changing)    # as another thread may, while the hook runs
        return [codec._MARKS[type(value)], *value]
    monkeypatch.setattr(codec, "_marked", marked)
    monkeypatch.setattr(codec, "_packers", [])
    got = values.decode(b"".join(codec.encode([changing, 5, {}])))
    assert len(got) == 3 and got[1:] == [5, {}]


def test_threads_share_no_packer() -> None:
    """The hook for tuples is Python code, in which threads change."""
    value = [(n, [str(n)], ("x" * n,)) for n in range(300)]
    expected = dumps(value)
    wrong = []

    def work() -> None:
        for _ in range(100):
            if b"".join(codec.encode(value)) != expected:
                wrong.append(1)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong


def test_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")     # else it leaves threads behind
    try:
        import numpy
    except ImportError:
        needs.lacking("numpy")
    found = [numpy.arange(6.0).reshape(2, 3), numpy.zeros((0, 3), "i2"), numpy.array("2020-01-01", "M8[ns]"),
             numpy.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")]), numpy.asfortranarray(numpy.eye(3)),
             numpy.array(["a", "bc"]), numpy.float64(1.5), numpy.int8(-3), numpy.bool_(True)]  # fmt: skip
    got = codec.decode(b"".join(codec.encode(found)), BELOW)
    for one, other in zip(got, found, strict=True):
        assert type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
        assert (one == other).all()
    got[0][0, 0] = 7    # and it is writable
    with pytest.raises(ValueNotPortableError, match="objects"):
        codec.encode(numpy.array([object()]))
    aligned = numpy.dtype([("a", "i1"), ("b", "i4")], align=True)
    for gaps in (numpy.zeros(2, aligned), numpy.zeros(2, aligned)[0], numpy.zeros(2, [("in", aligned, (2,))]),
                 numpy.zeros(2, "i4,i4,i4")[["f0", "f2"]], numpy.zeros(2, [(("title", "a"), "i4")])):
        with pytest.raises(ValueNotPortableError, match="repack_fields"):
            codec.encode(gaps)
    for record in numpy.zeros(2, [("in", [("a", "i1", (2, 3)), ("b", "M8[s]")])]), numpy.zeros(2, "i4,i4")[["f0", "f1"]]:
        assert codec.decode(b"".join(codec.encode(record)), BELOW).dtype == record.dtype


def test_static_lookup_sees_past_metaclasses() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            RAN.append(name)
            return super().__getattribute__(name)

    class Odd(metaclass=Meta):
        x = 5

    RAN.clear()
    assert instances.lookup(Odd, "x") == 5 and instances.lookup(Odd, "y") is None
    assert not RAN
