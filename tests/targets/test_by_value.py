"""Code that travels by value: lambdas, inner functions and classes, what is typed in; to nodes of every kind, and never up."""
from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import dataclasses
import enum
import functools
import gc
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet.modules import by_value, pickling
from support import needs, remote, remote_classes, remote_code
from support.eventually import until

ELSEWHERE = ["2.7", "3.6", "3.8", "3.13"]
FACTOR = 3


@pytest.fixture(scope="module")
def grown() -> Iterator[ramet.Tree]:
    shown = threading.Event()
    with ramet.Tree(on_output=lambda *_: shown.set()) as tree:
        # What a thread holds that waits for a call is there from now on; and the thread that shows output: 2.7 has some.
        assert tree.local().call(os.write, 1, b"here\n") == 5
        assert shown.wait(60)
        yield tree


@pytest.fixture(scope="module")
def same(grown: ramet.Tree) -> ramet.Node:
    return grown.local().wait(60)


@pytest.fixture(scope="module", params=["same", *ELSEWHERE])
def anywhere(request: pytest.FixtureRequest, grown: ramet.Tree) -> ramet.Node:
    """A node that takes our bytecode, and ones that don't."""
    if request.param == "same":
        return grown.local().wait(60)
    return grown.local(python=needs.python(request.param)).wait(60)


# ---------------------------------------------------------------------- functions, on every Python


def test_a_lambda(anywhere: ramet.Node) -> None:
    assert anywhere.call(lambda: 1) == 1
    assert anywhere.call(lambda number, base=40: base + number, 2) == 42
    pid = anywhere.start(lambda: os.getpid()).result(60)
    assert pid == anywhere.facts["pid"]


def test_what_is_around_it_comes_along(anywhere: ramet.Node) -> None:
    name, big = "wörld", 1 << 80
    assert anywhere.call(lambda: ("hello " + name, big, FACTOR)) == ("hello wörld", big, 3)
    paths = [anywhere.call(lambda: os.path.join("a", str(number))) for number in range(3)]
    assert paths == ["a/0", "a/1", "a/2"]
    late = [lambda: number for number in range(3)]
    assert [anywhere.call(fn) for fn in late] == [2, 2, 2]


def test_several_on_a_line(anywhere: ramet.Node) -> None:
    fns = [lambda x: x + 1, lambda x: x * 2, lambda x: x + 2]     # fmt: skip
    assert [anywhere.call(fn, 5) for fn in fns] == [6, 10, 7]
    many = (lambda x:
            x +
            """a text
  of two lines""", lambda: 1)  # fmt: skip
    assert anywhere.call(many[0], ">") == ">a text\n  of two lines"


def test_inner_functions_that_use_each_other(anywhere: ramet.Node) -> None:
    def even(n: int) -> Any:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> Any:
        return n != 0 and even(n - 1)

    def factorial(n):       # type: ignore[no-untyped-def]
        return n * factorial(n - 1) if n else 1

    if anywhere.facts["version"].startswith("2"):
        # annotations are no syntax of 2.7, wherever they stand
        with pytest.raises(ramet.ValueNotPortableError, match="SyntaxError: invalid syntax"):
            anywhere.call(even, 10)
    else:
        assert anywhere.call(even, 10) is True and anywhere.call(odd, 10) is False
    assert anywhere.call(factorial, 10) == 3628800


def test_functions_as_arguments(anywhere: ramet.Node) -> None:
    assert anywhere.call(remote_code.apply, lambda x: x + 1, 3) == 4
    assert anywhere.call(remote_code.apply, remote.add, 3) == 3
    assert anywhere.call(remote_code.apply, len, "abc") == 3
    assert anywhere.call(lambda fns, x: [fn(x) for fn in fns], [abs, lambda x: x - 1, str], -3) == [3, -4, "-3"]
    assert anywhere.call(functools.partial(lambda a, b: a * b, 3), 4) == 12
    assert anywhere.call(functools.partial(remote_code.apply, lambda x: x + 1), 4) == 5


