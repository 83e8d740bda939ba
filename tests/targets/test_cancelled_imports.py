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
    node.call(remote_imports.patience, 0)
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


LANES = [(None, "first"), ("first", None), ("first", "other")]


def imported_by_two(node: ramet.Node, lanes: tuple[str | None, str | None], load: Callable[[str], str], name: str,
                    hold: Path) -> None:
    """Two lanes import it, and the first one is cancelled in the middle: both come to the end of it."""
    look, (first, second) = node.options(lane="look"), lanes
    hold.touch()
    one = node.options(lane=first).start(load, name)
    until(lambda: not hold.exists(), "it isn't imported")
    other = node.options(lane=second).start(load, name)
    if not look.call(remote_imports.old):
        until(lambda: look.call(remote_imports.waiting) == 1, "the other one doesn't wait for it")
    one.cancel()
    time.sleep(0.2)     # it is to be interrupted again and again meanwhile
    hold.touch()
    assert other.result(LONG_S) == "whole"
    with contextlib.suppress(ramet.CallCancelled):      # or it has come to its end by then
        assert one.result(LONG_S) == "whole"


@pytest.mark.parametrize("node", LABELS, indirect=True)
def test_a_part_of_ramet_is_imported_to_its_end(node: ramet.Node, tmp_path: Path) -> None:
    """What its code had called was interrupted: the other lane was given "cannot import name 'channels'"."""
    node.call(remote_imports.patience, 0)
    for n, lanes in enumerate(LANES):
        hold = tmp_path / f"hold{n}"
        node.call(remote_imports.part, f"held{n}", PART.format(hold=str(hold)).encode())
        imported_by_two(node, lanes, remote_imports.word, f"held{n}", hold)


@pytest.mark.parametrize("node", LABELS, indirect=True)
def test_what_a_function_imports_is_imported_to_its_end(node: ramet.Node, tmp_path: Path) -> None:
    """The other lane's `import` was given half a module, and kept it. And numpy, say, can't be imported twice."""
    for n, lanes in enumerate(LANES):
        hold = tmp_path / f"hold{n}"
        sources.write(tmp_path, {f"imported{n}.py": PART.format(hold=str(hold))})
        with sources.on_path(tmp_path):
            importlib.import_module(f"imported{n}")
            imported_by_two(node, lanes, remote_imports.word_of, f"imported{n}", hold)


@pytest.mark.parametrize("node", LABELS[-1:], indirect=True)
@pytest.mark.parametrize("lane", [None, "first"])
def test_an_import_that_goes_on_for_too_long_is_interrupted(node: ramet.Node, lane: str | None, tmp_path: Path) -> None:
    node.call(remote_imports.patience, 0.3)
    hold = tmp_path / "hold"
    sources.write(tmp_path, {"imported_for_ever.py": PART.format(hold=str(hold))})
    with sources.on_path(tmp_path):
        importlib.import_module("imported_for_ever")
        hold.touch()
        call = node.options(lane=lane).start(remote_imports.load, "imported_for_ever")
        until(lambda: not hold.exists(), "it isn't imported")
        assert call.cancel()
        assert node.options(lane=lane, timeout=LONG_S).call(remote_imports.old) is False, "it goes on"
        error = call.exception(0)
        assert isinstance(error, ramet.CallCancelled) and not error.stuck
