"""The public API on nodes of this machine: what a user would try first."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import ramet
from support import remote, remote_async, remote_lanes
from support.eventually import HANGS_S, all_end, until


class Output:
    def __init__(self) -> None:
        self.lines: list[tuple[str, int, str]] = []
        self.changed = threading.Condition()

    def __call__(self, node: ramet.Node, stream: int, text: str) -> None:
        with self.changed:
            self.lines.append((node.name, stream, text))
            self.changed.notify_all()

    def wait_for(self, *line: object) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: line in self.lines, HANGS_S), self.lines


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def tree(output: Output) -> Iterator[ramet.Tree]:
    with ramet.Tree(on_output=output) as tree:
        yield tree


@pytest.fixture
def node(tree: ramet.Tree) -> ramet.Node:
    return tree.local()


# ---------------------------------------------------------------------- calls


def test_a_call(node: ramet.Node) -> None:
    assert node.call(remote.add, 1, b=2) == 3
    assert node.call(os.getpid) == node.facts["pid"] != os.getpid()
    assert node.start(remote.echo, {"a": (1, 2.5, b"x", None, {3})}).result() == {"a": (1, 2.5, b"x", None, {3})}


def test_the_functions_module_and_its_closure_travel(node: ramet.Node) -> None:
    assert node.call(remote.from_own_module) == 42
    assert node.call(remote.import_by_name, "support.remote_part").startswith("ramet:")
    assert node._tree.stats()["module_requests"] == 0


def test_calls_run_in_order_on_the_main_thread(node: ramet.Node) -> None:
    calls = [node.start(remote.append, n) for n in range(200)]
    assert calls[-1].result() == list(range(200))
    assert node.call(remote.main_thread) == "_MainThread"


def test_a_cast_runs_and_says_nothing(node: ramet.Node, output: Output) -> None:
    node.cast(remote.append, "cast")
    assert node.call(remote.append, "call") == ["cast", "call"]
    node.cast(remote.fail, "only the node's stderr hears of it")
    node.call(remote.pid)
    output.wait_for("local", 2, "ValueError: only the node's stderr hears of it")
    said = len(output.lines)
    for lane in {}, {"lane": "named"}:
        node.options(**lane).cast(threading.Lock)       # nobody gets what it returns, so nobody minds that it can't travel
        node.options(**lane).call(remote.pid)
    node.cast(remote_async.unportable)
    assert node.call(remote_async.double, 2) == 4
    assert len(output.lines) == said


def test_a_grandchild_is_used_like_a_child(node: ramet.Node) -> None:
    grandchild = node.local(name="deep").local()
    assert grandchild.call(remote.where) == [3, "local-2", 2, 0]
    assert grandchild.call(remote.from_own_module) == 42
    assert grandchild.parent is not None and grandchild.parent.parent == node
    with pytest.raises(ValueError):
        grandchild.call(remote.fail, "deep down")


def test_growing_from_inside_a_node(node: ramet.Node) -> None:
    id, answer = node.call(remote.grow_and_call)
    assert answer == 42
    assert node._tree.node(id).parent == node


def test_code_in_a_node_cannot_call_upwards(node: ramet.Node) -> None:
    with pytest.raises(ramet.Error, match="calls go down the tree only"):
        node.call(remote.call_upwards)


def test_connect_takes_several_steps(tree: ramet.Tree) -> None:
    node = tree.connect("local:/local:")
    assert node.call(remote.where)[2] == 1


# ---------------------------------------------------------------------- failures


def test_an_exception_is_also_of_its_builtin_type(node: ramet.Node) -> None:
    with pytest.raises(ValueError, match="^oops") as caught:
        node.call(remote.fail, "oops")
    error = caught.value
    assert isinstance(error, ramet.RemoteError)
    assert (error.type_name, error.node_name, error.args) == ("builtins.ValueError", "local", ("oops",))
    assert 'raise ValueError(message)' in error.traceback_text and "remote.py" in error.traceback_text


def test_what_a_builtin_exception_knows_arrives(node: ramet.Node) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        node.call(remote.fail_with_file)
    assert (caught.value.errno, caught.value.filename) == (2, "/does/not/exist")


def test_causes_arrive(node: ramet.Node) -> None:
    with pytest.raises(KeyError) as caught:
        node.call(remote.fail_with_cause)
    assert isinstance(caught.value.__cause__, ValueError) and str(caught.value.__cause__) == "inner"


def test_a_remote_exit_ends_nobody(node: ramet.Node) -> None:
    with pytest.raises(ramet.RemoteError, match="leaving") as caught:
        node.call(remote.fail_with_exit)
    assert caught.value.type_name == "builtins.SystemExit" and not isinstance(caught.value, SystemExit)
    with pytest.raises(ramet.RemoteError, match="special") as caught:
        node.call(remote.fail_with_special)
    assert caught.value.type_name == "support.remote.Special"
    assert node.call(remote.add, 1) == 1


def test_a_text_of_any_length_arrives_whole(node: ramet.Node) -> None:
    with pytest.raises(ValueError) as caught:
        node.call(remote.fail, "x" * 300_000)
    assert str(caught.value) == "x" * 300_000


def test_what_cannot_travel_is_named(node: ramet.Node) -> None:
    with pytest.raises(ramet.ValueNotPortableError, match=r"result\['a'\]\[1\]"):
        node.call(remote.unportable)
    with pytest.raises(ramet.ValueNotPortableError, match=r"arguments"):
        node.call(remote.echo, threading.Lock())
    with pytest.raises(ramet.ValueNotPortableError, match="closure variable 'lock' of <lambda>: a lock can't travel"):
        node.call((lambda lock: lambda: lock)(threading.Lock()))
    assert node.call(remote.add, 1) == 1


def test_a_function_that_is_not_there(node: ramet.Node) -> None:
    def added_later() -> None: ...

    added_later.__module__, added_later.__qualname__ = remote.__name__, "added_later"
    remote.added_later = added_later  # type: ignore[attr-defined]
    try:
        with pytest.raises(AttributeError, match="added_later"):
            node.call(added_later)
    finally:
        del remote.added_later  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- waiting


def test_a_call_is_a_future(node: ramet.Node) -> None:
    calls = [node.start(remote.add, n) for n in range(5)]
    assert isinstance(calls[0], concurrent.futures.Future)
    done, left = concurrent.futures.wait(calls, timeout=HANGS_S)
    assert {call.result() for call in done} == {0, 1, 2, 3, 4} and not left
    assert sorted(call.result() for call in concurrent.futures.as_completed(calls)) == [0, 1, 2, 3, 4]


def test_a_callback_may_ask_for_what_it_is_told_of(node: ramet.Node) -> None:
    """Also when the thread that calls it waits for another call, and reads the link meanwhile."""
    node.wait()
    found = []
    call = node.start(time.sleep, 0.1)
    call.add_done_callback(lambda call: found.append((call.result(), call.exception())))
    assert node.start(remote.add, 1).result() == 1
    assert found == [(None, None)]


def test_result_bounds_the_wait_only(node: ramet.Node) -> None:
    call = node.start(remote_lanes.hold)
    with pytest.raises(concurrent.futures.TimeoutError):
        call.result(timeout=0.05)
    node.options(lane="gate").call(remote_lanes.open_gate)
    assert call.result()


def test_options_timeout_ends_the_work(node: ramet.Node) -> None:
    call = node.options(timeout=0.2).start(remote.sleep, 1000)
    with pytest.raises(ramet.CallTimeout, match=r"sleep in local .* 0\.2 s"):
        call.result()
    assert node.call(remote.add, 1) == 1


def test_cancel_ends_the_work_and_what_waits_does_not_begin(node: ramet.Node) -> None:
    running, waiting = node.start(remote.sleep, 1000), node.start(remote.append, "never")
    time.sleep(0.1)
    assert waiting.cancel() and running.cancel() and not running.cancel()
    with pytest.raises(ramet.CallCancelled):
        running.result()
    assert not isinstance(running.exception(), (asyncio.CancelledError, concurrent.futures.CancelledError))
    assert node.call(remote.append, "after") == ["after"]


def test_many_threads_use_one_node(node: ramet.Node) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: node.call(remote.add, n, 1), range(300))) == list(range(1, 301))


def test_asyncio(output: Output) -> None:
    async def main() -> None:
        async with ramet.Tree(on_output=output) as tree:
            node = await tree.local()
            assert await node.start(remote.add, 1, 2) == 3
            assert await asyncio.gather(*(node.start(remote.add, n) for n in range(20))) == list(range(20))
            with pytest.raises(ValueError):
                await node.start(remote.fail, "x")
            seen = [(node.name, outcome.value) async for node, outcome in tree.each([node, tree.local()], remote.add, 5)]
            assert sorted(seen) == [("local", 5), ("local-2", 5)]
            task = asyncio.ensure_future(asyncio.wait_for(node.start(remote.sleep, 1000), 0.2))
            with pytest.raises(asyncio.TimeoutError):
                await task
            assert await node.start(remote.add, 1) == 1

    asyncio.run(main())


# ---------------------------------------------------------------------- many nodes


def test_each_gives_outcomes_as_they_complete(tree: ramet.Tree) -> None:
    nodes = [tree.local() for _ in range(3)]
    bad = tree.local(python="/does/not/exist/python")
    outcomes = dict(tree.each([*nodes, bad], remote.add, 1, 2))
    assert [outcomes[node].value for node in nodes] == [3, 3, 3]
    assert not outcomes[bad].ok and isinstance(outcomes[bad].error, ramet.PythonNotFoundError)


def test_map_over_a_node_that_is_gone_fails_at_once(tree: ramet.Tree) -> None:
    """Every item is tried, one after the other: a call for each, and none inside of another."""
    node = tree.local()
    node.wait(HANGS_S)
    node.kill()
    until(lambda: node.error is not None, "it isn't gone")
    depths = []
    start = tree._caller.start

    def watched(*args: Any) -> Any:
        depths.append(len(traceback.extract_stack(limit=150)))
        return start(*args)
    tree._caller.start = watched  # type: ignore[method-assign]
    with pytest.raises((ramet.ClosedError, ramet.NodeLostError)):
        list(tree.map(remote.add, range(500), [node]))
    assert len(depths) == 500 and max(depths) == min(depths)


def test_map_spreads_items_over_nodes(tree: ramet.Tree) -> None:
    nodes = [tree.local() for _ in range(2)]
    assert list(tree.map(remote.add, range(50), nodes)) == list(range(50))
    assert len(set(tree.map(remote.echo, [()] * 4, nodes))) == 1
    results = tree.map(remote.fail, ["a", "b"], nodes)
    with pytest.raises(ValueError, match="a"):
        next(results)
    with pytest.raises(ValueError):
        tree.map(remote.add, [1], [])


def test_a_pipeline_stops_at_the_first_failure(node: ramet.Node) -> None:
    with pytest.raises(ValueError, match="third"), node.pipeline() as pipeline:
        calls = [pipeline.call(remote.append, 1), pipeline.call(remote.append, 2), pipeline.call(remote.fail, "third"),
                 pipeline.call(remote.append, 4)]
    assert calls[1].result() == [1, 2]
    assert isinstance(calls[3].exception(), ramet.CallCancelled)
    assert node.call(remote.append, 5) == [1, 2, 5]


def test_a_pipeline_takes_only_calls_that_wait_for_one_another(node: ramet.Node) -> None:
    """Others weren't skipped when one before them failed."""
    with pytest.raises(ValueError, match="one after the other"), node.pipeline() as pipeline:
        pipeline.call(remote_async.double, 1)
    with pytest.raises(ValueError, match="one after the other"), node.options(lane=ramet.ANY).pipeline() as pipeline:
        pipeline.call(remote.append, 1)
    with node.options(lane="own").pipeline() as pipeline:
        call = pipeline.call(remote.append, 2)
    assert call.result() == [2]


