"""The first call of a function whose module imports ``django.db.models``, where no Django is. The floor has it installed.

A sample is all from starting the interpreter to the result, in a new tree: what was packed lies on disk from an earlier
run, as it does in each run of a program but the first; "first run" is without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import far
import orm
import peers
import ramet
from measuring import Figure, compare, watch
from ramet.bootstrap import cache
from ramet.modules.pack import BYTECODE_FORM
from ramet.modules.server import ModuleServer

ROUND_TRIP_MS = 100
COUNT = 20
INSTALLED = "a local import"


def local_import(count: int = 1) -> Callable[[], float]:
    def measure() -> float:
        with watch() as w:
            for process in [subprocess.Popen([sys.executable, "-c", "import orm"], cwd=Path(orm.__file__).parent)
                            for _ in range(count)]:
                assert process.wait() == 0
        return w.seconds * 1000

    return measure


def ours(python: str, relay: list[str], count: int = 1, kept: bool = True) -> Callable[[], float]:
    def measure() -> float:
        with setting("" if kept else "off"), ramet.Tree() as tree:
            with watch() as w:
                nodes = [tree.command(relay, python=python) if relay else tree.local(python=python) for _ in range(count)]
                for _, outcome in tree.each(nodes, orm.modules):
                    assert outcome.value > 100
        return w.seconds * 1000

    return measure


def mitogens(python: str, relay: list[str], count: int = 1) -> Callable[[], float]:
    def measure() -> float:
        with peers.mitogen_router() as router, ThreadPoolExecutor(count) as pool:
            def one(_: int) -> int:
                return int(router.local(python_path=[*relay, python], connect_timeout=120).call(orm.modules))

            with watch() as w:
                assert min(pool.map(one, range(count))) > 100
        return w.seconds * 1000

    return measure


def packing(kept: bool) -> Callable[[], float]:
    """Finding and packing alone: what the program spends before all is ready to be sent."""

    def measure() -> float:
        with setting("" if kept else "off"), watch() as w:
            server = ModuleServer()
            closure = server.closure("orm")
            server.records(server.lacking(closure, ()), BYTECODE_FORM)
        server.save()
        return w.seconds * 1000

    return measure


def processor_time(measure: Callable[[], float]) -> Callable[[], float]:
    """What this program itself spends in a sample, all its threads together: hosts' own processors do the rest."""

    def measured() -> float:
        began = time.process_time()
        measure()
        return (time.process_time() - began) * 1000

    return measured


@contextmanager
def setting(said: str) -> Iterator[None]:
    os.environ[cache.SETTING] = said
    try:
        yield
    finally:
        del os.environ[cache.SETTING]


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, symlinks=True)
        bare = str(Path(folder) / "bin" / "python")
        os.environ["XDG_CACHE_HOME"] = folder
        figures = [compare(Figure("finding and packing django.db.models", "ms", "first run", "≤ 300 ms, then ≤ 50 ms"),
                           {"first run": packing(False), "ramet": packing(True)}, 9, warm_up=2)]
        for name, relay in links().items():
            figures.append(compare(
                Figure(f"django.db.models in a bare interpreter, {name}", "ms", INSTALLED, "≤ 2×; ≥ 4× Mitogen"), {
                    INSTALLED: local_import(), "ramet": ours(bare, relay), "ramet, first run": ours(bare, relay, kept=False),
                    "Mitogen": mitogens(bare, relay)}, 5))  # fmt: skip
        figures.append(compare(
            Figure(f"the same in {COUNT} at once", "ms", INSTALLED, "≥ 4× Mitogen", note="Mitogen: a thread for each"), {
                INSTALLED: local_import(COUNT), "ramet": ours(bare, [], COUNT),
                "Mitogen": mitogens(bare, [], COUNT)}, 2, warm_up=0))  # fmt: skip
        figures.append(compare(
            Figure(f"the controller's own processor time for these {COUNT}", "ms", "Mitogen", "≥ 4× Mitogen"), {
                "ramet": processor_time(ours(bare, [], COUNT)),
                "Mitogen": processor_time(mitogens(bare, [], COUNT))}, 2, warm_up=0))  # fmt: skip
    return figures


def links() -> dict[str, list[str]]:
    relay = [sys.executable, far.__file__, str(ROUND_TRIP_MS)]
    return {"no delay": [], f"{ROUND_TRIP_MS} ms round trip": [*relay, "open"],
            f"{ROUND_TRIP_MS} ms, a fresh TCP connection": [*relay, "tcp"]}
