"""How a node's calls come in line: who is woken for them. No link, no thread."""

from __future__ import annotations

from types import SimpleNamespace

from ramet.kernel import calls, compat
from ramet.kernel.core import CALL, Message


def test_the_main_lane_is_woken_for_the_first_call_that_waits_and_no_other() -> None:
    """A wake-up is a write to a pipe, and a fight for the interpreter with the thread that is woken."""
    woken: list[int] = []
    line = calls.Calls.__new__(calls.Calls)
    line.core = SimpleNamespace(routes=SimpleNamespace(commands=lambda _: True))  # type: ignore[assignment]
    line.early, line.waiting = (), compat.deque()
    line.waiter = SimpleNamespace(wake=lambda: woken.append(len(line.waiting)))  # type: ignore[assignment]

    def arrive(count: int) -> list[int]:
        for handle in range(count):
            line.arrive(Message(0, 0, CALL, 1000 + handle, 0, None, b""))
        found, woken[:] = list(woken), []
        return found

    assert arrive(3) == [1]     # the first is in line already when its waiter is woken
    line.waiting.popleft()
    assert arrive(1) == []      # two still wait: the main lane looks before it sleeps
    line.waiting.clear()
    assert arrive(2) == [1]     # it may have slept again
