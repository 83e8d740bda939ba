"""Any value of the closed set, as Hypothesis makes it up, and whether two of them are the same."""
from __future__ import annotations

import collections
import math
import struct
from typing import Any

from hypothesis import strategies as st

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
