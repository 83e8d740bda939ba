"""Lanes on a node of this machine: which call runs where and when, and what a function may do to the process it is in."""
from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from ramet.chains import flow_of
from support import remote, remote_async, remote_cancel_async, remote_lanes
from support.eventually import HANGS_S, until


@pytest.fixture
def node() -> Iterator[ramet.Node]:
    with ramet.Tree() as tree:
        yield tree.local()


def test_a_coroutine_function_that_cannot_be_called_so_fails(node: ramet.Node) -> None:
    with pytest.raises(TypeError, match="argument"):
        node.start(remote_async.double, 1, 2, 3).result(timeout=HANGS_S)
    with pytest.raises(TypeError, match="coroutine"):
        node.options(lane="asyncio").start(os.getpid).result(timeout=HANGS_S)
    assert node.start(remote_async.double, 1).result(timeout=HANGS_S) == 2


# ---------------------------------------------------------------------- which runs where


@pytest.mark.parametrize("lane", [ramet.ANY, "work", "asyncio"])
def test_a_busy_main_lane_holds_up_no_other(node: ramet.Node, lane: str) -> None:
    busy = node.start(remote_lanes.hold)
    if lane == "asyncio":
        assert node.start(remote_async.double, 21).result(timeout=HANGS_S) == 42
    else:
        assert node.options(lane=lane).start(remote.add, 40, 2).result(timeout=HANGS_S) == 42
    assert not busy.done()
    node.options(lane="gate").call(remote_lanes.open_gate)
    assert busy.result(timeout=HANGS_S)


def test_a_named_lane_is_in_order_and_keeps_its_thread(node: ramet.Node) -> None:
    lane, other = node.options(lane="files"), node.options(lane="others")
    assert [call.result() for call in [lane.start(remote.append, n) for n in range(100)]][-1] == list(range(100))
    first = lane.call(remote_lanes.thread)
    for _ in range(3):
        assert other.call(remote_lanes.thread) not in (first, node.call(remote_lanes.thread))
        assert lane.call(remote_lanes.thread) == first


@pytest.mark.parametrize("name", ["lane2331", "10601"], ids=["asyncio", "ANY"])
def test_a_name_that_comes_to_another_lanes_number_is_a_lane_of_its_own(node: ramet.Node, name: str) -> None:
    """It ran where that one does."""
    assert node.options(lane=name).call(remote_lanes.thread_name) == "ramet-lane"
    assert node.call(remote_lanes.thread_name, name) == "ramet-lane"
    assert node.options(lane=name).call(remote_lanes.thread_name, "asyncio.", ramet.ANY) == "ramet-any"
    names = [name, "", ramet.ANY, "asyncio", "files", "Dateien für alle"]
    flows = [flow_of({"lane": one} if one else {}) for one in names]
    assert node.call(remote_lanes.flows, names) == flows and len(set(flows)) == len(names)


def test_threads_that_come_and_go_leave_nothing(node: ramet.Node) -> None:
    """Something was kept of each that had ever waited."""
    node.call(remote_lanes.threads_known, 1)
    until(lambda: node.call(remote_lanes.threads_known, 1) == node.call(remote_lanes.threads_known, 50), "they are kept")


def test_calls_beyond_the_limit_wait_and_hold_up_nothing(node: ramet.Node) -> None:
    node.options(lane="gate").call(remote.pid)
    node.call(remote_lanes.set_threads_max, 3)
    held = [node.options(lane=ramet.ANY).start(remote_lanes.hold) for _ in range(10)]
    assert node.call(remote.add, 1) == 1 and not any(call.done() for call in held)
    assert node.options(lane="gate").start(remote_lanes.threads).result(timeout=HANGS_S) <= 3 + 4
    node.options(lane="gate").call(remote_lanes.open_gate)
    assert len({call.result(timeout=HANGS_S) for call in held}) <= 3


