"""Races that real programs have met, each in the one order that did harm. Without processes."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ramet
from ramet import codec
from ramet.asking import Desk
from ramet.connecting import Connecting
from ramet.connectors import local
from ramet.display import Display
from ramet.inputs import Pulled
from ramet.kernel import compat, grow, importer, later, loop_late, native, nursery, running, spawn, staged, start, values
from ramet.kernel.core import HELLO, OUTPUT, Message
from ramet.kernel.errors import ClosedError, ConnectError, ModuleNotShippedError
from ramet.kernel.importer import ModuleCache
from ramet.kernel.loop import Loop
from ramet.kernel.streams import FAILS
from ramet.shelter import ShelteredCore


def raise_it(error: BaseException) -> None:
    raise error


# ---------------------------------------------------------------------- there is no room for a thread just then

def start_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")
    monkeypatch.setattr(threading.Thread, "start", fail)


def test_output_is_shown_though_its_thread_could_not_be_started_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """None was shown ever after, and who wrote more than 256 KiB over there waited for ever."""
    lines: list[str] = []
    nodes: Any = {7: SimpleNamespace(id=7, name="web")}
    display = Display(nodes, lambda *line: lines.append(line[2]), raise_it, lambda *_: None)
    one, two = (Message(7, 7, OUTPUT, 0, 0, None, b"".join(codec.encode([1, text]))) for text in (b"one\n", b"two\n"))
    with monkeypatch.context() as patched:
        start_fails(patched)
        with pytest.raises(RuntimeError):
            display.take(one)
    display.take(two)
    display.finish()
    assert lines == ["one", "two"]


def test_secrets_are_got_though_threads_could_not_be_started_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """After eight such failures nobody was asked any more."""
    desk, asked = Desk(SimpleNamespace()), threading.Event()  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        start_fails(patched)
        for _ in range(8):
            with pytest.raises(RuntimeError):
                desk._run(bool)
    assert not desk._threads
    desk._run(asked.set)
    assert asked.wait(60)


def test_an_iterator_that_gets_no_thread_fails_over_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked for its first item waited for ever."""
    ended: list[Any] = []
    pulled: Any = Pulled.__new__(Pulled)
    pulled.loop, pulled.lock, pulled.begun = None, threading.Lock(), False
    pulled.feed = SimpleNamespace(end=lambda how, _: ended.append(how))
    start_fails(monkeypatch)
    pulled._begin()
    assert ended == [FAILS]


# ---------------------------------------------------------------------- a call's callback asks for its result

def test_a_callback_of_a_call_has_its_result_whoever_reads_it() -> None:
    """It waited for ever in a thread that reads the reply while it waits for another call's."""
    core = SimpleNamespace(threads=SimpleNamespace(), loop=SimpleNamespace(thread=0), waiter=lambda: SimpleNamespace(thread=1),
                           routes=SimpleNamespace(link_to=lambda _: None), wait=lambda *_: pytest.fail("it waits"))
    call: ramet.Call[int] = ramet.Call(SimpleNamespace(id=1, name="n", _tree=SimpleNamespace(_core=core)), abs)  # type: ignore[arg-type]
    got: list[Any] = []
    call.add_done_callback(lambda done: got.extend([done.result(), done.exception(), call.outcome().value]))
    assert call._settle(7)
    assert got == [7, None, 7]


# ---------------------------------------------------------------------- several iterate over nodes that connect

def test_who_has_had_the_last_node_takes_away_nobody_elses_turn() -> None:
    """Who came next in the list was never told, and waited for ever."""
    connecting = Connecting(SimpleNamespace(), 1, None, None)  # type: ignore[arg-type]
    first_is_done = threading.Event()

    async def take() -> list[Any]:
        return [node async for node, _ in connecting]

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        soon, told = loop.call_soon_threadsafe, list[Any]()

        def tell_and_wait(*args: Any) -> None:
            told.append(args)
            soon(*args)
            first_is_done.wait()
        first, second = (loop.create_task(take()) for _ in range(2))
        first.add_done_callback(lambda _: first_is_done.set())
        await asyncio.sleep(0)
        loop.call_soon_threadsafe = tell_and_wait
        thread = threading.Thread(target=connecting._over, args=(0, "node", None))
        thread.start()
        assert await first == ["node"]
        while thread.is_alive():
            await asyncio.sleep(0.001)
        del loop.call_soon_threadsafe
        assert len(told) == 2
        assert await second == ["node"]
    asyncio.run(main())