def test_decorated(anywhere: ramet.Node) -> None:
    def twice(fn):      # type: ignore[no-untyped-def]
        @functools.wraps(fn)
        def wrapper(*args):     # type: ignore[no-untyped-def]
            return fn(fn(*args))
        return wrapper

    @twice
    def more(x):        # type: ignore[no-untyped-def]
        """Docs."""
        return x + 1

    assert anywhere.call(more, 1) == 3
    assert anywhere.call(lambda: (more.__name__, more.__doc__)) == ("more", "Docs.")


def test_what_it_captured_is_a_copy(anywhere: ramet.Node) -> None:
    seen: list[int] = []

    def note(n):        # type: ignore[no-untyped-def]
        seen.append(n)
        return seen

    assert [anywhere.call(note, n) for n in (1, 2)] == [[1], [2]] and seen == []
    seen.append(0)
    assert anywhere.call(note, 3) == [0, 3]


def test_imports_inside(anywhere: ramet.Node) -> None:
    def work():     # type: ignore[no-untyped-def]
        import base64
        import xml.dom.minidom

        from support import remote_part
        return remote_part.answer(), base64.b64decode("YQ==").decode(), xml.dom.minidom.Node.ELEMENT_NODE

    requests = anywhere._tree.stats()["module_requests"]
    assert anywhere.call(work) == (remote_part_answer(), "a", 1)
    assert anywhere._tree.stats()["module_requests"] == requests


def remote_part_answer() -> Any:
    from support import remote_part
    return remote_part.answer()


def test_kept_by_the_node(anywhere: ramet.Node) -> None:
    """The third call of a function sends no more than its name."""
    filler = "x" * 5000

    def long(n):        # type: ignore[no-untyped-def]
        return len(filler) + n

    sizes = []
    for n in range(5):
        before = anywhere._tree.stats()["bytes_out"]
        assert anywhere.call(long, n) == 5000 + n
        sizes.append(anywhere._tree.stats()["bytes_out"] - before)
    assert min(sizes[:2]) > 5000 and max(sizes[2:]) < 400, sizes


def test_errors_of_it(anywhere: ramet.Node) -> None:
    def fail(x):        # type: ignore[no-untyped-def]
        raise KeyError(x)

    with pytest.raises(KeyError) as caught:
        anywhere.call(fail, "x")
    assert "raise KeyError(x)" in caught.value.traceback_text       # type: ignore[attr-defined]
    assert f'test_by_value.py", line {fail.__code__.co_firstlineno + 1}, in fail' in caught.value.traceback_text  # type: ignore[attr-defined]


def test_what_has_no_source_goes_to_the_same_bytecode_only(tree: ramet.Tree, same: ramet.Node) -> None:
    space: dict[str, Any] = {}
    exec("def typed(x): return x + 1\nclass Typed: pass", space)
    assert same.call(space["typed"], 1) == 2
    old = tree.local(python=needs.python("3.8"))
    with pytest.raises(ramet.ValueNotPortableError, match="typed can't go to another Python than .*its source isn't"):
        old.call(space["typed"], 1)
    old.wait(60)
    with pytest.raises(ramet.ValueNotPortableError, match="typed can't go to another Python than .*its source isn't"):
        old.call(space["typed"], 1)
    with pytest.raises(ramet.ValueNotPortableError, match="Typed can't go to another Python than .*its source isn't known"):
        old.call(space["Typed"])
    assert old.call(remote.add, 1) == 1


def test_captured_by_source_it_is_named(tree: ramet.Tree) -> None:
    node = tree.local(python=needs.python("3.8")).wait(60)
    lock = threading.Lock()
    with pytest.raises(ramet.ValueNotPortableError, match="closure variable 'lock' of <lambda>: a _thread.lock can't travel"):
        node.call(lambda: lock)
    fns = [lambda: 1, lambda: 1]        # alike, so either will do
    assert node.call(fns[1]) == 1


def test_source_that_was_edited_is_not_taken(tree: ramet.Tree, tmp_path: Path) -> None:
    node = tree.local(python=needs.python("3.8")).wait(60)
    file = tmp_path / "edited.py"
    file.write_text("work = lambda: 'old'\n")
    space: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)
    file.write_text("work = lambda: 'new'\n")
    with pytest.raises(ramet.ValueNotPortableError, match="isn't in .*edited.py, line 1, any more"):
        node.call(space["work"])


