"""Doors, as far as they need no node: answers that came in parts are passed on as they were sent."""
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ramet.kernel import values
from ramet.kernel.references import chunks_of

LARGE = st.integers(values.BIG, values.BIG + 3).flatmap(lambda size: st.sampled_from([b"b" * size, "t" * size]))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | LARGE
VALUES = st.recursive(LEAVES, lambda inner: (
    st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.decimals(allow_nan=False)),
    max_leaves=12)


@given(VALUES)
def test_byte_strings_that_came_apart_are_put_where_they_were(value: object) -> None:
    chunks = values.encode(value)
    apart = [b"".join(chunks[::2]), *chunks[1::2]]
    assert b"".join(chunks_of(apart)) == b"".join(chunks)


def test_what_came_as_one_stays_as_it_is() -> None:
    assert chunks_of(b"\x91\x01") == [b"\x91\x01"]
