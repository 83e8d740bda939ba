"""Ten thousand nodes in one process: how routes, storms of losses, memory and time grow. Writes figures, and a picture of them.

    python -m sim.scale                      # a table
    python -m sim.scale --svg docs/images/simulated.svg

What is measured is this machine's processor time for all nodes together, and the memory that the controller keeps of a node:
ids, routes, who grew it, who talked to it. The rest of a node is the simulation's.
"""
from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sim.world import World

SIZES = 100, 300, 1000, 3000, 10_000


def quiet(world: World) -> None:
    """Only what must hold at the end is looked at: after each step it would take longer than all the rest."""
    world.check = lambda node: None  # type: ignore[method-assign]
    world.speed = lambda: (0.001, 1e8)  # type: ignore[method-assign]


def timed(work: Callable[[], Any]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def tree(count: int, width: int) -> World:
    """So many nodes, each with up to so many children; level by level."""
    world = World(f"scale:{count}")
    quiet(world)
    parents: Iterator[int] = iter([0])
    row: list[int] = []
    while world.ids < count:
        parent = next(parents, None)
        if parent is None:
            world.run()
            parents, row = iter(row), []
            continue
        row += [world.grow(world.nodes[parent]) for _ in range(min(width, count - world.ids))]
    world.run()
    return world


def measure(count: int, width: int) -> dict[str, float]:
    """Grow, talk to all, lose a third at once, lose the rest."""
    made: list[World] = []
    figures = {"nodes": float(count), "grow_s": timed(lambda: made.append(tree(count, width)))}
    world, = made
    live = [node for node in world.nodes.values() if node is not world.root]
    assert len(world.root.core.routes.down) == count

    def call_all() -> None:
        for node in live:
            world.call(node.id, 1, 10, 10)
        world.run()
    figures["calls_s"] = timed(call_all)
    assert world.outcomes["value"] == count
    for n, node in enumerate(live):     # each has talked to another one, far away
        other = live[(n * 7919 + 1) % count]
        if other is not node:
            world.ping(node, other.id, 10)
    world.run()
    figures["root_bytes"] = root_bytes(count, width)
    doomed = [node for node in live if node.id % 3 == 0]

    def storm() -> None:
        for node in doomed:
            node.die()
        world.run()
    figures["storm_lost"] = float(sum(not node.alive for node in live))
    figures["storm_s"] = timed(storm)
    figures["storm_lost"] = float(sum(not node.alive for node in live))
    world.check_quiet()
    figures["close_s"] = timed(world.close)
    return figures


def root_bytes(count: int, width: int) -> float:
    """What the controller keeps of each node, in bytes: routes, parents, links to its own children left aside."""
    from ramet.kernel.descent import Descendants
    from ramet.kernel.routing import Routes
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    known = Descendants(Routes(0))
    link = object()
    for id in range(1, count + 1):
        known.add(id, link, (id - 1) // width)
    for id in range(2, count + 1, 2):
        known.talked(id - 1, id)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / count


COLUMNS = [("grow_s", "grown, all"), ("calls_s", "one call each"), ("storm_s", "a third killed at once"), ("close_s", "closed")]


def table(rows: list[dict[str, float]]) -> str:
    """In Markdown."""
    lines = [("| nodes | grown | one call to each | a third killed at once: lost with them | of which each takes | closed "
             "| kept of a node |"),
             "|---|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['nodes']:,.0f} | {row['grow_s']:.2f} s | {row['calls_s']:.2f} s | {row['storm_lost']:,.0f} in "
                     f"{row['storm_s']:.2f} s | {row['storm_s'] / max(1, row['storm_lost']) * 1e6:.0f} us | "
                     f"{row['close_s']:.2f} s | {row['root_bytes']:.0f} B |")
    return "\n".join(lines)


def svg(rows: list[dict[str, float]]) -> str:
    """Both axes logarithmic: what grows as the number of nodes does is a straight line of slope one."""
    from math import log10
    wide, high, left, low = 640, 400, 70, 50
    most = max(row[column] for row in rows for column, _ in COLUMNS)
    bottom, top = -3.0, log10(most) + 0.2
    first, last = log10(rows[0]["nodes"]), log10(rows[-1]["nodes"])

    def x(nodes: float) -> float:
        return left + (log10(nodes) - first) / (last - first) * (wide - left - 150)

    def y(seconds: float) -> float:
        return 20 + (top - log10(max(seconds, 10 ** bottom))) / (top - bottom) * (high - low - 20)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>']
    for exponent in range(int(bottom), int(top) + 1):
        at = y(10 ** exponent)
        parts.append(f'<line x1="{left}" y1="{at:.1f}" x2="{wide - 150}" y2="{at:.1f}" stroke="#ddd"/>'
                     f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0 ** exponent:g} s</text>')
    for row in rows:
        parts.append(f'<text x="{x(row["nodes"]):.1f}" y="{high - 28}" text-anchor="middle">{row["nodes"]:,.0f}</text>')
    parts.append(f'<text x="{(left + wide - 150) / 2}" y="{high - 8}" text-anchor="middle">nodes in the tree</text>')
    for (column, label), colour in zip(COLUMNS, ("#1b6ca8", "#2a9d3a", "#c0392b", "#7d3c98"), strict=True):
        points = " ".join(f"{x(row['nodes']):.1f},{y(row[column]):.1f}" for row in rows)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{wide - 142}" y="{y(rows[-1][column]) + 4:.1f}" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main(argv: list[str]) -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="How the simulated tree grows to 10,000 nodes.")
    parser.add_argument("--svg", type=Path, help="where to draw")
    parser.add_argument("--width", type=int, default=32, help="children of each node")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="the largest tree")
    args = parser.parse_args(argv)
    rows = [measure(count, args.width) for count in SIZES if count <= args.most]
    print(table(rows))
    if args.svg:
        args.svg.write_text(svg(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
