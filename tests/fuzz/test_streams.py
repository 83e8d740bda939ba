"""Whatever comes as ITEMS, CREDIT or CHANNEL is taken or refused by ProtocolError, and what was there before goes on."""
from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ramet.kernel import channels, loop_late, streams, values
from ramet.kernel.core import Core, Message
from ramet.kernel.ends import CHANNEL
from ramet.kernel.errors import Error, ProtocolError
from ramet.kernel.feeds import Feed
from ramet.kernel.loop import Loop
from ramet.kernel.streams import CREDIT, HEAD, ITEMS, Intake, skip

PLAIN: Any = st.recursive(st.none() | st.booleans() | st.integers(-2**63, 2**63) | st.text() | st.binary() | st.floats(),
                          lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def a_core() -> Core:
    return Core(0, (), Loop(lambda error: None))


def take(core: Core, handle: int, body: bytes) -> None:
    try:
        core.handlers[handle](Message(7, 7, handle, 0, 0, None, body))
    except ProtocolError:
        pass


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([ITEMS, CREDIT, CHANNEL]), st.binary(max_size=60) | st.builds(
    lambda count, flags, rest: HEAD.pack(0xdd, count, 0xce, 2, flags) + rest,
    st.integers(0, 2**32 - 1), st.integers(0, 255), st.binary(max_size=40)) | PLAIN.map(lambda v: b"".join(values.encode(v)))
    | st.lists(st.integers(0, 2**40), max_size=6).map(lambda v: b"".join(values.encode(v)))), max_size=20))
def test_garbage_is_taken_or_refused(said: list[tuple[int, bytes]]) -> None:
    core = a_core()
    try:
        ours = streams.of(core)
        held = channels.of(core).open(3)
        intake = Intake(ours, 7, 2, None)
        feed = Feed(ours, 7, 3, 1, (100, 100))
        for handle, body in said:
            take(core, handle, body)
        for _ in range(len(said) + 1):
            try:
                assert isinstance(intake.take(), list | None)
            except Error:
                pass
        assert feed.taken_bytes <= feed.bytes and feed.window_bytes <= streams.WINDOW_BYTES_MAX
        held.send("alive")
        assert held.receive() == "alive"
    finally:
        loop_late.close(core.loop, core)


@settings(max_examples=40)
@given(PLAIN, st.binary(max_size=10))
def test_a_value_is_skipped_whole(value: Any, junk: bytes) -> None:
    data = b"".join(values.encode(value))
    assert skip(data + junk, 0) == len(data)
    for end in range(min(len(data), 30)):
        try:
            assert skip(data[:end], 0) <= end
        except ProtocolError:
            continue
        raise AssertionError("a value that doesn't end was skipped")
