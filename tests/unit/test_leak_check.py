"""The leak check itself: each kind of leak is seen, named, and ended; what settles in time isn't one. And a group is kept."""
from __future__ import annotations

import _thread
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support import leaks
from support.eventually import until

pytest_plugins = ["pytester"]


def test_nothing_is_nothing() -> None:
    assert not leaks.leaked(leaks.snapshot())


def test_descriptor_is_named() -> None:
    before = leaks.snapshot()
    read_end, write_end = os.pipe()
    try:
        left = leaks.leaked(before, settle_s=0)
        assert {fd for fd, _ in left.descriptors} == {read_end, write_end}
        assert f"descriptor {read_end} -> pipe:[" in left.describe()
    finally:
        os.close(read_end)
        os.close(write_end)


def test_thread_that_threading_does_not_know() -> None:
    before = leaks.snapshot()
    gate = _thread.allocate_lock()
    gate.acquire()
    _thread.start_new_thread(gate.acquire, ())
    assert len(leaks.leaked(before, settle_s=0).threads) == 1
    gate.release()
    assert not leaks.leaked(before)


@pytest.mark.parametrize("open_before", [False, True])
def test_a_thread_that_an_open_tree_starts_only_now_is_no_leak(open_before: bool) -> None:
    """One for each tree; without a tree that was there before, it is one."""
    gate = threading.Event()
    threads = [threading.Thread(target=gate.wait, name=name) for name in (leaks.TREE, leaks.LATER[0], leaks.LATER[0])]
    first, later = threads[:open_before], threads[open_before:]
    for thread in first:
        thread.start()
    before = leaks.snapshot()
    for thread in later:
        thread.start()
    left = leaks.leaked(before, settle_s=0)
    gate.set()
    for thread in threads:
        thread.join()
    assert len(left.threads) == (1 if open_before else 3) and leaks.LATER[0] in left.describe()


def test_what_settles_in_time_is_no_leak() -> None:
    before = leaks.snapshot()
    thread = threading.Timer(0.2, lambda: None)
    thread.start()
    assert not leaks.leaked(before)
    thread.join()


@pytest.mark.parametrize("orphan", [False, True])
def test_grandchild_is_seen_also_when_its_parent_is_gone(orphan: bool) -> None:
    before = leaks.snapshot()
    grow = "import subprocess as s, sys; c = s.Popen(['sleep', '50']); print(c.pid, flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", grow], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    grandchild = int(child.stdout.readline())
    child.stdout.close()
    if orphan:
        child.stdin.close()
        child.wait()
    # Popen returns a moment before exec has put it there, behind the command line.
    until(lambda: Path(f"/proc/{grandchild}/environ").read_bytes(), "it has no environment")
    left = leaks.leaked(before, settle_s=0)
    leaks.end(left)
    child.stdin.close()
    child.wait()
    assert {p.pid for p in left.processes} == ({grandchild} if orphan else {child.pid, grandchild})
    assert "sleep 50" in left.describe()


def test_zombie_is_said_to_be_one() -> None:
    before = leaks.snapshot()
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert "zombie" in leaks.leaked(before, settle_s=0).describe()
    os.waitpid(pid, 0)


OUTER = """
import os, pytest
from support import leaks
leaks.SETTLE_S = 0.5
def test_leaks(): os.pipe()
def test_clean(): pass
def test_skipped_for_no_good_reason(): pytest.skip("no time")
def test_skipped_by_name(): pytest.skip("not on this machine: python 9.9")
"""


def test_a_leaking_test_fails_and_a_vague_skip_too(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    tests = request.config.rootpath / "tests"
    pytester.makepyfile(OUTER)
    (pytester.path / "conftest.py").write_text((tests / "conftest.py").read_text())
    environment = dict(os.environ, PYTHONPATH=f"{tests}{os.pathsep}{tests.parent / 'src'}")
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-skips"]
    done = subprocess.run(argv, cwd=pytester.path, env=environment, capture_output=True, text=True)
    assert "1 failed, 2 passed, 1 skipped, 1 error" in done.stdout, done.stdout
    assert "left behind" in done.stdout and "pipe:[" in done.stdout
    assert "doesn't start with 'not on this machine:': no time" in done.stdout


GROUPED = """
import os, pathlib, pytest
@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(12))
def test_grouped(number): pathlib.Path(f"pid-{os.getpid()}").touch()
"""


def test_tests_of_one_group_run_in_one_process(tmp_path: Path) -> None:
    """Those that share an sshd or a machine-wide file count on it. Where pytest and pytest-xdist don't fit, nothing is said."""
    (tmp_path / "test_grouped.py").write_text(GROUPED)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    argv = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "12 passed" in done.stdout, done.stdout
    assert len(list(tmp_path.glob("pid-*"))) == 1, \
        "pytest and pytest-xdist don't fit: `make .venv/.ready-test .venv/.ready-dev` installs what pyproject.toml asks for"
