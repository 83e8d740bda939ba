"""A run of the tests in which nothing keeps time: what they, or ramet, take for granted of it, they lose.

    python tests/soak/unsteady.py --most-s 1 tests/targets -n 2        # make unsteady; what is not its own goes to pytest

Processes are stopped for a moment, again and again; threads are switched 250 times as often, and wait around reads and writes
(``unsteady_threads``). Only Pythons are stopped, and none below a program that acts on it when its child is stopped, as sudo
does: that isn't what a slow machine does. A system call that was stopped may return early, too: tests of what can't be
interrupted fail here.
"""
from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

ACTING = {"bash", "dash", "doas", "dropbear", "make", "nsenter", "pkexec", "run0", "sh", "sshd", "sshd-session", "su", "sudo"}
PAUSE_S = 0.05

Process = tuple[int, str, str]      # parent, state, name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most-s", type=float, default=1.0, help="how long one is stopped at most, about")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="which ones, when, and how long")
    own, rest = parser.parse_known_args()
    print(f"unsteady: --seed {own.seed}", flush=True)
    # Every interpreter of this environment reads it when it starts: the tests' own, and nodes.
    start = Path(sysconfig.get_path("purelib")) / "ramet_unsteady.pth"
    start.write_text(f"import sys; sys.path.append({os.path.dirname(__file__)!r}); import unsteady_threads; sys.path.pop()\n")
    try:
        tests = subprocess.Popen([sys.executable, "-m", "pytest", *rest])
        print(f"unsteady: processes were stopped {unsettle(tests, own.most_s, random.Random(own.seed))} times")
        return tests.wait()
    finally:
        start.unlink()


def unsettle(tests: subprocess.Popen[bytes], most_s: float, rng: random.Random) -> int:
    """Stop one process after the other until the tests are over. Returns how often."""
    count = 0
    while tests.poll() is None:
        table = processes()
        if found := sorted(may_stop(table, tests.pid)):
            count += stop(rng.choice(found), rng.choice([0.02, 0.1, 0.3, most_s]) * rng.random() * 2)
        time.sleep(rng.random() * PAUSE_S)
    return count


def stop(pid: int, seconds: float) -> bool:
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError:     # it has ended
        return False
    try:
        time.sleep(seconds)
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except OSError:     # it was killed meanwhile
            pass
    return True


def processes() -> dict[int, Process]:
    """All that there are."""
    table = {}
    for entry in os.listdir("/proc"):
        try:
            before, _, after = Path("/proc", entry, "stat").read_text().rpartition(")")
            state, parent = after.split()[:2]
            table[int(entry)] = int(parent), state, before.partition("(")[2]
        except (OSError, ValueError):   # it has ended, or is no process
            pass
    return table


def may_stop(table: dict[int, Process], root: int) -> Iterator[int]:
    """Pythons below the root. One that is stopped already is a test's."""
    for pid, (_, state, name) in table.items():
        if state not in "TtZ" and ("ython" in name or "pypy" in name):
            above = list(ancestors(table, pid))
            if root in above and not any(table[one][2].partition(":")[0] in ACTING for one in above[:above.index(root)]):
                yield pid


def ancestors(table: dict[int, Process], pid: int) -> Iterator[int]:
    while (pid := table[pid][0]) in table:
        yield pid


if __name__ == "__main__":
    sys.exit(main())