def test_callers_take_turns_in_lane_any(node: ramet.Node) -> None:
    """Where there is no thread for each: one that makes many calls doesn't hold up another one's first."""
    leaf = node.local()
    gate, crowd = leaf.options(lane="gate"), leaf.options(lane=ramet.ANY)
    gate.call(remote.pid)
    leaf.call(remote_lanes.set_threads_max, 1)
    held = crowd.start(remote_lanes.hold)
    calls = [crowd.start(remote.append, n) for n in range(5)]
    node.call(remote_lanes.start_below, leaf.id, "another's")
    gate.call(remote_lanes.open_gate)
    assert held.result(timeout=HANGS_S)
    assert calls[-1].result(timeout=HANGS_S).index("another's") <= 1


def test_more_named_lanes_than_threads_take_turns(node: ramet.Node) -> None:
    node.options(lane="0").call(remote.pid)
    node.call(remote_lanes.set_threads_max, 2)
    calls = [node.options(lane=str(n % 7)).start(remote.append, n) for n in range(70)]
    seen = max((call.result(timeout=HANGS_S) for call in calls), key=len)
    assert sorted(seen) == list(range(70))
    for lane in range(7):
        assert [n for n in seen if n % 7 == lane] == list(range(lane, 70, 7)), "not in order"


def test_a_lane_whose_thread_goes_over_to_another_one_has_that_of_a_third(node: ramet.Node) -> None:
    """Its call came when its thread had been woken for the other lane's. No idle one was told: it waited for that one's end."""
    node.call(remote_lanes.set_threads_max, 2)
    one, two, three = (node.options(lane=name) for name in ("1", "2", "3"))
    one.call(remote.pid)
    one.call(remote_lanes.open_gate_when_woken, "1")
    two.call(remote.pid)
    assert three.call(remote_lanes.wait_for_gate)


def test_a_queued_call_that_is_cancelled_never_begins(node: ramet.Node) -> None:
    lane = node.options(lane="work")
    busy, never = lane.start(remote_lanes.hold), lane.start(remote.append, "never")
    assert never.cancel()
    until(lambda: node.stats()["ending"] == 0, "it wasn't taken out of the line")
    assert not busy.done()
    node.call(remote_lanes.open_gate)
    assert busy.result(timeout=HANGS_S) and lane.call(remote.append, "next") == ["next"]


# ---------------------------------------------------------------------- chains and time


@pytest.mark.parametrize("seconds", [30 * 86400, float("inf")], ids=["a month", "for ever"])
def test_a_timeout_may_be_longer_than_the_system_waits_at_once(node: ramet.Node, seconds: float) -> None:
    """Of the wait, of the call, and of what that one waits for over there."""
    call = node.options(lane="x", timeout=seconds).start(remote_lanes.call_itself, "y", None)
    assert call.result(timeout=seconds) == node.call(remote.pid)


@pytest.mark.parametrize(("lanes", "cycle"), [
    ((None, "x", None), "node 1, lane main -> node 1, lane x -> node 1, lane main"),
    (("y", "x", "y"), "node 1, lane y -> node 1, lane x -> node 1, lane y"),
    ((None, "x", "x"), "node 1, lane x -> node 1, lane x"),
])
def test_a_call_that_would_wait_for_itself_fails_at_once(node: ramet.Node, lanes: tuple[str | None, ...], cycle: str) -> None:
    first, second, third = lanes
    with pytest.raises(ramet.DeadlockError, match="would wait for itself: " + cycle):
        node.options(lane=first).start(remote_lanes.call_itself, second, third).result(timeout=HANGS_S)
    pid = node.call(remote.pid)
    for free in ((None, "x", "y"), ("y", "x", None), (None, ramet.ANY, ramet.ANY), (ramet.ANY, None, "y")):
        assert node.options(lane=free[0]).start(remote_lanes.call_itself, *free[1:]).result(timeout=HANGS_S) == pid
    with pytest.raises(ramet.DeadlockError, match="lane main -> node 1, lane main"):
        node.start(remote_lanes.start_in_main, True).result(timeout=HANGS_S)
    assert node.start(remote_lanes.start_in_main).result(timeout=HANGS_S) is False, "it doesn't wait: no cycle"


