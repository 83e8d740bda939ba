"""Long messages over real links: they arrive whole, calls pass them by, and nodes on the way hold little of them."""
from __future__ import annotations

import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import ramet
from support import needs, pythons, remote_bulk
from support.eventually import HANGS_S, stop, until

MB = 1_000_000


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes don't run."""
    for pid in pids:
        stop(pid)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def memory(pid: int) -> int:
    """A process's private memory, in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


@pytest.mark.parametrize("label", [label for label, _ in pythons.interpreters()])
def test_every_python_takes_and_gives_long_messages(label: str) -> None:
    payload = os.urandom(3_000_017)
    text = "\u00e9" * 400_000
    with ramet.Tree() as tree:
        node = tree.local(python=needs.python(label))
        assert node.call(remote_bulk.size_of, payload) == len(payload)
        value = [payload, {"text": text, "more": [payload[:70_000], 5, payload[:65_535]]}, "end"]
        assert node.call(remote_bulk.echo, value) == value


def test_a_stopped_leaf_fills_neither_the_controller_nor_the_node_before_it() -> None:
    payload = bytes(300 * MB)
    with ramet.Tree() as tree:
        middle = tree.local()
        leaf, other = middle.local(), middle.local()
        pids = [node.call(remote_bulk.pid) for node in (middle, leaf, other)]
        assert other.call(remote_bulk.size_of, payload[:MB]) == MB
        before = memory(pids[0]), memory(os.getpid())
        with stopped(pids[1]):
            call = leaf.start(remote_bulk.size_of, payload)
            queue = tree._core.routes.link_to(leaf.id).queue
            while not any(flow.short for flow in list(queue.flows.values())):
                time.sleep(0.01)
            for _ in range(20):     # calls to others pass it by, long ones, too
                assert other.call(remote_bulk.size_of, payload[:MB]) == MB
                assert middle.call(remote_bulk.size_of, b"") == 0
            growth = memory(pids[0]) - before[0], memory(os.getpid()) - before[1]
            assert max(growth) < 8000, growth       # the windows, and what the allocators keep of the calls beside
            assert not call.done()
        assert call.result(HANGS_S) == len(payload)


def test_a_stopped_leaf_does_not_fill_the_node_before_it_with_small_messages_either() -> None:
    with ramet.Tree() as tree:
        middle = tree.local()
        leaf, other = middle.local(), middle.local()
        pids = [node.call(remote_bulk.pid) for node in (middle, leaf, other)]
        before = memory(pids[0])
        with stopped(pids[1]):
            calls = [leaf.start(remote_bulk.size_of, b"x" * size) for _ in range(140) for size in (100_000, 8_000)]
            for _ in range(20):
                assert other.call(remote_bulk.size_of, b"y" * 1000) == 1000
            assert memory(pids[0]) - before < 8000
        assert [call.result(HANGS_S) for call in calls] == [100_000, 8_000] * 140
        assert tree.stats()["refused"] == 0


def test_nor_with_small_messages_alone() -> None:
    """None of them is under credit by itself: the node before the leaf has their flow stopped at the controller."""
    with ramet.Tree() as tree:
        middle = tree.local()
        leaf = middle.local()
        pids = [node.call(remote_bulk.pid) for node in (middle, leaf)]
        before = memory(pids[0])
        with stopped(pids[1]):
            calls = [leaf.start(remote_bulk.size_of, b"x" * 8_000) for _ in range(1_500)]
            for _ in range(20):
                assert middle.call(remote_bulk.size_of, b"y" * 1000) == 1000
            assert memory(pids[0]) - before < 8000
        assert {call.result(HANGS_S) for call in calls} == {8_000}


def test_a_leaf_that_is_lost_in_the_midst_of_a_long_message_leaves_nothing_behind() -> None:
    payload = bytes(100 * MB)
    with ramet.Tree() as tree:
        middle = tree.local()
        leaf, other = middle.local(), middle.local()
        pid = leaf.call(remote_bulk.pid)
        with stopped(pid):
            call = leaf.start(remote_bulk.size_of, payload)
            queue = tree._core.routes.link_to(leaf.id)
            while not getattr(queue.queue, "under_way", 0):
                time.sleep(0.01)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(ramet.NodeLostError):
                call.result(HANGS_S)
        assert other.call(remote_bulk.size_of, payload) == len(payload)
        link = tree._core.routes.link_to(middle.id)
        until(lambda: link.queue.flows == {} and link.queue.size == 0 and link.queue.under_way == 0, "something is under way")
        assert tree._core.refused == 0


def test_results_of_many_lanes_at_once_come_whole_and_calls_beside_them_soon() -> None:
    with ramet.Tree() as tree:
        node = tree.local()
        node.call(remote_bulk.size_of, b"")
        calls = [node.options(lane=f"lane {n}").start(remote_bulk.made, 5 * MB) for n in range(100)]
        assert [len(call.result(HANGS_S)) for call in calls] == [5 * MB] * 100
        assert tree._core.refused == 0


def test_a_long_result_that_nobody_waits_for_is_dropped_as_it_comes() -> None:
    with ramet.Tree() as tree:
        node = tree.local()
        node.call(remote_bulk.size_of, b"")
        call = node.start(remote_bulk.made, 100 * MB)
        core = tree._core
        while not call.done() and not (core.long and core.long.assembler.partial):
            time.sleep(0.001)
        call.cancel()
        assert node.call(remote_bulk.size_of, b"x") == 1
        assert not core.long.assembler.partial and not core.pending


def test_an_argument_takes_no_more_memory_than_itself() -> None:
    payload = b"p" * (100 * MB)
    with ramet.Tree() as tree:
        node = tree.local()
        node.call(remote_bulk.size_of, b"x" * MB)
        here, there = remote_bulk.forget_peak(), node.call(remote_bulk.forget_peak)
        assert node.call(remote_bulk.size_of, payload) == len(payload)
        assert remote_bulk.peak_memory() - here < 16_000
        assert node.call(remote_bulk.peak_memory) - there < 100_000 + 16_000
        del payload
        here = remote_bulk.forget_peak()
        assert len(node.call(remote_bulk.made, 100 * MB)) == 100 * MB
        assert remote_bulk.peak_memory() - here < 100_000 + 16_000


@pytest.mark.parametrize("lane", ["one", "*"])
def test_a_lane_keeps_nothing_of_an_argument_when_its_call_has_ended(lane: str) -> None:
    with ramet.Tree() as tree:
        node = tree.local()
        aside = node.options(lane=lane)
        aside.call(remote_bulk.size_of, b"x" * MB)
        before = node.call(remote_bulk.own_memory)
        assert aside.call(remote_bulk.size_of, b"p" * (100 * MB)) == 100 * MB
        until(lambda: node.call(remote_bulk.own_memory) - before < 16_000, "it has it still")


def test_the_main_lane_keeps_nothing_of_a_call_that_has_ended() -> None:
    with ramet.Tree() as tree:
        node = tree.local()
        aside = node.options(lane="aside")
        node.call(remote_bulk.size_of, b"x" * MB)
        before = aside.call(remote_bulk.own_memory)
        assert node.call(remote_bulk.size_of, b"p" * (100 * MB)) == 100 * MB
        until(lambda: aside.call(remote_bulk.own_memory) - before < 16_000, "it has the argument still")
        assert len(node.call(remote_bulk.made, 100 * MB)) == 100 * MB
        until(lambda: aside.call(remote_bulk.own_memory) - before < 16_000, "it has the result still")


def test_calls_from_many_threads_beside_long_messages() -> None:
    payload = bytes(2 * MB)
    failures: list[object] = []
    with ramet.Tree() as tree:
        nodes = [tree.local(), tree.local()]
        nodes.append(nodes[0].local())

        def work(number: int) -> None:
            try:
                for turn in range(15):
                    node = nodes[(number + turn) % 3]
                    assert node.call(remote_bulk.size_of, payload[turn:]) == len(payload) - turn
                    assert node.call(remote_bulk.size_of, b"x" * turn) == turn
            except BaseException as error:
                failures.append(error)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANGS_S)
        assert failures == []
        assert tree.stats()["refused"] == 0


def test_a_node_that_never_met_credit_stops_a_flow_when_it_is_told() -> None:
    """Else its parent, which can't send on, takes what comes until it is too much, and cuts the link."""
    with ramet.Tree() as tree:
        middle = tree.local()
        leaf = middle.local()
        assert leaf.options(lane="x").call(remote_bulk.stopped_flows) == 0      # it has that part now, and hasn't used it
        for stop in (True, False):
            middle.call(remote_bulk.tell_to_stop, leaf.id, 77, stop)
            while leaf.call(remote_bulk.stopped_flows) != stop:
                pass


def test_an_array_is_copied_once_on_its_way_out_and_once_where_it_arrives() -> None:
    """Out, since its owner may change it when the call is made; here, since what came is read-only, and an array isn't."""
    try:
        import numpy
    except ImportError:
        needs.lacking("numpy")
    count = 4_000_000
    data = numpy.arange(count, dtype="f8")
    with ramet.Tree() as tree:
        node = tree.local()
        assert node.call(numpy.sum, data[:50_000]) == data[:50_000].sum()
        assert node.call(numpy.arange, 50_000.0).shape == (50_000,)
        tracemalloc.start()
        try:
            assert node.call(numpy.sum, data) == data.sum()
            _, out = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            found = node.call(numpy.arange, float(count))
            _, back = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert out < data.nbytes + (2 << 20) and back < 2 * data.nbytes + (2 << 20)
    assert numpy.array_equal(found, data) and found.flags.writeable
    assert type(found.base) is bytearray and len(found.base) == data.nbytes, "its memory is what arrived"
