"""Credit on a link: a model of the neighbour holds what comes, and the bounds hold whatever it does."""
from __future__ import annotations

import contextlib
import functools
import os
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ramet.kernel import limits, limits_late, loop_late
from ramet.kernel.credit import Buffers, CreditQueue, Passing
from ramet.kernel.flow import FairQueue
from ramet.kernel.fragments import Outgoing, whole
from ramet.kernel.frames import CONTROL, HEADER_BYTES, LONG, MORE, Parser
from ramet.kernel.links import Link
from ramet.kernel.loop import Loop

FULL = limits.frame_bytes_max + HEADER_BYTES


class Clock:
    """Time passes when we say so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@functools.cache
def payload(size: int) -> bytes:
    return b"x" * size


class Far:
    """The neighbour at the other end of a queue: what of each flow it has, and hasn't acknowledged."""

    def __init__(self) -> None:
        self.now = Clock()
        self.relieved: list[Any] = []
        self.queue = CreditQueue(FairQueue(), self.now, lambda link, flow: self.relieved.append((link, flow)))
        self.parser = Parser()
        self.holds: dict[Any, list[int]] = {}
        self.got: dict[Any, list[bytes]] = {}
        self.passed: list[bytes] = []

    def long(self, size: int, dst: int = 1, flow: int = 0, reply_to: int = 0) -> None:
        self.queue.push((0, dst, flow), 0, Outgoing((0, flow, dst, 0, 0, 3, reply_to), [payload(size)]))

    def plain(self, body: bytes, dst: int = 1, flow: int = 0, flags: int = 0) -> None:
        self.queue.push((0, dst, flow), flags, whole(flags, flow, dst, 0, 0, 3, 0, [body]))

    def through(self, size: int, dst: int, first: bool, last: bool) -> None:
        """A fragment to be passed on."""
        flags = MORE * (not last) | 2 * (not first)
        frame = whole(flags, 0, dst, 9, 9, 3, 0, [b"t" * size])
        self.queue.push((9, dst, 0), 0, Passing(frame, first, lambda: self.passed.append(frame)))

    def read(self, most: int = 1 << 40) -> int:
        """Take what may go. Returns how many frames."""
        data = self.queue.take(most)
        data = b"".join(map(bytes, data.buffers)) if isinstance(data, Buffers) else data
        count = 0
        for header, frame in self.parser.feed(data):
            key = header[4], header[3], header[2]
            self.got.setdefault(key, []).append(frame[HEADER_BYTES:])
            if header[1] & LONG and not header[1] & CONTROL:
                self.holds.setdefault(key, []).append(len(frame))
            count += 1
        return count

    def acknowledge(self, key: Any, count: int | None = None) -> None:
        held = self.holds[key]
        for _ in range(len(held) if count is None else count):
            assert self.queue.acknowledge(key, held.pop(0))

    def held(self) -> int:
        return sum(map(sum, self.holds.values()))


@pytest.fixture
def far() -> Far:
    return Far()


def test_without_acknowledgements_a_flow_goes_no_further_than_its_window(far: Far) -> None:
    far.long(100 << 20)
    while far.read():
        pass
    assert limits_late.window_bytes // 2 < far.held() <= limits_late.window_bytes + FULL
    far.acknowledge((0, 1, 0))
    assert far.read() > 0 and far.held() <= limits_late.window_bytes + FULL


def test_a_flow_that_is_stuck_does_not_hold_back_another_nor_control(far: Far) -> None:
    far.long(100 << 20, dst=1)
    far.read()
    far.long(400_000, dst=2)
    far.plain(b"call", dst=3)
    far.plain(b"order", dst=1, flags=CONTROL)
    far.plain(b"behind it", dst=1)
    while far.read():
        if far.holds.get((0, 2, 0)):
            far.acknowledge((0, 2, 0))
    assert sum(map(len, far.got[0, 2, 0])) == 400_000
    assert far.got[0, 3, 0] == [b"call"]
    assert b"order" in far.got[0, 1, 0] and b"behind it" not in far.got[0, 1, 0]


def test_the_link_has_a_bound_and_each_flow_its_share(far: Far) -> None:
    """However many flows are stuck, all of them have begun, and what the neighbour holds is bounded."""
    for dst in range(1000):
        far.long(10 << 20, dst=dst)
    while far.read():
        pass
    assert len(far.holds) == limits_late.begun_max
    assert far.held() <= limits_late.window_bytes_max + limits_late.begun_small * FULL + limits_late.begun_max * (16384 + 28)
    for key in list(far.holds):
        far.acknowledge(key)
    assert far.read()


