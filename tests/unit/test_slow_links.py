"""Links of children that go on and on with what is refused: who is blamed, how slowly such a link is read. Time is made up."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import compat, descent, limits, limits_late, nursery, refusing, values
from ramet.kernel.core import CALL, LOG, Core, Message
from ramet.kernel.fragments import whole
from ramet.kernel.frames import CONTINUES, CONTROL, COUNTED, HEADER_BYTES, MORE
from ramet.kernel.handles import REFUSED
from ramet.kernel.links import Link, Waiter
from ramet.kernel.loop import IN, Loop

CHILD, BELOW, SIBLING, NOBODY = 8, 9, 10, 11


class Clock(Loop):
    """A loop that is told the time."""

    def __init__(self) -> None:
        super().__init__(self.fail)
        self.time = 100.0
        self.now = lambda: self.time

    def fail(self, error: BaseException) -> None:
        raise error

    def pass_time(self, seconds: float) -> None:
        self.time += seconds

    def paused(self, fd: int) -> bool:
        return not self.masks[fd] & IN

    def turn(self) -> None:
        """Do what is due, and wait for nothing."""
        self.call_soon(bool)
        self.once()


@pytest.fixture
def loop() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    clock.poller.close()
    os.close(clock.wake_r)
    os.close(clock.wake_w)


@pytest.fixture(autouse=True)
def less_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as it is in earnest take their time."""
    assert refusing.forgiven_max * 4 <= refusing.crossing_max
    monkeypatch.setattr(refusing, "forgiven_max", 400)
    monkeypatch.setattr(refusing, "forgiven_per_s", 10)
    monkeypatch.setattr(refusing, "crossing_max", 1600)
    monkeypatch.setattr(refusing, "crossing_per_s", 200)


@pytest.fixture
def core(loop: Clock) -> Core:
    """Of node 7, below the controller: it has two children, and one of them has one."""
    core = Core(7, (0,), loop)
    core.routes.parent = Up()
    core.descendants = descent.Descendants(core.routes)
    return core


class Up:
    """The link to the parent, and every other on which something is told."""

    dead = False

    def __init__(self) -> None:
        self.queue = SimpleNamespace(size=0)
        self.bytes_out = 0
        self.sent: list[bytes] = []

    def send(self, flow: Any, flags: int, frame: bytes, later: bool = False) -> None:
        self.sent.append(frame)