def test_ctrl_c_at_the_end_of_a_pipeline_ends_all_of_it(node: ramet.Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another's call held them up, the first was ended, and the others ran without it."""
    held = node.start(remote_lanes.hold)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), node.pipeline() as pipeline:
        calls = [pipeline.call(remote.append, number) for number in range(5)]
        monkeypatch.setattr(node._tree._core, "wait", interrupted)
    monkeypatch.undo()
    until(lambda: not node.stats()["ending"], "they aren't ended")
    node.options(lane="watch").call(remote_lanes.open_gate)
    assert [type(call.exception()) for call in calls] == [ramet.CallCancelled] * 5
    assert held.result() and node.call(remote.append, "behind") == ["behind"]


def test_two_pipelines_that_are_made_at_once_have_their_own_numbers(node: ramet.Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one of them skipped, the other one skipped, too."""
    made = []

    def slowly(one: ramet.Node) -> ramet.Node:
        monkeypatch.undo()
        made.append(one.pipeline())     # as another thread may do just now
        return copy.copy(one)
    monkeypatch.setattr(sys.modules["ramet.pipeline"], "copy", SimpleNamespace(copy=slowly))
    made.append(node.pipeline())
    assert len({one.node._options["pipeline"] for one in made}) == 2


# ---------------------------------------------------------------------- lanes


def test_lanes(node: ramet.Node) -> None:
    long = node.options(lane=ramet.ANY).start(remote_lanes.hold)
    assert node.call(remote.add, 1) == 1 and not long.done()
    lane = node.options(lane="files")
    assert lane.call(remote.thread_name) != "MainThread"
    assert [call.result() for call in [lane.start(remote.append, n) for n in range(3)]][-1] == [0, 1, 2]
    lane.call(remote_lanes.open_gate)
    assert long.result()


# ---------------------------------------------------------------------- output and logs


def test_output_arrives_by_line_and_node(node: ramet.Node, output: Output) -> None:
    node.call(remote.say, "one\ntwo\n")
    node.call(remote.say, "to stderr\n", "stderr")
    assert node.call(remote.shout_from_subprocess, "from a subprocess") == 0
    for stream, line in ((1, "one"), (1, "two"), (2, "to stderr"), (1, "from a subprocess")):
        output.wait_for("local", stream, line)


def test_what_a_call_has_printed_goes_before_its_answer(node: ramet.Node, output: Output) -> None:
    """Without the end of a line, too: what comes past Python's own buffer is behind it."""
    node.call(remote.say, "begun by a call, ")
    assert node.call(remote.shout_from_subprocess, "ended by a subprocess") == 0
    output.wait_for("local", 1, "begun by a call, ended by a subprocess")


def test_output_without_a_newline_is_shown_at_the_end(output: Output) -> None:
    with ramet.Tree(on_output=output) as tree:
        tree.local().call(remote.say, "the rest")
    output.wait_for("local", 1, "the rest")


def test_log_records_arrive_as_records(node: ramet.Node, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "ramet.node.local"):
        node.call(remote.log, logging.WARNING, "from over there")
        until(lambda: caplog.records, "it doesn't arrive")
    record = caplog.records[0]
    assert (record.name, record.levelno, record.getMessage()) == ("ramet.node.local", logging.WARNING, "from over there")


# ---------------------------------------------------------------------- the end


def test_closing_ends_everything_and_calls_say_so(output: Output) -> None:
    with ramet.Tree(on_output=output) as tree:
        node = tree.local()
        deep = node.local()
        pids = [n.call(remote.pid) for n in (node, deep)]
        call = deep.start(remote.sleep, 1000)
    with pytest.raises(ramet.ClosedError):
        call.result(timeout=HANGS_S)
    with pytest.raises(ramet.ClosedError):
        node.call(remote.pid)
    assert all_end(*pids)
    tree.close()


def test_one_node_is_closed_and_the_others_go_on(tree: ramet.Tree) -> None:
    first, second = tree.local(), tree.local()
    call = first.start(remote.sleep, 1000)
    first.wait()
    first.close()
    with pytest.raises(ramet.ClosedError):
        call.result(timeout=HANGS_S)
    with pytest.raises(ramet.ClosedError, match="closed by this program"):
        first.call(remote.pid)
    assert second.call(remote.add, 1) == 1


def test_kill_works_while_the_node_hangs_in_c(tree: ramet.Tree) -> None:
    node = tree.local()
    call = node.start(remote.hang_with_the_gil)
    node.wait()
    time.sleep(0.3)
    node.kill()
    with pytest.raises(ramet.ClosedError):
        call.result(timeout=HANGS_S)


def test_killing_a_grandchild_leaves_its_parent(tree: ramet.Tree) -> None:
    middle = tree.local()
    deep = middle.local()
    call = deep.start(remote.hang_with_the_gil)
    deep.wait()
    deep.kill()
    with pytest.raises(ramet.ClosedError):
        call.result(timeout=HANGS_S)
    assert middle.call(remote.add, 1) == 1


def test_a_dead_node_says_who_was_lost_and_closes_at_once() -> None:
    """If anybody waited for its end, that would take longer than a test may."""
    with ramet.Tree(close_grace_s=1000) as tree:
        node = tree.local(name="victim")
        with pytest.raises(ramet.NodeLostError, match="victim was lost: .*signal 9"):
            node.call(remote.die)
        node.close()
    assert isinstance(node.error, ramet.NodeLostError)


@pytest.mark.parametrize("forked", [False, True], ids=["grown", "forked"])
def test_a_fault_of_the_main_lane_itself_is_told(tree: ramet.Tree, output: Output, forked: bool) -> None:
    """A fault of ramet's own: the node can't go on, but mustn't go with status 0 and without a word."""
    node = tree.local(name="faulty")
    if forked:
        node = node.fork(name="faulty-fork")
    for _ in range(2):      # now its second half is there, by which it tells
        node.call(remote.pid)
    with pytest.raises(ramet.NodeLostError, match="status 98|its link was closed"):
        for _ in range(100):
            node.call(remote.break_main_lane)
    output.wait_for(node.name, 2, "RuntimeError: a fault of the main lane")


def test_the_death_of_a_middle_node_takes_those_behind_it(tree: ramet.Tree) -> None:
    middle = tree.local(name="middle")
    deep = middle.local(name="deep")
    pid = deep.call(remote.pid)
    call = deep.start(remote.sleep, 1000)
    middle.cast(remote.die)
    with pytest.raises(ramet.NodeLostError):
        call.result(timeout=HANGS_S)
    assert all_end(pid)


def test_subprocesses_of_a_node_end_with_it(tree: ramet.Tree) -> None:
    node = tree.local()
    pid = node.call(remote.start_sleeper)
    node.close()
    assert all_end(pid)


def test_a_forked_child_forgets_the_tree(tree: ramet.Tree, node: ramet.Node) -> None:
    node.call(remote.pid)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            node.call(remote.pid)
        except ramet.ClosedError as error:
            code = 0 if "forked" in str(error) else 2
        finally:
            tree.close()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert node.call(remote.add, 1) == 1


def test_bad_options_are_refused_where_they_are_given(tree: ramet.Tree, node: ramet.Node) -> None:
    bad: list[Any] = [lambda: node.options(timeout=0), lambda: node.options(lane=""), lambda: tree.connect("nonsense:"),
                      lambda: tree.connect(""), lambda: tree.local(nonsense=1), lambda: ramet.Tree(close_grace_s=-1),
                      lambda: ramet.Tree(close_grace_s=float("inf"))]
    for wrong in bad:
        with pytest.raises((ValueError, TypeError)):
            wrong()


def test_a_node_that_is_gone_grows_nothing_and_leaves_nothing(tree: ramet.Tree) -> None:
    node = tree.local()
    with pytest.raises(ramet.NodeLostError):
        node.call(remote.die)
    with pytest.raises(ramet.ConnectError, match="can't be started: node local was lost"):
        node.local().wait(HANGS_S)
    assert tree.nodes == []
    until(lambda: not tree._nodes and not tree._gardener.links, "it is kept")     # who waits is told a moment before
    assert tree.stats()["bytes_out"] > 10_000


def test_calls_that_are_made_while_it_connects_keep_their_order(tree: ramet.Tree) -> None:
    for _ in range(5):
        node = tree.local()
        calls = [node.start(remote.append, n) for n in range(300)]
        assert calls[-1].result() == list(range(300))
        node.close()
