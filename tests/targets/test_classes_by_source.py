"""Classes of functions, and instances of them, in nodes of another Python: they travel as source."""
from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import os
import subprocess
import sys
import typing
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import ramet
from ramet.kernel import values
from ramet.modules import class_source, snapshot
from support import needs, remote, remote_code
from support.remote_classes import Colour  # which goes by name
from support.source import TOP

FACTOR = 3
NODES = ["3.9", "3.13"]


@pytest.fixture(scope="module")
def grown() -> Iterator[ramet.Tree]:
    with ramet.Tree() as tree:
        tree.local().call(remote.add, 1)
        yield tree


@pytest.fixture(scope="module", params=NODES)
def node(request: pytest.FixtureRequest, grown: ramet.Tree) -> ramet.Node:
    """One that is modern, and takes no bytecode of ours."""
    return other(grown, request.param)


@pytest.fixture(scope="module", params=[*NODES, "2.7"])
def anywhere(request: pytest.FixtureRequest, grown: ramet.Tree) -> ramet.Node:
    """One that takes no bytecode of ours."""
    return other(grown, request.param)


def other(tree: ramet.Tree, label: str) -> ramet.Node:
    if sys.version.startswith(label + "."):
        needs.lacking(f"a controller of another version than {label}")
    return tree.local(python=needs.python(label)).wait(60)


# ---------------------------------------------------------------------- every Python


def test_a_plain_class(anywhere: ramet.Node) -> None:
    step = 2

    class Counter(object):          # noqa: UP004   # as one writes for 2.7
        start = 1

        def __init__(self):         # type: ignore[no-untyped-def]
            self.n = self.start

        def more(self):             # type: ignore[no-untyped-def]
            self.n += step
            return self.n * FACTOR

        def __call__(self):         # type: ignore[no-untyped-def]
            return -self.n

        @staticmethod
        def made(n):                # type: ignore[no-untyped-def]
            found = Counter()
            found.n = n
            return found

    assert anywhere.call(lambda: Counter().more()) == 9
    counter = Counter()
    counter.n = 5
    assert [anywhere.call(counter.more), anywhere.call(counter), counter.n] == [21, -5, 5]
    assert anywhere.call(lambda: (Counter.made(3).more(), Counter.__name__, counter.more())) == (15, "Counter", 21)
    assert anywhere.call(remote_code.apply, counter.more) == 21
    assert anywhere.call(remote_code.apply, functools.partial(Counter.made(7).__call__)) == -7
    Counter.start = 40
    assert anywhere.call(lambda: Counter().n) == 40, "what was set since"
    step = 10
    assert anywhere.call(lambda: Counter.made(1).more()) == 33, "what a method uses, as it is now"
    with pytest.raises(ramet.ValueNotPortableError, match="Counter can't travel"):
        anywhere.call(lambda: Counter())


def test_a_class_without_a_base(anywhere: ramet.Node) -> None:
    class Old:
        def kind(self):             # type: ignore[no-untyped-def]
            return type(self).__name__, isinstance(self, object) and type(type(self)).__name__

    assert anywhere.call(Old().kind) == ("Old", "type")


def test_exceptions(anywhere: ramet.Node) -> None:
    class BaseError(Exception):
        pass

    class DeepError(BaseError):
        def __init__(self, place, n=0):     # type: ignore[no-untyped-def]
            super(DeepError, self).__init__("at " + place)      # noqa: UP008
            self.place = place

    def fail(place):        # type: ignore[no-untyped-def]
        raise DeepError(place)

    with pytest.raises(DeepError, match="at home") as caught:
        anywhere.call(fail, "home")
    assert isinstance(caught.value, ramet.RemoteError) and caught.value.place == "home"
    with pytest.raises(BaseError):
        anywhere.call(fail, "home")
    given = anywhere.call(remote.echo, [DeepError("x"), BaseError(1, 2)])
    assert [type(one) for one in given] == [DeepError, BaseError] and given[0].place == "x"
    assert type(anywhere.call(lambda: BaseError("x"))) is BaseError


def test_namedtuples(anywhere: ramet.Node) -> None:
    Pair = collections.namedtuple("Pair", "a b", defaults=[7])

    there = anywhere.call(lambda: Pair(1))
    assert type(there) is Pair and there == (1, 7)
    assert anywhere.call(remote.echo, {"x": [Pair(1, Pair(2, 3))]}) == {"x": [Pair(1, Pair(2, 3))]}


