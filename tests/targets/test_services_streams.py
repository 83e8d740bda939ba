"""What services of nodes yield, and how requests end: streams, cancel, deadlines, circles; on every Python."""
from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import ramet
from ramet import service
from ramet.kernel import streams
from support import needs, pythons, remote, remote_cancel, remote_service_async, remote_service_streams, remote_streams
from support.eventually import HANGS_S, in_time, until
from support.remote_service_streams import Source

EVERY = pythons.labels([label for label, _ in pythons.interpreters()])


@pytest.fixture(scope="module", params=EVERY)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[ramet.Node, ramet.Node]]:
    """A node of each Python that serves, and a sibling of the same Python."""
    python = needs.python(request.param)
    with ramet.Tree() as tree:
        server, other = tree.local(python=python), tree.local(python=python)
        server.serve("source", Source, allow="anyone")
        assert list(server.service("source").rows(3)) == [0, 1, 2]      # it is up, with all that belongs to it
        assert other.call(remote_service_streams.read, server.id, "source", "rows", 3)[0] == [0, 1, 2]
        yield server, other


@pytest.fixture
def server(pair: tuple[ramet.Node, ramet.Node]) -> ramet.Node:
    pair[0].call(remote_service_streams.clear)
    return pair[0]


@pytest.fixture
def source(server: ramet.Node) -> Any:
    return server.service("source")


def interrupts(node: ramet.Node) -> bool:
    """Whether that Python can interrupt a thread."""
    return bool(node.call(remote_cancel.can_interrupt_threads))


# ---------------------------------------------------------------------- streams


@pytest.mark.parametrize(("many", "size"), [(0, 0), (5_000, 0), (1_000, 4_096), (3, 3_000_000)])
def test_all_items_come_in_order(source: Any, pair: tuple[ramet.Node, ramet.Node], many: int, size: int) -> None:
    got = list(source.rows(many, size))
    assert [item[0] if size else item for item in got] == list(range(many))
    there, value = pair[1].call(remote_service_streams.read, pair[0].id, "source", "rows", many, size)
    assert there == got and value is None, "a sibling gets the same"
    assert pair[0].call(remote_service_streams.read, pair[0].id, "source", "rows", many, size)[0] == got, "and the node itself"


