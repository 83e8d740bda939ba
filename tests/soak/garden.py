"""The tree that is soaked: plots in which nodes grow, are lost and grow again; and what became of each call.

A plot outlives its nodes. Who is going to harm a plot's node says so before: only then, and only of that plot and of those
below it, a loss is no failure. All is thread-safe.
"""
from __future__ import annotations

import collections
import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ramet
from support import remote_soak, remote_stress

HANG_S = float(os.environ.get("RAMET_SOAK_HANG_S", "240"))     # nothing here takes that long, on any machine
# How long each node is asked what it is at, when one hangs: of all of a branch it is known before the watchdog ends it all.
STORY_S = HANG_S / 30

Counts = collections.Counter[str]


class Wrong(AssertionError):
    """What must not be."""


class Doing:
    """What is going on at the moment: the watchdog looks here."""

    def __init__(self) -> None:
        self.now: dict[int, tuple[float, str]] = {}
        self.numbers = itertools.count()

    @contextlib.contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        me = next(self.numbers)
        self.now[me] = time.monotonic(), what
        try:
            yield
        finally:
            del self.now[me]

    def too_long(self) -> list[str]:
        """What hangs."""
        late = time.monotonic() - HANG_S * 1.25
        return [what for since, what in list(self.now.values()) if since < late]


_WHO_IS_WELL = threading.Lock()


class Plot:
    """A place in the tree.

    Attributes:
        above: the plots on the way to the root.
        harmed: its node is going to be lost, or was; ``well_since``: since when it isn't.
        starved: (begin, end) of times in which its node lacked descriptors or memory; end is None while it does.
        done: faults that there were.
        lock: held by who harms it.
    """

    def __init__(self, number: int, kind: str, parent: Plot | None, python: str | None) -> None:
        self.number, self.kind, self.parent, self.python = number, kind, parent, python
        self.above: list[Plot] = [parent, *parent.above] if parent else []
        self.root: Plot = self
        self.node: ramet.Node | None = None
        self.pids: list[int] = []
        self.relay = Path()
        self.below: list[Plot] = []
        for plot in self.above:
            plot.below.append(self)
        self.harmed = True      # nothing grows here yet
        self.well_since = 0.0
        self.starved: list[list[float | None]] = []
        self.done: list[str] = []
        self.lock = threading.Lock()

    def harm(self) -> None:
        """Its node is going to be lost, with all below."""
        with _WHO_IS_WELL:
            for plot in [self, *self.below]:
                plot.harmed = True

    def grown(self, node: ramet.Node, since: float) -> None:
        """A node is here, which began to grow then. It may be lost already, with one above it."""
        with _WHO_IS_WELL:
            self.node, self.well_since = node, time.monotonic()
            self.harmed = any(plot.harmed or plot.well_since > since for plot in self.above)

    def may_be_lost(self, since: float) -> bool:
        """Is its node lost, or was the one lost that was here then?"""
        return self.harmed or self.well_since > since

    def may_lack(self, since: float) -> bool:
        """Has this plot's node, or one above it, lacked anything since then?"""
        return any(end is None or end > since for plot in [self, *self.above, self.root] for _, end in plot.starved)

    @contextlib.contextmanager
    def starving(self) -> Iterator[None]:
        """Its node is going to lack something."""
        span: list[float | None] = [time.monotonic(), None]
        self.starved.append(span)
        try:
            yield
        finally:
            span[1] = time.monotonic()

    def __repr__(self) -> str:
        return f"plot {self.number} ({self.kind}{'' if self.parent is None else f', below {self.parent.number}'})"


