"""CANCELs: what is ended, and in which order. No link, no thread: the order of the threads is what a test here chooses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.kernel import calls, cancelling, compat, guardian, offspring, values
from ramet.kernel.core import CALL, CANCEL, Message


def no_room(*_: Any) -> None:
    raise RuntimeError("can't start new thread")


class OneNode:
    """Calls of a node whose main lane runs one call, and what is done to them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, int]] = []
        self.calls = calls.Calls.__new__(calls.Calls)
        routes = SimpleNamespace(commands=lambda authority: authority == 0)
        self.calls.core = SimpleNamespace(routes=routes, loop=self)  # type: ignore[assignment]
        self.calls.lock = compat.new_lock()
        self.calls.waiting, self.calls.cancels, self.calls.early = compat.deque(), compat.deque(), ()
        self.calls.lanes, self.calls.aside = None, compat.deque()
        self.calls.waiter = SimpleNamespace(wake=bool)  # type: ignore[assignment]
        self.calls.current = self.call(1)
        self.threads: list[Message] = []
        monkeypatch.setattr(compat, "start_thread", lambda _fn, args: self.threads.append(args[1]))
        monkeypatch.setattr(cancelling, "main_job", lambda _calls, message: message)
        monkeypatch.setattr(cancelling, "end", self.ended)
        monkeypatch.setattr(cancelling, "refuse", lambda _calls, message: self.done.append(("refused", message.reply_to)))

    def call_later(self, _: float, fn: Any, *args: Any) -> None:
        """Of the loop."""
        self.later = lambda: fn(*args)

    def call(self, handle: int) -> Message:
        return Message(0, 0, CALL, handle, 0, None, b"")

    def ended(self, message: Message) -> None:
        """The main lane has ended its call, and takes the next one at once."""
        self.done.append(("ended", message.reply_to))
        self.calls.current = None
        if self.calls.waiting:
            self.calls.current = self.calls.waiting.popleft()
            self.done.append(("begun", self.calls.current.reply_to))

    def cancel(self, handle: int) -> None:
        self.calls.cancel(Message(0, 0, CANCEL, 0, 0, None, b"".join(values.encode([handle]))))


def test_what_is_cancelled_while_there_is_room_for_no_thread_is_when_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was heeded with the next CANCEL, if one came."""
    node = OneNode(monkeypatch)
    with monkeypatch.context() as full:
        full.setattr(compat, "start_thread", no_room)
        node.cancel(1)
    assert not node.threads
    node.later()
    cancelling.take(node.calls, node.threads.pop())
    assert node.done == [("ended", 1)]


def test_calls_of_lanes_for_which_there_is_no_thread_are_answered_by_the_main_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first was refused, and the lanes of that node never ran any: the others waited for ever."""
    node = OneNode(monkeypatch)
    with monkeypatch.context() as full:
        full.setattr(compat, "start_thread", no_room)
        for handle in (5, 6):
            node.calls.arrive(Message(0, 0, CALL, handle, 77, None, b""))
    assert [message.reply_to for message in node.calls.waiting] == [5, 6] and not node.calls.aside
    node.calls.arrive(Message(0, 0, CALL, 7, 77, None, b""))
    assert [message.reply_to for message in node.threads] == [7] == [message.reply_to for message in node.calls.aside]


