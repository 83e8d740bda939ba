"""The targets of ``make fuzz``, fed with bytes that Hypothesis makes up."""
from __future__ import annotations

from pathlib import Path

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


said_at_start = st.lists(st.sampled_from([
    b"\nRAMET1 30b07f0 c\n", b"\nRAMET1 20712f0 c\r\n", b"\nRAMET1 ffffffff z\n", b"\nRAMET2\n", b"Welcome!\n", b"\nRAM",
    b"x" * 400]) | st.binary(max_size=20), max_size=8).map(b"".join)
asked = st.sampled_from([
    ["source", ["json", "support.remote"], 7], ["source", [1, None, "ramet.kernel.lanes"], 7], ["data", ["a:b"], 7],
    ["native", ["psutil._x"], 7], [[], [], 7], ["source", ["os"] * 3, 8], ["dist", ["pip:"], 7]])
bodies_asked = asked.map(lambda value: b"".join(values.encode(value))) | st.binary(max_size=20)
requests = st.lists(st.tuples(st.sampled_from([b"0", b"1"]), bodies_asked).map(b"".join), max_size=4).map(b"\xff\xfe".join)
CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", list(TARGETS))
def test_what_was_found_before(name: str) -> None:
    """A small part of what `make fuzz` has kept: inputs that reach much of the code."""
    kept = sorted((CORPUS / name).iterdir())
    assert kept
    for path in kept:
        TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", list(TARGETS))
def test_nothing_breaks_it(name: str) -> None:
    @settings(max_examples=150)
    @given(st.binary(max_size=100) | messages | said_at_start | requests | st.lists(whole, max_size=4).map(b"".join))
    def feed(data: bytes) -> None:
        TARGETS[name](data)
    feed()
