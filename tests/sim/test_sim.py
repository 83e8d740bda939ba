"""Simulated trees with faults: a few seeds in each run of the tests; ``make sim`` runs as many as there is time."""
from __future__ import annotations

import subprocess
from typing import Any

import pytest

import ramet
from ramet.kernel import keepalive, longs
from ramet.kernel.core import KEEPALIVE, LOST, Core
from ramet.kernel.routing import Routes
from sim.run import attempt, one, program, shrunk
from sim.world import World
from support.source import TOP

pytestmark = pytest.mark.timeout(600)       # how long it takes says how busy the machine is


def test_runs() -> None:
    """No reply lost, no wait without end, nothing on false authority, bounded queues, nothing left at the end.

    Always the same seeds: what fails here was broken by the change at hand. ``make sim`` takes others.
    """
    outcomes: dict[str, int] = {}
    noticed = 0
    for seed in range(12):
        world = one(seed)
        noticed += world.noticed
        for what, count in world.outcomes.items():
            outcomes[what] = outcomes.get(what, 0) + count
    assert noticed, "nobody was silent for long"
    assert outcomes["value"] > outcomes["dead"] > 0 and outcomes["refused"], "the runs are about nothing"


def test_runs_of_this_commit() -> None:
    """Others with each commit, so that in time many have been run. ``make sim SEED=...`` repeats one."""
    found = subprocess.run(["git", "-C", str(TOP), "rev-parse", "HEAD"], capture_output=True, text=True)
    commit = found.stdout.strip() or ramet.__version__      # an unpacked sdist has no commits
    for seed in (f"{commit}-{n}" for n in range(4)):
        print(f"seed {seed}")       # shown when it fails
        one(seed)


def test_the_same_seed_is_the_same_run() -> None:
    runs = [one("same") for _ in range(2)]
    assert len({(world.steps, world.now, str(world.outcomes), world.order) for world in runs}) == 1


def without_news(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Core.send
    monkeypatch.setattr(Core, "send", lambda self, dst, handle, *rest: handle != LOST and real(self, dst, handle, *rest))


def without_source_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Routes, "behind", lambda self, id, link: id != self.id)


def without_acknowledging_what_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = longs.Long.took
    monkeypatch.setattr(longs.Long, "took", lambda self, link, key, n: key[1] == self.core.id and real(self, link, key, n))


def without_losses_by_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepalive.Watch, "_silent", lambda *_: None)


def without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """So whoever is idle is taken for dead."""
    real = Core.send
    monkeypatch.setattr(Core, "send", lambda self, dst, handle, *rest: (
        None if handle == KEEPALIVE and keepalive.NOBODY in rest else real(self, dst, handle, *rest)))


def without_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a child that is busy is taken for dead."""
    monkeypatch.setattr(keepalive, "_signs", lambda process: 0)


@pytest.mark.parametrize("fault", [
    without_news, without_source_check, without_acknowledging_what_passes, without_losses_by_silence, without_asking,
    without_signs_of_life])
def test_a_fault_is_found_and_made_small(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    for seed in range(200):
        ops = program(seed, 120, 40.0)
        if attempt(seed, ops) is not None:
            break
    else:
        raise AssertionError("no run of 200 has found it")
    few = shrunk(seed, ops)
    assert attempt(seed, few) is not None
    assert len(few) < len(ops)


def test_a_new_node_whose_parent_is_lost_meanwhile_leaves_no_route() -> None:
    """The route to it comes from above, and is here before the loss of its parent, which is told from below without it."""
    world = World("overtaken")
    world.speed = lambda: (0.02, 1e9)  # type: ignore[method-assign]
    ids = [0]
    for _ in range(3):
        ids.append(world.grow(world.nodes[ids[-1]]))
        world.run()
    b, c = (world.nodes[id] for id in ids[2:])
    d = world.grow(c)
    world.run(world.now + 0.01)     # the news of it is under way: above b in 10 ms, at b in 30
    world.lose(c.id)
    b.family().children[c.id].link.close("cut")
    world.run()
    for id in ids[:3]:
        assert d not in world.nodes[id].core.routes.down
    world.check_quiet()
    world.close()