class Family:
    """The watched link of node 8, which grew node 9; and that of node 10."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.link: Any = Up()
        self.watcher = refusing.Watcher(core, CHILD)
        for id, link, parent in ((CHILD, self.link, 7), (BELOW, self.link, CHILD), (SIBLING, Up(), 7)):
            core.descendants.add(id, link, parent)

    def frames(self, count: int, src: int = CHILD, authority: int | None = None, handle: int = CALL) -> None:
        header = (0, 0, 0, self.core.id, src, src if authority is None else authority, handle, 0, 0)
        for _ in range(count):
            self.watcher.on_frame(self.link, header, bytes(HEADER_BYTES))


def test_thousands_of_refusals_make_a_link_slow_until_all_is_forgiven(core: Core, loop: Clock) -> None:
    family = Family(core)
    watcher = family.watcher
    family.frames(refusing.forgiven_max - 1)
    assert not watcher.slow
    family.frames(1)
    assert watcher.slow and core.refused == refusing.forgiven_max
    while_s = refusing.forgiven_max / refusing.forgiven_per_s
    loop.pass_time(while_s - 1)
    assert watcher.again()
    loop.pass_time(2)
    assert not watcher.again() and not watcher.slow
    family.frames(refusing.forgiven_max - 1)
    assert not watcher.slow


def test_a_few_now_and_then_are_forgiven_for_ever(core: Core, loop: Clock) -> None:
    family = Family(core)
    for _ in range(60):
        family.frames(refusing.forgiven_per_s)
        loop.pass_time(1)
    assert core.refused > refusing.forgiven_max and not family.watcher.slow


def test_what_is_not_refused_never_makes_a_link_slow(core: Core) -> None:
    family = Family(core)
    got: list[Message] = []
    core.handlers[LOG] = got.append
    family.frames(refusing.forgiven_max + 1, handle=LOG)
    family.frames(refusing.forgiven_max + 1, src=BELOW, handle=LOG)
    assert len(got) == refusing.forgiven_max * 2 + 2 and core.refused == 0
    assert not family.watcher.slow and family.watcher.own.left == refusing.forgiven_max


def test_what_another_thread_refuses_meanwhile_is_not_blamed_on_this_link(core: Core) -> None:
    family = Family(core)

    def meanwhile(message: Message) -> None:
        core.refused += 50      # another thread's, of another link
    core.handlers[LOG] = meanwhile
    family.frames(refusing.forgiven_max * 2, handle=LOG)
    assert not family.watcher.slow and family.watcher.own.left == refusing.forgiven_max


@pytest.mark.parametrize("src, authority", [(0, 0), (7, 7), (SIBLING, SIBLING), (CHILD, 0), (BELOW, SIBLING)])
def test_who_lets_forged_frames_through_is_to_blame(core: Core, src: int, authority: int) -> None:
    family = Family(core)
    family.frames(refusing.forgiven_max, src, authority)
    assert family.watcher.slow


def test_what_crosses_with_the_news_of_a_loss_is_forgiven(core: Core, loop: Clock) -> None:
    family = Family(core)
    family.frames(refusing.crossing_max - 1, NOBODY)
    assert not family.watcher.slow
    family.frames(1, NOBODY)
    assert family.watcher.slow, "but not for ever"


def test_for_a_node_below_its_parent_is_told_and_not_slowed_down_itself(core: Core, loop: Clock) -> None:
    family = Family(core)
    family.frames(refusing.forgiven_max - 1, BELOW)
    assert family.link.sent == []
    family.frames(1, BELOW)
    [told] = family.link.sent
    assert told == whole(CONTROL, 0, CHILD, 7, 7, REFUSED, 0, values.encode([BELOW]))
    assert not family.watcher.slow and family.watcher.own.left == refusing.forgiven_max
    for _ in range(50):     # what comes of one that is slowed down
        loop.pass_time(1)
        family.frames(refusing.crossing_per_s, BELOW)
    assert not family.watcher.slow
    family.frames(refusing.crossing_max, BELOW)
    assert family.watcher.slow, "it doesn't do what it was told"


def test_a_large_frame_counts_for_more(core: Core) -> None:
    watcher, link = Family(core).watcher, Up()
    core.routes.down[CHILD] = link  # type: ignore[assignment]
    header = (0, 0, 0, 7, CHILD, CHILD, CALL, 0, 4 * refusing.forgiven_bytes)
    for _ in range(refusing.forgiven_max // 5):
        assert not watcher.slow
        watcher.on_frame(link, header, bytes(HEADER_BYTES))
    watcher.on_frame(link, header, bytes(HEADER_BYTES))
    assert watcher.slow


def test_only_an_ancestor_can_have_a_child_slowed_down(core: Core) -> None:
    made = nursery.Nursery(core, None, {})
    link = refusing.ChildLink(core, CHILD, bool)  # type: ignore[arg-type]
    made.children[CHILD] = nursery.Child(CHILD, "child", link)

    def tell(authority: int, value: Any) -> None:
        made.on_blamed(Message(authority, authority, REFUSED, 0, 0, None, b"".join(map(bytes, values.encode(value)))))
    for authority in (CHILD, SIBLING, NOBODY):
        tell(authority, [CHILD])
    assert core.refused == 3 and not link.watcher.slow
    tell(0, [NOBODY])
    assert not link.watcher.slow
    for value in ([], None, 7, [[]], [CHILD, 1]):
        with pytest.raises((TypeError, ValueError)):    # which the core counts as refused
            tell(0, value)
    tell(0, [CHILD])
    assert link.watcher.slow and core.refused == 3


# ---------------------------------------------------------------------- the link

class Flood:
    """A pipe that is full of frames which are refused, and a link that reads it."""

    def __init__(self, core: Core, loop: Clock) -> None:
        self.core, self.loop = core, loop
        self.lost: list[str] = []
        self.link = refusing.ChildLink(core, CHILD, lambda link, reason: self.lost.append(reason))
        core.descendants.add(CHILD, self.link, 7)
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        frame = whole(0, 0, 7, CHILD, CHILD, CALL, 0, [b"x" * 12])
        assert len(frame) == 40
        self.size = os.write(self.write_fd, frame * 1200)
        nowhere, end = os.pipe()
        os.close(nowhere)
        self.link.open(self.read_fd, end)
        self.took_s = 0.0       # that a frame takes to be refused

        def refuse(message: Message) -> None:
            core.refused += 1
            loop.pass_time(self.took_s)
        core.handlers[CALL] = refuse

    @property
    def taken(self) -> int:
        return self.link.bytes_in

    def slow_down(self) -> None:
        self.link.watcher.slow_down()

    def end(self) -> None:
        os.close(self.write_fd)
        self.link.close("over")
        self.loop.turn()
        assert len(self.lost) == 1


@pytest.fixture
def flood(core: Core, loop: Clock) -> Iterator[Flood]:
    flood = Flood(core, loop)
    yield flood
    if not flood.lost:
        flood.end()


def test_a_link_is_read_at_once_as_long_as_it_is_not_slow(flood: Flood) -> None:
    flood.loop.turn()
    assert flood.taken == flood.size and not flood.loop.paused(flood.read_fd)


def test_a_slow_link_is_read_in_small_parts_with_rests(flood: Flood) -> None:
    flood.slow_down()
    for part in range(1, 5):
        for _ in range(5):      # however often the keeper looks
            flood.loop.turn()
        assert flood.taken == part * refusing.slow_bytes
        assert flood.loop.paused(flood.read_fd)
        flood.loop.pass_time(refusing.rest_s_min * 0.99)
        flood.loop.turn()
        assert flood.taken == part * refusing.slow_bytes
        flood.loop.pass_time(refusing.rest_s_min * 0.02)
        flood.loop.turn()       # which ends the rest


def test_rests_are_as_long_as_what_was_read_has_cost(flood: Flood) -> None:
    flood.took_s = 0.001        # a part of 4,096 bytes: 102 whole frames
    flood.slow_down()
    flood.loop.turn()
    assert flood.core.refused == 102
    flood.loop.pass_time(0.102 * refusing.rest_share - 0.01)
    flood.loop.turn()
    assert flood.core.refused == 102 and flood.loop.paused(flood.read_fd)
    flood.loop.pass_time(0.011)
    flood.loop.turn()
    assert not flood.loop.paused(flood.read_fd)
    flood.took_s = 1.0
    flood.loop.turn()
    began = flood.loop.time
    assert flood.link.until == pytest.approx(began + refusing.rest_s_max), "it is heard of now and then, however slow it is"


def test_it_is_read_as_ever_when_all_is_forgiven(flood: Flood) -> None:
    flood.slow_down()
    flood.loop.turn()
    flood.loop.pass_time(refusing.forgiven_max / refusing.forgiven_per_s + 2)
    flood.loop.turn()
    flood.loop.turn()
    assert flood.taken == flood.size and not flood.loop.paused(flood.read_fd)


def test_the_end_of_a_link_is_seen_while_it_rests(flood: Flood) -> None:
    flood.slow_down()
    flood.loop.turn()
    assert flood.loop.paused(flood.read_fd)
    os.close(flood.write_fd)    # time stands still from here on: no rest ends
    flood.write_fd = os.dup(flood.read_fd)
    for _ in range(50):
        flood.loop.turn()
    assert flood.lost == ["its link was closed"] and flood.taken == flood.size
    os.close(flood.write_fd)


class Thread(Waiter):
    """A thread that waits: it has nothing else to wait for, so time passes."""

    def __init__(self, loop: Clock) -> None:
        super().__init__()
        self.loop = loop
        self.rested: list[float] = []
        self.keeper: Callable[[], Any] = bool

    def wait(self, seconds: float | None) -> list[int]:
        ready = super().wait(0)
        if not ready:
            assert seconds is not None, "it would wait for ever"
            self.rested.append(seconds)
            self.loop.pass_time(seconds)
        self.keeper()
        return ready


def test_who_has_borrowed_a_slow_link_rests_too(flood: Flood) -> None:
    flood.slow_down()
    waiter = Thread(flood.loop)
    waiter.keeper = flood.loop.turn
    assert flood.link.borrow(waiter)
    flood.link.read_until(lambda: flood.core.refused >= 350)
    assert flood.taken == 4 * refusing.slow_bytes
    assert waiter.rested == [pytest.approx(refusing.rest_s_min)] * 3
    flood.link.give_back(waiter)
    for part in 5, 5, 5, 5, 6:      # the fourth turn ends the rest
        flood.loop.turn()
        assert flood.taken == part * refusing.slow_bytes, "the keeper reads and rests as ever"
        if flood.taken == 5 * refusing.slow_bytes:
            flood.loop.pass_time(refusing.rest_s_min * 0.4)
    waiter.close()


def test_who_has_borrowed_it_does_not_wait_longer_than_it_wanted_to(flood: Flood) -> None:
    flood.took_s = 0.001
    flood.slow_down()
    waiter = Thread(flood.loop)
    assert flood.link.borrow(waiter)
    flood.link.read_until(lambda: False, 0.5)
    assert sum(waiter.rested) == pytest.approx(0.5 - 0.102) and flood.core.refused == 102
    flood.link.give_back(waiter)
    waiter.close()


def test_who_has_borrowed_it_reads_on_though_the_keeper_ends_the_rest_just_then(flood: Flood) -> None:
    """It went away: nobody read the link any more, and a loss was never told."""
    flood.slow_down()
    waiter = Thread(flood.loop)
    poller = waiter.poller

    def end_the_rest(fd: int) -> None:
        poller.unregister(fd)
        flood.link._readable()
    waiter.poller = SimpleNamespace(register=poller.register, unregister=end_the_rest, poll=poller.poll)
    assert flood.link.borrow(waiter)
    flood.link.read_until(lambda: flood.core.refused >= 350)
    assert flood.core.refused >= 350
    flood.link.give_back(waiter)
    waiter.close()


# ---------------------------------------------------------------------- what goes through

class Through:
    """A child that sends as much as is read of it, to another one whose link takes nothing: it isn't open yet."""

    def __init__(self, core: Core, loop: Clock) -> None:
        self.loop = loop
        self.lost: list[str] = []
        self.data = b""         # of a frame that was written in part
        self.link = refusing.ChildLink(core, CHILD, lambda link, reason: self.lost.append(reason))
        self.out = Link(loop, core.on_frame, lambda link, reason: None)
        for id, link, parent in ((CHILD, self.link, 7), (BELOW, self.link, CHILD), (SIBLING, self.out, 7)):
            core.descendants.add(id, link, parent)
        ends = os.pipe(), os.pipe()
        for fd in ends[0] + ends[1]:
            os.set_blocking(fd, False)
        (fd_in, self.write_fd), (self.answers, fd_out) = ends
        self.link.open(fd_in, fd_out)

    def pour(self, frames: Iterator[bytes], most: int) -> int:
        """Send until nothing is read any more, or so much was. Returns how much was read."""
        while self.link.bytes_in < most and not self.link.watcher.slow and not self.link.dead:
            self.data = self.data or next(frames)
            self.data = self.data[os.write(self.write_fd, self.data[:65536]):]
            self.loop.turn()
        return self.link.bytes_in

    def end(self) -> None:
        self.link.close("over")
        self.out.close("over")
        self.loop.turn()
        os.close(self.write_fd)
        os.close(self.answers)


