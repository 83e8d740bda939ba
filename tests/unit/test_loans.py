"""Loans: who keeps a link, for how long, and who gets it back. Time is injected."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from ramet.loans import AT_ONCE_BYTES, LENT_S, MUCH_BYTES, Loan


class Clock:
    """A loop as far as a loan knows it."""

    def __init__(self) -> None:
        self.time = 100.0
        self.timers: list[tuple[float, Callable[[], Any]]] = []

    def now(self) -> float:
        return self.time

    def call_later(self, seconds: float, fn: Callable[[], Any]) -> None:
        self.timers.append((self.time + seconds, fn))

    def go(self, seconds: float) -> None:
        """Let time pass, and the keeper do what is due."""
        until = self.time + seconds
        while due := sorted(at for at, _ in self.timers if at <= until):
            self.time = due[0]
            [first] = [timer for timer in self.timers if timer[0] == due[0]][:1]
            self.timers.remove(first)
            first[1]()
        self.time = until


class Wire:
    """A link that says who has it."""

    def __init__(self) -> None:
        self.borrower: Any = None
        self.dead = False
        self.during: Callable[[], Any] = bool
        self.bytes_in = 0
        self.there = 0          # messages that can be read without waiting
        self.come = 0
        self.size = MUCH_BYTES  # of each

    def borrow(self, waiter: Any) -> bool:
        if self.borrower is not None:
            return False
        self.borrower = waiter
        return True

    def read_until(self, ready: Callable[[], Any], seconds: float | None) -> None:
        self.during()
        self.come += 1
        self.bytes_in += self.size

    def _read(self) -> None:
        if self.there:
            self.there -= 1
            self.come += 1
            self.bytes_in += self.size

    def give_back(self, waiter: Any) -> None:
        if self.borrower is waiter:
            self.borrower = None


class Middle:
    """A core: each thread's waiter is a text here."""

    def __init__(self) -> None:
        self.loop = Clock()
        self.who = "one"
        self.lent: dict[Any, Loan] = {}

    def waiter(self) -> Any:
        return self.who


@pytest.fixture
def core() -> Middle:
    return Middle()


def loan(core: Middle, link: Wire, who: str = "one") -> Loan:
    core.who = who
    return Loan(core, link, core.lent)  # type: ignore[arg-type]


def wait(core: Middle, one: Loan, messages: int = 1) -> None:
    core.who = str(one.waiter)
    link: Any = one.link
    until = link.come + messages
    assert one.wait(lambda: link.come >= until, None)


def test_who_waits_once_gives_the_link_back(core: Middle) -> None:
    link = Wire()
    wait(core, loan(core, link))
    assert link.borrower is None and core.lent == {} and core.loop.timers == []


def test_who_waits_again_at_once_keeps_it_until_it_does_not(core: Middle) -> None:
    link = Wire()
    one = loan(core, link)
    for _ in range(20):
        wait(core, one)
        core.loop.go(LENT_S * 0.9)
    assert link.borrower == "one" and list(core.lent.values()) == [one]
    core.loop.go(LENT_S)
    assert link.borrower is None and core.lent == {} and core.loop.timers == []
    wait(core, one)
    assert link.borrower is None        # that was too late to be lent it again


def test_it_is_not_taken_back_while_its_thread_waits(core: Middle) -> None:
    link = Wire()
    one = loan(core, link)
    wait(core, one)
    wait(core, one)

    def long() -> None:
        core.loop.go(LENT_S * 5)
        one.end()
        assert link.borrower == "one"
    link.during = long
    wait(core, one)
    assert link.borrower == "one"
    core.loop.go(LENT_S)
    assert link.borrower is None


def test_what_is_there_already_is_read_without_waiting_for_it(core: Middle) -> None:
    link = Wire()
    one = loan(core, link)
    wait(core, one)
    wait(core, one)
    waits: list[int] = []
    link.during = lambda: waits.append(link.come)
    link.there = AT_ONCE_BYTES // MUCH_BYTES + 5
    wait(core, one)
    assert (link.there, waits) == (5, []), "several for one wait, and no more than are wanted at once"
    wait(core, one, 6)
    assert (link.there, len(waits)) == (0, 1)


def test_where_little_comes_nothing_is_tried(core: Middle) -> None:
    link = Wire()
    link.size = MUCH_BYTES - 1
    one = loan(core, link)
    wait(core, one)
    link.there = 1
    wait(core, one)
    wait(core, one)
    assert link.there == 1


def test_another_thread_that_waits_gets_it_at_once(core: Middle) -> None:
    link = Wire()
    one, other = loan(core, link), loan(core, link, "other")
    wait(core, one)
    wait(core, one)
    seen = []
    link.during = lambda: seen.append(link.borrower)
    wait(core, other)
    assert seen == ["other"] and link.borrower is None
    core.loop.go(1)
    assert core.lent == {}


def test_a_dead_link_is_given_back_at_once(core: Middle) -> None:
    link = Wire()
    one = loan(core, link)
    wait(core, one)
    wait(core, one)
    link.dead = True
    wait(core, one)
    assert link.borrower is None and core.lent == {}


def test_it_is_given_back_whatever_the_wait_raises(core: Middle) -> None:
    link = Wire()
    one = loan(core, link)
    wait(core, one)
    wait(core, one)

    def interrupted() -> None:
        raise KeyboardInterrupt
    link.during = interrupted
    with pytest.raises(KeyboardInterrupt):
        wait(core, one)
    core.loop.go(LENT_S)
    assert link.borrower is None


def test_ending_and_looking_at_the_same_time_gives_it_back_once(core: Middle) -> None:
    link = Wire()
    one = loan(core, link)
    wait(core, one)
    wait(core, one)
    threads = [threading.Thread(target=one.end) for _ in range(4)]
    for thread in threads:
        thread.start()
    core.loop.go(1)
    for thread in threads:
        thread.join()
    assert link.borrower is None and core.lent == {} and core.loop.timers == []