@pytest.mark.parametrize(("lanes", "cycle"), [
    ((None, "x", None), "main -> node 1, lane x -> node 1, lane main"),
    (("y", "x", "z", "y"), "y -> node 1, lane x -> node 1, lane z -> node 1, lane y"),
    ((ramet.ANY, "x", ramet.ANY, "x"), "x -> node 1, lane \\* -> node 1, lane x"),
])
def test_a_started_call_that_would_wait_for_itself_fails_when_it_is_waited_for(
        node: ramet.Node, lanes: tuple[str | None, ...], cycle: str) -> None:
    """Nobody has told what was started who would wait for it: that follows when somebody does."""
    first = node.options(lane=lanes[0])
    with pytest.raises(ramet.DeadlockError, match="would wait for itself: .*lane " + cycle):
        first.start(remote_lanes.start_itself, lanes[1:]).result(timeout=HANGS_S)
    free = ["a", "b", ramet.ANY, ramet.ANY, "c"]
    assert first.start(remote_lanes.start_itself, free).result(timeout=HANGS_S) == node.call(remote.pid)


@pytest.mark.parametrize("seconds", [None, 0.05])
def test_who_does_not_wait_for_the_end_of_what_it_starts_is_in_no_circle(node: ramet.Node, seconds: float | None) -> None:
    assert node.call(remote_lanes.start_and_go_on, "x", seconds) is False, "its turn comes when this one has ended"
    assert node.options(lane="look").start(remote_lanes.told).result(timeout=HANGS_S) == [node.call(remote.pid)]


def test_a_call_that_is_over_is_nothing_that_its_caller_has_to_end(node: ramet.Node) -> None:
    """Each that nobody had waited for was kept as long as the function ran that had made it."""
    assert node.call(remote_lanes.start_and_never_wait, 20) == 0


def test_a_coroutine_is_called_in_its_own_lane(node: ramet.Node) -> None:
    """So the lane that waits for it isn't in its way, and the loop is only if it is what waits."""
    for lane in None, "x":
        assert node.options(lane=lane).start(remote_lanes.call_a_coroutine, None).result(timeout=HANGS_S) == 42
    assert node.start(remote_async.double_by_a_thread, 21).result(timeout=HANGS_S) == 42
    with pytest.raises(ramet.DeadlockError, match="lane asyncio -> node 1, lane asyncio"):
        node.start(remote_async.double_and_block, 21).result(timeout=HANGS_S)


def test_who_calls_a_coroutine_is_answered_when_there_is_memory_again(node: ramet.Node) -> None:
    """He waited for ever."""
    with pytest.raises(ramet.ProtocolError, match="MemoryError"):
        node.start(remote_async.answer_without_memory).result(HANGS_S)
    assert node.call(remote_async.double, 4) == 8


def test_time_travels_along(node: ramet.Node) -> None:
    child = node.local()
    child.call(remote.pid)
    assert node.call(remote_lanes.left_below, child.id) is None
    left = node.options(timeout=1000).call(remote_lanes.left_below, child.id)
    assert 1 < left < 1000
    _, text, other = node.call(remote_lanes.deadline_below, child.id, 0.3)
    assert "its timeout of 0.3 s" in text and other
    call = node.options(timeout=1.5).start(remote_lanes.deadline_below, child.id, 500)
    assert isinstance(call.exception(timeout=HANGS_S), ramet.CallTimeout)
    until(lambda: node.stats()["ending"] == 0, "the work goes on")
    assert child.start(remote.pid).result(timeout=HANGS_S), "the work below goes on"


# ---------------------------------------------------------------------- races


@pytest.mark.parametrize("lane", [None, "work"])
def test_a_cancel_just_as_it_ends_hits_no_other_call(node: ramet.Node, lane: str | None, rng: random.Random) -> None:
    """A thousand times: a cancel is sent at any moment of a call, and the calls behind it have their results."""
    view = node.options(lane=lane)
    answered, usual_s = 0, 0.0005
    for number in range(1000):
        call, behind = view.start(remote_lanes.spin_a_little, 2000), view.start(remote.add, number)
        time.sleep(rng.uniform(0, usual_s * 1.5))
        if call.cancel():
            usual_s *= 1.02     # so both happen about as often, however busy the machine is
        else:
            answered += 1
            usual_s /= 1.02
        assert behind.result(timeout=HANGS_S) == number
    assert 0 < answered < 1000
    until(lambda: node.stats()["calls"] == 0, f"not all are accounted for: {node.stats()}")


