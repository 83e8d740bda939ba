"""What of a tree doesn't end by itself when that is closed: nothing of it is left, and nobody waits for it."""
from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet.kernel import spawn
from support import remote
from support.eventually import HANGS_S, is_gone, until

#: Outlives what it starts, and the link that it has handed on to that.
LINGERS = 'echo $$ >"$0"; "$@"; exec <&- >&- 2>&-; exec sleep 1000'


@contextlib.contextmanager
def noted(path: Path) -> Iterator[None]:
    """Whatever comes of it, the process whose number is noted there doesn't outlive the test."""
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(int(path.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("below", [False, True], ids=["here", "below a node"])
@pytest.mark.parametrize("lost", [False, True], ids=["closed", "lost before"])
def test_a_program_that_outlives_its_link_is_killed_and_waited_for(lost: bool, below: bool, tmp_path: Path) -> None:
    """It stayed behind: what was waited for were links."""
    path = tmp_path / "pid"
    with noted(path):
        with ramet.Tree(close_grace_s=HANGS_S) as tree:
            node = (tree.local() if below else tree).command(["sh", "-c", LINGERS, str(path)])
            assert node.call(remote.add, 1, 2) == 3
            if lost:
                with pytest.raises(ramet.NodeLostError):
                    node.call(os._exit, 3)
        assert is_gone(int(path.read_text()))


def begun(fn: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that waits for something, and what that raised."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            fn()
        except BaseException as error:
            errors.append(error)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, errors


def test_a_keeper_that_is_held_up_until_nobody_waits_for_it_tells_all() -> None:
    """It ended at once then: no link was closed, and who waited for a call did so for ever."""
    goes_on = threading.Event()
    tree = ramet.Tree(close_grace_s=0)
    node = tree.local()
    pid = node.call(os.getpid)
    waiting, errors = begun(node.start(remote.sleep, 1000).result)
    tree._loop.call_soon(goes_on.wait)
    tree.close()
    goes_on.set()
    waiting.join(HANGS_S)
    assert not waiting.is_alive() and isinstance(errors[0], ramet.ClosedError)
    tree._keeper.join(HANGS_S)
    assert is_gone(pid)


@pytest.mark.parametrize("what", ["node", "raw"])
def test_who_waits_for_a_program_that_cant_be_killed_is_told(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's, say. That was told of after 3 s, when nobody was there any more to tell."""
    left: dict[int, spawn.Process] = {}
    monkeypatch.setattr(spawn.Process, "kill", lambda process: left.setdefault(process.pid, process))
    tree = ramet.Tree(close_grace_s=0)
    node = tree.command(["sh", "-c", "exec sleep 1000"], connect_timeout_s=1000)
    waiting, errors = begun(node.wait if what == "node" else node.raw(["true"]).result)
    begins = [tree._nursery.children[1].growth, *tree._nursery.runs.values()]
    until(lambda: all(one.process for one in begins), "it isn't started")
    tree.close()
    waiting.join(HANGS_S)
    try:
        assert not waiting.is_alive() and isinstance(errors[0], ramet.ConnectError if what == "raw" else ramet.ClosedError)
    finally:
        for process in left.values():
            os.killpg(process.pid, signal.SIGKILL)
            process._popen.wait()
            os.close(process._stderr)
