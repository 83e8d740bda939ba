"""Nodes that begin, connect or end just as something else happens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

import ramet
from ramet import codec
from ramet.asking import Desk
from ramet.bootstrap import packing
from ramet.connecting import Connecting
from ramet.connectors import local
from ramet.kernel import compat, grow, loop_late, nursery, spawn
from ramet.kernel.core import HELLO, Message
from ramet.kernel.errors import ClosedError, ConnectError, ModuleNotShippedError
from ramet.kernel.importer import ModuleCache
from ramet.kernel.loop import Loop
from ramet.listening import Listening
from ramet.shelter import ShelteredCore
from support.eventually import HANGS_S, until

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


# ---------------------------------------------------------------------- a node is given up just as it says HELLO

def test_who_sets_a_level_last_is_heard_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """What two threads set at once came the other way round: the node kept the older level."""
    node: Any = SimpleNamespace(_levels={"": 20})
    tree: Any = SimpleNamespace(_levels={"": 20}, nodes=[node])
    tree._gardener = SimpleNamespace(lock=threading.Lock(), when_known=lambda node, send, dead: send())
    ours = Listening(tree)
    other = threading.Thread(target=ours.set_level, args=(tree, "DEBUG", "x"))
    told: list[int] = []

    def tell(_: Any, handle: int, value: list[Any]) -> None:
        if not other.ident:
            other.start()
            other.join(0.3)     # it waits for its turn; if it doesn't, it is done by then, most likely
        told.append(value[0])
    monkeypatch.setattr(ours, "_tell", tell)
    ours.set_level(tree, "ERROR", "x")
    other.join()
    assert told[-1] == node._levels["x"] == 10


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


# ---------------------------------------------------------------------- another thread learns of its interpreter, too

def test_what_was_held_for_a_node_is_sent_in_order_whoever_else_learns_of_its_interpreter() -> None:
    """The keeper sent what was held, another thread read that the node had grown: what came then overtook the rest."""
    with ramet.Tree(remember=False) as tree:
        gardener, sent = tree._gardener, list[int]()
        node = gardener._new(None, local.plan())

        def first() -> None:
            other = threading.Thread(target=gardener.known, args=(node, "source"))
            other.start()
            other.join()
            gardener.when_known(node, lambda: sent.append(3), bool)
            sent.append(1)
        gardener.when_known(node, first, bool)
        gardener.when_known(node, lambda: sent.append(2), bool)
        gardener.known(node, "source")
        assert sent == [1, 2, 3]


# ---------------------------------------------------------------------- several iterate over nodes that connect

def test_who_has_had_the_last_node_takes_away_nobody_elses_turn() -> None:
    """Who came next in the list was never told, and waited for ever."""
    connecting = Connecting(SimpleNamespace(_core=SimpleNamespace(check_here=lambda: None)), 1, None, None)  # type: ignore[arg-type]
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


# ---------------------------------------------------------------------- it ends just as it gets its place, or a signal comes

def test_a_node_that_is_closed_just_before_it_has_a_place_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with ramet.Tree(connecting_max=1, remember=False) as tree:
        gates = tree._gardener.gates
        enter = gates.enter

        def closed_first(grower: int, node: int, start: Callable[[], None]) -> None:
            tree._gardener.gone(tree._nodes[node], "it was closed")
            enter(grower, node, start)
        monkeypatch.setattr(gates, "enter", closed_first)
        tree.local()
        monkeypatch.undo()
        assert gates.counts() == (0, 0)
        assert tree.local().call(abs, -1) == 1


@pytest.mark.parametrize("grow", [lambda tree: tree.connect_all(["local:"], None), lambda tree: tree.fork()])
def test_a_node_that_is_begun_when_ctrl_c_comes_begins(grow: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It took a place among those that connect, for ever."""
    with ramet.Tree(remember=False) as tree:
        tree.fork().wait(HANGS_S)       # so that there is a template
        new = tree._gardener._new

        def interrupted(*args: Any) -> Any:
            node = new(*args)
            signal.raise_signal(signal.SIGINT)
            return node
        monkeypatch.setattr(tree._gardener, "_new", interrupted)
        with pytest.raises(KeyboardInterrupt):
            grow(tree)
        assert tree.nodes[-1].wait(HANGS_S).call(abs, -1) == 1
        assert tree._gardener.gates.counts() == (0, 0)


# ---------------------------------------------------------------------- the time is up while nodes are still being added

class Connects:
    """Stands for a node that does so for ever."""

    what = "local"

    def __init__(self) -> None:
        self._state = SimpleNamespace(connected=Future(), last_error=None, waits=True)


def test_a_node_that_is_added_when_the_time_is_up_is_given_up() -> None:
    """The time bounded only those that had been added by then."""
    tree: Any = SimpleNamespace(
        _loop=SimpleNamespace(call_later=lambda *_: SimpleNamespace(cancel=bool)),
        _gardener=SimpleNamespace(give_up=lambda node, error: node._state.connected.set_exception(error)))
    connecting = Connecting(tree, 2, 1.0, None)
    first, second = Connects(), Connects()
    connecting._add(0, first)  # type: ignore[arg-type]
    connecting._too_late(1.0)
    connecting._add(1, second)  # type: ignore[arg-type]
    assert connecting.result(0) == [] and list(connecting.errors) == [first, second]


# ---------------------------------------------------------------------- what grows ends just as it asks for a secret

