"""One tree, harmed once in each way: nothing hangs, no call is lost without a reason, nothing is left. In short."""
from __future__ import annotations

import contextlib
import os
import random
import resource
import threading
from pathlib import Path

import pytest

import ramet
from soak import faults
from soak.run import one_round
from support import needs, remote, remote_soak
from support.eventually import until

pytestmark = pytest.mark.timeout(600)       # how long it takes says how busy the machine is


# What is left to ``make soak``: what only time can tell, see test_keepalive, and lacking memory, which may cost a node.
NOT_HERE = {"stop_for_good", "half_open", "little_memory", "full_pipes", "few_files", "full_cache"}


def test_each_fault_once(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [kind for kind in faults.KINDS if kind not in NOT_HERE]
    monkeypatch.setattr(faults, "KINDS", kinds)
    garden = one_round(6, 0, rng.random(), None, {"keepalive_s": None, "lost_after_s": None}, each_once=True, workers=3,
                       at_a_time=3, stay_s=0.3, watch=False)
    assert not garden.wrong, garden.wrong
    assert {name[7:] for name in garden.counts if name.startswith("fault: ")} == set(kinds)
    assert garden.counts["calls answered"], garden.counts


@pytest.mark.parametrize("label", ["2.7", "3.11"])
def test_a_lane_that_cant_say_what_was_raised(label: str) -> None:
    """Its caller hears that much, and its thread goes on."""
    path = needs.python(label)
    with ramet.Tree() as tree:
        node = tree.local(python=path).options(lane="one")
        with pytest.raises(ramet.ProtocolError, match="refused: MemoryError.*none left"):
            node.call(remote_soak.cant_say_what)
        assert node.call(remote.add, 1, 2) == 3
        assert node.stats()["calls"] == 0


@pytest.mark.parametrize("label", ["2.7", "3.11"])
def test_a_keeper_outlasts_a_lack_of_memory(label: str, tmp_path: Path) -> None:
    """Not even for what its poll finds. Nobody else reads the link while the main lane is busy."""
    path = needs.python(label)
    with ramet.Tree() as tree:
        node = tree.local(python=path)
        until(lambda: node.call(remote_soak.outlasts), "it isn't prepared")
        node.options(lane="other").call(remote_soak.keeper_lacks_memory, 3)
        begun, over = tmp_path / "begun", tmp_path / "over"
        busy = node.start(remote_soak.busy, str(begun), str(over))
        until(begun.exists, "the main lane isn't busy")
        assert node.options(lane="other", timeout=60).call(remote.add, 1, 2) == 3
        over.touch()
        busy.result()


@pytest.mark.parametrize("label", ["3.6", "3.11", "3.13"])
@pytest.mark.parametrize("lane", ["one", ramet.ANY])
def test_a_thread_that_ends_before_it_has_begun(label: str, lane: str) -> None:
    """Who reads the link starts it: the node must not hang. Another one takes its place, or the caller hears."""
    path = needs.python(label)
    with ramet.Tree() as tree:
        node = tree.local(python=path)
        assert node.options(lane="other").call(remote.add, 1, 1) == 2
        node.call(remote_soak.threads_die, 1)
        assert node.options(lane=lane).call(remote.add, 1, 2) == 3
        node.call(remote_soak.threads_die, 1000, (0.1, 0.1))
        if lane == ramet.ANY:
            with pytest.raises(ramet.Error, match="can't start a thread"):
                node.options(lane=lane).call(remote.add, 1, 3)
        else:
            assert node.options(lane="one more").call(remote.add, 1, 3) == 4, "another lane's thread goes over to it"
        assert node.call(remote.add, 1, 4) == 5


@pytest.mark.parametrize("label", ["2.7", "3.11"])
def test_a_node_ends_with_its_guardian_from_the_beginning(label: str) -> None:
    """What watches the guardian comes behind the first call, and that one kills it."""
    path = needs.python(label)
    with ramet.Tree() as tree:
        node = tree.local(python=path)
        with contextlib.suppress(ramet.NodeLostError):      # it may be gone before it has answered
            node.call(remote_soak.kill_guardian)
        until(lambda: isinstance(node.error, ramet.NodeLostError), "it goes on without its guardian")


def test_a_thread_waits_without_descriptors() -> None:
    """Its first wait: there is no pipe for it. It has its answer all the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    found: list[object] = []
    with ramet.Tree() as tree:
        node = tree.local()
        assert node.call(remote.add, 1, 2) == 3

        def ask() -> None:
            calls = [node.start(remote.add, n, 1) for n in range(3)]
            found.append([call.result() for call in calls])
            found.append(node.call(remote.add, 1, 1))
        thread = threading.Thread(target=ask)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    held.append(os.dup(0))
            thread.start()
            thread.join()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)
    assert found == [[1, 2, 3], 2]