def test_what_only_looks_like_the_end_of_a_line(tree: ramet.Tree, tmp_path: Path) -> None:
    """A form feed, and what else ``splitlines`` takes for one: the parser counts them not."""
    node = tree.local(python=needs.python("3.8")).wait(60)
    file = tmp_path / "paged.py"
    file.write_text("\f\n# \u2028 \x85\nODD = '\x1c\v\u2029'\n\f\ndef outer():\n    x = 3\n    return lambda: x\n\n"
                    "def other():\n    class Mine(object):\n        def get(self):\n            return 7\n"
                    "    return lambda: Mine().get()\n", encoding="utf-8")  # fmt: skip
    space: dict[str, Any] = {"__name__": "paged"}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), space)
    assert node.call(space["outer"]()) == 3 and node.call(space["other"]()) == 7


# ---------------------------------------------------------------------- the same bytecode: all the rest


def test_classes_of_a_function(same: ramet.Node) -> None:
    @dataclasses.dataclass
    class Point:
        x: int

        def plus(self, n: int) -> Point:
            return Point(self.x + n)

        @classmethod
        def made(cls) -> Point:
            return cls(7)

    class Colour(enum.Enum):
        RED = 1

    Pair = collections.namedtuple("Pair", "a b")

    class LocalError(Exception):
        pass

    class Counter:
        def __init__(self) -> None:
            self.n = 1

        def more(self) -> int:
            self.n += 1
            return self.n

        def __call__(self) -> int:
            return -self.n

    point = same.call(Point, 3)
    assert type(point) is Point and point == Point(3)
    assert same.call(point.plus, 4) == Point(7) and same.call(Point.made) == Point(7)
    assert same.call(remote.echo, Colour.RED) is Colour.RED
    pair = same.call(lambda: Pair(1, Colour.RED))
    assert type(pair) is Pair and pair.b is Colour.RED
    error = same.call(lambda: LocalError("x", point))
    assert type(error) is LocalError and error.args == ("x", point)
    with pytest.raises(ramet.RemoteError, match="x") as caught:
        same.call(lambda: (_ for _ in ()).throw(LocalError("x")))
    assert "LocalError" in caught.value.type_name
    counter = Counter()
    assert [same.call(counter.more), same.call(counter.more), same.call(counter)] == [2, 2, -1]
    with pytest.raises(ramet.ValueNotPortableError, match="Counter can't travel"):
        same.call(lambda: counter)
    assert same.call(lambda one, other: type(one) is type(other), point, Point(1)) is True


def test_through_another_node(tree: ramet.Tree) -> None:
    @dataclasses.dataclass
    class Point:
        x: int

    grandchild = tree.local().local()
    assert type(grandchild.call(remote.echo, Point(1))) is Point        # both forms were sent: its Python isn't known yet
    grandchild.wait(60)
    assert [type(grandchild.call(Point, n)) for n in range(4)] == [Point] * 4
    requests = tree.stats()["module_requests"]
    assert tree.local(python=needs.python("2.7")).local().call(lambda x: x + FACTOR, 1) == 4
    assert tree.stats()["module_requests"] == requests


def test_two_classes_of_one_name_stay_apart(same: ramet.Node) -> None:
    def make() -> Any:
        @dataclasses.dataclass
        class Same:
            x: int
        return Same

    one, other = make(), make()
    assert type(same.call(one, 1)) is one and type(same.call(other, 1)) is other
    assert type(same.call(remote.echo, one(1))) is one


def test_classes_of_modules_stay_what_they_are(same: ramet.Node) -> None:
    there = same.call(lambda: remote_classes.Point(1))
    assert type(there) is remote_classes.Point
    import shutil
    assert same.call(lambda usage: type(usage) is type(shutil.disk_usage("/")), shutil.disk_usage("/")) is True


def test_coroutines_and_generators(tree: ramet.Tree) -> None:
    same = tree.local()

    async def sleepy(n: int) -> int:
        await asyncio.sleep(0)
        return n + FACTOR

    assert same.call(sleepy, 1) == 4
    assert same.call(lambda: list(itertools.islice((x * x for x in itertools.count()), 3))) == [0, 1, 4]
    assert tree.stats()["module_requests"] == 0


