"""Any value of the closed set survives every pair of encoder and decoder; garbage parses or raises one of two errors."""
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramet import codec
from ramet.kernel import values
from ramet.kernel.errors import ProtocolError, ValueNotPortableError
from ramet.kernel.values import Context
from support import values_corpus
from support.any_value import everything, same

# Nothing here waits for anything: how long it takes says how busy the machine is.
pytestmark = pytest.mark.timeout(600)

values_corpus.prepare()
SETTINGS = settings(max_examples=300)

def dumps(value: Any) -> bytes:
    return b"".join(values.encode(value))


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


@settings(SETTINGS, max_examples=500)
@given(st.lists(heads | marks | names | st.binary(max_size=3), max_size=40).map(b"".join))
def test_garbage_that_looks_like_values(data: bytes) -> None:
    agree(data)


@settings(SETTINGS, max_examples=500)
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