@pytest.fixture
def through(core: Core, loop: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Through]:
    monkeypatch.setattr(refusing, "held_bytes_max", 4 << 20)
    monkeypatch.setattr(limits_late, "window_bytes_max", 1 << 20)
    found = Through(core, loop)
    yield found
    found.end()


FLOODS: dict[str, Callable[[int], tuple[int, int, int, bytes]]] = {   # flags, flow, handle and body of each frame
    "control": lambda n: (CONTROL, 0, 5000, bytes(100_000)),
    "small control": lambda n: (CONTROL, 0, 5000, b""),
    "fragments": lambda n: (COUNTED | MORE | CONTINUES * (n > 0), 1, 5000, bytes(limits.fragment_bytes_max)),
    "flows": lambda n: (0, n & 0xffff, CALL, bytes(limits.frame_bytes_max)),
    "small flows": lambda n: (0, n & 0xffff, CALL, b""),
}


def flood_of(kind: str, src: int = CHILD) -> Iterator[bytes]:
    for n in itertools.count():
        flags, flow, handle, body = FLOODS[kind](n)
        yield whole(flags, flow, SIBLING, src, src, handle, 0, [body])


@pytest.mark.parametrize("kind", FLOODS)
def test_who_sends_others_more_than_they_take_is_hardly_read_until_that_has_gone(through: Through, kind: str) -> None:
    """Credit and stopping bind only who cares for them, and then all that isn't control, flow by flow."""
    bound = limits_late.window_bytes_max + refusing.held_bytes_max + (1 << 20)
    assert through.pour(flood_of(kind), 3 * bound) <= bound, "it grows without end"
    before = through.link.bytes_in
    for part in range(1, 20):
        through.loop.pass_time(refusing.rest_s_max)
        through.loop.turn()
        through.loop.turn()
        assert through.link.bytes_in - before <= part * refusing.slow_bytes
    assert not through.lost and not through.link.dead, "it may be honest, and another one below it isn't"
    with through.out.writing:       # all goes, and nothing was lost
        while through.out.queue.take(1 << 20):
            pass
        if kind == "fragments":     # these need credit; they are dropped as those of a node that is gone
            through.out.queue.forget([CHILD])  # type: ignore[attr-defined]
    assert not through.link.watcher.full() and not through.link.watcher.again() and not through.lost


