"""What users of Mitogen reported, re-enacted here: hangs, strays, zombies, descriptors. The numbers are those of its issues."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ramet
from ramet.bootstrap import first_stage, packing
from support import leaks, remote
from support.source import TOP

LONG_S = 120


def test_957_and_249_more_descriptors_than_select_takes() -> None:
    """``select`` fails with numbers above 1,023. The program has those already when it grows its nodes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip("not on this machine: a process may have 1,400 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with ramet.Tree() as tree:
            node = tree.local()
            nodes = [node, node.local(), tree.command(["env"], python=[sys.executable])]
            assert [one.call(remote.add, 1, 2) for one in nodes] == [3] * 3
            assert nodes[1].run(["true"]).returncode == 0
            assert list(node.stream(range, 3)) == [0, 1, 2]
            assert max(link.fd_in for link in tree._gardener.links.values()) > 1023
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_598_many_targets_that_never_answer() -> None:
    """Beside them, those that do are connected; when the time is up, each of the others has its error."""
    with ramet.Tree() as tree:
        silent = [tree.command(["sh", "-c", "sleep 1000"], python=["python3"], connect_timeout_s=3) for _ in range(24)]
        good = [tree.local() for _ in range(4)]
        calls = [node.start(remote.pid) for node in silent]
        assert [node.call(remote.add, 1, 2) for node in good] == [3] * 4
        for call, node in zip(calls, silent, strict=True):
            with pytest.raises(ramet.ConnectError, match="within 3 s"):
                call.result(timeout=LONG_S)
            assert node.error is not None
        assert len(tree.nodes) == 4


@pytest.mark.parametrize("sent", ["nothing", "half of the kernel"])
def test_1348_a_first_stage_whose_parent_is_gone(sent: str) -> None:
    """It isn't left behind, waiting or spinning: at the end of its input it goes."""
    argv = first_stage.command([sys.executable], "peer")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        if sent != "nothing":
            payload = packing.payload("source")
            process.stdin.write(payload[:len(payload) // 2])
        process.stdin.close()
        process.stdin = None
        process.communicate(timeout=LONG_S)
        assert process.returncode != 0


def test_406_and_480_connecting_and_disconnecting_in_a_loop() -> None:
    """No hang, and no zombie. Some are closed while a call is under way, some killed, some before they are up."""
    before = leaks.processes()
    with ramet.Tree() as tree:
        for number in range(24):
            node = tree.local()
            if number % 4:
                call = node.start(remote.sleep, 1000) if number % 2 else node.start(remote.pid)
                if number % 4 == 2:
                    call.result()
            (node.kill if number % 3 else node.close)()
        end = time.monotonic() + LONG_S
        while ((left := leaks.processes() - before) or tree.nodes) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left and tree.nodes == []
        assert tree.local().call(remote.add, 1, 2) == 3


def test_625_ctrl_c_while_it_shuts_down(tmp_path: Path) -> None:
    """One node is stopped, so closing takes until it is killed. Nobody waits for an answer that doesn't come."""
    script = tmp_path / "program.py"
    script.write_text("""
import os, signal, ramet
from support import remote
with ramet.Tree() as tree:
    nodes = [tree.local() for _ in range(3)]
    pids = [node.call(remote.pid) for node in nodes]
    os.kill(pids[0], signal.SIGSTOP)
    nodes[1].start(remote.sleep, 1000)
    print(*pids, flush=True)
""")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP / "tests")])}
    with subprocess.Popen([sys.executable, str(script)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pids = list(map(int, program.stdout.readline().split()))
        for _ in range(2):
            time.sleep(0.3)
            with contextlib.suppress(ProcessLookupError):
                program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=LONG_S)
        assert program.returncode in (-signal.SIGINT, 0) and errors.count("Traceback") <= 2, errors     # 0: it was quicker
    end = time.monotonic() + LONG_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
