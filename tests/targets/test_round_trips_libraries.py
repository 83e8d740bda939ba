"""Round trips and bytes of libraries that a node lacks: counted over a relay, without a clock.

The library is made for the test, 300 KB of it when compressed; Django is taken as well. Nodes run without site-packages.
"""
from __future__ import annotations

import collections
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ramet
from ramet import codec
from ramet.bootstrap import packing
from ramet.kernel.core import MODULES, Core
from ramet.shelter import ShelteredCore
from support import needs, remote, sources
from support.eventually import HANGS_S, until
from targets.test_round_trips import Flights

PARTS = 60
BARE = [sys.executable, "-S"]   # it sees nothing but the standard library

OWN = '''
    import importlib
    from biglib.parts import p0
    def total(): return p0.total()
    def where(): return p0.__file__
    def lazily(name): return importlib.import_module(name).VALUE
    def lazily_refused(name):
        try: importlib.import_module(name)
        except ImportError as error: return "%s: %s" % (type(error).__name__, error)
'''


def library() -> dict[str, str]:
    """Package biglib: 60 modules of 7 KB, each of which imports the next; and others, which nobody imports."""
    files = {
        "biglib/__init__.py": "try:\n    import biglib_speedups\nexcept ImportError:\n    pass\n",
        "biglib/parts/__init__.py": "", "biglib/late/__init__.py": "", "biglib/late/deep/__init__.py": "",
        "biglib/late/deep/leaf.py": "from biglib.late.deep.one import VALUE\nfrom biglib.late import two\n",
        "biglib/late/deep/one.py": "from .. import two\nVALUE = two.VALUE\n", "biglib/late/two.py": "VALUE = 42\n",
    }  # fmt: skip
    for n in range(PARTS):
        below = f"from biglib.parts.p{n + 1} import total as below\n" if n + 1 < PARTS else "def below(): return 0\n"
        names = "".join(f"name_{i} = '{hashlib.sha256(b'%d %d' % (n, i)).hexdigest()}'\n" for i in range(100))
        files[f"biglib/parts/p{n}.py"] = below + "def total(): return below() + 1\n" + names
    return files


@pytest.fixture(autouse=True)
def empty_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host has been seen by this user before."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def flights(tmp_path: Path) -> Flights:
    return Flights(tmp_path / "flights")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ModuleType]:
    """A module of the program's own that uses the library."""
    sources.write(tmp_path / "site-packages", library())
    sources.write(tmp_path / "own", {"usesbig.py": OWN})
    with sources.on_path(tmp_path / "site-packages", tmp_path / "own"):
        import usesbig  # type: ignore[import-not-found]
        yield usesbig


def test_two_round_trips_to_a_host_never_seen_and_one_to_a_remembered_one(flights: Flights, own: ModuleType) -> None:
    with ramet.Tree() as tree:
        assert tree.command(flights.argv(), python=BARE).call(own.total) == PARTS
        # kernel, own modules and call; what it has, and that it lacks biglib; all of it; the result
        assert flights.turns() == ["up", "down", "up", "down", "up"]
        assert tree.stats()["module_requests"] == 1
        assert tree.command(flights.argv(), python=BARE).call(own.total) == PARTS   # remembered by the tree
        assert flights.turns()[-3:] == ["up", "down", "up"]
        assert tree.stats()["module_requests"] == 1
    flights.turns()
    with ramet.Tree() as tree:      # remembered on disk
        assert tree.command(flights.argv(), python=BARE).call(own.total) == PARTS
        assert flights.turns() == ["up", "down", "up"]
        assert tree.stats()["module_requests"] == 0
    with ramet.Tree(remember=False) as tree:
        assert tree.command(flights.argv(), python=BARE).call(own.total) == PARTS
        assert flights.turns()[-5:] == ["up", "down", "up", "down", "up"]


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.13"])
def test_other_pythons_take_as_many(label: str, flights: Flights, own: ModuleType) -> None:
    python = [needs.python(label), "-S"]
    for expected in (["up", "down", "up", "down", "up"], ["up", "down", "up"]):
        with ramet.Tree() as tree:
            node = tree.command(flights.argv(), python=python)
            assert node.call(own.total) == PARTS
            assert flights.turns() == expected
            assert node.call(own.lazily, "biglib.late.deep.leaf") == 42
            assert flights.turns()[-4:] == ["down", "up", "down", "up"]
        flights.turns()


def test_a_lazy_import_that_was_not_foreseen_is_one_more(flights: Flights, own: ModuleType) -> None:
    with ramet.Tree() as tree:
        node = tree.command(flights.argv(), python=BARE)
        node.call(own.total)
        flights.turns()
        requests = tree.stats()["module_requests"]
        assert node.call(own.lazily, "biglib.late.deep.leaf") == 42     # with its parents and its closure
        assert flights.turns() == ["down", "up", "down", "up"]
        assert tree.stats()["module_requests"] == requests + 1
        assert "No module named" in node.call(own.lazily_refused, "biglib.late.nowhere.at_all")
        assert node.call(own.lazily, "biglib.late.two") == 42       # it has come with another one
        assert tree.stats()["module_requests"] == requests + 2


