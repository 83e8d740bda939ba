"""Calls that meet something else at the one moment at which that did harm."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import ramet
from support.eventually import HANGS_S, until

# ---------------------------------------------------------------------- who borrows a link for a call


def test_who_waits_for_a_call_that_another_thread_sends_reads_the_link_himself() -> None:
    """The keeper, which sends what was held back, borrowed it for him: nobody read it ever after. So it was with the call to a
    node's 33rd child that connects, whose turn to be grown comes on the keeper.
    """
    tree: Any
    with ramet.Tree(remember=False, connecting_max=1) as tree:
        parent = tree.local().wait()
        gates = tree._gardener.gates
        gates.enter(parent.id, -1, bool)    # somebody else, who holds up the child
        child = parent.local()

        def leave() -> None:
            until(lambda: any(size for _, size in child._state.held), "the call isn't held back")
            gates.leave(parent.id, -1)
        thread = threading.Thread(target=leave)
        thread.start()
        assert child.options(timeout=HANGS_S).call(abs, -3) == 3
        thread.join()


def test_who_cannot_send_a_call_gives_back_the_link_that_he_has_borrowed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """There was no memory: nobody but that thread could read it ever after, and others waited for ever."""
    tree: Any
    with ramet.Tree(remember=False) as tree:
        node = tree.local().wait()
        link, ask, borrow = tree._core.routes.link_to(node.id), tree._core.ask, ramet.Call._borrow
        borrowed: list[Any] = []

        def note(call: ramet.Call[Any]) -> None:
            borrow(call)
            borrowed[:] = [call._link] if call._link else []    # the keeper may just be reading

        def no_memory(*args: Any) -> Any:
            if not borrowed:
                return ask(*args)
            raise MemoryError
        monkeypatch.setattr(ramet.Call, "_borrow", note)
        monkeypatch.setattr(tree._core, "ask", no_memory)
        with pytest.raises(MemoryError):
            while True:
                until(lambda: link.borrower is None, "a link that was lent is never given back")
                node.call(abs, 1)
        until(lambda: link.borrower is None, "nobody gives it back")
        monkeypatch.undo()
        assert node.call(abs, -1) == 1