def test_what_is_not_read_is_not_made(source: Any) -> None:
    with source.noted(100_000, -1, 4_096) as stream:
        assert next(stream)[0] == 0
        made = source.wait_for(streams.WINDOW_BYTES // 4_200)
        assert len(made) <= streams.WINDOW_BYTES // 4_096 + 30
    assert source.wait_for("end")[-2:] == ["exit", "end"], "its finally runs when the block is left"


def test_a_sibling_leaves_early(source: Any, pair: tuple[ramet.Node, ramet.Node]) -> None:
    assert pair[1].call(remote_service_streams.read_some, pair[0].id, "source", 3, 100_000) == [0, 1, 2]
    assert source.wait_for("end")[-2:] == ["exit", "end"]


def test_an_exception_comes_after_the_items_before_it(source: Any, pair: tuple[ramet.Node, ramet.Node]) -> None:
    stream, got = source.noted(2_000, 1_000), []
    with pytest.raises(ValueError, match="at 1000") as caught:
        for item in stream:
            got.append(item)
    assert isinstance(caught.value, ramet.RemoteError) and got == list(range(1_000)) and list(stream) == []
    there = pair[1].call(remote_service_streams.how_it_ends, pair[0].id, "source", "noted", 2_000, 1_000)
    assert there[0] == got and "at 1000" in there[1]
    with pytest.raises(ramet.ValueNotPortableError, match="item"):
        list(source.unportable())
    assert list(source.iterator()) == [1, 2], "any iterator is a stream"
    assert isinstance(source.channel(), ramet.Channel), "but a channel is a channel"


def test_a_stream_holds_no_thread_of_the_pool(source: Any) -> None:
    opened = [source.rows(100_000, 1_000) for _ in range(40)]
    assert all(next(stream)[0] == 0 for stream in opened)
    assert source.iterator().node is not None and list(source.rows(2)) == [0, 1]
    for stream in opened:
        stream.close()


# ---------------------------------------------------------------------- cancel and deadlines


def ended(source: Any, server: ramet.Node, tag: object) -> None:
    """The method was interrupted: at once; where a thread can't be, it ends by itself."""
    if not interrupts(server):
        server.call(remote_service_streams.open_gate)
    assert source.wait_for(["ended", tag])
    until(lambda: not server.stats()["ending"], "its end isn't told")


def test_cancel_interrupts_the_method(source: Any, server: ramet.Node) -> None:
    call = source.spin.start(1)
    source.wait_for(["begun", 1])
    assert call.cancel()
    with pytest.raises(ramet.CallCancelled):
        call.result()
    ended(source, server, 1)


def test_a_deadline_interrupts_the_method(source: Any, server: ramet.Node, pair: tuple[ramet.Node, ramet.Node]) -> None:
    with pytest.raises(ramet.CallTimeout):
        server.options(timeout=0.3).service("source").spin(2)
    said = pair[1].call(remote_service_streams.ask_within, 0.3, server.id, "source", "spin", 2)
    assert said.startswith("CallTimeout"), said
    if not interrupts(server):
        server.call(remote_service_streams.open_gate)
    until(lambda: source.log().count(["ended", 2]) == source.log().count(["begun", 2]), "it goes on")
    until(lambda: not server.stats()["ending"], "its end isn't told")


def test_a_request_ends_with_the_call_that_makes_it(
        source: Any, server: ramet.Node, pair: tuple[ramet.Node, ramet.Node]) -> None:
    call = pair[1].options(lane=ramet.ANY).start(remote_service_streams.ask, server.id, "source", "spin", 3)
    source.wait_for(["begun", 3])
    assert call.cancel()
    ended(source, server, 3)


def test_a_stream_at_work_is_interrupted_when_it_is_left(source: Any, server: ramet.Node) -> None:
    with source.spinning_rows() as stream:
        assert next(stream) == 1
        source.wait_for(["begun", 0])
    ended(source, server, 0)
    with pytest.raises(ramet.CallTimeout):
        for _ in server.options(timeout=0.3).service("source").spinning_rows():
            pass
    if not interrupts(server):
        server.call(remote_service_streams.open_gate)
    until(lambda: source.log().count(["ended", 0]) == source.log().count(["begun", 0]), "it goes on")


def test_time_that_is_up_is_why_a_stream_ends_whatever_is_answered(tree: ramet.Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the node says of the cancel may be read by another thread before the one that cancels takes its next step."""
    server = tree.local()
    server.serve("source", Source, allow="anyone")
    ended, cancel = threading.Event(), service.Producing.cancel

    def cancel_and_wait(producing: service.Producing) -> None:
        cancel(producing)
        ended.wait(HANGS_S)
    monkeypatch.setattr(service.Producing, "cancel", cancel_and_wait)
    try:
        with pytest.raises(ramet.CallTimeout):
            for _ in server.options(timeout=0.3).service("source").spinning_rows():
                pass
    finally:
        ended.set()


def test_a_shared_request_ends_with_its_last_asker(server: ramet.Node, pair: tuple[ramet.Node, ramet.Node]) -> None:
    server.serve("shared", Source, allow="anyone", shared=["spin"], threads=2)
    shared = server.service("shared")
    try:
        one, two = shared.spin.start("s"), shared.spin.start("s")
        three = pair[1].options(lane=ramet.ANY).start(remote_service_streams.ask, server.id, "shared", "spin", "s")
        shared.wait_for(["begun", "s"])
        until(lambda: server.call(remote_service_streams.askers_of, "shared") == 3, "not all have come")
        assert one.cancel()
        until(lambda: server.call(remote_service_streams.askers_of, "shared") == 2, "it isn't taken off")
        assert three.cancel()
        until(lambda: server.call(remote_service_streams.askers_of, "shared") == 1, "it isn't taken off")
        assert ["ended", "s"] not in shared.log(), "somebody waits for it"
        assert two.cancel()
        ended(shared, server, "s")
        server.call(remote_service_streams.open_gate)
        assert shared.spin("s") == "s", "what comes then runs anew"
        with pytest.raises(ramet.RemoteError, match="can't be shared"):
            server.serve("x", Source, allow="anyone", shared=["rows"])
    finally:
        server.withdraw("shared")


def test_a_request_ends_when_its_asker_is_lost(tree: ramet.Tree) -> None:
    server, other = tree.local(), tree.local()
    source = server.serve("source", Source, allow="anyone")
    other.options(lane="a").start(remote_service_streams.ask, server.id, "source", "spin", "lost")
    other.options(lane="b").start(remote_service_streams.read, server.id, "source", "noted", 1 << 40, -1, 100)
    source.wait_for(["begun", "lost"])
    source.wait_for(100)
    other.kill()
    assert source.wait_for(["ended", "lost"]) and source.wait_for("end")
    until(lambda: server.call(remote_service_streams.accounts) == [0, 0, 0, 0], "something of it is left")


def test_its_server_is_lost(tree: ramet.Tree) -> None:
    server, other = tree.local(), tree.local()
    source = server.serve("source", Source, allow="anyone")
    stream = source.rows(1 << 40)
    there = other.start(remote_service_streams.how_it_ends, server.id, "source", "noted", 1 << 40)
    assert next(stream) == 0
    source.wait_for(5_000)
    server.kill()
    with pytest.raises(ramet.ClosedError):
        for _ in stream:
            pass
    got, why = there.result(HANGS_S)
    assert got == list(range(len(got))) and why.startswith("NodeLostError")


def test_a_stream_of_a_closed_tree_ends(tree: ramet.Tree) -> None:
    stream = tree.local().serve("source", Source, allow="anyone").rows(1 << 40)
    assert next(stream) == 0
    tree.close()
    with pytest.raises(ramet.ClosedError):
        for _ in stream:
            pass


# ---------------------------------------------------------------------- circles


def test_a_chain_that_waits_for_itself_fails_at_once(tree: ramet.Tree) -> None:
    middle = tree.local()
    below = middle.local()
    for options, name in ({"lanes": {"again": "a"}}, "laned"), ({"threads": 1}, "one"):
        service = middle.serve(name, Source, allow="anyone", **options)
        for ask in (service.again, lambda *args, name=name: below.call(
                remote_service_streams.ask, middle.id, name, "again", *args)):
            with pytest.raises(ramet.DeadlockError, match=f"itself: node {middle.id}, lane service {name}.again"):
                ask(middle.id, name, "again", middle.id, name, "log")
    assert middle.service("laned").again(middle.id, "laned", "log") == [], "another method isn't in its way"
    shared = middle.serve("shared", Source, allow="anyone", shared=["same"])
    with pytest.raises(ramet.DeadlockError, match="would wait for itself"):
        shared.same(middle.id, "shared")


def test_a_service_that_calls_into_the_lane_that_waits_for_it(tree: ramet.Tree) -> None:
    middle = tree.local()
    below = middle.local()
    middle.serve("source", Source, allow="anyone")
    cycle = f"node {below.id}, lane main -> node {middle.id}, lane service source.call_down"
    with pytest.raises(ramet.DeadlockError, match=cycle):
        below.call(remote_service_streams.ask, middle.id, "source", "call_down", below.id)
    assert below.call(remote_service_streams.ask, middle.id, "source", "call_down", below.id, "another") == 1
    assert below.options(lane="x").call(remote_service_streams.ask, middle.id, "source", "call_down", below.id) == 1
    with pytest.raises(ramet.DeadlockError, match=cycle.replace("call_down", "start_down")):
        below.call(remote_service_streams.ask, middle.id, "source", "start_down", below.id)
    assert below.call(remote_service_streams.ask, middle.id, "source", "start_down", below.id, "another") == 1
    assert below.options(lane="x").call(remote_service_streams.ask, middle.id, "source", "start_down", below.id) == 1
    with pytest.raises(ramet.DeadlockError, match=cycle.replace("main -> ", "main -> node 2, lane x -> ", 1)):
        below.call(remote_service_streams.start_asking, "x", middle.id, "source", "call_down", below.id)
    late = cycle.replace("main -> ", "main -> node 2, lane x -> ", 1).replace("call_down", "noted_down")
    with pytest.raises(ramet.DeadlockError, match=late):
        below.start(remote_service_streams.wait_when_asked, "x", middle.id, below.id).result(timeout=HANGS_S)
    with pytest.raises(ramet.DeadlockError, match=cycle.replace("call_down", "rows_from_below")):
        below.call(remote_service_streams.read, middle.id, "source", "rows_from_below", below.id)
    waits_not = below.call(remote_service_streams.ask, middle.id, "source", "start_down", below.id, None, False)
    assert waits_not is False, "who doesn't wait is in no circle"


class Program:
    """An object of the program."""

    def __init__(self, node: ramet.Node) -> None:
        self.node = node
        self.went_on = threading.Event()
        self.found: list[Any] = []

    def call_down(self) -> Any:
        return self.node.call(remote.add, 1)

    def start_down(self) -> Any:
        return self.node.start(remote.add, 1).result()

    def start_and_look(self) -> Any:
        return type(self.node.start(remote.add, 1).exception()).__name__

    def start_only(self) -> Any:
        return self.node.start(remote.add, 1).done()

    def start_in_another_lane(self) -> Any:
        return self.node.options(lane="another").start(remote.add, 1).result()

    def start_behind_another_lane(self) -> Any:
        return self.node.options(lane="another").start(remote_service_streams.call_main).result()

    def start_asking(self) -> Any:
        return self.node.service("source").call_down.start(self.node.id).result()

    def call_another_lane(self) -> Any:
        return self.node.options(lane="another").call(remote.add, 1)

    def find(self) -> Any:
        return self.node.service("source").log()

    def ask_back(self) -> Any:
        return self.node.service("source").again(0, "program", "call_down")

    def long(self) -> None:
        """Waits for what never ends by itself."""
        try:
            self.node.options(lane="long").call(remote_service_streams.spin_here)
        except ramet.Error as error:
            self.found.append(error)
        finally:
            self.went_on.set()

    def rows(self, to: int) -> Iterator[int]:
        try:
            yield from range(to)
        finally:
            self.went_on.set()


def test_the_program_in_a_circle(tree: ramet.Tree) -> None:
    node = tree.local()
    node.serve("source", Source, allow="anyone")
    tree.serve("program", Program(node), allow="anyone")
    for method in "call_down", "start_down", "start_and_look", "ask_back", "start_behind_another_lane", "start_asking":
        with pytest.raises(ramet.DeadlockError, match=f"lane main -> node 0, lane service program.{method} -> node"):
            node.call(remote_service_streams.ask, 0, "program", method)
    assert node.call(remote_service_streams.ask, 0, "program", "call_another_lane") == 1
    assert node.call(remote_service_streams.ask, 0, "program", "start_in_another_lane") == 1
    assert node.call(remote_service_streams.ask, 0, "program", "start_only") is False, "who doesn't wait is in no circle"
    assert node.call(remote_service_streams.ask, 0, "program", "find") == [], "its services have threads of their own"


# ---------------------------------------------------------------------- the program's own


def test_what_the_program_yields(tree: ramet.Tree) -> None:
    node = tree.local()
    program = Program(node)
    tree.serve("program", program, allow="subtree")
    assert node.call(remote_service_streams.read, 0, "program", "rows", 3_000)[0] == list(range(3_000))
    program.went_on.clear()
    call = node.options(lane="reads").start(remote_service_streams.read, 0, "program", "rows", 1 << 40)
    until(lambda: tree.stats()["messages_in"] > 100, "nothing comes")
    assert call.cancel() and program.went_on.wait(HANGS_S), "the generator is closed when its reader's call is cancelled"
    program.went_on.clear()
    node.options(lane="reads").start(remote_service_streams.read, 0, "program", "rows", 1 << 40)
    node.kill()
    until(lambda: not tree._core.pending, "the request is still looked after")


@pytest.mark.parametrize("how", ["cancelled", "timed out", "lost"])
def test_the_program_is_not_interrupted_but_what_it_has_called_is(tree: ramet.Tree, how: str) -> None:
    asker, worker = tree.local(), tree.local()
    program = Program(worker)
    tree.serve("program", program, allow="subtree")
    worker.options(lane="long").call(remote_service_streams.clear)      # what a call there needs is there: its time is short
    seconds = 3 if how == "timed out" else 600
    call = asker.options(lane="a").start(remote_service_streams.ask_within, seconds, 0, "program", "long")
    worker.call(remote_service_streams.wait_for, ["begun", "below"])
    if how == "cancelled":
        call.cancel()
    elif how == "lost":
        asker.kill()
    assert program.went_on.wait(HANGS_S)
    assert isinstance(program.found[0], ramet.CallCancelled | ramet.CallTimeout)
    worker.call(remote_service_streams.wait_for, ["ended", "below"])


def test_a_method_s_calls_have_the_time_that_its_asker_has_left(tree: ramet.Tree) -> None:
    middle = tree.local()
    below = middle.local()
    source = middle.serve("source", Source, allow="anyone")
    assert source.log() == []
    watch = below.options(lane="watch")

    def begun(seconds: float) -> bool:
        with pytest.raises(ramet.CallTimeout):
            middle.options(timeout=seconds).service("source").time_left(below.id)
        return ["begun", "below"] in watch.call(remote_streams.log)
    assert in_time(begun, bool, 0.5)
    watch.call(remote_service_streams.wait_for, ["ended", "below"])


# ---------------------------------------------------------------------- asynchronous methods


ASYNC = [label for label in EVERY if label != "2.7"]


@pytest.mark.parametrize("python", ASYNC)
def test_asynchronous_methods(tree: ramet.Tree, python: str) -> None:
    node = tree.local(python=needs.python(python))
    source = node.serve("source", remote_service_async.AsyncSource, allow="anyone")
    assert source.add(1, 2) == 3 and list(source.rows(2_000)) == list(range(2_000))
    assert source.count_loops() == 1
    with pytest.raises(KeyError, match="async"):
        source.fail()
    stream = source.fail_later()
    assert next(stream) == 1
    with pytest.raises(KeyError, match="async"):
        next(stream)
    with source.rows(1 << 40) as stream:
        assert next(stream) == 0
    node.call(remote_service_streams.wait_for, "end")
    call = source.for_ever.start()
    node.call(remote_service_streams.wait_for, "begun")
    assert call.cancel()
    node.call(remote_service_streams.wait_for, "ended")
    until(lambda: not node.stats()["ending"], "its end isn't told")
    assert node.call(remote_service_async.read, node.id, "source", 50) == list(range(50)), "by itself, in a coroutine"


class Served:
    """Served by a coroutine of the program."""

    def __init__(self) -> None:
        self.loops: set[Any] = set()

    async def add(self, a: int, b: int) -> int:
        self.loops.add(asyncio.get_running_loop())
        return a + b

    async def rows(self, to: int) -> AsyncIterator[int]:
        for n in range(to):
            await asyncio.sleep(0)
            yield n


def test_the_program_s_coroutines_run_on_its_own_loop() -> None:
    async def main() -> None:
        async with ramet.Tree() as tree:
            served, node = Served(), tree.local()
            tree.serve("served", served, allow="subtree")
            assert await node.start(remote_service_streams.ask, 0, "served", "add", 1, 2) == 3
            assert served.loops == {asyncio.get_running_loop()}
            got, _ = await node.start(remote_service_streams.read, 0, "served", "rows", 500)
            assert got == list(range(500))

    asyncio.run(main())


def test_a_coroutine_without_a_loop_is_told_so(tree: ramet.Tree) -> None:
    tree.serve("served", Served(), allow="subtree")
    said = tree.local().call(remote_service_streams.how_it_ends, 0, "served", "add", 1, 2)
    assert "served from a coroutine" in said[1]
    assert "served from a coroutine" in tree.nodes[0].call(remote_service_streams.how_it_ends, 0, "served", "rows", 1)[1]


def test_async_for_over_a_service(tree: ramet.Tree) -> None:
    source = tree.local().serve("source", Source, allow="ancestors")

    async def main() -> list[int]:
        return [n async for n in await source.rows.start(1_000)]

    assert asyncio.run(main()) == list(range(1_000))
