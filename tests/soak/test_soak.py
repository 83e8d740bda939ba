"""One tree, harmed once in each way: nothing hangs, no call is lost without a reason, nothing is left. In short."""
from __future__ import annotations

import os
import random
import resource
import threading

import pytest

import ramet
from soak.run import one_round
from support import remote

pytestmark = pytest.mark.timeout(600)       # how long it takes says how busy the machine is


def test_each_fault_once(rng: random.Random) -> None:
    """No stop for good, no half-open link: how soon these are noticed is a matter of the clock, see test_keepalive."""
    garden = one_round(6, 0, rng.random(), None, {"keepalive_s": None, "lost_after_s": None}, each_once=True, workers=3,
                       at_a_time=3, stay_s=0.3, watch=False)
    assert not garden.wrong, garden.wrong
    faulted = {name for name in garden.counts if name.startswith("fault: ")}
    assert len(faulted) == 18, faulted
    assert garden.counts["calls answered"] and garden.counts["calls ended by NodeLostError"], garden.counts


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
