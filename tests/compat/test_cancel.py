"""Ending calls in nodes of every Python: out of whatever they are in, with all that belongs to them."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import ramet
from support import needs, pythons, remote_cancel, remote_cancel_async
from support.eventually import is_gone, until

NODES = pythons.labels([python.label for python in pythons.everywhere()])


@pytest.fixture(scope="module", params=NODES)
def node(request: pytest.FixtureRequest) -> Iterator[ramet.Node]:
    python = needs.python_anywhere(request.param)
    with ramet.Tree() as tree:
        node = tree.command(python.before, python=python.path) if python.before else tree.local(python=python.path)
        node.options(lane="watch").call(remote_cancel.noted)
        yield node


def noted(node: ramet.Node) -> list[str]:
    """What the functions have noted; asked for in a lane of its own."""
    words: list[str] = node.options(lane="watch").call(remote_cancel.noted)
    return words


def begun(node: ramet.Node, fn: Callable[..., object], *args: object) -> ramet.Call[object]:
    node.options(lane="watch").call(remote_cancel.forget)
    call = node.start(fn, *args)
    until(lambda: "begun" in noted(node), "it doesn't begin")
    return call


def ended(node: ramet.Node, call: ramet.Call[object]) -> None:
    """Cancel it; its work ends, and the node goes on."""
    assert call.cancel()
    with pytest.raises(ramet.CallCancelled):
        call.result()
    ended_by_itself(node)
    assert node.call(remote_cancel.note, "next") == "next"


CHANNEL_WAYS = [remote_cancel.receive, remote_cancel.send, remote_cancel.iterate]
WAYS = [remote_cancel.sleep, remote_cancel.read_a_pipe, remote_cancel.spin, remote_cancel.wait_for_a_lock]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_main_lane_is_interrupted(node: ramet.Node, way: Callable[[], object]) -> None:
    if way is remote_cancel.wait_for_a_lock and node.facts["hexversion"] < 0x3000000:
        pytest.skip("not on this machine: a 2.7 whose locks can be interrupted; see the test of what is stuck")
    ended(node, begun(node, way))
    assert noted(node) == ["begun", "ended", "next"]


def test_an_interrupt_that_a_destructor_swallows(node: ramet.Node) -> None:
    """Python tells of it since 3.8; before, it is seen where the signal comes. The function is interrupted again."""
    if node.facts["implementation"] == "PyPy":
        pytest.skip("not on this machine: destructors that PyPy calls at once")
    ended(node, begun(node, remote_cancel.destroy, 1000))
    assert noted(node) == ["begun", "ended", "next"]


@pytest.mark.parametrize("way", [remote_cancel.run_subprocess, remote_cancel.run_system], ids=lambda way: way.__name__)
def test_subprocesses_end_with_their_call(node: ramet.Node, way: Callable[[], object]) -> None:
    left = node.call(remote_cancel.leave_a_subprocess)
    call = begun(node, way)
    pids = node.options(lane="watch").call(remote_cancel.ids, 2)
    ended(node, call)
    until(lambda: all(map(is_gone, pids)), f"these go on: {pids}")
    assert "not reached" not in noted(node) and not is_gone(left), "an earlier call's was ended"
    for pid in (left, *pids):
        node.call(remote_cancel.reap, pid)


@pytest.mark.parametrize("lane", [None, "work"])
def test_a_program_ends_whose_output_the_call_waits_for(node: ramet.Node, lane: str | None) -> None:
    """``os.popen`` in a call's first moment. A thread that can't be interrupted is free when the program has ended, too."""
    if not node.call(remote_cancel.is_told_of_system_calls):
        pytest.skip("not on this machine: a Linux that tells what a thread waits for")
    call = begun(node.options(lane=lane), remote_cancel.read_what_a_program_writes)
    watch = node.options(lane="watch")
    pid, = watch.call(remote_cancel.ids, 1)     # so it isn't the read within ``Popen`` that is waited for here
    until(lambda: watch.call(remote_cancel.waits_to_read), "it doesn't read")
    assert call.cancel()
    until(lambda: is_gone(pid), f"it goes on: {pid}")
    ended_by_itself(node)
    node.call(remote_cancel.reap, pid)


def test_a_subprocess_may_say_good_bye(node: ramet.Node) -> None:
    """It gets SIGTERM first, and it is its own matter what that does."""
    call = begun(node, remote_cancel.run_polite, 60)
    watch = node.options(lane="watch")
    watch.call(remote_cancel.ids, 1)
    ended(node, call)
    assert watch.call(remote_cancel.ids, 1) == [0]


def test_a_subprocess_that_does_not_listen_is_killed(node: ramet.Node) -> None:
    call = begun(node, remote_cancel.run_stubborn)
    pids = node.options(lane="watch").call(remote_cancel.ids, 1)
    assert not is_gone(pids[0]), "it runs"
    ended(node, call)
    until(lambda: is_gone(pids[0]), f"it goes on: {pids}")
    assert node.call(remote_cancel.reap, pids[0]) in (0, 9), "it was SIGKILL that ended it"


def test_a_thread_is_interrupted_at_its_next_bytecode(node: ramet.Node) -> None:
    if not node.call(remote_cancel.can_interrupt_threads):
        node = node.local(python=node.facts["executable"])      # one that may keep a thread that goes on
    call = begun(node.options(lane="work"), remote_cancel.spin)
    assert call.cancel()
    error = call.exception()
    assert isinstance(error, ramet.CallCancelled)
    until(lambda: noted(node)[1:] == ["ended"] or error.stuck, "neither ended nor stuck")
    if node.call(remote_cancel.can_interrupt_threads):
        ended_by_itself(node)
        assert node.options(lane="work").call(remote_cancel.note, "next") == "next"
    else:
        assert "can't interrupt a thread" in error.stuck
        node.kill()


def ended_by_itself(node: ramet.Node) -> None:
    until(lambda: not node.stats()["ending"], f"it goes on: {node.stats()}")


@pytest.mark.parametrize("lane", [None, "work"])
@pytest.mark.parametrize("way", CHANNEL_WAYS, ids=lambda way: way.__name__)
def test_waiting_for_a_channel_is_ended(node: ramet.Node, way: Callable[..., object], lane: str | None) -> None:
    """In ramet's own code: so in threads, too, and where the interpreter can't interrupt these."""
    here = node._tree.channel(1)
    for channel in here, node.options(lane="watch").call(remote_cancel.make_channel):
        call = begun(node.options(lane=lane), way, channel)
        assert call.cancel()
        ended_by_itself(node)
        assert noted(node) == ["begun", "ended"]
    if way is not remote_cancel.send:
        here.send("whole")
        assert node.options(lane="watch").call(remote_cancel.receive_one, here) == "whole", "the end took nothing along"


def test_a_subprocess_of_a_thread_ends_with_its_call(node: ramet.Node) -> None:
    """The thread waits in a system call. It goes on when its subprocess has ended, and is interrupted then."""
    call = begun(node.options(lane=ramet.ANY), remote_cancel.run_subprocess)
    pids = node.options(lane="watch").call(remote_cancel.ids, 2)
    assert call.cancel()
    ended_by_itself(node)
    until(lambda: all(map(is_gone, pids)), f"these go on: {pids}")


def test_a_coroutine_is_cancelled(node: ramet.Node) -> None:
    if not node.call(remote_cancel.has_asyncio):
        with pytest.raises(ramet.Error):
            node.call(remote_cancel_async.pid)
        return
    ended(node, begun(node, remote_cancel_async.sleep))
    assert noted(node) == ["begun", "ended", "next"]
    if node.facts["hexversion"] < 0x3080000:
        return      # there only the main thread's loop can have subprocesses
    call = begun(node, remote_cancel_async.run_subprocess)
    pids = node.options(lane="watch").call(remote_cancel.ids, 2)     # all that come: the next test reads its own
    ended(node, call)
    until(lambda: all(map(is_gone, pids)), f"these go on: {pids}")


def test_at_every_depth(node: ramet.Node) -> None:
    """A call that calls on through two more nodes: cancelled there, too, with what it has started."""
    call = begun(node, remote_cancel.call_below, 2)
    deepest: list[ramet.Node] = []

    def found() -> bool:
        if call.done():
            call.result()       # it failed: say how
        deepest[:] = [one for one in node._tree.nodes if one.parent and one.parent.parent == node and one._state.up]
        return bool(deepest)
    until(found, "the grandchild isn't grown")
    pids = deepest[0].options(lane="watch").call(remote_cancel.ids, 2)
    ended(node, call)
    until(lambda: all(map(is_gone, pids)), f"these go on: {pids}")
    for one in (deepest[0], deepest[0].parent):
        assert one is not None
        until(lambda one=one: "ended" in noted(one), f"{one} wasn't cancelled")  # type: ignore[misc]
        assert one.call(remote_cancel.note, "next") == "next"
    assert deepest[0].parent is not None
    deepest[0].parent.close()
    until(lambda: node._tree.nodes == [node], "the children don't end")


STUCK = [(remote_cancel.swallow, None), (remote_cancel.take_the_signal, None), (remote_cancel.wait_in_one_piece, ramet.ANY)]


@pytest.mark.parametrize(("way", "lane"), STUCK, ids=lambda value: getattr(value, "__name__", ""))
def test_what_goes_on_is_reported_as_stuck(node: ramet.Node, way: Callable[..., object], lane: str | None) -> None:
    """Its caller is free at once all the same; when it has ended, it isn't stuck any more."""
    call = begun(node.options(lane=lane), way)
    assert call.cancel()
    error = call.exception(timeout=0)
    assert isinstance(error, ramet.CallCancelled)
    until(lambda: error.stuck, "nothing is reported")
    assert error.stuck.startswith("lane main: " if lane is None else "lane *: ")
    assert ("SIGURG" in error.stuck) == (way is remote_cancel.take_the_signal)
    assert node.stats()["stuck"] == 1
    node.options(lane="watch").call(remote_cancel.tell)
    ended_by_itself(node)
    assert node.stats()["stuck"] == 0 and node.call(remote_cancel.note, "next") == "next"
