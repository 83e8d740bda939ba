"""Doors, as far as they need no node: answers that came in parts are passed on as they were sent."""
from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramet.kernel import core, doors, values
from ramet.kernel.doors import chunks_of

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


@pytest.mark.parametrize("early", [True, False])
def test_a_stream_is_given_up_whenever_its_answer_is_read(early: bool) -> None:
    """The main thread reads answers. What it read before ``ask`` had returned was told to cancel handle 0, and went on."""
    room, cancels, answers = doors.Room.__new__(doors.Room), list[Any](), list[Any]()

    def ask(_: int, __: int, ___: Any, answered: Any) -> int:
        answers.append(lambda: answered(0, b"\x92\x01\x02"))
        if early:
            answers.pop()()
        return 77
    room.tree = SimpleNamespace(ask=ask, tell=lambda *said: cancels.append(said))  # type: ignore[assignment]
    room.core = SimpleNamespace(reply=lambda *_: None)  # type: ignore[assignment]
    room.link = SimpleNamespace(bytes_out=0)
    room.door = SimpleNamespace(services={"rows": 5})  # type: ignore[assignment]
    room.lock, room.asked, room.early = threading.Lock(), {}, {}
    room.bytes = room.owed = room.written = 0
    body = b"".join(map(bytes, values.encode(["rows", "all", [], {}, {}])))
    room.on_request(core.Message(3, 3, 21, 1000, 0, None, body))
    for answer in answers:
        answer()
    assert cancels == [(5, core.CANCEL, [77])] and not room.asked


def test_what_came_as_one_stays_as_it_is() -> None:
    assert chunks_of(b"\x91\x01") == [b"\x91\x01"]
