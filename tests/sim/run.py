"""Random runs of a simulated world, and how a failing one is made small.

A run is a list of operations, each at a time and with numbers of its own: one can be left out, and the others mean the same.

    python -m sim.run SEED            # one run, made small if it fails
    python -m sim.run --seconds 600   # as many as that takes, from a random seed on
"""
from __future__ import annotations

import argparse
import os
import random
import re
import sys
import time
from typing import Any

from ramet.kernel.core import CALL, CANCEL, END, GROW, LOST, MODULES, ROUTE
from sim.world import MODULE_NAMES, Broken, Node, World

#: A kind of operation, and how often it comes.
WEIGHTS = {"grow": 14, "call": 24, "burst": 2, "long": 5, "cancel": 10, "stream": 8, "import": 10, "ping": 12, "down": 5,
           "kill": 3, "stop": 2, "busy": 2, "resume": 3, "cut": 2, "half_open": 2, "stall": 2, "forge": 10, "close": 1,
           "restart": 2}

# What a node does itself, so not while it is stopped.
OF_ITS_OWN = {"import", "ping", "down", "forge"}

Op = tuple[float, str, int, int, int, int]


def program(seed: object, count: int, seconds: float) -> list[Op]:
    """Operations: (when, kind, four numbers). The first ones grow something."""
    rng = random.Random(f"program:{seed}")
    kinds, weights = zip(*WEIGHTS.items(), strict=True)
    ops = [(rng.uniform(0, 1), "grow", *(rng.randrange(1 << 30) for _ in range(4))) for _ in range(6)]
    ops += [(rng.uniform(0.5, seconds), rng.choices(kinds, weights)[0], *(rng.randrange(1 << 30) for _ in range(4)))
            for _ in range(count)]
    return sorted(ops)  # type: ignore[arg-type]


