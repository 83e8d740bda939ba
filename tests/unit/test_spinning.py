"""Spinning, with a poller and a clock that are made up."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from ramet.kernel import spinning

US = 0.000001


class World:
    """A poller where something is ready ``after`` so many seconds of each wait, and the clock that it goes by.

    Attributes:
        slept: in how many waits nobody looked any more.
        looks: how often somebody looked.
        costs: what a look takes.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: float = 20 * US) -> None:
        self.now, self.after, self.costs = 100.0, after, US
        self.ready_at = 0.0
        self.slept = self.looks = 0
        self.register = self.unregister = None
        monkeypatch.setattr(spinning, "compat", SimpleNamespace(monotonic=lambda: self.now))
        self.spinner = spinning.Spinner(self)

    def poll(self, milliseconds: float | None = None) -> list[tuple[int, int]]:
        if milliseconds == 0:
            self.looks += 1
            self.now += self.costs
            return [(7, 1)] if self.now >= self.ready_at else []
        self.slept += 1
        self.now = max(self.now, self.ready_at)
        return [(7, 1)]

    def wait(self, busy_s: float = 20 * US) -> bool:
        """Wait once, after having been busy. Returns whether it came without sleep."""
        self.now += busy_s
        self.ready_at = self.now + self.after
        slept = self.slept
        assert self.spinner.poll(None) == [(7, 1)] and not spinning.waiting
        return self.slept == slept


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_thread_whose_waits_are_short_spins(world: World) -> None:
    assert not world.wait()     # the first time nobody knows
    assert [world.wait() for _ in range(10)] == [True] * 10


def test_it_sleeps_now_and_then(world: World) -> None:
    woken = [world.wait() for _ in range(1000)]
    asleep = [n for n, spun in enumerate(woken) if not spun]
    assert 15 < len(asleep) < 30    # of 1000 waits, each 40 us after the one before
    assert max(after - before for before, after in itertools.pairwise(asleep)) * 40 * US <= spinning.awake_s + 80 * US


def test_who_was_busy_for_long_does_not_spin(world: World) -> None:
    assert not any(world.wait(busy_s=2 * spinning.awake_s) for _ in range(10)) and not world.looks


def test_looking_in_vain_becomes_rare(world: World) -> None:
    world.after = 3 * spinning.spin_s
    tries = []
    for n in range(4000):
        looks = world.looks
        assert not world.wait()
        if world.looks > looks:
            tries.append(n)
    gaps = [after - before - 1 for before, after in itertools.pairwise(tries)]
    assert gaps[:8] == [2, 4, 8, 16, 32, 64, 128, 256] and set(gaps[8:]) == {256}
    world.after = 20 * US
    while not world.wait():     # until it looks again
        assert world.slept < 4300
    assert [world.wait() for _ in range(10)] == [True] * 10


def test_where_looking_helps_now_and_then_it_stays_rare(world: World) -> None:
    for n in range(4000):
        world.after = 20 * US if n % 5 == 0 else 3 * spinning.spin_s
        world.wait()
    assert world.looks * US < 4000 * spinning.spin_s / 50


@pytest.mark.parametrize("milliseconds", [0, 0.05])
def test_who_can_wait_for_a_shorter_time_only_does_not_spin(world: World, milliseconds: float) -> None:
    world.wait()
    world.after = 1.0
    world.looks = 0
    world.now += 20 * US
    world.spinner.poll(milliseconds)
    assert world.looks == (milliseconds == 0)


def test_no_two_threads_spin(world: World) -> None:
    world.wait()
    spinning.waiting.add(spinning.Spinner(world))
    try:
        world.now += 20 * US
        assert world.spinner.poll(None) and not world.looks
    finally:
        spinning.waiting.clear()
    assert world.wait()


def test_who_is_kept_from_looking_leaves_the_processor_to_others(world: World) -> None:
    world.wait()
    world.costs = 2 * spinning.gap_s
    world.after = 1.0
    assert not world.wait() and world.looks == 1


def test_a_clock_that_is_set_back_ends_it_all_the_same(world: World) -> None:
    world.wait()
    world.costs = -US
    world.after = 1.0
    assert not world.wait() and world.looks == spinning.looks_max


def test_an_interrupt_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float | None) -> list[tuple[int, int]]:
        raise KeyboardInterrupt
    look = world.spinner.look
    for waits in 1, 2:      # it sleeps; it spins
        monkeypatch.setattr(world.spinner, "look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            world.spinner.poll(None)
        assert not spinning.waiting
        monkeypatch.setattr(world.spinner, "look", look)
        assert world.wait() is (waits == 2)
