"""Any value of the closed set survives every pair of encoder and decoder; garbage parses or raises one of two errors."""
from __future__ import annotations

import collections
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramet import codec
from ramet.kernel import values
from ramet.kernel.errors import ProtocolError, ValueNotPortableError
from ramet.kernel.values import Context
from support import values_corpus

# Nothing here waits for anything: how long it takes says how busy the machine is.
pytestmark = pytest.mark.timeout(600)

values_corpus.prepare()
SETTINGS = settings(max_examples=300)

def dumps(value: Any) -> bytes:
    return b"".join(values.encode(value))


texts = st.text(st.characters(exclude_categories=())) | st.integers(0, 300).map("a".__mul__)
numbers = st.integers() | st.builds(lambda n, d: 2**n + d, st.integers(0, 66), st.integers(-1, 1))
atoms = (
    st.none() | st.booleans() | numbers | numbers.map(int.__neg__) | st.floats() | st.complex_numbers() | texts
    | st.binary(max_size=400)
)  # fmt: skip
rare = (
    st.dates() | st.times() | st.datetimes(timezones=st.none() | st.timezones()) | st.timedeltas() | st.uuids()
    | st.decimals(allow_nan=False) | st.fractions() | st.ip_addresses() | st.builds(slice, numbers, numbers, numbers)
    | st.builds(range, st.integers(-99, 99), st.integers(-99, 99), st.integers(1, 9)) | st.binary().map(bytearray)
)  # fmt: skip
keys = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | texts | st.binary() | st.dates() | st.uuids(),
    lambda inner: st.tuples(inner) | st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
everything = st.recursive(
    atoms | rare | st.sets(keys) | st.frozensets(keys),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner)
    | st.lists(inner).map(collections.deque) | st.dictionaries(keys, inner).map(collections.OrderedDict),
    max_leaves=30,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal, of the same type all the way down, NaN included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, list | tuple | collections.deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, set | frozenset):
        return sorted(map(ascii, one)) == sorted(map(ascii, other)) or (one == other and len(one) == len(other))
    return bool(one == other)


@SETTINGS
@given(everything, st.data())
def test_what_is_sent_is_what_arrives_and_a_part_of_it_is_refused(value: Any, data: st.DataObject) -> None:
    """Both encoders write the same. One test, since making up the values is what takes the time."""
    whole = dumps(value)
    assert b"".join(codec.encode(value)) == whole
    part = whole[:data.draw(st.integers(0, len(whole) - 1))]
    for receiver in values, codec:
        for ctx in None, Context(True):
            assert same(receiver.decode(whole, ctx), value)
        with pytest.raises(ProtocolError):
            receiver.decode(part)


def outcome(module: Any, data: bytes, ctx: Context | None) -> Any:
    """What a decoder makes of garbage; any other error than the two that it may raise fails the test."""
    try:
        return module.decode(data, ctx)
    except ProtocolError:
        return ProtocolError
    except ValueNotPortableError:
        return ValueNotPortableError


def agree(data: bytes) -> None:
    for ctx in None, values_corpus.context(False), values_corpus.context(True):
        values_corpus.RAN.clear()
        found = [outcome(module, given_, ctx) for module in (values, codec) for given_ in (data, bytearray(data))]
        assert not values_corpus.RAN
        texts_ = [values_corpus.shown(one) for one in found]
        assert len(set(texts_)) == 1 or has_timestamp(data), texts_


def has_timestamp(data: bytes) -> bool:
    """MessagePack's own timestamps: the one thing that C reads and the kernel refuses; see ``codec``."""
    return any(head in data for head in (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff"))


@SETTINGS
@given(st.binary(max_size=200))
def test_garbage(data: bytes) -> None:
    agree(data)


#: Bytes that begin something, so that garbage gets further than a byte.
heads = st.sampled_from([bytes([n]) for n in (*range(0x80, 0x84), *range(0x90, 0x95), *range(0xA0, 0xA3), *range(0xC0, 0xE0))])
marks = st.sampled_from([values.MARK + bytes([n]) for n in b"tsfcbijodnqYTDLZzUmrPIRSQWAaVEeNOXG\0\3\4"])
names = st.sampled_from([b"\xa5Color", b"\xa6Record", b"\xa5Point", b"\xa3RED", b"\xa8builtins", b"\xaaValueError",
                         bytes([0xA0 | 20]) + b"values_corpus_module"[:20], dumps(values_corpus.__name__)])  # fmt: skip


@settings(SETTINGS, max_examples=1500)
@given(st.lists(heads | marks | names | st.binary(max_size=3), max_size=40).map(b"".join))
def test_garbage_that_looks_like_values(data: bytes) -> None:
    agree(data)


@settings(SETTINGS, max_examples=1000)
@given(st.data())
def test_mutations_of_real_values(data: st.DataObject) -> None:
    real = data.draw(st.sampled_from(SAMPLES))
    spoiled = bytearray(real)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(spoiled)))
        cut = data.draw(st.integers(0, 3))
        spoiled[place:place + cut] = data.draw(st.binary(max_size=3) | marks | heads)
    agree(bytes(spoiled))


SAMPLES = [dumps(value) for value, can in map(values_corpus.make, values_corpus.cases()) if can]
SAMPLES = [sample for sample in SAMPLES if len(sample) < 300]
