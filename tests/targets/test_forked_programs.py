"""``fork`` in the user's program: the child forgets the tree, the tree goes on in the parent. In programs of their own."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from support.eventually import all_end, is_gone
from support.source import TOP
from targets import forking_programs

LONG_S = 120


def program(way: str) -> list[str]:
    """Run one: the lines that it printed. It has to end well, and say nothing on stderr."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP / "tests")]),
           "PYTHONWARNINGS": "ignore::DeprecationWarning"}      # multi-threaded programs shouldn't fork, they say since 3.12
    done = subprocess.run([sys.executable, forking_programs.__file__, way], env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=LONG_S)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(("way", "lines"), [
    ("os_fork", ["refused [3, 3, 3]"]),
    ("everything_is_refused", ["[] [3, 3, 3]"]),
    ("a_tree_of_its_own", ["True [3, 3, 3]"]),
    ("locks_that_others_hold", ["(None, 42, [0, 1, 2], 1000, False)", "[3, 3, 3]"]),
    ("stray_writes", ["[] [3, 3, 3] 1"]),
    ("beside_a_wait", ["[3]"]),
    ("waits_from_before", ["[] slept"]),
    ("waits_while_the_tree_is_locked", ["[]", "slept"]),
    ("channels_from_before", ["[]", "1 3", "1 3"]),
    ("channels_that_were_read", ["0 1 4", "[]", "[2, 3, 4, 5]"] * 2),
    ("awaits_from_before", ["[] slept 0"]),
    ("while_it_is_closed", ["[]"]),
    ("exits_as_usual", ["7 [3, 3, 3]"]),
    ("leaves_the_block", ["0 [3, 3, 3]"]),
    ("attached_nodes", ["refused 0 True"]),
    ("multiprocessing_fork", ["[0, 1, 4, 9, 16] [3, 3, 3]", "0 [3, 3, 3]"]),
    ("multiprocessing_spawn", ["[0, 1, 4, 9, 16] [3, 3, 3]", "0 [3, 3, 3]"]),
    ("multiprocessing_forkserver", ["[0, 1, 4, 9, 16] [3, 3, 3]", "0 [3, 3, 3]"]),
    ("preforking", ["['3 refused', '3 refused', '3 refused', '3 refused'] [3, 3, 3]"]),
])
def test_the_tree_stays_with_the_parent(way: str, lines: list[str]) -> None:
    assert program(way) == lines


def test_no_descriptor_that_keeps_a_node_alive_is_kept() -> None:
    """What is left: the ends of the pipe by which it tells that, and by which the main thread waited."""
    assert int(program("no_descriptor_is_kept")[0]) <= 3


def test_a_daemon_that_was_forked_outlives_the_program_and_no_node_does() -> None:
    daemon, _, nodes = program("daemon")[0].partition(" ")
    try:
        assert all_end(*ast.literal_eval(nodes)) and not is_gone(int(daemon))
    finally:
        with contextlib.suppress(OSError):
            os.kill(int(daemon), signal.SIGKILL)