# ---------------------------------------------------------------------- a level is set just as a node begins

def test_a_node_begins_while_another_thread_sets_its_loggers_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """RuntimeError: dictionary changed size during iteration. And the node that was begun never connected."""
    with ramet.Tree(remember=False) as tree:
        tree.set_log_level("INFO", "one")
        when_known = tree._gardener.when_known

        def set_meanwhile(*args: Any) -> None:
            monkeypatch.undo()
            when_known(*args)
            other = threading.Thread(target=tree.set_log_level, args=("INFO", "two"))
            other.start()
            other.join()
        monkeypatch.setattr(tree._gardener, "when_known", set_meanwhile)
        assert tree.local().call(abs, -1) == 1
# ---------------------------------------------------------------------- a call ends when nobody iterates any more

def test_a_call_that_ends_behind_its_event_loop_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A traceback was logged: the event loop is closed."""
    with ramet.Tree(remember=False) as tree:
        node = tree._gardener._new(None, local.plan())
        each = tree.each([node, node], abs, 1)
        each._calls[0]._settle(1)

        async def take_one() -> None:
            async for _ in each:
                break
        asyncio.run(take_one())
        each._calls[1]._settle(1)
    assert not caplog.records
# ---------------------------------------------------------------------- a node is given up just as it says HELLO

def a_node_and_its_hello(tree: Any) -> tuple[Any, Message]:
    node = tree._gardener._new(None, local.plan())
    return node, Message(node.id, node.id, HELLO, 0, 0, None, b"".join(codec.encode({})))


def test_a_node_that_says_hello_while_it_is_given_up_is_given_up() -> None:
    """InvalidStateError in the midst of it: its place at the gate stayed taken, and its process was left."""
    with ramet.Tree(remember=False) as tree:
        node, hello = a_node_and_its_hello(tree)
        tree._gardener.gates.enter(0, node.id, bool)
        connected: Any = node._state.connected
        fail = connected.set_exception

        def just_before(error: BaseException) -> None:
            tree._told.on_hello(hello)
            fail(error)
        connected.set_exception = just_before
        tree._gardener.give_up(node, ConnectError("late", "start"))
        assert isinstance(connected.exception(0), ConnectError)
        assert tree._gardener.gates.counts() == (0, 0)


def test_a_node_that_has_just_said_hello_is_not_given_up() -> None:
    """It was connected for who waited, and gone."""
    with ramet.Tree(remember=False) as tree:
        node, hello = a_node_and_its_hello(tree)
        tree._told.on_hello(hello)
        tree._gardener.give_up(node, ConnectError("late", "start"))
        assert node.wait(0) in tree.nodes


# ---------------------------------------------------------------------- a tree is closed while a thread waits

def test_who_waits_while_a_tree_lets_go_keeps_what_he_waits_with() -> None:
    """Its pipe was closed under it: IndexError in place of ClosedError, or another's descriptor."""
    loop = Loop(raise_it)
    core = ShelteredCore(0, [], loop)
    looked, go_on = threading.Event(), threading.Event()
    answers, found = [False, True, True], list[bool]()

    def ready() -> bool:
        looked.set()
        go_on.wait()
        return answers.pop(0)
    thread = threading.Thread(target=lambda: found.append(core.wait(ready, None)))
    thread.start()
    looked.wait()
    waiter = core.waiters[0]()
    loop_late.close(loop)
    core.let_go()
    waiter.wake()
    del waiter
    go_on.set()
    thread.join()
    assert found == [True] and not answers


def test_a_loop_that_is_closed_writes_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(raise_it)
    loop_late.close(loop)
    written: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr("ramet.kernel.loop.os.write", lambda fd, _: written.append(fd))
        loop.call_soon(bool)
    assert written == [-1]


def test_a_keeper_that_takes_its_time_gives_back_what_it_waits_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """``close`` waits a second for it; the rest stayed open for good."""
    held = threading.Event()
    stop = loop_late.stop

    def stop_later(loop: Loop) -> None:
        loop.call_soon(held.wait)
        stop(loop)
    monkeypatch.setattr(loop_late, "stop", stop_later)
    tree = ramet.Tree()
    tree.close()
    assert tree._loop.wake_r >= 0
    held.set()
    tree._keeper.join()
    assert tree._loop.wake_r == -1


# ---------------------------------------------------------------------- a template's modules may not be sent