def test_no_more_messages_begin_between_two_nodes_than_the_receiver_takes(far: Far) -> None:
    for flow in range(100):
        far.long(1 << 20, flow=flow)
    far.read()
    begun = set(far.holds)
    assert len(begun) == limits_late.begun_by_pair_max < limits.partial_messages_max
    while far.held():
        for key in [key for key, held in far.holds.items() if held]:
            far.acknowledge(key)
        far.read()
    assert len(far.got) == 100 and not far.queue.flows and not far.queue.open and not far.queue.begun and not far.queue.size


def transfer(far: Far, size: int, trip_s: float, rate: float) -> tuple[float, float]:
    """Send a message over a link of that round trip and rate.

    Returns:
        The seconds that it took, and how long a call that was sent in its second half had to wait for it at most.
    """
    key = 0, 1, 0
    began = free = far.now()
    far.long(size)
    line: list[tuple[float, int]] = []      # (when it is acknowledged, bytes)
    done, wait = 0, 0.0
    while far.queue.size or line:
        far.read()
        for count in far.holds.get(key, []):
            free = max(free, far.now()) + count / rate
            line.append((free + trip_s, count))
        far.holds[key] = []
        if done > size / 2:
            wait = max(wait, free - far.now())
        far.now.time, count = line.pop(0)
        assert far.queue.acknowledge(key, count)
        done += count
    return far.now() - began, wait


@pytest.mark.parametrize(("trip_s", "rate", "megabytes", "wait_s"), [
    (0.0002, 1e9, 100, 0.003), (0.0002, 3e8, 100, 0.006), (0.001, 1e6, 4, 0.1), (0.02, 12.5e6, 50, 0.05),
    (0.1, 12.5e6, 100, 0.2), (0.1, 50e6, 200, 0.2), (0.3, 10e6, 100, 0.6)])  # fmt: skip
def test_a_link_is_kept_busy_and_little_waits_for_it(
        far: Far, trip_s: float, rate: float, megabytes: int, wait_s: float) -> None:
    took, wait = transfer(far, megabytes * 1_000_000, trip_s, rate)
    assert took < megabytes * 1e6 / rate * 1.1 + 12 * trip_s
    assert wait < wait_s


@pytest.mark.parametrize("count", [0, -1, -100, FULL * 3, 1 << 40])
def test_wrong_acknowledgements_change_nothing(far: Far, count: int) -> None:
    far.long(1 << 20)
    far.read()
    before = far.held()
    assert far.queue.acknowledge((0, 1, 0), count) is False
    assert far.queue.acknowledge((5, 5, 5), 77) is True      # late news of what was forgotten
    assert far.queue.under_way == before and not far.read()


def test_what_is_passed_on_is_told_when_it_goes(far: Far) -> None:
    for number in range(10):
        far.through(100_000, 1, number == 0, number == 9)
    far.read()
    assert 0 < len(far.passed) < 10
    while far.held():
        far.acknowledge((9, 1, 0), 1)
        far.read()
    assert len(far.passed) == 10 and not far.queue.flows


def test_what_was_to_be_passed_on_to_the_dead_is_told_too(far: Far) -> None:
    for number in range(10):
        far.through(100_000, 1, number == 0, number == 9)
    far.read()
    assert len(far.passed) < 10
    far.queue.forget({1})
    assert len(far.passed) == 10 and not far.queue.flows and not far.queue.size


def test_what_others_send_upwards_to_the_dead_goes_on(far: Far) -> None:
    """Found by the simulator: a node on the way heard of the loss first, and dropped a call that nobody answered then."""
    far.queue.push((9, 1, 0), 0, whole(0, 0, 1, 9, 9, 3, 7, [b"asked by node 9"]))
    far.plain(b"of its own", dst=1)
    far.queue.forget({1}, own=0)
    far.read()
    assert far.got == {(9, 1, 0): [b"asked by node 9"]} and not far.queue.size


def test_a_flow_to_the_dead_that_was_stopped_where_it_comes_from_goes_on_there(far: Far) -> None:
    """A neighbour that passes it on from below drops nothing of it: it kept it for ever."""
    source = object()
    far.queue.push((9, 1, 0), 0, whole(0, 0, 1, 9, 9, 3, 7, [b"waits"]))
    far.queue.flow((9, 1, 0)).source = source
    far.queue.forget({1})
    assert far.relieved == [(source, (9, 1, 0))] and not far.queue.flows and not far.queue.size


