"""Gates: who connects when. The line is first come, first served, and nobody is forgotten in it."""
from __future__ import annotations

import random
from collections.abc import Callable

from ramet.gates import Gates


class Soon:
    """What is to be called a moment later."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, fn: Callable[[], None]) -> None:
        self.waiting.append(fn)

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for fn in waiting:
            fn()


def test_first_come_first_served() -> None:
    soon, started = Soon(), list[int]()
    gates = Gates(2, soon)
    for node in range(1, 6):
        gates.enter(0, node, lambda node=node: started.append(node))
    assert started == [1, 2]
    assert gates.counts() == (2, 3)
    gates.leave(0, 2)
    assert started == [1, 2]    # not with the leaver's stack below it
    soon.run()
    assert started == [1, 2, 3]
    gates.leave(0, 4)       # given up in line
    gates.leave(0, 1)
    gates.leave(0, 1)       # a second time: no further place is free
    soon.run()
    assert started == [1, 2, 3, 5]
    gates.leave(0, 3)
    gates.leave(0, 5)
    assert gates.counts() == (0, 0)
    assert not gates._gates     # nothing is kept of growers that came and went


def test_each_grower_has_a_gate_of_its_own() -> None:
    started = list[int]()
    gates = Gates(1, Soon())
    for node in (1, 2, 3):
        gates.enter(node % 2, node, lambda node=node: started.append(node))
    assert started == [1, 2]
    gates.leave(7, 1)       # a grower that never had one


def test_nobody_overtakes_who_is_in_line() -> None:
    soon, started = Soon(), list[int]()
    gates = Gates(1, soon)
    gates.enter(0, 1, lambda: started.append(1))
    gates.enter(0, 2, lambda: started.append(2))
    gates.leave(0, 1)
    gates.enter(0, 3, lambda: started.append(3))    # before 2 was told that it may go
    soon.run()
    assert started == [1, 2]


def test_any_order_of_comings_and_goings(rng: random.Random) -> None:
    for _ in range(50):
        soon, inside, over = Soon(), set[int](), set[int]()
        most = rng.randint(1, 5)
        gates = Gates(most, soon)
        coming = list(range(30))
        order = list[int]()

        def start(node: int, inside: set[int] = inside, over: set[int] = over, order: list[int] = order) -> None:
            if node not in over:
                inside.add(node)
                order.append(node)
        while len(over) < 30:
            if coming and rng.random() < 0.5:
                node = coming.pop(0)
                gates.enter(0, node, lambda node=node, start=start: start(node))
            else:
                node = rng.choice([n for n in range(30) if n not in coming and n not in over] or [99])
                over.add(node) if node != 99 else None
                inside.discard(node)
                gates.leave(0, node)
                soon.run()
            assert len(inside) <= most
            assert not (len(inside) < most and gates.counts()[1] and not soon.waiting), "somebody waits, and there is room"
        assert order == sorted(order)
        assert gates.counts() == (0, 0)