def test_what_only_its_statement_used(anywhere: ramet.Node) -> None:
    """Python keeps the variables of a function around a class for its methods only. What can be seen in the class will do."""
    times = 6

    def doubled(cls):       # type: ignore[no-untyped-def]
        cls.times = 2 * cls.times
        return cls

    class Base(object):     # noqa: UP004
        pass

    class Seen(Base):
        factor = times

    @doubled
    class Unseen(object):   # noqa: UP004
        times = FACTOR

    assert anywhere.call(lambda: (Seen.factor, Seen.__bases__ == (Base,))) == (6, True)
    with pytest.raises(ramet.ValueNotPortableError, match="Unseen can't go to another Python than .* uses 'doubled', a "
                                                          "variable of the function that it stands in"):
        anywhere.call(Unseen)


# ---------------------------------------------------------------------- Python 3


def test_dataclasses_and_enums(node: ramet.Node) -> None:
    class Tone(enum.Enum):
        LOW = 1
        HIGH = "h"

        @property
        def loud(self) -> str:
            return self.name + "!"

    class Rights(enum.Flag):
        READ = enum.auto()
        WRITE = enum.auto()

    @dataclasses.dataclass
    class Point:
        x: int
        tone: Tone = Tone.LOW
        made: ClassVar[list[int]] = []

        def plus(self, n: int) -> Point:
            return Point(self.x + n, Tone.HIGH)

        @classmethod
        def zero(cls) -> Point:
            return cls(0)

    @dataclasses.dataclass
    class Line(Point):
        ends: tuple[Point, ...] = ()
        colour: Colour = Colour.RED

        def plus(self, n: int) -> Point:
            return super().plus(n + FACTOR)

    point = node.call(Point, 3)
    assert type(point) is Point and point == Point(3) and point.tone is Tone.LOW
    assert node.call(point.plus, 4) == Point(7, Tone.HIGH) and node.call(Line.zero) == Line(0)
    assert node.call(lambda: repr(point)) == repr(point)
    assert node.call(lambda: [field.name for field in dataclasses.fields(Line)]) == ["x", "tone", "ends", "colour"]
    assert node.call(lambda one, other: (type(one) is type(other) is Point, other.tone is Tone.HIGH, other.tone.loud),
                     point, Point(1, Tone.HIGH)) == (True, True, "HIGH!")
    line = node.call(remote.echo, Line(1, ends=(point, Point(9))))
    assert line == Line(1, ends=(Point(3), Point(9))) and type(line) is Line and type(line.ends[1]) is Point
    assert node.call(line.plus, 1) == Point(5, Tone.HIGH)
    both = node.call(lambda: Rights.READ | Rights.WRITE)
    assert both is Rights.READ | Rights.WRITE


def test_many_instances_take_the_class_twice_at_most(node: ramet.Node) -> None:
    @dataclasses.dataclass
    class Point:
        x: int
        text: ClassVar[str] = "a long text" * 1000

    @dataclasses.dataclass
    class Other:
        x: int

    assert node.call(remote.echo, Other(1)) == Other(1)     # what it takes to read one goes along with the first
    many = [Point(n) for n in range(200)]
    sent = node._tree.stats()["bytes_out"]
    assert node.call(remote.echo, many) == many
    assert node._tree.stats()["bytes_out"] - sent < 60_000
    assert node.call(lambda: sum(point.x for point in many)) == 19_900


def test_kinds_of_classes(node: ramet.Node) -> None:
    class Meta(type):
        def __call__(cls, *args: Any) -> Any:
            return super().__call__(*args)

    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self) -> int: ...

    class Square(Shape):
        __slots__ = ("side",)

        def __init__(self, side: int) -> None:
            self.side = side

        def area(self) -> int:
            return self.side ** 2

    class Made(metaclass=Meta):
        def __init__(self, n: int) -> None:
            self.n = n

    class Named(typing.NamedTuple):
        a: int
        b: str = "b"

        def both(self) -> str:
            return f"{self.a}{self.b}"

    class Outer:
        class InnerError(Exception):
            pass

    @functools.total_ordering
    class Ordered:          # noqa: PLW1641
        def __init__(self, n: int) -> None:
            self.n = n

        def __eq__(self, other: object) -> bool:
            return self.n == other.n    # type: ignore[attr-defined]

        def __lt__(self, other: Any) -> bool:
            return self.n < other.n     # type: ignore[no-any-return]

    assert node.call(Square(3).area) == 9 and node.call(lambda: isinstance(Square(2), Shape)) is True
    assert node.call(lambda: Made(4).n) == 4
    named = node.call(Named, 1)
    assert type(named) is Named and named == Named(1) and node.call(lambda: named.both()) == "1b"
    assert type(node.call(lambda: Outer.InnerError("x"))) is Outer.InnerError
    with pytest.raises(Outer.InnerError):
        node.call(lambda: (_ for _ in ()).throw(Outer.InnerError("x")))
    assert node.call(lambda: Ordered(1) <= Ordered(2)) is True