def test_the_dead_give_their_credit_back(far: Far) -> None:
    for dst in (1, 2, 3):
        for flow in range(40):
            far.long(1 << 20, dst=dst, flow=flow)
    far.read()
    assert far.queue.stop((0, 2, 99), True)
    far.plain(b"more", dst=2, flow=99)
    far.queue.forget({1, 2})
    assert {key[1] for key in far.queue.flows} == {3} and far.queue.stops == 0
    while far.queue.size:
        for key in [key for key, held in far.holds.items() if held]:
            if key[1] == 3:
                far.acknowledge(key)
            far.holds[key] = []
        far.read()
    assert sum(sum(map(len, frames)) for key, frames in far.got.items() if key[1] == 3) == 40 << 20


def test_a_stopped_flow_waits_and_the_others_go(far: Far) -> None:
    assert far.queue.stop((0, 1, 0), True) and far.queue.stop((0, 1, 0), True)
    far.plain(b"one")
    far.plain(b"two", flow=1)
    far.plain(b"three")
    far.read()
    assert far.got == {(0, 1, 1): [b"two"]}
    assert far.queue.stop((0, 1, 0), False) and far.queue.stop((0, 1, 0), False)
    far.read()
    assert far.got[0, 1, 0] == [b"one", b"three"] and not far.queue.flows and far.queue.stops == 0


def test_a_link_does_not_send_past_a_queue_with_a_stopped_flow() -> None:
    near, there = socket.socketpair()
    with contextlib.closing(there):
        loop = Loop(lambda error: None)
        link = Link(loop, lambda *_: None, lambda *_: None)
        near.setblocking(False)
        link.open(near.fileno(), near.fileno())
        link.queue = CreditQueue(link.queue, Clock(), lambda *_: None)
        assert link.queue.stop((0, 1, 0), True)
        link.send((0, 1, 0), 0, b"stopped,")
        link.send((0, 1, 1), 0, b"another,")
        assert there.recv(100) == b"another,"
        assert link.queue.stop((0, 1, 0), False)
        link.flush()
        assert there.recv(100) == b"stopped," and not link.queue.size
        loop.forget(near.fileno())
        near.close()
        loop_late.close(loop)


def test_a_neighbour_cannot_stop_any_number_of_flows(far: Far) -> None:
    for flow in range(limits_late.stopped_flows_max):
        assert far.queue.stop((0, 1, flow), True)
    assert not far.queue.stop((0, 2, 0), True)
    assert len(far.queue.flows) == limits_late.stopped_flows_max
    far.plain(b"goes", dst=2)
    assert far.read() == 1


def test_small_frames_are_joined_for_one_system_call(far: Far) -> None:
    for number in range(5000):
        far.plain(b"%d" % number)
    far.long(1 << 20)
    data = far.queue.take(1 << 20)
    assert isinstance(data, Buffers) and len(data.buffers) < 40


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=8), st.integers(0, 80))
def test_buffers_are_cut_like_bytes(buffers: list[bytes], count: int) -> None:
    whole_ = b"".join(buffers)
    left = Buffers(list(buffers))[min(count, len(whole_)):]
    assert b"".join(map(bytes, left.buffers)) == whole_[count:]
    assert bool(left) == bool(whole_[count:]) or not any(left.buffers)


def test_control_without_end_keeps_nobody_waiting_for_ever(far: Far) -> None:
    """Whoever is below a slow link could send it: replies, items and output of all others never came."""
    size = limits_late.control_bytes_ahead
    far.plain(bytes(size), dst=5, flags=CONTROL)
    for dst in range(1, 4):
        far.plain(b"reply", dst=dst)
        far.plain(b"another", dst=dst)
    for _ in range(20):
        far.plain(bytes(size), dst=5, flags=CONTROL)
        far.plain(bytes(size), dst=5, flags=CONTROL)
        far.read(size)
    assert all(far.got[0, dst, 0][0] == b"reply" for dst in range(1, 4))
    while far.read():
        pass
    assert all(far.got[0, dst, 0] == [b"reply", b"another"] for dst in range(1, 4))


