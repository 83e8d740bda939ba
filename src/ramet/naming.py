"""``Names``: what nodes are called, so that no two of a tree have one name. Pure; not thread-safe: ``growing`` has a lock.

It must not know of nodes. It keeps something of each name that was wished for, and nothing of each that was given.
"""

from __future__ import annotations


class Names:
    """The names of one tree, those of nodes that are gone among them: logs and results may still show these."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}     # wished name -> the last number that was put behind it; 1: none

    def unique(self, wished: str) -> str:
        """The name itself, or if that was given before, the next one with a number: "web", "web-2", "web-3"."""
        name, count = wished, self._last.get(wished, 1)
        while self._given(name):
            count += 1
            name = f"{wished}-{count}"
        self._last[wished] = count
        return name

    def _given(self, name: str) -> bool:
        wished, _, number = name.rpartition("-")
        last = self._last.get(wished, 0)
        return name in self._last or (last > 1 and number.isdigit() and 1 < int(number) <= last and number[0] != "0")
