"""Where the signal that interrupts a call doesn't interrupt it: in the import system, which holds locks."""

from __future__ import annotations

import pytest

from support import kernel_shim, pythons

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
