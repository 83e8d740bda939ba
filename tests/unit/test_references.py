"""Channels in encoded values: found where they are, and nowhere else; whatever comes, nothing but ProtocolError."""
from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ramet.kernel import references, streams, values
from ramet.kernel.errors import ProtocolError

TOKEN = "t" * 32


def reference(owner: int = 3, number: int = 1000, token: str = TOKEN, size: int = 10) -> bytes:
    return b"\x95\xd4\x01K" + b"".join(values.encode([owner, number, token, size]))[1:]


class Context(values.Context):
    def unpack(self, kind: str, items: list[Any]) -> Any:
        return kind, items


class Held:
    """Stands for a channel while it is encoded."""


class Packing(values.Context):
    def pack(self, value: Any) -> Any:
        return (b"K", [3, 1000, TOKEN, 10]) if isinstance(value, Held) else None


PLAIN = some.one_of(some.none(), some.integers(-2 ** 70, 2 ** 70), some.floats(allow_nan=False), some.text(max_size=40),
                    some.binary(max_size=40), some.just(reference()), some.just("\xd4\x01K"))
VALUES = some.recursive(some.one_of(PLAIN, some.builds(Held)), lambda inner: some.one_of(
    some.lists(inner, max_size=5), some.dictionaries(some.text(max_size=3), inner, max_size=4), some.tuples(inner, inner)),
    max_leaves=12)


def meant(value: Any, change: Any) -> Any:
    """What a value is when its channels have become what they are known by."""
    if isinstance(value, Held):
        return change
    if isinstance(value, list | tuple):
        return type(value)(meant(one, change) for one in value)
    return {key: meant(one, change) for key, one in value.items()} if isinstance(value, dict) else value


@given(VALUES)
def test_others_in_their_place(value: Any) -> None:
    body = b"".join(values.encode(value, Packing()))
    seen: list[Any] = []

    def change(items: Any) -> Any:
        seen.append(items)
        return [70000, 5, "u" * 32, 1 << 20]
    found = references.replaced(body, change)
    assert values.decode(found, Context()) == meant(value, ("K", [70000, 5, "u" * 32, 1 << 20]))
    assert all(items == [3, 1000, TOKEN, 10] for items in seen)


def test_large_byte_strings_stay_apart() -> None:
    value = [b"x" * 100_000, Held(), "y" * 70_000, [Held(), b"z" * 65_536]]
    chunks = values.encode(value, Packing())
    strings = [chunk for chunk in chunks if len(chunk) >= values.BIG]
    around = b"".join(chunk for chunk in chunks if len(chunk) < values.BIG)
    found = references.replaced([around, *strings], lambda items: [9, 9, "u" * 32, 9])
    whole = b"".join(references.chunks_of(found))
    assert values.decode(whole, Context()) == meant(value, ("K", [9, 9, "u" * 32, 9]))


@pytest.mark.parametrize("wrong", [
    b"\x91\xd4\x01K", b"\x92\xd4\x01K\x01", reference(token="short"), reference(size=-1), reference(number=1 << 32),
    b"\x95\xd4\x01K\x01\x01\x92\x01\x01\x01", b"\x95\xd4\x01K\x01\x01\xd9",
    b"\x95\xd4\x01K\xc0\x01" + values.encode(TOKEN)[0] + b"\x01",
    b"\x95\xd4\x01K\xd4\x01K\x01\x01", b"\x96\xd4\x01K" + reference()[4:] + b"\x01"])
def test_malformed_ones(wrong: bytes) -> None:
    with pytest.raises(ProtocolError):
        references.replaced(wrong, lambda items: items)


def message(*items: bytes, flags: int = 0, count: int | None = None) -> bytes:
    return streams.HEAD.pack(0xdd, 2 + (len(items) if count is None else count), 0xce, 7, flags) + b"".join(items)


def packed(data: bytes) -> bytes:
    return b"\xc5" + struct.pack(">H", len(data)) + data


def test_items_lose_their_channels_and_keep_their_length() -> None:
    body = message(b"\x01", reference(), b"\x91" + reference(), packed(reference()))
    found = references.barred(body)
    assert found.count(b"\xd4\x01H") == 2 and len(found) == len(body) and found.endswith(packed(reference()))
    lookalike = packed(b"\xc4\x40" + reference().ljust(64))
    body = message(packed(b"\x01"), packed(reference()), lookalike, b"\xc0", flags=streams.ENDS)
    found = references.packed(body, True)
    assert found.count(b"\xd4\x01H") == 1 and len(found) == len(body)
    assert references.packed(message(packed(b"")), False) == message(packed(b""))


@pytest.mark.parametrize(("wrong", "last"), [
    (message(b"\x01"), False), (message(packed(b"1"), count=2), False), (message(packed(b"1"), count=0), False),
    (message(packed(b"1")[:-1]), False), (message(b"\xa1x"), False), (message(packed(b"1")), True),
    (message(b"\xc0\xc0"), True),
    (message(b"\xc6\xff\xff\xff\xff"), False), (message(b"\xc5"), False), (message(packed(b"\x92\xd4\x01K")), False)])
def test_what_are_no_items_of_a_channel(wrong: bytes, last: bool) -> None:
    with pytest.raises(ProtocolError):
        references.packed(wrong, last)


@given(some.binary(max_size=60), some.booleans(), some.integers(0, 5))
def test_anything(data: bytes, last: bool, count: int) -> None:
    for what in (lambda: references.replaced(data, lambda items: items),
                 lambda: references.replaced([data + b"\xd4\x01K"], list),
                 lambda: references.packed(message(data, count=count), last),
                 lambda: references.barred(message(data + reference(), count=count))):
        try:
            what()
        except ProtocolError:
            pass
