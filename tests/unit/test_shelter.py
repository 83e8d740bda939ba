"""Sections in which signals wait: on the main thread, with whatever handler the program has."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ramet
from ramet import shelter
from ramet.kernel import keepalive, limits, loop_late, spinning
from ramet.kernel.holding import Held
from ramet.kernel.links import Waiter
from ramet.kernel.spinning import Spinner
from ramet.shelter import ShelteredCore, ShelteredLoop, ShelteredWaiter, sheltered
from support.eventually import HANGS_S


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = [(number, signal.getsignal(number)) for number in shelter.SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before:
        signal.signal(number, handler)


def test_a_signal_waits_for_the_section_s_end() -> None:
    steps = []

    def work() -> None:
        steps.append("begun")
        signal.raise_signal(signal.SIGINT)
        steps.append("done")
    with pytest.raises(KeyboardInterrupt):
        sheltered(work)()
    assert steps == ["begun", "done"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("way", ["send", "receive", "close", "asend", "anext"])
def test_a_channel_is_whole_when_a_signal_is_handled(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock was held for good, and all who use it hung; or items that were gathered or taken were lost."""
    steps: list[str] = []
    move = Held.pump

    class Interrupted(Exception):
        pass

    def handler(*_: object) -> None:
        steps.append("handled")
        raise Interrupted

    def pump(held: Held) -> None:
        signal.raise_signal(signal.SIGALRM)
        move(held)
        steps.append("moved")
    signal.signal(signal.SIGALRM, handler)

    def work() -> None:
        if way in ("asend", "anext"):
            asyncio.run(awaits())
        else:
            getattr(channel, way)(*["item"] * (way == "send"))

    async def awaits() -> None:
        await (channel.asend("item") if way == "asend" else channel.__anext__())
    with ramet.Tree() as tree:
        channel: Any = tree.channel()
        channel.send("first")
        tree._channels.held[channel.number].offering.append(bool)   # so that who takes an item moves others
        with monkeypatch.context() as patched:
            patched.setattr(Held, "pump", pump)
            with pytest.raises(Interrupted):
                work()
    assert steps == ["moved", "handled"]


def test_a_signal_in_the_destructor_of_a_channel_s_end_isnt_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    handled = threading.Event()

    class Interrupted(Exception):
        pass

    def handler(*_: object) -> None:
        handled.set()
        raise Interrupted
    signal.signal(signal.SIGALRM, handler)
    with ramet.Tree() as tree:
        call_soon = tree._loop.call_soon

        def interrupted(*args: Any) -> None:
            signal.raise_signal(signal.SIGALRM)
            call_soon(*args)
        channel = ramet.kernel.channels.made(tree._channels, [5, 2000, "0" * 32, 10])
        end = tree._channels.end(channel)
        monkeypatch.setattr(tree._loop, "call_soon", interrupted)
        with pytest.raises(Interrupted):
            del end
            handled.wait(HANGS_S)
        monkeypatch.undo()


def test_sections_in_sections_wait_for_the_outermost() -> None:
    steps = []
    inner = sheltered(lambda: signal.raise_signal(signal.SIGINT))

    def work() -> None:
        inner()
        steps.append("between")
        inner()
        steps.append("done")
    with pytest.raises(KeyboardInterrupt):
        sheltered(work)()
    assert steps == ["between", "done"]
    sheltered(steps.clear)()    # nothing is left to come
    assert steps == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGALRM, signal.SIGHUP])
def test_what_a_program_s_own_handler_raises_waits_too(number: int) -> None:
    def handler(got: int, frame: Any) -> None:
        assert got == number and frame is not None
        raise TimeoutError
    signal.signal(number, handler)
    steps = []

    def work() -> None:
        signal.raise_signal(number)
        steps.append("done")
    with pytest.raises(TimeoutError):
        sheltered(work)()
    assert steps == ["done"] and signal.getsignal(number) is handler


@pytest.mark.parametrize("place", [Waiter.wait, Spinner.sleep, Spinner.spin], ids=["plain", "asleep", "spinning"])
def test_while_it_waits_for_messages_a_signal_is_handled_at_once(monkeypatch: pytest.MonkeyPatch, place: Any) -> None:
    monkeypatch.setattr(shelter, "PATIENCE_S", float("inf"))    # what isn't handled at once is held back for good
    monkeypatch.setattr(spinning, "spin_s", HANGS_S / 2)
    for name in "looks_max", "gap_s", "awake_s":
        monkeypatch.setattr(spinning, name, 1 << 40)
    waiter = Waiter() if place == Waiter.wait else ShelteredWaiter()
    if place == Spinner.sleep:
        waiter.poller.skipped = 1
    come = threading.Event()
    main = threading.main_thread().ident or 0

    def once(*_: Any) -> None:
        if not come.is_set():
            come.set()
            raise KeyboardInterrupt

    def press() -> None:    # when it waits; and again: what comes just before the system call is seen at the next signal only
        while not come.wait(0.05):
            if sys._current_frames()[main].f_code is place.__code__:
                signal.pthread_kill(main, signal.SIGINT)
    signal.signal(signal.SIGINT, once)
    sender = threading.Thread(target=press)
    waited: list[bool] = []
    try:
        with pytest.raises(KeyboardInterrupt):
            sender.start()
            sheltered(lambda: waited.append(bool(waiter.wait(HANGS_S))))()
    finally:
        come.set()
        sender.join()
        waiter.close()
    assert not waited


