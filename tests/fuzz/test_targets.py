"""The targets of ``make fuzz``, fed with bytes that Hypothesis makes up."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS
from ramet.kernel import frames, values

pytestmark = pytest.mark.timeout(600)

said = st.sampled_from([["source", ["json"], 7], [7, 5], [[7], "gone"], [7, 5, 0, 100], [1, 2, "x", 3], [2], {}, "", None])
bodies = said.map(lambda value: b"".join(values.encode(value)))
heads = st.tuples(*[st.integers(0, 255)] * 4).map(bytes)
messages = st.lists(st.tuples(heads, bodies | st.binary(max_size=20)).map(b"".join), max_size=6).map(b"\xff\xfe".join)
whole = st.tuples(st.integers(0, 255), st.binary(max_size=30)).map(
    lambda it: frames.pack_header(frames.MAGIC, it[0], 0, 5, 7, 7, it[0], 0, len(it[1])) + it[1])


@pytest.mark.parametrize("name", list(TARGETS))
def test_nothing_breaks_it(name: str) -> None:
    @settings(max_examples=150)
    @given(st.binary(max_size=100) | messages | st.lists(whole, max_size=4).map(b"".join))
    def feed(data: bytes) -> None:
        TARGETS[name](data)
    feed()