class Run:
    """One run of a program."""

    def __init__(self, seed: object, ops: list[Op]) -> None:
        self.world = World(seed, keepalive=True)
        self.ops = ops
        self.handles: list[tuple[int, int]] = []

    def all(self) -> World:
        """Do all of it, let it come to rest, look, close, look again. Raises Broken."""
        world = self.world
        for op in self.ops:
            world.run(op[0])
            self.do(op)
        world.rest()
        for node in list(world.nodes.values()):
            node.resume()
        world.rest()
        world.check_quiet()
        world.close()
        return world

    def do(self, op: Op) -> None:
        """One operation, on whatever there is now."""
        _, kind, a, b, c, d = op
        world = self.world
        below = [node for node in world.nodes.values() if node.alive and node is not world.root]
        node = below[a % len(below)] if below else None
        if kind == "grow":
            world.grow([world.root, *below][a % (len(below) + 1)])
        elif kind == "restart" and node and node.parent:
            above = node.parent
            node.die()
            world.grow(above)
        elif node and not (node.away and kind in OF_ITS_OWN):
            getattr(self, "_" + kind)(world, node, below, b, c, d)

    def _call(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        handle = world.call(node.id, b % 400, c % 3000, d % 3000, b % 3)
        self.handles.append((node.id, handle))

    def _burst(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        for n in range(b % 60):
            world.call(below[(c + n) % len(below)].id, 1, d % 20_000, 10, n % 3)

    def _long(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        handle = world.call(node.id, b % 50, c % 600_000, d % 600_000, b % 3)
        self.handles.append((node.id, handle))

    def _down(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        """From a node into one below it: of its own right; or into any other, which is refused."""
        other = below[b % len(below)]
        if other is not node:
            world.call(other.id, c % 100, d % 30_000, 10, c % 2, node)

    def _cancel(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        if self.handles:
            world.cancelled = True
            dst, handle = self.handles[-1 - b % min(8, len(self.handles))]
            world.root.core.tell(dst, CANCEL, [handle])

    def _stream(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        world.stream(node.id, b % 200, c % (30_000 if d % 3 else 300), (d % 5) * 0.01, b // 7 % 100 if d % 4 == 0 else 0)

    def _import(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        for one in (node, below[c % len(below)]):
            if not one.away:
                world.fetch(one, MODULE_NAMES[b % len(MODULE_NAMES)])

    def _ping(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        others = [world.root, *below]
        other = others[b % len(others)]
        if other is not node:
            world.ping(node, other.id, c % (200_000 if d % 5 == 0 else 300))

    def _kill(self, world: World, node: Node, *_: Any) -> None:
        node.die()

    def _stop(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        node.stop()
        if b % 2:
            node.resume_in(c % 100)

    def _busy(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        node.hold()
        node.resume_in(c % 100)

    def _resume(self, world: World, node: Node, *_: Any) -> None:
        node.resume()

    def _cut(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        world.cut(node.core.routes.parent, False)

    def _half_open(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        world.cut(node.core.routes.parent, True)

    def _stall(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        link = node.core.routes.parent
        for end in (link, link.peer):
            end.free_at = max(end.free_at, world.now + b % 8000 / 1000)

    def _close(self, world: World, node: Node, *_: Any) -> None:
        """The controller ends it without asking."""
        first = [node.id, *world.path[node.id]][-2]
        child = world.root.family().children.get(first)
        if child:
            world.lose(first)
            child.link.close("it was closed")

    def _forge(self, world: World, node: Node, below: list[Node], b: int, c: int, d: int) -> None:
        ids = [0, *world.nodes, 1 << 30]
        src, authority, dst = (ids[n % len(ids)] for n in (b, b // 1000, c))
        if b % 3:       # something of it is true, mostly
            authority = node.id
        if c % 3:
            src = node.id
        if d % 2:
            dst = (0, world.path[node.id][0])[d // 2 % 2]
        handle = (CALL, GROW, END, LOST, LOST, ROUTE, MODULES, CANCEL, 1000, 1000, 1000, 999)[b // 7 % 12]
        flags = (0, 4, 16, 20)[c // 7 % 4]
        value: Any = ["f", [1, 1, -1, b""], {}, {}]
        if handle == LOST:
            value = [[ids[c // 30 % len(ids)]], "forged"]
            if node.id in world.path.get(value[0][0], ()):
                return      # of those below it it is believed: who is born below a liar may be forgotten, and wait
        elif handle == ROUTE:
            value = [ids[c // 30 % len(ids)], node.id]
        elif handle == 1000:
            pending = world.nodes[dst].core.pending if dst in world.nodes else {}
            others = [it for it, (to, _) in pending.items() if to != node.id and node.id not in world.path.get(to, ())]
            if not others:
                return      # to what it was asked itself it may answer what it likes, and of those below it, that they are gone
            handle, value = others[c // 30 % len(others)], "forged"
        world.forge(node, src, authority, dst, handle, flags, value)


def attempt(seed: object, ops: list[Op]) -> BaseException | None:
    """Run it. What was broken, or None."""
    try:
        ran = Run(seed, ops).all().ran
        if -1 in ran:
            raise Broken("a forged call was run")
    except Exception as error:
        return error
    return None


def shrunk(seed: object, ops: list[Op], seconds: float = 120.0) -> list[Op]:
    """Leave out operations as long as it still fails: halves first, then less, then single ones."""
    end = time.monotonic() + seconds
    size = len(ops) // 2
    kind = _kind(attempt(seed, ops))
    while size:
        at = 0
        while at < len(ops) and time.monotonic() < end:
            fewer = ops[:at] + ops[at + size:]
            if _kind(attempt(seed, fewer)) == kind:
                ops = fewer
            else:
                at += size
        size //= 2
    return ops


def _kind(error: BaseException | None) -> str:
    """What fails, without numbers: leaving out operations may lead to another fault."""
    return f"{type(error).__name__} {re.sub(r'[0-9]+', '', str(error))[:30]}" if error else ""


def report(seed: object, ops: list[Op], error: BaseException) -> str:
    """What fails, and the shortest run that was found in which it does."""
    few = shrunk(seed, ops)
    last = attempt(seed, few)
    text = [f"seed {seed}: {type(error).__name__}: {error}",
            f"{len(ops)} operations, {len(few)} after leaving out what isn't needed:"]
    text += [f"    {op}" for op in few]
    text.append(f"that one: {type(last).__name__}: {last}")
    return "\n".join(text)


def one(seed: object, count: int = 120, seconds: float = 40.0) -> World:
    """One run. Raises Broken with all that one needs to look into it."""
    ops = program(seed, count, seconds)
    run = Run(seed, ops)
    try:
        world = run.all()
        if -1 in world.ran:
            raise Broken("a forged call was run")
    except Exception as error:
        raise Broken(report(seed, ops, error)) from error
    return world


def main(argv: list[str]) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="make sim", description="Run simulated trees with faults, by seed.")
    parser.add_argument("seed", nargs="?", help="one run with this seed")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, without a seed")
    parser.add_argument("--count", type=int, default=120, help="operations in each run")
    args = parser.parse_args(argv)
    seeds = [args.seed] if args.seed else []
    first = int.from_bytes(os.urandom(4), "big")
    end, runs, steps = time.monotonic() + args.seconds, 0, 0
    totals: dict[str, int] = {}
    while seeds or (not args.seed and time.monotonic() < end):
        seed = seeds.pop() if seeds else str(first + runs)
        try:
            world = one(seed, args.count)
        except Broken as error:
            print(f"{error}\nmake sim SEED={seed} repeats it")
            return 1
        runs, steps = runs + 1, steps + world.steps
        for what, number in world.outcomes.items():
            totals[what] = totals.get(what, 0) + number
    print(f"{runs} runs, {steps:,} steps; of calls: {totals}; seeds {args.seed or f'{first} to {first + runs - 1}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