def test_a_cached_function(same: ramet.Node) -> None:
    @functools.cache
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert same.call(fibonacci, 80) == 23416728348467685
    assert same.call(lambda: fibonacci(60)) == 1548008755920


def test_state_of_a_function_starts_anew_each_time(same: ramet.Node) -> None:
    def counter() -> Callable[[], int]:
        n = 0

        def count() -> int:
            nonlocal n
            n += 1
            return n
        return count

    count = counter()
    assert [same.call(count) for _ in range(4)] == [1, 1, 1, 1]
    count()
    assert same.call(count) == 2


def test_what_changed_between_calls_is_seen(same: ramet.Node) -> None:
    global FACTOR
    limit = 1

    def inner() -> int:
        return limit

    def work(n: int = 1) -> Any:
        return n, inner(), FACTOR

    try:
        assert [same.call(work) for _ in range(3)] == [(1, 1, 3)] * 3
        limit = 2
        assert same.call(work) == (1, 2, 3)
        FACTOR = 4
        assert same.call(work) == (1, 2, 4)
        work.__defaults__ = (5,)
        assert same.call(work) == (5, 2, 4)
        inner = lambda: 9  # noqa: E731
        assert same.call(work) == (5, 9, 4)
    finally:
        FACTOR = 3


def test_no_request_and_no_second_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ahead of the call go parts of the kernel, cloudpickle, the modules that a pickle names. Many calls, one snapshot."""
    made: list[str] = []
    dump, snapshot = pickling.dump, by_value.Snapshot
    monkeypatch.setattr(pickling, "dump", lambda *args: made.append("pickle") or dump(*args))
    monkeypatch.setattr(by_value, "Snapshot", lambda *args: made.append("snapshot") or snapshot(*args))
    held = [remote_classes.Point(FACTOR)]
    with ramet.Tree() as tree:
        node = tree.local()
        assert node.call(lambda n: (n, held[0].x, FACTOR), 1) == (1, 3, 3)
        assert tree._shipper.requests == 0
        node.wait(60)
        del made[:]
        sent = tree.stats()["bytes_out"]
        assert list(tree.map(lambda x: x * FACTOR, range(2000), [node])) == [x * 3 for x in range(2000)]
        assert made == ["snapshot"]
        assert (tree.stats()["bytes_out"] - sent) / 2000 < 160
        assert tree._shipper.requests == 0


def test_threads_that_call_the_same(same: ramet.Node) -> None:
    """A node is told to take what it keeps only when that has been sent: not while another thread is about to."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for number in range(60):
                def work(answer: int = number) -> int:
                    return answer
                calls = [pool.submit(same.call, work) for _ in range(18)]
                assert {call.result() for call in calls} == {number}
    finally:
        sys.setswitchinterval(interval)


def test_a_call_that_was_refused_leaves_nothing_behind(tree: ramet.Tree) -> None:
    """The second time it would be kept over there; but then a module that it needs may not go."""
    def work() -> int:
        return int(remote.add(1))
    node = tree.local().wait(60)
    assert node.call(work) == 1
    tree.modules.forbid("support.remote")
    for _ in range(3):
        with pytest.raises(ramet.ModuleNotShippedError, match="forbids"):
            node.call(work)


def test_a_node_keeps_no_more_than_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_value, "KEPT_MAX", 2)
    monkeypatch.setattr(by_value, "SEEN_MAX", 4)
    fns = [eval(f"lambda: {n}") for n in range(8)]
    with ramet.Tree() as tree:
        node = tree.local().wait(60)
        for _ in range(3):
            for fn in fns[:2]:
                node.call(fn)
        assert [node.call(fn) for fn in fns * 3] == list(range(8)) * 3
        records = node.call(remote_code.kept_records)
        assert len(records) == 2 and all(name.startswith("value:") for name in records)
        assert len(node._state.context._seen) <= 5


def test_functions_are_not_kept_alive_here(same: ramet.Node) -> None:
    def recursive(n: int) -> int:
        return recursive(n - 1) if n else 0     # noqa: F821

    assert same.call(recursive, 3) == 0
    gone = weakref.ref(recursive)
    del recursive
    until(lambda: gc.collect() >= 0 and gone() is None, "it is kept alive")


