"""What may happen to a node while it grows: its kernel ends or goes silent before its first message, or another thread
closes it."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ramet import ClosedError, ConnectError, Node, NodeLostError, Tree
from ramet.kernel.core import GROW
from support import needs, remote
from support.eventually import HANGS_S, in_time, until

#: Says both markers, as if a kernel ran, and goes on in a way of its own.
SAYS = r'printf "\nRAMET1 30b0000 c\n"; dd bs=1 count=9000 >/dev/null 2>&1; printf "\nRAMET2\n"; '


def growers(tree: Tree) -> list[Tree | Node]:
    return [tree, tree.local(), tree.local(python=needs.python("2.7")).local()]


def test_it_ends(tree: Tree) -> None:
    """From here and from nodes: the error has the stage, and says how its process ended and what it said last."""
    for parent in growers(tree):
        node = parent.command(["sh", "-c", SAYS + "echo last words >&2; exit 3"])
        call = node.start(remote.add, 2, 3)
        for attempt in (lambda node=node: node.wait(HANGS_S), call.result):
            with pytest.raises(ConnectError) as caught:
                attempt()
            error = caught.value
            assert error.stage == "bootstrap" and "by hand" in error.remedy
            assert error.cause.startswith("its kernel said that it runs, and was lost before it said more: ")
            assert "ended with status 3" in error.cause and "last words" in error.cause
            assert "RAMET1" in error.command
        child = node.local()
        with pytest.raises(ConnectError):
            child.wait(HANGS_S)


def test_it_goes_silent(tree: Tree) -> None:
    def error(seconds: float) -> ConnectError:
        with pytest.raises(ConnectError, match=f" within {seconds:g} s") as caught:
            tree.command(["sh", "-c", SAYS + "exec sleep 600"], connect_timeout_s=seconds).wait(2 * HANGS_S)
        return caught.value
    says = "its kernel said that it runs, and then nothing within"
    found = in_time(error, lambda error: says in str(error), 2)
    assert says in str(found) and found.stage == "bootstrap" and "connect_timeout_s=" in found.remedy


def test_what_was_sent_to_be_grown_there_fails_for_the_same_reason(tree: Tree, tmp_path: Path) -> None:
    """It says so as an error of connecting, with stage and remedy, at any depth: nothing that was connected has been lost."""
    goes_on = tmp_path / "goes on"
    program = f'{SAYS} while ! [ -e "{goes_on}" ]; do sleep 0.01; done; exit 3'
    for parent in growers(tree)[:2]:
        goes_on.unlink(missing_ok=True)
        node = parent.command(["sh", "-c", program])
        until(lambda node=node: node._state.open, "what is sent to it isn't held back any more")
        child = node.local()
        grandchild = child.local()
        goes_on.touch()
        for one in (grandchild, child, node):
            with pytest.raises(ConnectError, match="lost before it said more|ended before a kernel ran") as caught:
                one.wait(HANGS_S)
            assert caught.value.stage == "bootstrap" and "by hand" in caught.value.remedy


def test_what_was_up_is_lost_and_what_was_closed_is_closed(tree: Tree) -> None:
    """Neither is told as not connected."""
    node = tree.command(["env"], python=sys.executable)
    pid = node.call(remote.pid)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    with pytest.raises(NodeLostError):
        node.call(remote.sleep, 60)


@pytest.mark.parametrize("deeper", [False, True])
@pytest.mark.parametrize("kill", [False, True])
def test_another_thread_closes_it_at_the_moment_when_it_is_started(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, deeper: bool, kill: bool,
) -> None:  # fmt: skip
    """What it has cut wasn't there yet: it is cut when it is."""
    parent: Any = tree.local(python=sys.executable).wait(HANGS_S) if deeper else tree
    closed: list[int] = []

    def close(id: int) -> None:
        if not closed:
            closed.append(id)
            (tree.node(id).kill if kill else tree.node(id).close)()
    if deeper:
        ask = tree._core.ask

        def asked(target: int, handle: int, body: Any, *rest: Any) -> None:
            if handle == GROW:
                close(max(tree._nodes))
            ask(target, handle, body, *rest)
        monkeypatch.setattr(tree._core, "ask", asked)
    else:
        grow = tree._nursery.grow

        def grown(id: int, *rest: Any) -> Any:
            close(id)
            return grow(id, *rest)
        monkeypatch.setattr(tree._nursery, "grow", grown)
    node = parent.command(["env"], python=sys.executable, name="closed")
    with pytest.raises(ClosedError):
        node.wait(HANGS_S)
    assert closed == [node.id]
    until(lambda: node.id not in tree._nursery.children and node.id not in tree._nodes, "it goes on")
    assert parent.local(python=sys.executable).call(remote.add, 2, 3) == 5      # and nothing else was ended