def test_a_signal_that_came_just_before_it_waits_is_handled_then() -> None:
    waiter, steps = ShelteredWaiter(), []

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        steps.append("held")
        waiter.wait(HANGS_S)
        steps.append("waited")
    try:
        with pytest.raises(KeyboardInterrupt):
            sheltered(work)()
    finally:
        waiter.close()
    assert steps == ["held"] and not shelter._held


@pytest.fixture
def loop() -> Iterator[ShelteredLoop]:
    """Whose keeper is the test."""
    errors: list[BaseException] = []
    found = ShelteredLoop(errors.append)
    yield found
    loop_late.close(found)
    assert not errors


AGES = pytest.mark.parametrize("seconds", [30 * 86400, 1e12, float("inf")])


@AGES
def test_a_wait_may_be_longer_than_the_system_takes(seconds: float) -> None:
    waiter = ShelteredWaiter()
    other = threading.Thread(target=waiter.wake)
    other.start()
    other.join()
    try:
        assert waiter.wait(seconds) == []
    finally:
        waiter.close()


@AGES
def test_the_keeper_lives_when_all_is_due_later_than_the_system_waits(loop: ShelteredLoop, seconds: float) -> None:
    loop.call_later(seconds, bool)
    assert not loop.soon    # so that it waits for a descriptor and time
    loop.call_later(0, bool)
    loop.once()
    os.write(loop.wake_w, b"!")
    loop.once()


def test_reply_handles_begin_anew_with_those_that_are_free(loop: ShelteredLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """After four thousand million requests; the last number is taken, see ``keepalive``."""
    last = keepalive.NOBODY - 1
    assert next(ShelteredCore(0, (), loop).handles) == limits.first_free_handle
    monkeypatch.setattr(limits, "first_free_handle", last - 2)
    core = ShelteredCore(0, (), loop)
    core.pending[last - 1] = 7, bool
    assert [next(core.handles) for _ in range(5)] == [last - 2, last, last - 2, last, last - 2]


def test_timers_that_were_cancelled_do_not_gather(loop: ShelteredLoop) -> None:
    done: list[int] = []
    for number in range(5 * shelter.SWEPT_FROM):
        loop.call_later(3600, bool).cancel()
        if number % 100 == 0:
            loop.call_later(0, done.append, number)
        if number % 200 == 0:
            loop.call_later(3600, done.append, -1)
        if loop.soon:
            loop.once()
    assert len(loop.timers) < 2 * shelter.SWEPT_FROM
    loop.once()
    assert done == list(range(0, 5 * shelter.SWEPT_FROM, 100))
    assert sum(timer.args == (-1,) for timer in loop.timers) == shelter.SWEPT_FROM // 40


def test_a_handler_that_is_set_in_a_section_stays() -> None:
    def own(number: int, frame: Any) -> None:
        pass
    sheltered(lambda: signal.signal(signal.SIGINT, own))()
    assert signal.getsignal(signal.SIGINT) is own


def test_what_ignores_a_signal_or_leaves_it_to_the_system_is_not_touched() -> None:
    for handler in (signal.SIG_IGN, signal.SIG_DFL):
        signal.signal(signal.SIGALRM, handler)
        seen: list[Any] = []
        sheltered(lambda seen=seen: seen.append(signal.getsignal(signal.SIGALRM)))()  # type: ignore[misc]
        assert seen == [handler]


def test_who_goes_on_pressing_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(shelter.time, "monotonic", lambda: now[0])
    steps = []

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        steps.append("held")
        now[0] += shelter.PATIENCE_S
        signal.raise_signal(signal.SIGINT)
        steps.append("never")
    with pytest.raises(KeyboardInterrupt):
        sheltered(work)()
    assert steps == ["held"]


def test_other_threads_pass_through() -> None:
    seen = []
    thread = threading.Thread(target=sheltered(lambda: seen.append(signal.getsignal(signal.SIGINT))))
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_in_a_destructor_it_comes_afterwards() -> None:
    """What is raised there, Python prints and forgets."""
    come = threading.Event()
    signal.signal(signal.SIGALRM, lambda *_: come.set())

    class Thing:
        __del__: Callable[[Any], None] = sheltered(lambda self: signal.raise_signal(signal.SIGALRM), destructor=True)
    thing = Thing()
    del thing
    assert come.wait(HANGS_S)


def test_values_and_errors_pass() -> None:
    assert sheltered(divmod)(7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        sheltered(divmod)(1, 0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