def test_nothing_overtakes_the_control_that_was_there_before(far: Far) -> None:
    """A ROUTE, say, without which a message for a new node goes astray."""
    old = FairQueue()
    for _ in range(10):
        old.push((0, 5, 0), CONTROL, whole(CONTROL, 0, 5, 0, 0, 3, 0, [bytes(limits_late.control_bytes_ahead)]))
    for dst in range(1, 3):
        old.push((0, dst, 0), 0, whole(0, 0, dst, 0, 0, 3, 0, [b"behind ten"]))
    far.queue = CreditQueue(old, far.now, bool)  # type: ignore[arg-type]
    seen = {1: 10, 2: 10}
    for n in range(10, 200):
        far.plain(bytes(limits_late.control_bytes_ahead), dst=5, flags=CONTROL)
        for dst in (1, 2):
            far.plain(b"%d" % n, dst=dst)
        far.read(1)
        gone = len(far.got[0, 5, 0])
        for dst in (1, 2):
            for body in far.got.get((0, dst, 0), [])[seen[dst] - 10:]:
                assert gone >= (10 if body == b"behind ten" else int(body)), "it has overtaken control"
                seen[dst] += 1
    assert seen[1] > 10 and seen[2] > 10


class AnyMix(RuleBasedStateMachine):
    """Messages of all kinds, acknowledged in any order, some nodes lost: bounds hold, and all arrives at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.far = Far()
        self.sent: dict[Any, int] = {}
        self.lost: set[int] = set()

    @rule(dst=st.integers(1, 4), flow=st.integers(0, 2), size=st.integers(limits.frame_bytes_max + 1, 2_000_000))
    def long(self, dst: int, flow: int, size: int) -> None:
        if dst not in self.lost:
            self.far.long(size, dst, flow)
            self.sent[0, dst, flow] = self.sent.get((0, dst, flow), 0) + size

    @rule(dst=st.integers(1, 4), flow=st.integers(0, 2), body=st.binary(min_size=1, max_size=100))
    def plain(self, dst: int, flow: int, body: bytes) -> None:
        if dst not in self.lost:
            self.far.plain(body, dst, flow)
            self.sent[0, dst, flow] = self.sent.get((0, dst, flow), 0) + len(body)

    @rule(dst=st.integers(1, 4), flow=st.integers(0, 2), on=st.booleans())
    def stop(self, dst: int, flow: int, on: bool) -> None:
        if dst not in self.lost:
            self.far.queue.stop((0, dst, flow), on)

    @rule(most=st.integers(1, 1 << 20), seconds=st.floats(0, 1))
    def read(self, most: int, seconds: float) -> None:
        self.far.now.time += seconds
        self.far.read(most)

    @precondition(lambda self: self.far.held())
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([key for key, held in self.far.holds.items() if held]))
        self.far.acknowledge(key, data.draw(st.integers(1, len(self.far.holds[key]))))

    @rule(dst=st.integers(1, 4))
    def lose(self, dst: int) -> None:
        if len(self.lost) < 2:
            self.lost.add(dst)
            self.far.queue.forget({dst})
            for key in [key for key in self.far.holds if key[1] == dst]:
                del self.far.holds[key]
            self.sent = {key: size for key, size in self.sent.items() if key[1] != dst}

    @invariant()
    def bounded(self) -> None:
        queue = self.far.queue
        assert queue.under_way == self.far.held() <= limits_late.window_bytes_max + 12 * FULL
        assert queue.size == sum(len(frame) for flow in queue.flows.values() for frame in flow.frames) + queue.stops
        assert queue.begun == sum(queue.open.values()) == sum(flow.open for flow in queue.flows.values())
        assert all(flow.plain == sum(len(f) for f in flow.frames if isinstance(f, bytes)) for flow in queue.flows.values())

    def teardown(self) -> None:
        for key in list(self.far.queue.flows):
            self.far.queue.stop(key, False)
        while self.far.read() or self.far.held():
            for key in list(self.far.holds):
                self.far.acknowledge(key)
        assert self.far.queue.size == 0 and not self.far.queue.flows and not self.far.queue.stops
        for key, size in self.sent.items():
            assert sum(map(len, self.far.got.get(key, []))) == size


AnyMix.TestCase.settings = settings(
    max_examples=int(os.environ.get("RAMET_FUZZ_EXAMPLES", "40")), stateful_step_count=40, deadline=None)
TestAnyMix = AnyMix.TestCase
