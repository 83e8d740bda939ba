"""Loans: a thread that waits for a link again and again keeps it for a moment, instead of giving it back to the keeper.

Who takes the items of a stream, or those of a channel, waits for each few of them. Were the link the keeper's in between, it
would wake for the next ones, and compete for the interpreter with the thread that wants them. So the thread keeps the link for
up to a millisecond while it doesn't wait: what comes on it meanwhile, for whomever, waits for so long.

Must not know what is waited for. ``Loan.wait`` is called by the thread that waits, ``end`` by any thread; the keeper takes back
what isn't used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ramet.kernel.core import Core
from ramet.kernel.links import Link

#: For how long a thread that doesn't wait keeps a link; and how soon it must wait again to be lent it.
LENT_S = 0.001
#: What must have come while a thread waited, so that next time it first reads what is there; and how much of that.
MUCH_BYTES = 1 << 15
AT_ONCE_BYTES = 1 << 19


class Loan:
    """One link, as far as one thread has it on loan.

    Args:
        resting: of the core: the loan of each link that is lent now.
    """

    def __init__(self, core: Core, link: Link, resting: dict[Link, Loan]) -> None:
        self.core = core
        self.loop = core.loop
        self.link = link
        self.waiter = core.waiter()
        self.resting = resting
        self._lock = threading.Lock()
        self._lent = False      # is it kept when the thread doesn't wait?
        self._waits = False     # does the thread wait? A wait in a signal's handler, inside of that one, borrows nothing
        self._much = False      # did much come last time?
        self._armed = False     # will the keeper look whether it is used?
        self._waited = -1.0     # until when the thread has waited

    def wait(self, ready: Callable[[], Any], seconds: float | None) -> Any:
        """As ``Core.wait``."""
        lent = self._begin()
        before = self.link.bytes_in
        try:
            return (lent and self._much and self._read(ready)) or Core.wait(self.core, ready, self.link, seconds)
        finally:
            now = self.loop.now()
            self._much = self.link.bytes_in - before >= MUCH_BYTES
            with self._lock:
                self._waits = False
                self._waited = now
                if lent and self.link.dead:     # its end is told when nobody reads it
                    self._give_back()
                elif lent and not self._armed:
                    self._armed = True
                    self.loop.call_later(LENT_S, self._look)

    def _read(self, ready: Callable[[], Any]) -> Any:
        """Read what is there already, without asking for it: several messages for one wait, where much comes."""
        link = self.link
        began = link.bytes_in
        before = -1
        while link.bytes_in != before and not link.dead and link.bytes_in - began < AT_ONCE_BYTES:
            before = link.bytes_in
            link._read()
        return ready()

    def end(self, at_once: bool = False) -> None:
        """Let the keeper, or another thread, have the link, unless the thread waits for it just now. Any thread.

        Args:
            at_once: also if it waits: it is the one that says so, in a signal's handler.
        """
        with self._lock:
            if at_once or not self._waits:
                self._give_back()

    def _begin(self) -> bool:
        """Go on to have the link, or begin if the thread has just waited for it."""
        with self._lock:
            self._waits = True
            if self._lent:
                return True
        other = self.resting.get(self.link)
        if other is not None:
            other.end()
        if self.loop.now() - self._waited > LENT_S or not self.link.borrow(self.waiter):
            return False
        self._lent = True
        self.resting[self.link] = self
        return True

    def _look(self) -> None:
        """On the keeper: take the link back if it isn't used."""
        with self._lock:
            self._armed = False
            left = self._waited + LENT_S - self.loop.now()
            if self._waits:
                return
            if left <= 0:
                self._give_back()
            else:
                self._armed = True
                self.loop.call_later(left, self._look)

    def _give_back(self) -> None:
        if self._lent:
            self._lent = False
            self.resting.pop(self.link, None)
            self.link.give_back(self.waiter)