@pytest.mark.parametrize(("captured", "said"), [
    (lambda tree: open(os.devnull), "an open file can't travel: open it over there"),
    (lambda tree: threading.Lock(), "a lock can't travel"),
    (lambda tree: (n for n in ()), "a generator can't travel"),
    (lambda tree: tree, "a Tree can't travel"),
    (lambda tree: tree.nodes[0], "a Node can't travel"),
    (lambda tree: tree.nodes[0].start(os.getpid), "a Call can't travel"),
], ids=["file", "lock", "generator", "tree", "node", "call"])
def test_who_is_to_blame(grown: ramet.Tree, same: ramet.Node, captured: Callable[[ramet.Tree], Any], said: str) -> None:
    culprit = captured(grown)
    try:
        with pytest.raises(ramet.ValueNotPortableError, match="the function: closure variable 'culprit' of <lambda>: " + said):
            same.call(lambda: culprit)
        with pytest.raises(ramet.ValueNotPortableError, match=r"arguments\[0\]\[1\]: .*closure variable 'culprit' of <lambda>"):
            same.call(remote.echo, [1, lambda: culprit])
        holder = [1, {"a": culprit}]
        with pytest.raises(ramet.ValueNotPortableError, match="item 'a' in item 1 in closure variable 'holder' of .*" + said):
            same.start(lambda: holder)
        with pytest.raises(ramet.ValueNotPortableError, match="'culprit' of inner"):
            inner = (lambda culprit: lambda: culprit)(culprit)
            inner.__qualname__ = "x.inner"
            same.cast(lambda: inner)
    finally:
        getattr(culprit, "close", bool)() if not isinstance(culprit, ramet.Tree) else None
    assert same.call(remote.add, 1) == 1


def test_an_exec_ed_module_goes_by_value(same: ramet.Node, monkeypatch: pytest.MonkeyPatch) -> None:
    import types
    module = types.ModuleType("made_while_running")
    monkeypatch.setitem(sys.modules, "made_while_running", module)
    exec("import dataclasses\ndef work(x): return helper(x) + 1\ndef helper(x): return x * 2\n"
         "@dataclasses.dataclass\nclass Made:\n    x: int\n", module.__dict__)
    assert same.call(module.work, 3) == 7
    assert type(same.call(module.Made, 3)) is module.Made


# ---------------------------------------------------------------------- never up


@pytest.mark.parametrize("items", [
    ["name", "os:getpid"], ["kept", "value:00", True], ["pickle", "cp311", b"PICKLE"], ["pickle", "source", b"PICKLE"],
    ["functions", "source", b"\x93\x90\x90\x90"], [], [1, 2, 3],
], ids=["name", "kept", "pickle", "any", "functions", "nothing", "odd"])  # fmt: skip
@pytest.mark.parametrize("python", ["same", "2.7"])
def test_code_from_below_is_refused_unread(tree: ramet.Tree, tmp_path: Path, items: list[Any], python: str) -> None:
    """A hostile node: it answers with what would be code. A pickle would write a file."""
    node = tree.local(**({} if python == "same" else {"python": needs.python(python)}))
    proof = tmp_path / "loaded"
    with pytest.raises(ramet.ValueNotPortableError, match="code came from below or beside: refused unread"):
        node.call(remote_code.answer_with_code, items, str(proof))
    with pytest.raises(ramet.ValueNotPortableError, match="refused unread"):
        node.call(remote_code.answer_with_code, items, str(proof), True)
    assert not proof.exists()
    assert node.call(remote.add, 1) == 1 and tree.local().call(lambda: 2) == 2


def test_results_that_are_code(same: ramet.Node) -> None:
    for make in (lambda: (lambda: 1), lambda: len, lambda: dict, lambda: remote):
        with pytest.raises(ramet.ValueNotPortableError, match="result"):
            same.call(make)


def test_a_number_of_a_class_that_was_never_sent(same: ramet.Node) -> None:
    with pytest.raises(ramet.ValueNotPortableError, match="that this program didn't send, or that is gone"):
        same.call(remote_code.instance_of_class, "12345678")
