"""How often the two ends of a link wait for each other, counted over a relay that holds bytes back: without a clock."""
from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from support import needs, remote, remote_channels, sources
from targets import relay

PACKAGE = {
    "far/__init__.py": "",
    "far/work.py": "from far import parts\nfrom far.deeper.leaf import LEAF\ndef work(): return parts.PART + LEAF\n",
    "far/parts.py": "import far.more\nPART = far.more.MORE\n",
    "far/more.py": "MORE = 40\n",
    "far/deeper/__init__.py": "",
    "far/deeper/leaf.py": "LEAF = 2\n",
    "unforeseen.py": "import far.work\n",
}


class Flights:
    """What went over a relay since one last asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read = 0

    def argv(self) -> list[str]:
        return [sys.executable, relay.__file__, str(self.path)]

    def turns(self) -> list[str]:
        """The directions, each time it changed: ["up", "down", "up"]. One more "down" is one more round trip."""
        lines = self.path.read_text().splitlines()
        new, self.read = lines[self.read:], len(lines)
        return [way for way, _ in itertools.groupby(line.split()[0] for line in new)]

    def bytes(self, way: str) -> int:
        """How many went down or up in all."""
        lines = map(str.split, self.path.read_text().splitlines())
        return sum(int(count) for found, count in lines if found == way)


@pytest.fixture
def flights(tmp_path: Path) -> Flights:
    return Flights(tmp_path / "flights")


@pytest.fixture
def work(tmp_path: Path) -> Iterator[object]:
    """A function of a package of the program's own, with modules below and beside it."""
    with sources.on_path(sources.write(tmp_path, PACKAGE)):
        from far import work  # type: ignore[import-not-found]
        yield work.work


@pytest.mark.parametrize("python", ["2.7", "3.6", "same", "searched"])
def test_bootstrap_and_first_call_of_an_own_module_are_one_round_trip(python: str, flights: Flights, work: object) -> None:
    interpreter = {"same": sys.executable, "searched": None}.get(python) if python[0] == "s" else needs.python(python)
    with ramet.Tree() as tree:
        node = tree.command(flights.argv(), python=interpreter)
        assert node.call(work) == 42
        # the interpreter runs; kernel, modules and call; the result
        assert flights.turns() == ["up", "down", "up"]
        assert tree.stats()["module_requests"] == 0


def test_a_far_grandchild_and_its_first_call_are_one_round_trip(flights: Flights, work: object) -> None:
    with ramet.Tree() as tree:
        node = tree.command(flights.argv(), python=sys.executable)
        node.call(remote.pid)
        flights.turns()
        grandchild = node.local()
        assert grandchild.call(work) == 42
        assert flights.turns() in (["down", "up"], ["up", "down", "up"])    # it may begin with what followed the first result
        assert grandchild.local().call(work) == 42
        assert flights.turns() in (["down", "up"], ["up", "down", "up"])


def test_the_whole_chain_from_nothing_is_one_round_trip(flights: Flights, work: object) -> None:
    with ramet.Tree() as tree:
        grandchild = tree.command(flights.argv(), python=sys.executable).local().local()
        assert grandchild.call(work) == 42
        assert flights.turns() == ["up", "down", "up"]


def test_calls_that_do_not_wait_share_a_round_trip(flights: Flights) -> None:
    with ramet.Tree() as tree:
        node = tree.command(flights.argv(), python=sys.executable)
        calls = [node.start(remote.append, n) for n in range(100)]
        lane = node.options(lane="other").start(remote.thread_name)
        with node.pipeline() as pipeline:
            last = pipeline.call(remote.append, "last")
        assert last.result()[-1] == "last" and len(calls[99].result()) == 100 and lane.result() != "MainThread"
        assert flights.turns() == ["up", "down", "up"]


def test_what_could_not_be_foreseen_is_one_round_trip_more(flights: Flights, work: object) -> None:
    with ramet.Tree() as tree:
        tree.modules.ship("unforeseen")
        node = tree.command(flights.argv(), python=sys.executable)
        assert node.call(remote.import_by_name, "unforeseen").startswith("ramet:")
        assert flights.turns() == ["up", "down", "up", "down", "up"]
        assert tree.stats()["module_requests"] == 1


@pytest.mark.parametrize("lane", [None, ramet.ANY])
def test_the_first_channel_is_one_request(lane: str | None) -> None:
    """Its parts were asked for one by one: twelve."""
    with ramet.Tree() as tree:
        node = tree.local().options(lane=lane)
        node.call(remote.add, 1)
        channel = tree.channel()
        assert node.call(remote_channels.send_all, channel, [1]) == "sent" and channel.receive() == 1
        assert tree.stats()["module_requests"] == 1
        holder = tree.local().options(lane=lane)
        holder.call(remote.add, 1)
        assert holder.call(remote_channels.make_and_send, 5, [2]).receive() == 2
        assert tree.stats()["module_requests"] == 3, "for that, and for what finds its own node"
