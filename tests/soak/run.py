"""Soaks ramet: real trees under load, to which all that can happen happens; before them simulated ones.

    python -m soak.run --seconds 1200 --nodes 50        # make soak
    python -m soak.run --seconds 60 --nodes 10 --seed 7

A quarter of the time is the simulator's. The rest is rounds: a tree grows, threads call into it, faults are injected, lost
nodes grow again; then all must be accounted for, the tree is closed, nothing may be left. A watchdog ends what hangs.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from soak import faults
from soak.garden import Counts, Garden
from support import leaks, pythons, remote_soak
from targets import swallower

ROUND_S = 120.0
TIMES = {"keepalive_s": 3.0, "lost_after_s": 15.0}
STAY_S = 2.0
IN_NAMESPACE = "RAMET_SOAK_IN_NAMESPACE"


def kinds_of(nodes: int) -> dict[str, int]:
    """How many plots of each kind: a third below others, some forks, some behind a program that passes bytes on."""
    below, fork, relay = max(1, nodes // 3), max(1, nodes // 8), max(1, nodes // 8)
    return {"local": max(1, nodes - below - fork - relay), "below": below, "fork": fork, "relay": relay}


def one_round(nodes: int, seconds: float, seed: object, full: Path | None, times: dict[str, float], *, each_once: bool = False,
              labels: list[str] | None = None, workers: int = 12, at_a_time: int = 8, stay_s: float = STAY_S,
              stop_self: bool = False, watch: bool = True) -> Garden:
    """Grow a tree, harm it for some time (or in each way once), and close it."""
    rng = random.Random(f"soak:{seed}")
    with tempfile.TemporaryDirectory() as folder:
        garden = Garden(kinds_of(nodes), labels or [], Path(folder), random.Random(rng.random()), times,
                        [sys.executable, swallower.__file__])
        with contextlib.ExitStack() as stack:
            if watch:
                stack.enter_context(watchdog(garden))
            try:
                garden.sow_all()
                threads = [threading.Thread(target=garden.work, args=(random.Random(rng.random()),)) for _ in range(workers)]
                threads.append(threading.Thread(target=_sow, args=(garden,)))
                for thread in threads:
                    thread.start()
                try:
                    harmful = faults.Faults(garden, random.Random(rng.random()), full, stay_s, stop_self)
                    harm(garden, harmful, seconds, each_once, at_a_time, rng)
                finally:
                    garden.over.set()
                    for thread in threads:
                        with garden.doing("waiting for a worker"):
                            thread.join()
                garden.settle()
            finally:
                with garden.doing("closing the tree"):
                    garden.tree.close()
    return garden


def _sow(garden: Garden) -> None:
    while not garden.over.is_set():
        garden.sow_all()
        garden.over.wait(0.05)


def harm(garden: Garden, harmful: faults.Faults, seconds: float, each_once: bool, at_a_time: int, rng: random.Random) -> None:
    """Inject faults, some at a time: for so long, or each kind once."""
    left = collections.deque(rng.sample(harmful.kinds(), len(harmful.kinds())))
    end, turns = time.monotonic() + seconds, faults.Turns(at_a_time)

    def more() -> str | None:
        if not each_once and time.monotonic() < end and not left:
            left.extend(rng.sample(harmful.kinds(), len(harmful.kinds())))
        if (not each_once and time.monotonic() > end) or garden.wrong:
            return None
        with contextlib.suppress(IndexError):
            return left.popleft()
        return None

    def inject() -> None:
        while (kind := more()) is not None:
            try:
                with turns.turn(kind in faults.ALONE):
                    done = harmful.inject(kind)
                if not done:
                    left.append(kind)
                    time.sleep(0.05)
            except BaseException as error:
                garden.wrong.append(f"fault {kind}: {error!r}")
                raise
    threads = [threading.Thread(target=inject) for _ in range(at_a_time)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def watchdog(garden: Garden) -> Iterator[None]:
    """Says what hangs, with all stacks, and ends the program."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(1):
            late = garden.doing.too_long()
            if late:
                print(f"HANGS: {late}; wrong so far:", *garden.wrong, "nodes said:", *garden.said, sep="\n", flush=True)
                faulthandler.dump_traceback()
                os._exit(3)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def full_file_system() -> Iterator[Path | None]:
    """A folder on a file system without room, where this program has a mount namespace of its own; else None."""
    if not os.environ.get(IN_NAMESPACE):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
        try:
            with contextlib.suppress(OSError), open(f"{folder}/all", "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder])


def simulate(seconds: float) -> str:
    """Simulated trees, in another process. Returns what they said; raises if one is broken."""
    done = subprocess.run([sys.executable, "-m", "sim.run", "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise SystemExit(1)
    return done.stdout


def report(counts: Counts, longest: dict[str, float], simulated: str, rounds: list[tuple[list[int], str]], wrong: list[str],
           seconds: float) -> str:
    """What is said at the end."""
    faulted = {name[7:]: many for name, many in counts.items() if name.startswith("fault: ")}
    lines = [f"soaked for {seconds:.0f} s, {len(rounds)} rounds", f"simulator: {simulated.strip() or 'not run'}",
             f"faults: {sum(faulted.values()):,}; of each kind how many, and the longest until it was over or the loss known"]
    lines += [f"    {name:16} {many:6,} {longest[name]:6.1f} s" for name, many in sorted(faulted.items())]
    lines += [f"{name}: {many:,}" for name, many in sorted(counts.items()) if not name.startswith("fault: ")]
    lines.append("after each round, of this program: KiB resident, descriptors, threads, what was left")
    lines += [f"    {memory[0]:8,} {memory[1]:4} {memory[2]:4}  {left or 'nothing'}" for memory, left in rounds]
    leaky = sum(bool(left) for _, left in rounds)
    lines.append(f"hangs: {sum('hang' in one for one in wrong)}, lost without a reason or an error: "
                 f"{sum('hang' not in one for one in wrong)}, leaks: {leaky}")
    return "\n".join(lines + wrong[:20])


def main(argv: list[str]) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="make soak", description="Real and simulated trees, and faults in them.")
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--seed", default=str(int.from_bytes(os.urandom(4), "big")), help="of what is done; not of when")
    parser.add_argument("--no-sim", action="store_true", help="real trees only")
    parser.add_argument("--only", help="a pattern: only these kinds of faults")
    args = parser.parse_args(argv)
    if os.geteuid() == 0 and not os.environ.get(IN_NAMESPACE):      # for a file system that is full, and goes with us
        os.environ[IN_NAMESPACE] = "1"
        with contextlib.suppress(OSError):
            os.execvp("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, "-m", "soak.run", *argv,
                                  *([] if "--seed" in argv else ["--seed", args.seed])])
        del os.environ[IN_NAMESPACE]
    if args.only:
        faults.KINDS[:] = [kind for kind in faults.KINDS if re.search(args.only, kind)]
    print(f"seed {args.seed}", flush=True)
    leaks.mark()
    began = time.monotonic()
    simulated = "" if args.no_sim else simulate(args.seconds / 4)
    end = began + args.seconds
    counts: Counts = collections.Counter()
    longest: dict[str, float] = {}
    wrong: list[str] = []
    rounds: list[tuple[list[int], str]] = []
    labels = [path for _, path in pythons.interpreters()]
    with full_file_system() as full:
        if full is None:
            print("not on this machine: a file system of our own that is full (root, unshare): only /dev/full")
        while (left := end - time.monotonic()) > 5 and not wrong:
            before = leaks.snapshot()
            seconds = left if left < 1.5 * ROUND_S else ROUND_S
            garden = one_round(args.nodes, seconds, f"{args.seed}:{len(rounds)}", full, TIMES, labels=labels, stop_self=True)
            counts.update(garden.counts)
            longest.update({kind: max(most, longest.get(kind, 0)) for kind, most in garden.longest.items()})
            wrong += garden.wrong
            rounds.append((remote_soak.resident(), leaks.leaked(before, 30).describe()))
            print(f"round {len(rounds)}: {rounds[-1]}, {sum(garden.counts.values()):,} counted", flush=True)
    print(report(counts, longest, simulated, rounds, wrong, time.monotonic() - began))
    return 1 if wrong or any(left for _, left in rounds) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