@pytest.mark.parametrize("kind", FLOODS)
def test_what_has_gone_leaves_the_account_also_where_destructors_run_late(through: Through, kind: str,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """As on PyPy. A slow link makes so little that nothing was collected any more: it stayed slow."""
    garbage: list[tuple[Any, int]] = []
    collections: list[float] = []

    def collect() -> None:
        collections.append(through.loop.time)
        while garbage:
            gone, weight = garbage.pop()
            gone.append(weight)
    monkeypatch.setattr(refusing.Counted, "__del__", lambda held: garbage.append((held.gone, held.weight)))
    monkeypatch.setattr(compat, "PYPY", True)
    monkeypatch.setattr(gc, "collect", collect)
    through.pour(flood_of(kind), 1 << 40)
    watcher = through.link.watcher
    assert watcher.slow and watcher.full() and len(collections) == 1, "once a second is enough"
    with through.out.writing:
        while through.out.queue.take(1 << 20):
            pass
        through.out.queue.forget([CHILD])  # type: ignore[attr-defined]
    through.loop.pass_time(2)
    assert not watcher.again() and watcher.held == 0 and len(collections) == 2


@pytest.mark.parametrize("kind", FLOODS)
def test_of_a_node_below_its_parent_is_told_before(through: Through, kind: str) -> None:
    """So the child, which lets it through, and all others below it go on as before."""
    frames = flood_of(kind, BELOW)
    told = whole(CONTROL, 0, CHILD, 7, 7, REFUSED, 0, values.encode([BELOW]))
    answers = b""
    while told not in answers:
        assert not through.link.watcher.slow and not through.link.dead, "all below the child are slowed down"
        assert through.link.bytes_in < refusing.held_bytes_max * 2, "it grows without end"
        through.pour(frames, through.link.bytes_in + 1)
        with contextlib.suppress(BlockingIOError):
            answers += os.read(through.answers, 65536)


def test_a_few_small_ones_are_not_counted_nor_copied(core: Core) -> None:
    watcher = Family(core).watcher
    frame = whole(0, 0, SIBLING, CHILD, CHILD, CALL, 0, [b"x"])
    for _ in range(100):
        assert watcher.passing(None, (0, 0, 0, SIBLING, CHILD, CHILD, CALL, 0, 1), frame) is frame
    assert watcher.held == 0