class Garden:
    """All plots of one tree, and what became of the calls into them.

    Args:
        kinds: how many plots of each kind; "below" ones are spread below the "local" ones.
        folder: for files of relays.
        times: of the tree: ``keepalive_s`` and ``lost_after_s``.
    """

    def __init__(self, kinds: dict[str, int], pythons: list[str], folder: Path, rng: random.Random, times: dict[str, float],
                 relay: list[str]) -> None:
        self.rng, self.folder, self.relay_argv = rng, folder, relay
        self.counts: Counts = collections.Counter()
        self.longest: dict[str, float] = {}     # fault -> seconds until it was over, or had had its effect
        self.wrong: list[str] = []
        self.doing = Doing()
        self.over = threading.Event()
        self.slow_display = threading.Event()
        self.root = Plot(-1, "root", None, None)    # this program
        self.lines = 0
        self.said: collections.deque[str] = collections.deque(maxlen=200)     # on stderr
        self.tree = ramet.Tree(on_output=self._on_output, **times)
        self.plots: list[Plot] = []
        middles: list[Plot] = []
        for kind, many in kinds.items():
            for n in range(many):
                parent = middles[n % max(1, len(middles) // 2)] if kind == "below" and middles else None
                plot = Plot(len(self.plots), kind, parent, pythons[n % len(pythons)] if pythons and n % 3 == 0 else None)
                plot.root = self.root
                self.plots.append(plot)
                if kind == "local":
                    middles.append(plot)

    def _on_output(self, node: ramet.Node, stream: int, text: str) -> None:
        self.lines += 1
        if stream == 2:
            self.said.append(f"{node.name}: {text}")
        if self.slow_display.is_set():
            time.sleep(0.01)

    # ------------------------------------------------------------------ growing

    def sow(self, plot: Plot) -> None:
        """Grow a node where there is none, and wait until it is up. Raises ramet.Error."""
        since = time.monotonic()
        parent: Any = plot.parent.node if plot.parent else self.tree
        number = next(self.doing.numbers)
        options: dict[str, Any] = {"python": plot.python} if plot.python else {}
        if plot.kind == "fork":
            node = self.tree.fork(name=f"fork-{number}")
        elif plot.kind == "relay":
            plot.relay = self.folder / f"relay-{number}"
            argv = [*self.relay_argv, str(plot.relay)]
            node = self.tree.command(argv, python=[plot.python or "python3"], name=f"relay-{number}")
        else:
            node = parent.local(name=f"{plot.kind}-{number}", **options)
        try:
            node.wait(HANG_S)
            plot.pids = node.start(remote_soak.pids).result(timeout=HANG_S)
        except BaseException:
            with contextlib.suppress(ramet.Error):
                node.kill()
            raise
        plot.grown(node, since)
        self.counts["nodes grown"] += 1

    def sow_all(self) -> None:
        """Grow what is missing, parents first. What fails for a reason that there is, is tried again next time."""
        for plot in sorted(self.plots, key=lambda plot: len(plot.above)):
            if self.over.is_set():
                return
            if any(above.harmed for above in plot.above) or not plot.lock.acquire(blocking=False):
                continue
            try:
                if plot.harmed or (plot.node is not None and plot.node.error is not None):
                    self._sow_again(plot)
            finally:
                plot.lock.release()

    def _sow_again(self, plot: Plot) -> None:
        if not plot.harmed:
            self.wrong.append(f"{plot} was lost, and nobody had harmed it: {plot.node.error if plot.node else ''}")
        since = time.monotonic()
        plot.harm()
        with self.doing(f"growing in {plot}"):
            try:
                self.sow(plot)
            except TimeoutError:
                self.wrong.append(f"a node hangs while it grows in {plot}")
            except (ramet.Error, OSError, ImportError) as error:
                self.counts[f"growing failed: {type(error).__name__}"] += 1
                if not (any(above.harmed for above in plot.above) or plot.may_lack(since)
                        or (plot.kind == "fork" and isinstance(error, ramet.NodeLostError | ramet.ConnectError))):
                    self.wrong.append(f"growing in {plot}: {error!r}")

    # ------------------------------------------------------------------ calling

    def work(self, rng: random.Random) -> None:
        """A thread that calls, until all is over."""
        while not self.over.is_set():
            try:
                plot = rng.choice(self.plots)
                node = plot.node
                if node is None:
                    time.sleep(0.01)
                elif rng.random() < 0.15:
                    self.read(plot, node, rng)
                else:
                    self.call(plot, node, rng)
            except BaseException as error:
                self.wrong.append(f"a worker: {error!r}")
                raise

    def call(self, plot: Plot, node: ramet.Node, rng: random.Random) -> None:
        """Some calls of all kinds at a time into one node, some of them cancelled."""
        calls, lanes = [], {}
        since = time.monotonic()
        with self.doing(f"calls into {plot}"):
            for _ in range(rng.randrange(1, 40)):
                number = next(self.doing.numbers)
                timeout = rng.choice((None, None, None, 0.05, 30))
                try:
                    lane = rng.choice((None, None, ramet.ANY, "one"))
                    lanes[number] = lane
                    call = self.begin(node.options(lane=lane, timeout=timeout), number, rng)
                except (ramet.Error, OSError, ImportError) as error:    # a node that is gone says so at once
                    self.judge(plot, error, since, bool(timeout), False)
                    break
                calls.append((call, number, timeout, rng.random() < 0.1 and call.cancel()))
            for call, number, timeout, cancelled in calls:
                try:
                    error = call.exception(timeout=HANG_S)
                except TimeoutError:
                    self.wrong.append(f"a call hangs, in lane {lanes[number]}, timeout {timeout}: {call!r}; {self.story(plot)}")
                    continue
                except ramet.CallCancelled as caught:
                    error = caught
                if error is not None:
                    self.judge(plot, error, since, bool(timeout), cancelled, number)
                elif call.result() not in (number, [number, b"d" * (number % 5000)]):
                    self.wrong.append("another call's answer, or a wrong one")
                else:
                    self.counts["calls answered"] += 1

    @staticmethod
    def begin(node: ramet.Node, number: int, rng: random.Random) -> ramet.Call[Any]:
        match rng.randrange(10):
            case 0:
                return node.start(remote_stress.blocking, number, rng.uniform(0, 0.05))
            case 1:
                return node.start(remote_stress.subprocess_of, number, 0.002)
            case 2:
                return node.start(remote_stress.failing, number)
            case 3:
                return node.start(remote_stress.busy, number, rng.randrange(20_000))
            case 4 | 5:
                return node.start(remote_soak.echo, number, b"d" * (number % 5000))
        return node.start(remote_stress.quick, number)

    def read(self, plot: Plot, node: ramet.Node, rng: random.Random) -> None:
        """A stream: read to its end, left in the middle, or left unread."""
        since, many, taken = time.monotonic(), rng.choice((0, 50, 300)), 0
        with self.doing(f"a stream of {plot}"):
            try:
                with contextlib.closing(node.stream(remote_stress.items, 200)) as stream:
                    for item in itertools.islice(stream, many):
                        if item != taken:
                            self.wrong.append("an item of a stream is lost, or another's")
                        taken += 1
                self.counts["streams"] += 1
                if many > 200 and taken != 200:
                    self.wrong.append(f"a stream ended after {taken} items, without an error")
            except (ramet.Error, OSError, ImportError) as error:
                self.judge(plot, error, since, False, False)

    def judge(self, plot: Plot, error: BaseException, since: float, timed: bool, cancelled: bool, number: int = -1) -> None:
        """Is there a reason for that error?"""
        if isinstance(error, ramet.RemoteError) and error.args == (number,):
            good = True
        elif isinstance(error, ramet.CallTimeout):
            good = timed
        elif isinstance(error, ramet.CallCancelled):
            good = cancelled
        elif isinstance(error, ramet.NodeLostError | ramet.ClosedError | ramet.ConnectError):
            good = plot.may_be_lost(since)
        else:
            good = plot.may_lack(since)
        self.counts[f"calls ended by {type(error).__name__}"] += 1
        if not good:
            self.wrong.append(f"{plot}: {type(error).__mro__[:3]}: {error}")

    # ------------------------------------------------------------------ the end

    def story(self, plot: Plot) -> str:
        """All that is known of what a plot's node is at."""
        at = []
        for one in [plot, *plot.above]:
            for lane in (None, ramet.ANY):
                try:
                    found = one.node and one.node.options(lane=lane).start(remote_soak.state).result(timeout=STORY_S)
                    at.append(f"{one} after {one.done}:\n" + "\n".join(found or ["nothing grows there"]))
                    break
                except Exception as error:
                    at.append(f"{one} after {one.done}, lane {lane}: {error!r}")
        return "\n".join([*at, "nodes said:", *list(self.said)[-30:]])

    def settle(self) -> None:
        """Nothing is going on any more: all must be accounted for."""
        with self.doing("looking whether all is accounted for"):
            end = time.monotonic() + HANG_S
            whole = [plot for plot in self.plots if plot.node is not None and plot.node.error is None]
            while any(plot.node.stats()["calls"] for plot in whole) or self.tree._core.pending:
                if time.monotonic() > end:
                    self.wrong += [f"not all calls are accounted for: {self.tree._core.pending}; {self.story(plot)}"
                                   for plot in whole if plot.node.stats()["calls"]]
                    break
                time.sleep(0.02)
            for plot in whole:
                if not plot.harmed:
                    self.call(plot, plot.node, random.Random(0))
