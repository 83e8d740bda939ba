"""Ctrl-C at any moment in the program: it arrives, and harms no link, no lock and no other call. In programs of their own."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from support.source import TOP
from targets import interrupted

LONG_S = 300


@pytest.mark.parametrize(("doing", "times"), [
    ("calls", 300), ("long_values", 150), ("streams", 150), ("channels", 150), ("growing", 30)])
def test_ctrl_c_at_random_moments(doing: str, times: int, rng: random.Random) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP / "tests")])}
    argv = [sys.executable, interrupted.__file__, str(rng.randrange(1 << 30)), str(times), doing]
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONG_S)
    said = "" if "Exception ignored" in done.stderr else done.stderr
    assert (done.returncode, done.stdout, said) == (0, "[3, 3, 3] 0 default_int_handler\n", ""), done.stderr