def test_no_template_is_left_of_a_fork_that_may_not_have_its_modules() -> None:
    """One for each try was grown, and stayed as long as the tree."""
    with ramet.Tree(remember=False) as tree:
        tree.modules.forbid("support.remote")
        with pytest.raises(ModuleNotShippedError):
            tree.fork(preload=["support.remote"])
        assert not tree.nodes
@pytest.mark.parametrize("begin", [
    lambda node: node._tree.local()._state.connected, lambda node: node.raw(["true"]),
    lambda node: node._tree.connect_all(["local"], connector=None).nodes[0]._state.connected], ids=["node", "raw", "all"])
def test_what_begins_just_as_a_tree_is_closed_ends(begin: Callable[[Any], Any]) -> None:
    """Nobody told that it had ended: who waited for it waited for ever."""
    tree: Any = ramet.Tree(remember=False)
    node = tree.local()
    check = tree._check_open

    def closed_just_then() -> None:
        check()
        del tree._check_open
        tree.close()
    tree._check_open = closed_just_then
    assert isinstance(begin(node).exception(0), ClosedError)


# ---------------------------------------------------------------------- a child is ended just as it comes up

class Grown:
    """Stands for a growth: whoever aborts it comes too late, as when both are due in one turn of the keeper."""

    made: list[Any] = []    # noqa: RUF012

    def __init__(self, *args: Any) -> None:
        _, _, _, _, self.on_up, self.on_failed, _ = args
        self.steps: dict[str, float] = {}
        self.done: list[str] = []
        self.made.append(self)

    def start(self) -> None:
        self.done.append("started")

    def abort(self, reason: str) -> None:
        self.done.append("aborted")


class Process:
    """Stands for the child's."""

    def __init__(self, lent: bool = False) -> None:
        self.lent = lent
        self.killed = False
        self.pid = 1

    def poll(self) -> int | None:
        return 0

    def kill(self) -> None:
        self.killed = True

    def stderr_tail(self) -> str:
        return ""


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(grow, "Growth", Grown)
    monkeypatch.setattr(Grown, "made", [])
    loop = Loop(raise_it)
    core = ShelteredCore(0, [], loop)
    made = nursery.Nursery(core, ModuleCache(), {"source": b""})
    yield made, lambda: [loop.once() for _ in range(3) if loop.soon]
    loop_late.close(loop)


PLAN = {"name": "one", "shape": "socket", "what": "one"}


@pytest.mark.parametrize("lent", [False, True], ids=["grown", "attached"])
def test_a_child_that_comes_up_just_as_it_is_ended_is_ended(family: Any, lent: bool) -> None:
    """It lived on, and nobody knew: 2 of 60 trees that were closed while a node connected left a node behind."""
    made, turn = family
    link = made.grow(1, PLAN, b"", lambda _: None)
    turn()
    growth, process = Grown.made[0], Process(lent)
    made.end(1)
    turn()
    assert growth.done == ["started", "aborted"] and not link.dead
    near, far = compat.pipe()
    growth.on_up(process, near, far, b"")
    assert link.dead and process.killed is not lent, "who was kept before is kept"
    turn()
    assert made.children == {}


def test_a_child_that_comes_when_all_were_to_end_is_never_started(family: Any) -> None:
    made, turn = family
    over: list[bool] = []
    made.end_all(lambda: over.append(True))
    made.grow(1, PLAN, b"", lambda _: None)
    turn()
    assert Grown.made[0].done == ["aborted"]
    Grown.made[0].on_failed(ramet.ConnectError("it was closed while it connected"))
    turn()
    assert made.children == {} and over