def test_a_question_that_comes_just_as_its_node_is_settled_holds_up_nobody() -> None:
    """It got the answer on trial, and nobody said what came of it: all others waited until their time was up."""
    desk, secret = Desk(SimpleNamespace()), ramet.Secret.ask("password?", how=lambda _: "abc")  # type: ignore[arg-type]
    group: Any = secret._group
    want = group.want
    plan = {"what": "ssh web", "name": "web", "secrets": {"p": secret}, "rules": [{"secret": "p"}]}

    def settled_just_then(question: Any) -> Any:
        group.want = want
        desk.settle(1)
        return want(question)
    group.want = settled_just_then
    for id in 1, 2:
        desk.open(id, 0, plan)
    got: list[Any] = []
    for id in 1, 2:
        desk.asker(id)("p", 1, "", lambda value, why, id=id: got.append((id, value)))    # type: ignore[misc]
        for thread in list(desk._threads):
            thread.join()
    assert (2, bytearray(b"abc")) in got


# ---------------------------------------------------------------------- no descriptor is left to read the kernel's parts by

def fail_to_open(*_: Any) -> None:
    raise OSError(24, "Too many open files")


def test_a_call_that_was_held_fails_if_what_it_needs_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited for it waited for ever."""
    with ramet.Tree(remember=False) as tree:
        node = tree._gardener._new(None, local.plan())
        call = node.start(len, bytes(500_000))
        monkeypatch.setattr(tree._shipper, "before_long", fail_to_open)
        tree._gardener.known(node, "source")
        with pytest.raises(OSError, match="Too many open files"):
            call.result(0)
        assert node.stats()["calls"] == 0


def test_a_node_that_another_one_cannot_grow_for_want_of_descriptors_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It connected for ever, and its place at the gate was taken for good."""
    with ramet.Tree(remember=False) as tree:
        parent = tree._gardener._new(None, local.plan())
        parent._state.open = True
        monkeypatch.setattr(tree._shipper, "kernel_parts", fail_to_open)
        with pytest.raises(ConnectError, match="Too many open files"):
            parent.local().wait(0)
        assert tree._gardener.gates.counts() == (0, 0)


def test_a_node_that_another_one_cannot_grow_since_the_kernel_cannot_be_read_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, where all else is there: a fork, which begins with what its template has."""
    with ramet.Tree(remember=False) as tree:
        parent = tree._gardener._new(None, local.plan())
        parent._state.open = True
        monkeypatch.setattr(packing, "payload", fail_to_open)
        with pytest.raises(ConnectError, match="Too many open files"):
            parent.local().wait(0)
        assert tree._gardener.gates.counts() == (0, 0)
        assert not parent._state.payloads


def test_what_attaches_is_there_before_a_node_is_begun() -> None:
    """The first attach of a program without descriptors left a node that connected for ever."""
    program = """if True:
        import sys
        import ramet, ramet.connectors.attach
        plan = ramet.connectors.attach.plan("nobody-is-there")
        with ramet.Tree(remember=False) as tree:
            class Unreadable:
                def find_spec(name, path=None, target=None):
                    if name.startswith("ramet."):
                        raise ImportError("Too many open files: " + name)
            sys.meta_path.insert(0, Unreadable)
            try:
                tree.grow(lambda: plan).wait()
            except ramet.ConnectError as error:
                assert "Too many" not in str(error), error
            assert not tree.nodes
    """
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=True)


def test_a_spread_goes_on_though_a_host_can_not_even_be_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody was told of it: who waited for the spread waited for ever, also when the tree was closed."""
    with ramet.Tree(remember=False) as tree:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        spread = tree.spread(["local:"] * 3, None)
        assert spread.result(HANGS_S) == []
        assert ["frozen" in str(error) for error in spread.errors.values()] == [True] * 3
        assert not tree.nodes


# ---------------------------------------------------------------------- a template's modules may not be sent

def test_no_template_is_left_of_a_fork_that_may_not_have_its_modules() -> None:
    """One for each try was grown, and stayed as long as the tree."""
    with ramet.Tree(remember=False) as tree:
        tree.modules.forbid("support.remote")
        with pytest.raises(ModuleNotShippedError):
            tree.fork(preload=["support.remote"])
        assert not tree.nodes


# ---------------------------------------------------------------------- a tree is closed just then

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


def test_a_spread_is_told_of_a_node_that_ends_just_as_the_tree_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was left to the keeper, which had ended by then: who waited for the rest waited for ever."""
    tree: Any = ramet.Tree(remember=False, connecting_max=1)
    tree._gardener.gates.enter(0, -1, bool)     # somebody else, who holds up all others
    spread: Any = tree.spread(["one", "two"], connector=lambda _: local.plan(), fanout=2)
    until(lambda: len(spread.nodes) == 2, "they aren't dealt out")
    soon = spread._soon

    def closed_just_then(*what: Any) -> None:
        tree.close()
        soon(*what)
    monkeypatch.setattr(spread, "_soon", closed_just_then)
    spread.nodes[0].close()
    assert spread.result(0) == [] and sorted(map(type, spread.errors.values()), key=str) == [ClosedError, ClosedError]


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


def raise_it(error: BaseException) -> None:
    raise error


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


def test_a_command_whose_plan_cannot_be_read_fails(family: Any) -> None:
    """A pattern that the node's Python doesn't take, though the program's does: who waited for the command waited for ever."""
    made, turn = family
    said: list[str] = []
    plan = {**PLAN, "shape": "pipes", "argv": ["true"], "timeout_s": 5, "rules": [{"match": "x(", "do": "fail"}]}
    made.run(1, plan, b"", None, 1, lambda error, _: said.append(str(error)), None)
    turn()
    assert "no usable pattern" in said[0] and made.runs == {}
