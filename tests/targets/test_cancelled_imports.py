"""Calls that are cancelled while they import: what other lanes import at that time is whole."""
from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ramet
from support import needs, pythons, remote_cancel, remote_imports, sources
from support.eventually import until

LABELS = [label for label, _ in pythons.interpreters()]
LONG_S = 120

# The first one to import it in a node takes the file away, and goes on until it is interrupted, or until it is there again.
HELD = """
import os, time
if os.path.exists({hold!r}):
    os.remove({hold!r})
    while not os.path.exists({hold!r}):
        time.sleep(0.001)
WORD = "whole"
"""
MAIN = "def main():\n    return WORD\n"


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Iterator[ramet.Node]:
    """A node in which nothing that the test does itself has to be imported any more."""
    with ramet.Tree() as tree:
        node = tree.local(python=needs.python(request.param))
        for lane in None, "first", "look":
            node.options(lane=lane).call(remote_imports.waiting)
        if not node.call(remote_cancel.can_interrupt_threads):
            needs.lacking(f"an interpreter of {request.param} that can interrupt threads")
        yield node


@pytest.mark.parametrize("node", LABELS, indirect=True)
def test_another_lane_imports_it_again(node: ramet.Node, tmp_path: Path) -> None:
    """It waits for an import that is cancelled, and is given what that leaves: "KeyError: 'held.part'", or half a module."""
    old = node.call(remote_imports.old)
    look = node.options(lane="look")
    for first, second, held in (None, "first", "part"), ("first", None, "part"), ("first", "other", "__init__"):
        package = f"held_{first}_{second}"
        hold = tmp_path / package / "hold"
        sources.write(tmp_path, {f"{package}/__init__.py": "", f"{package}/part.py": f"from {package} import WORD\n" + MAIN})
        sources.write(tmp_path, {f"{package}/{held}.py": HELD.format(hold=str(hold)) + MAIN})
        with sources.on_path(tmp_path):
            main: Callable[[], str] = importlib.import_module(f"{package}.part").main
            hold.touch()
            one = node.options(lane=first).start(remote_imports.load, f"{package}.part")
            until(lambda hold=hold: not hold.exists(), "it isn't imported")  # type: ignore[misc]
            other = node.options(lane=second).start(main)
            if not old:
                until(lambda: look.call(remote_imports.waiting) == 1, "the other one doesn't wait for it")
            one.cancel()
            if old:     # a cancel is late there: it imports, too
                hold.touch()
            assert other.result(timeout=LONG_S) == "whole"
            with pytest.raises(ramet.CallCancelled):
                one.result(timeout=LONG_S)


# A part of ramet whose code calls functions, as most do.
PART = """
import os, time

def hold():
    if os.path.exists({hold!r}):
        os.remove({hold!r})
        while not os.path.exists({hold!r}):
            time.sleep(0.001)
hold()
WORD = "whole"
"""


@pytest.mark.parametrize("node", LABELS, indirect=True)
def test_a_part_of_ramet_is_imported_to_its_end(node: ramet.Node, tmp_path: Path) -> None:
    """What its code had called was interrupted: the other lane was given "cannot import name 'channels'"."""
    look = node.options(lane="look")
    for first, second in (None, "first"), ("first", None), ("first", "other"):
        name, hold = f"held_{first}_{second}", tmp_path / f"{first}_{second}"
        node.call(remote_imports.part, name, PART.format(hold=str(hold)).encode())
        hold.touch()
        one = node.options(lane=first).start(remote_imports.word, name)
        until(lambda hold=hold: not hold.exists(), "it isn't imported")  # type: ignore[misc]
        other = node.options(lane=second).start(remote_imports.word, name)
        if not node.options(lane="look").call(remote_imports.old):
            until(lambda: look.call(remote_imports.waiting) == 1, "the other one doesn't wait for it")
        one.cancel()
        time.sleep(0.2)     # it is interrupted again and again meanwhile
        hold.touch()
        assert other.result(LONG_S) == "whole"
        with contextlib.suppress(ramet.CallCancelled):      # or it has come to its end by then
            assert one.result(LONG_S) == "whole"