def test_what_is_on_pythonpath_over_there_is_not_sent(flights: Flights, own: ModuleType, tmp_path: Path) -> None:
    there = sources.write(tmp_path / "there", library())
    with ramet.Tree() as tree:
        node = tree.command(flights.argv(), python=BARE, env={"PYTHONPATH": str(there)})
        assert node.call(own.where).startswith(str(there))
        assert flights.turns() == ["up", "down", "up"]
        assert node.call(own.total) == PARTS
        assert not [name for _, name in node._state.has if name.startswith("biglib.")]


def test_a_memory_that_is_wrong_costs_one_round_trip_and_no_error(flights: Flights, own: ModuleType, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()

    def call() -> tuple[str, list[str]]:
        flights.path.unlink(missing_ok=True)
        flights.read = 0
        with ramet.Tree() as tree:
            node = tree.command(flights.argv(), python=BARE, env={"PYTHONPATH": str(there)})
            where = node.call(own.where)
            node.call(remote.pid)   # by then it has told
            return where, flights.turns()[:5]
    assert call()[0].startswith("ramet:")
    sources.write(there, library())
    where, turns = call()       # sent for nothing: what is installed there wins
    assert where.startswith(str(there)) and turns[:3] == ["up", "down", "up"]
    (there / "biglib").rename(tmp_path / "away")
    where, turns = call()       # uninstalled meanwhile: asked for
    assert where.startswith("ramet:") and turns == ["up", "down", "up", "down", "up"]


def test_the_library_goes_over_a_link_once_for_all_behind_it(flights: Flights, own: ModuleType) -> None:
    with ramet.Tree() as tree:
        hop = tree.command(flights.argv(), python=BARE)
        assert hop.local().call(remote.pid)     # what grows children is there
        down = flights.bytes("down")
        nodes = [hop.local(python=BARE) for _ in range(20)]
        assert [outcome.value for _, outcome in tree.each(nodes, own.total)] == [PARTS] * 20
        spent = flights.bytes("down") - down
        assert weight("biglib.parts") < spent < 1.3 * weight("biglib.parts"), (spent, weight("biglib.parts"))
        assert tree.stats()["module_requests"] == 1
        requests = tree.stats()["module_requests"]
        assert [outcome.value for _, outcome in tree.each(nodes, own.lazily, "biglib.late.deep.leaf")] == [42] * 20
        assert tree.stats()["module_requests"] == requests + 1      # joined, or answered by the hop
        more = hop.local(python=BARE)
        assert more.call(own.lazily, "biglib.late.deep.leaf") == 42
        assert tree.stats()["module_requests"] == requests + 1
        assert hop.call(own.total) == PARTS     # what passed through it is there


def weight(prefix: str) -> int:
    from ramet.modules.server import ModuleServer
    names = [name for name in sys.modules if name.startswith(prefix)]
    records, _ = ModuleServer().records(names, packing.FORMS[-1])
    return sum(len(record[3]) for record in records.values())


def test_twenty_nodes_at_once_get_each_module_once(own: ModuleType) -> None:
    with ramet.Tree() as tree:
        nodes = [tree.local(python=BARE) for _ in range(20)]
        assert [outcome.value for _, outcome in tree.each(nodes, own.total)] == [PARTS] * 20
        assert tree.stats()["module_requests"] <= 20
        # biglib, biglib.parts and its parts, usesbig; less than 25 parts of the kernel
        assert 20 * (PARTS + 3) <= tree.stats()["modules_sent"] <= 20 * (PARTS + 3 + 25)


def test_nothing_goes_twice_over_a_link(own: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even parts of the kernel, which follow the first call and are needed by others soon after. But in another form."""
    carried: collections.Counter[tuple[int, str, str]] = collections.Counter()
    send = ShelteredCore.send

    def counted(self: Core, dst: int, handle: int, chunks: Any, *rest: Any, **named: Any) -> bool:
        if handle == MODULES and self.id == 0:
            _, form, _, records, _ = codec.decode(b"".join(map(bytes, chunks)))
            carried.update((dst, form, record[0]) for record in records)
        return send(self, dst, handle, chunks, *rest, **named)
    monkeypatch.setattr(ShelteredCore, "send", counted)
    with ramet.Tree() as tree:
        hop = tree.local(python=BARE)
        assert hop.call(remote.add, 1) == 1
        until(lambda: hop._state.installed is not None, "it hasn't told what it has")
        assert hop.call(own.total) == PARTS
        assert hop.options(lane="other").call(own.lazily, "biglib.late.two") == 42
        nodes = [hop.local(python=BARE) for _ in range(3)]
        assert [outcome.value for _, outcome in tree.each(nodes, own.total)] == [PARTS] * 3
        assert nodes[0].options(lane="other").call(own.lazily, "biglib.late.deep.leaf") == 42
        assert nodes[1].call(lambda: own.total() + 1) == PARTS + 1
    assert carried and [key for key, times in carried.items() if times > 1] == []


def test_no_node_gets_a_module_in_two_forms_and_a_link_carries_it_twice_only_for_two_kinds_of_nodes(
        own: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As bytecode for those that take it, as source for others and for those of which it isn't known when a call is sent."""
    carried: collections.Counter[tuple[str, str]] = collections.Counter()      # over the link to the hop
    meant: dict[tuple[int, str], set[str]] = collections.defaultdict(set)
    send = ShelteredCore.send

    def counted(self: Core, dst: int, handle: int, chunks: Any, *rest: Any, **named: Any) -> bool:
        if handle == MODULES and self.id == 0:
            target, form, names, records, _ = codec.decode(b"".join(map(bytes, chunks)))
            carried.update((form, record[0]) for record in records if not record[0].startswith("ramet."))
            for name in names:
                if not name.startswith("ramet."):       # of these, see above
                    meant[target, name].add(form)
        return send(self, dst, handle, chunks, *rest, **named)
    monkeypatch.setattr(ShelteredCore, "send", counted)

    def crossed(form: str) -> int:
        assert max(carried.values()) == 1
        return sum(kind == form for kind, name in carried if name.startswith("biglib.parts"))
    ours = packing.FORMS[-1]
    with ramet.Tree() as tree:
        hop = tree.local(python=BARE)
        assert hop.call(own.total) == PARTS
        assert (crossed(ours), crossed("source")) == (PARTS + 1, 0)
        known = hop.local(python=BARE).wait(HANGS_S)
        assert known.call(own.total) == PARTS
        assert (crossed(ours), crossed("source")) == (PARTS + 1, 0), "it is known, and gets what the hop has"
        unknown = [hop.local(python=[sys.executable, "-S", "-B"]) for _ in range(2)]
        assert [outcome.value for _, outcome in tree.each(unknown, own.total)] == [PARTS] * 2
        assert crossed(ours) == PARTS + 1 and crossed("source") in (0, PARTS + 1)
        for label in ("3.13", "3.9"):
            other = hop.local(python=[needs.python(label), "-S"])
            assert other.call(own.total) == PARTS
        again = hop.local(python=[sys.executable, "-S", "-B"])
        assert again.call(own.total) == PARTS and other.local(python=BARE).wait(HANGS_S).call(own.total) == PARTS
        assert (crossed(ours), crossed("source")) == (PARTS + 1, PARTS + 1)
    assert meant and [key for key, forms in meant.items() if len(forms) > 1] == []


@pytest.mark.parametrize("behind_a_hop", [False, True])
def test_strict_gives_only_what_calls_carry(own: ModuleType, behind_a_hop: bool) -> None:
    with ramet.Tree() as tree:
        tree.modules.strict = True
        hop = tree.local(python=BARE)
        node, other = [(hop if behind_a_hop else tree).local(python=BARE) for _ in range(2)]
        assert node.call(own.total) == PARTS
        said = node.call(own.lazily_refused, "biglib.late.two")
        assert said.startswith("ModuleNotShippedError") and "policy is strict" in said
        with pytest.raises(ramet.RemoteError, match="policy is strict"):
            other.call(remote.import_by_name, "biglib.parts.p0")    # the hop keeps it, for who called it
        tree.modules.ship("biglib.late")
        assert other.call(remote.import_by_name, "biglib.late.two").startswith("ramet:")


def test_a_node_that_runs_with_optimization_is_remembered(flights: Flights, own: ModuleType) -> None:
    python = [sys.executable, "-S", "-O"]
    turns = []
    for _ in range(2):
        with ramet.Tree() as tree:
            node = tree.command(flights.argv(), python=python)
            assert node.call(own.total) == PARTS
            turns.append(flights.turns())
            node.call(remote.pid)
        flights.turns()
    assert turns[1] == ["up", "down", "up"] and len(turns[0]) > 3


def test_django_too(flights: Flights, tmp_path: Path) -> None:
    pytest.importorskip("django", reason="not on this machine: django")
    text = "import django.db.models\ndef where(): return django.db.models.__file__\n"
    sources.write(tmp_path / "own", {"usesdjango.py": text})
    with sources.on_path(tmp_path / "own"):
        import usesdjango  # type: ignore[import-not-found]
        for expected in (["up", "down", "up", "down", "up"], ["up", "down", "up"]):
            with ramet.Tree() as tree:
                node = tree.command(flights.argv(), python=BARE)
                assert node.call(usesdjango.where).startswith("ramet:")
                assert flights.turns() == expected
                node.call(remote.pid)
            flights.turns()
