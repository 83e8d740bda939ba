"""The table of what must work with each real target: nothing is missing in it, and each test that it names is there."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from targets.acceptance import CELLS, COVERED

#: What the design names, less those that can't run on one Debian machine: see ``test_transcripts.py``.
WANTED = {
    "sshd", "dropbear", "sudo", "su", "doas", "sudo-rs", "pkexec", "podman", "docker", "buildah", "lxc", "lxd", "incus",
    "nspawn", "run0", "machinectl", "nsenter", "chroot", "unshare", "kubectl",
}  # fmt: skip


def test_every_cell_of_the_table_is_filled() -> None:
    assert set(COVERED) == WANTED
    for target, tests in COVERED.items():
        assert len(tests) == len(CELLS) and all(tests), target


def test_every_test_that_the_table_names_is_there() -> None:
    here = Path(__file__).parent
    named = {test for tests in COVERED.values() for test in tests}
    files = sorted({str(here / test.partition("::")[0]) for test in named})
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    said = subprocess.run(argv, capture_output=True, text=True, cwd=here.parent.parent).stdout.splitlines()
    collected = {line.rpartition("/")[2].partition("@")[0] for line in said}
    assert named - collected == set()