def test_tracebacks_tell_its_lines(node: ramet.Node) -> None:
    class Failing:
        def run(self) -> None:
            raise KeyError("here")

    line = Failing.run.__code__.co_firstlineno + 1
    with pytest.raises(KeyError) as caught:
        node.call(Failing().run)
    text = caught.value.traceback_text      # type: ignore[attr-defined]
    assert f'test_classes_by_source.py", line {line}, in run' in text and 'raise KeyError("here")' in text


def test_before_its_python_is_known() -> None:
    """Both forms are sent, and the instance comes back as its own."""
    @dataclasses.dataclass
    class Point:
        x: int

    for label in NODES:
        if sys.version.startswith(label + "."):
            continue
        with ramet.Tree() as tree:
            early = tree.local(python=needs.python(label))
            assert [type(point) for point in early.call(remote.echo, [Point(1)])] == [Point]
            grandchild = early.local(python=needs.python(label))
            assert type(grandchild.call(Point, 1)) is Point and type(grandchild.call(remote.echo, Point(2))) is Point


def test_two_classes_of_one_name_stay_apart(node: ramet.Node) -> None:
    def make(n: int) -> Any:
        @dataclasses.dataclass
        class Same:
            x: int

            def more(self) -> int:
                return self.x + n
        return Same

    one, two = make(10), make(20)
    assert type(node.call(one, 1)) is one and type(node.call(two, 1)) is two
    assert [node.call(one(1).more), node.call(two(1).more)] == [11, 21]
    assert node.call(lambda: [one(1).more(), two(1).more(), one is two]) == [11, 21, False]


def test_what_their_statements_use_is_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Namespaces are known by their ids: one that is made to describe a class mustn't go before the next is made."""
    class Space(dict[str, Any]):
        """A namespace of which can be told whether it is there."""

    class First:
        factor = FACTOR

    class Second:
        factor = FACTOR
    made: list[weakref.ref[Space]] = []
    text_of = class_source.text_of

    def watched(cls: type) -> class_source.ClassText:
        assert all(ref() is not None for ref in made)
        found = text_of(cls)
        found.space = Space(found.space)
        made.append(weakref.ref(found.space))
        return found
    monkeypatch.setattr(class_source, "text_of", watched)
    snapshot.Snapshot(lambda: (First, Second), values.Context(), lambda cls: cls.__name__)
    assert len(made) == 2


def test_what_is_refused_says_why(node: ramet.Node) -> None:
    class Odd:
        def __reduce__(self) -> Any:
            return str, ()

    class Big(dict):        # type: ignore[type-arg]
        pass

    made = type("Made", (), {"work": lambda self: 1})
    for thing, said in ((Odd(), "a Odd is more than its attributes, or has a way of its own to be copied"),
                        (Big(), "a Big is more than its attributes"),
                        (made, "Made can't go to another Python than .*: its source isn't in .* any more")):
        with pytest.raises(ramet.ValueNotPortableError, match=said):
            node.call(remote_code.apply, lambda x: x, thing)
        with pytest.raises(ramet.ValueNotPortableError, match=said.replace("Made can't go to another Python than .*: ", "")):
            node.call(lambda: thing)
    assert node.call(remote.add, 1) == 1


PROGRAM = '''\
import dataclasses, enum, sys, ramet

class Kind(enum.Enum):
    A = 1

class MineError(Exception):
    pass

@dataclasses.dataclass
class Point:
    x: int
    kind: Kind = Kind.A

def fail(point):
    raise MineError(point.x)

with ramet.Tree() as tree:
    node = tree.local(python=sys.argv[1])
    point = node.call(Point, 1)
    print(type(point) is Point, point.kind is Kind.A)
    try:
        node.call(fail, point)
    except MineError as error:
        print("MineError", error.args)
'''


@pytest.mark.parametrize("label", NODES)
def test_given_by_an_option(label: str, tmp_path: Path) -> None:
    """What is given to ``python -c`` has no file and, before 3.13, no lines that Python knows of."""
    if sys.version.startswith(label + "."):
        needs.lacking(f"a controller of another version than {label}")
    env = {**os.environ, "PYTHONPATH": str(TOP / "src")}
    done = subprocess.run([sys.executable, "-c", PROGRAM, needs.python(label)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, env=env, cwd=tmp_path, timeout=150)
    assert done.stdout.splitlines() == ["True True", "MineError (1,)"] and not done.stderr, (done.stdout, done.stderr)
