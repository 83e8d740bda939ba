"""What a signal handler imports on the main thread, and when it doesn't: in the middle of an import of what that needs."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import pytest

from ramet.kernel import compat, compat_late
from support import kernel_shim, pythons


def _find_and_load(name: str) -> None:
    """Stands for the import system's own function, in which a signal comes."""
    compat_late.import_if_safe(sys._getframe())


@pytest.mark.parametrize(("interrupted", "imports"), [
    (None, True), ("app.models", True), ("django", True), ("enum", False), ("collections.abc", False), ("_sre", False),
])  # fmt: skip
def test_threading_is_not_imported_while_what_it_needs_is_half_there(
        monkeypatch: pytest.MonkeyPatch, interrupted: str | None, imports: bool) -> None:
    """Seen in nodes of 3.6, 3.7 and 3.13, whose calls ended with "module 'enum' has no attribute 'IntFlag'"."""
    imported: list[str] = []
    monkeypatch.setattr(compat, "urgent", compat_late.import_if_safe)
    genuine = builtins.__import__

    def noted(name: str, *args: Any, **kwargs: Any) -> Any:
        imported.append(name)
        return genuine(name, *args, **kwargs)
    monkeypatch.setattr(builtins, "__import__", noted)
    if interrupted:
        _find_and_load(interrupted)
    else:
        compat_late.import_if_safe(sys._getframe())
    monkeypatch.undo()
    assert imported.count("threading") == imports


LOADED = "import sys; before = set(sys.modules); import threading; print(' '.join(set(sys.modules) - before))"


@pytest.mark.parametrize("label", [label for label, _ in pythons.interpreters() if label != "2.7"])
def test_what_it_needs_is_known(label: str) -> None:
    argv = [dict(pythons.interpreters())[label], "-SEc", LOADED]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in said.split()}
    assert "threading" in loaded
    assert {name for name in loaded if name[0] != "_"} <= compat_late.THREADING_NEEDS


AT_EACH_STEP = """
import sys
from ramet.kernel import calls
lane = calls.Calls.__new__(calls.Calls)
lane.running, lane.current = True, object()
taken, left = set(), set()

def watch(frame, event, arg):
    lane.interrupted = lane.current
    try:
        lane._on_signal(0, frame)
        left.add(frame.f_code.co_filename)
    except calls.Interrupt:
        taken.add(frame.f_code.co_filename)
    return watch
sys.settrace(watch)
import wave
sys.settrace(None)
system = set(name for name in taken | left if name.startswith("<frozen importlib"))
print(bool(system), system & taken, wave.__file__ in taken, wave.__file__ in left)
"""


@pytest.mark.parametrize("label", [label for label, _ in pythons.interpreters() if label != "2.7"])
def test_the_import_system_is_not_interrupted_but_what_it_imports_is(label: str) -> None:
    """A cancel between a module's lock and its release would leave that held: later imports hang. In 2.7 that is C code."""
    said = kernel_shim.run(dict(pythons.interpreters())[label], AT_EACH_STEP)
    assert said.split() == ["True", "set()", "True", "False"]


AMID_LOCKS = """
import sys
from ramet.kernel import compat, compat_late
amid = []

def watch(frame, event, arg):
    if frame.f_code.co_name == "acquire" and "_bootstrap" in frame.f_code.co_filename:
        if not amid and getattr(sys.modules["_frozen_importlib"], "_blocking_on", {}).get(compat.thread_id()):
            sys.modules.pop("threading", None)
            amid.append(frame.f_lineno)
            compat_late.import_if_safe(frame)
    return watch
sys.settrace(watch)
import wave
sys.settrace(None)
print(bool(amid), "threading" in sys.modules)
"""


@pytest.mark.parametrize("label", [label for label, _ in pythons.interpreters() if label not in ("2.7", "pypy")])
def test_the_import_system_may_be_at_its_locks(label: str) -> None:
    """Seen in nodes of 3.11, one in ten under load: "KeyError: 140..." of the import system, and the main lane was over."""
    said = kernel_shim.run(dict(pythons.interpreters())[label], AMID_LOCKS)
    assert said.split() == ["True", "True"]