@pytest.mark.parametrize("first", [0, 1])
def test_what_waits_is_cancelled_before_what_it_waits_for(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Whichever thread gets there first."""
    node = OneNode(monkeypatch)
    node.calls.waiting.append(node.call(2))
    node.cancel(2)
    node.cancel(1)
    for message in node.threads[first], node.threads[1 - first]:
        cancelling.take(node.calls, message)
    assert node.done == [("refused", 2), ("ended", 1)]
    assert not node.calls.cancels and not node.calls.early


def test_a_cancel_that_comes_before_its_call_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    node = OneNode(monkeypatch)
    node.cancel(5)
    cancelling.take(node.calls, node.threads[0])
    assert node.done == [] and (0, 5) in node.calls.early


def test_a_call_that_comes_while_its_cancel_is_looked_for_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It came after the first look, and before it was known as cancelled: it would run, and nobody would end it."""
    node = OneNode(monkeypatch)

    class Early(dict[object, bool]):
        def __setitem__(self, key: object, value: bool) -> None:
            assert not node.calls.waiting
            node.calls.arrive(node.call(5))
            super().__setitem__(key, value)
    node.calls.waiter = SimpleNamespace(wake=lambda: None)  # type: ignore[assignment]
    node.calls.early = Early({(0, 4): True})
    node.cancel(5)
    cancelling.take(node.calls, node.threads[0])
    assert node.done == [("refused", 5)] and not node.calls.waiting
    assert (0, 5) not in node.calls.early, "it would hit no other call"


@pytest.mark.parametrize(("file", "name", "at_work", "raised"), [
    ("ramet:app/main.py", "run", True, True), ("ramet:app/main.py", "write", True, True),
    ("ramet/kernel/calls.py", "_enter", True, True),
    ("ramet/kernel/output.py", "write", True, True),        # where a print waits, it holds nothing
    ("ramet/kernel/links.py", "flush", True, False), ("ramet/kernel/core.py", "wait", True, False),
    ("<frozen importlib._bootstrap>", "_find_and_load", True, False), ("ramet:app/main.py", "run", False, False),
])  # fmt: skip
def test_an_interrupt_is_raised_in_the_function_and_not_in_what_it_has_called_of_ramet(
        monkeypatch: pytest.MonkeyPatch, file: str, name: str, at_work: bool, raised: bool) -> None:
    """It would leave a lock held there, or half of a frame sent. What comes at such a place is sent again."""
    node = OneNode(monkeypatch)
    frame = SimpleNamespace(f_code=SimpleNamespace(co_name=name, co_filename=file), f_back=None)
    node.calls.interrupted, node.calls.running = node.calls.current, at_work
    if raised:
        with pytest.raises(calls.Interrupt):
            node.calls._on_signal(compat.signal.SIGURG, frame)
        node.calls._on_signal(compat.signal.SIGURG, frame)      # once
    else:
        node.calls._on_signal(compat.signal.SIGURG, frame)
        assert node.calls.interrupted is node.calls.current, "it is still to come"
    node.calls.interrupted, node.calls.running = node.call(2), True
    node.calls._on_signal(compat.signal.SIGURG, frame)      # for another call than the one that runs


def test_what_the_call_before_has_left_is_not_counted_where_only_uptime_tells_the_time(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process is started at 100.008 s, a call begins at 100.0085, and is cancelled at 100.009: /proc/uptime says 100.00."""
    monkeypatch.delattr(offspring.time, "clock_gettime")
    monkeypatch.setattr(offspring, "PROC", str(tmp_path))
    monkeypatch.setattr(offspring.os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)
    (tmp_path / "uptime").write_text("100.00 90.00\n")
    assert offspring._ticks(0.0005) + 1 > 10000, "born in the same step as the call before's"


def test_the_guardian_is_no_call_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "life", [10, 11, 4242, bool])
    assert offspring._of_ramet() == {4242}


def test_a_call_that_is_put_in_line_after_both_looks_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who put it there had asked before that whether it is cancelled."""
    node = OneNode(monkeypatch)

    class Waiting(compat.deque):  # type: ignore[misc,name-defined]
        def append(self, message: Any) -> None:
            cancelling.take(node.calls, node.threads[0])    # by another thread, meanwhile
            super().append(message)
    node.calls.waiter = SimpleNamespace(wake=lambda: None)  # type: ignore[assignment]
    node.calls.waiting = Waiting()
    node.cancel(5)
    node.calls.arrive(node.call(5))
    monkeypatch.setattr(compat, "start_thread", lambda fn, args: fn(*args))
    if hasattr(node, "later"):
        node.later()
    assert node.done == [("refused", 5)] and not node.calls.waiting and not node.calls.early