def test_a_child_that_is_lost_while_a_thread_begins_another_is_told_of(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper met a dict that changed its size while it looked whose link it was: the loss was never told, calls hung."""
    made, turn = family
    lost: list[Any] = []
    made.losses.on_lost = lambda ids, _: lost.extend(ids)
    link = made.grow(1, PLAN, b"", lambda _: None)
    turn()
    near, far = compat.pipe()
    Grown.made[0].on_up(Process(), near, far, b"")

    class Slow(nursery.Child):
        """While its link is looked at, another thread begins a child."""

        def __getattribute__(self, name: str) -> Any:
            if name == "link" and 2 not in made.children:
                made.children[2] = nursery.Child(2, "two", None)
            return super().__getattribute__(name)
    made.children[1].__class__ = Slow
    link.close("its link was closed")
    turn()
    assert lost == [1] and list(made.children) == [2]
def test_a_child_that_is_ended_before_its_turn_comes(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread closed the node while it was about to be begun: the keeper said AttributeError, its route stayed."""
    made, turn = family
    soon = made.core.loop.call_soon

    def end_first(fn: Any, *args: Any) -> None:
        """The thread that grows it stops just here, and the keeper goes on."""
        if fn == made._begin:
            made.end(1)
            turn()
            Grown.made[0].on_failed(ramet.ConnectError("it was closed while it connected"))
            turn()
        soon(fn, *args)
    monkeypatch.setattr(made.core.loop, "call_soon", end_first)
    made.grow(1, PLAN, b"", lambda _: None)
    turn()
    assert Grown.made[0].done == ["aborted"] and made.children == {} and 1 not in made.core.routes.down
def test_a_command_that_is_given_up_before_it_begins_isnt_run(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree was closed while a thread was about to start a command: who waited heard so, and then the command ran."""
    made, turn = family
    monkeypatch.setattr(spawn, "Process", lambda *_: pytest.fail("it is started"))
    soon, said = made.core.loop.call_soon, list[Any]()

    def end_first(fn: Any, *args: Any) -> None:
        """The thread that starts it stops just here, and the keeper goes on."""
        if getattr(fn, "__name__", "") == "start":
            made.end_all(lambda: said.append("over"))
            turn()
        soon(fn, *args)
    monkeypatch.setattr(made.core.loop, "call_soon", end_first)
    plan = {**PLAN, "shape": "pipes", "argv": ["true"], "timeout_s": 5}
    made.run(1, plan, b"", None, 1, lambda error, _: said.append(str(error)), None)
    turn()
    assert len(said) == 2 and "it was closed" in said[0] and said[1] == "over"


def test_a_command_that_comes_when_all_were_to_end_isnt_run(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, turn = family
    monkeypatch.setattr(spawn, "Process", lambda *_: pytest.fail("it is started"))
    made.end_all(bool)
    said: list[str] = []
    made.run(1, {**PLAN, "shape": "pipes", "argv": ["true"], "timeout_s": 5}, b"", None, 1,
             lambda error, _: said.append(str(error)), None)
    turn()
    assert said and made.runs == {}
# ---------------------------------------------------------------------- a program's group has ended

def test_the_guardian_is_told_once_that_a_group_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's thread and the keeper looked at the same time. The second word meant that the group is to be killed with the
    node, whoever has its number then."""
    told: list[int] = []
    looks = [running.look_after]

    def gone(_: int) -> bool:
        """Another thread does the same just here."""
        if looks:
            looks.pop()()
        return False
    monkeypatch.setattr(running, "is_there", gone)
    monkeypatch.setattr(running, "LEFT", {4711})
    monkeypatch.setattr(running.ending, "tell_guardian", told.append)
    running.look_after()
    assert told == [4711] and not running.LEFT
# ---------------------------------------------------------------------- a package couldn't be written

def test_a_package_that_couldnt_be_written_spoils_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its folder was there then, and the next one should have had the same: FileExistsError, for all packages, for good."""
    files: dict[str, Any] = {"full": [["../full.py", b"", None, ""]], "good": [["good.py", b"WORD = 1", None, ""]]}
    finder = importer.Finder(ModuleCache(), pytest.fail, False)  # type: ignore[arg-type]
    for name, its in files.items():
        data = b"".join(map(bytes, values.encode(its)))
        finder.cache.records[native.NATIVE_FORM, staged.STAGED + name] = [name, 0, "", data]
    monkeypatch.setattr("sys.meta_path", [*sys.meta_path, finder])
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr(staged, "_home", [str(tmp_path)])
    monkeypatch.setattr(staged, "_folders", {})
    for _ in range(2):
        with pytest.raises(ramet.ModuleNotShippedError, match="can't be written here"):
            staged.put("full", False, 1)
    assert staged.put("good", False, 1).origin.endswith("/good.py")


# ---------------------------------------------------------------------- the first idle moment

def test_a_node_gives_its_link_back_before_it_imports_its_second_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """2.7 has one lock for imports: another lane held it, and waited for a module that only the main lane could have read."""
    done: list[str] = []
    node = start.Self.__new__(start.Self)
    parent = SimpleNamespace(give_back=lambda waiter: done.append(f"gave back {waiter}"))
    node.calls = SimpleNamespace(on_idle=None, waiter="the link")  # type: ignore[assignment]
    node.core = SimpleNamespace(wait=lambda *_: done.append("waited"))  # type: ignore[assignment]
    monkeypatch.setattr(later, "begin", lambda _: done.append("began"))
    node.on_idle(parent)
    assert done == ["waited", "gave back the link", "began"]