def test_ctrl_c_stops_the_work(node: ramet.Node) -> None:
    """A KeyboardInterrupt in the thread that waits for a result."""
    watch = node.options(lane="watch")
    watch.call(remote.pid)

    def press() -> None:
        until(lambda: watch.call(remote_lanes.held), "it isn't called")     # else it would hit the test itself
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    pressing = threading.Thread(target=press)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        node.call(remote_lanes.hold, 1000)
    pressing.join()
    assert node.start(remote.pid).result(timeout=HANGS_S)


# ---------------------------------------------------------------------- what functions do to their process


def test_who_forks_answers_once(node: ramet.Node) -> None:
    for view in (node, node.options(lane="work")):
        pid, status = view.call(remote_lanes.fork_and_return)
        assert status == 0 and not Path(f"/proc/{pid}").exists()
        assert view.call(remote_lanes.fork_and_raise) == 1
        assert view.call(remote_lanes.fork_and_log) == 7
        assert view.call(remote.add, 1) == 1


def test_a_daemon_does_not_keep_the_link_open(node: ramet.Node) -> None:
    node.call(remote.pid)
    pid = node.call(remote_lanes.daemonize)
    try:
        with pytest.raises(ramet.NodeLostError):
            node.start(remote.die).result(timeout=HANGS_S)
        os.kill(pid, 0)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_exits_and_crashes_take_nobody_along(node: ramet.Node) -> None:
    pid = node.call(remote.pid)
    for lane in (None, "work", ramet.ANY):
        with pytest.raises(ramet.RemoteError) as caught:
            node.options(lane=lane).call(remote_lanes.exit)
        assert caught.value.type_name == "builtins.SystemExit"
    with pytest.raises(ramet.RemoteError) as caught:
        node.call(remote_cancel_async.leave)
    assert caught.value.type_name == "builtins.SystemExit"
    assert node.start(remote_async.double, 2).result(timeout=HANGS_S) == 4
    node.call(remote_lanes.crash_a_thread)
    node.call(remote_lanes.leave_a_thread, 1000)
    with pytest.raises(ramet.RemoteError) as caught:
        node.call(remote_lanes.interrupt_yourself)
    assert caught.value.type_name == "builtins.KeyboardInterrupt"
    assert node.call(remote.pid) == pid
    with pytest.raises(ramet.NodeLostError, match="status 3"):
        node.call(remote.leave)


def test_what_is_changed_stays_changed(node: ramet.Node, tmp_path: Path) -> None:
    node.call(remote_lanes.change_folder, str(tmp_path))
    assert node.options(lane="work").call(os.getcwd) == str(tmp_path)
    assert node.call(remote_lanes.raise_alarm) == ["MainThread"]
    call = node.start(remote.sleep, 1000)
    time.sleep(0.1)
    call.cancel()
    assert node.start(remote.add, 1).result(timeout=HANGS_S) == 1


def test_recursion_limits(node: ramet.Node) -> None:
    with pytest.raises(RecursionError):
        node.call(remote.recurse)
    before = node.call(remote_lanes.limit_recursion, 150)
    with pytest.raises(RecursionError):
        node.call(remote_lanes.recurse, 200)
    assert node.call(remote_lanes.recurse, 50) == 0
    node.call(remote_lanes.limit_recursion, before)
    assert node.call(remote_lanes.recurse, 500) == 0


def test_standard_descriptors_may_be_closed(node: ramet.Node) -> None:
    node.call(remote_lanes.close_standard)
    assert node.call(remote.add, 1) == 1 and node.options(lane="work").call(remote.add, 2) == 2


def test_who_closes_all_descriptors_ends_the_node(node: ramet.Node) -> None:
    with pytest.raises(ramet.NodeLostError):
        node.start(remote_lanes.close_all).result(timeout=HANGS_S)
