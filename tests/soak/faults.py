"""What is done to a garden's nodes. Each fault returns when what it did is over, or has had its effect."""
from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ramet
from soak.garden import HANG_S, Garden, Plot
from support import remote_soak
from support.eventually import is_gone, until

SPARE_BYTES = 40 << 20     # with less, a node has no room for threads: it may be lost then


class Faults:
    """Harms a garden. ``KINDS`` names all that it can do.

    Args:
        full: a folder on a file system that is full, or None.
        stay_s: how long what passes stays: a pause, a shortage.
        stop_self: may this program be stopped, too? A shell that waits for it would take notice.
    """

    def __init__(self, garden: Garden, rng: random.Random, full: Path | None, stay_s: float, stop_self: bool) -> None:
        self.garden, self.rng, self.full, self.stay_s, self.stop_self = garden, rng, full, stay_s, stop_self
        self.fifos = garden.folder / "fifos"
        self.fifos.mkdir(exist_ok=True)

    def kinds(self) -> list[str]:
        """All that can be done to this garden."""
        kinds = {plot.kind for plot in self.garden.plots}
        lacks = set() if "relay" in kinds else {"cut", "half_open"}
        if "fork" not in kinds:
            lacks.add("kill_template")
        if not self.garden.tree._lookout.settings:
            lacks |= {"stop_for_good", "half_open"}
        if self.full is None:
            lacks.add("full_cache")
        return [name for name in KINDS if name not in lacks]

    def inject(self, kind: str) -> bool:
        """Do that to somebody. False: nobody was there to whom it could be done."""
        wanted = {"cut": "relay", "half_open": "relay", "kill_template": "fork"}.get(kind)
        plots = [plot for plot in self.garden.plots if wanted in (None, plot.kind)]
        self.rng.shuffle(plots)
        for plot in plots:
            with self.holding(plot) as held:
                if held:
                    began = time.monotonic()
                    plot.done.append(kind)
                    with self.garden.doing(f"{kind} of {plot}"):
                        try:
                            if getattr(self, kind)(plot, plot.node) is False:
                                return False
                        except (ramet.NodeLostError, ramet.ClosedError):
                            if not plot.harmed:      # one above it may be harmed meanwhile
                                raise
                            return False
                        self.garden.counts[f"fault: {kind}"] += 1
                        self.garden.longest[kind] = max(self.garden.longest.get(kind, 0), time.monotonic() - began)
                    return True
        return False

    @contextlib.contextmanager
    def holding(self, plot: Plot) -> Iterator[bool]:
        """Nobody else harms it or grows anything there, if it is well."""
        if not plot.lock.acquire(blocking=False):
            yield False
            return
        try:
            yield not plot.harmed
        finally:
            plot.lock.release()

    def seen_gone(self, plot: Plot, node: ramet.Node) -> None:
        """It is lost, with an error, and its processes end."""
        until(lambda: node.error is not None, f"{plot} isn't known to be lost", HANG_S)
        until(lambda: all(map(is_gone, plot.pids)), f"processes of {plot} stay: {plot.pids}", HANG_S)

    # ------------------------------------------------------------------ ends

    def kill(self, plot: Plot, node: ramet.Node) -> None:
        plot.harm()
        send(plot.pids[0], signal.SIGKILL)
        self.seen_gone(plot, node)

    def kill_guardian(self, plot: Plot, node: ramet.Node) -> None:
        """Its node goes with it."""
        plot.harm()
        send(plot.pids[-1], signal.SIGKILL)
        self.seen_gone(plot, node)

    def exits(self, plot: Plot, node: ramet.Node) -> None:
        plot.harm()
        if self.rng.random() < 0.5:
            node.cast(remote_soak.exit_now, 3)
        else:
            node.cast(remote_soak.abort)
        self.seen_gone(plot, node)

    def kill_by_name(self, plot: Plot, node: ramet.Node) -> None:
        """By ``Node.kill``, while it works."""
        plot.harm()
        node.kill()
        self.seen_gone(plot, node)

    def close_node(self, plot: Plot, node: ramet.Node) -> None:
        plot.harm()
        node.close()
        self.seen_gone(plot, node)

    def kill_template(self, plot: Plot, node: ramet.Node) -> bool:
        """With it go all its forks. Not while one is growing."""
        assert node.parent is not None
        pid = node.parent.start(remote_soak.pids).result(timeout=HANG_S)[0]
        with contextlib.ExitStack() as stack:
            for other in [other for other in self.garden.plots if other.kind == "fork" and other is not plot]:
                if not other.lock.acquire(blocking=False):
                    return False
                stack.callback(other.lock.release)
            for other in self.garden.plots:
                if other.kind == "fork":
                    other.harm()
            send(pid, signal.SIGKILL)
            self.seen_gone(plot, node)
        return True

    def stop_for_good(self, plot: Plot, node: ramet.Node) -> None:
        """SIGSTOP: noticed after ``lost_after_s``, and ended."""
        plot.harm()
        send(plot.pids[0], signal.SIGSTOP)
        self.seen_gone(plot, node)

    def cut(self, plot: Plot, node: ramet.Node) -> None:
        """The program that its link goes through is killed."""
        plot.harm()
        send(int(plot.relay.read_text()), signal.SIGKILL)
        self.seen_gone(plot, node)

    def half_open(self, plot: Plot, node: ramet.Node) -> None:
        """What either side says vanishes from now on."""
        plot.harm()
        send(int(plot.relay.read_text()), signal.SIGUSR1)
        self.seen_gone(plot, node)

    # ------------------------------------------------------------------ what passes

    def pause(self, plot: Plot, node: ramet.Node) -> None:
        """SIGSTOP and SIGCONT: nothing may be lost by it."""
        send(plot.pids[0], signal.SIGSTOP)
        time.sleep(self.rng.uniform(0, self.stay_s))
        send(plot.pids[0], signal.SIGCONT)

    def pause_guardian(self, plot: Plot, node: ramet.Node) -> None:
        send(plot.pids[-1], signal.SIGSTOP)
        time.sleep(self.rng.uniform(0, self.stay_s))
        send(plot.pids[-1], signal.SIGCONT)

    def suspend_all(self, plot: Plot, node: ramet.Node) -> None:
        """The program and all nodes at once, like a machine that sleeps: all clocks jump."""
        found = [pid for other in self.garden.plots if not other.harmed for pid in other.pids[:1]]
        pids = " ".join(map(str, found + [os.getpid()] * self.stop_self))
        script = f"kill -STOP {pids}; sleep {self.rng.uniform(0, self.stay_s):.2f}; kill -CONT {pids}; exit 0"
        subprocess.run(["sh", "-c", script], start_new_session=True, stderr=subprocess.DEVNULL)

    def few_files(self, plot: Plot, node: ramet.Node) -> None:
        """EMFILE in a node."""
        with plot.starving():
            call = node.options(lane=ramet.ANY).start(remote_soak.few_files, self.stay_s)
            child = node.local()    # which can't be grown, or can
            assert call.result(timeout=HANG_S), "it could have descriptors"
            with contextlib.suppress(ramet.ConnectError, ramet.NodeLostError):
                child.wait(HANG_S)
            child.close()

    def few_files_here(self, plot: Plot, node: ramet.Node) -> None:
        """EMFILE in this program."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        held: list[int] = []
        with self.garden.root.starving():
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
                with contextlib.suppress(OSError):
                    while True:
                        held.append(os.dup(0))
                child = self.garden.tree.local()
                with contextlib.suppress(ramet.ConnectError):
                    child.wait(HANG_S)
                child.close()
                assert node.start(remote_soak.echo, 1, b"").result(timeout=HANG_S) == [1, b""]
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for fd in held:
                    os.close(fd)

    def little_memory(self, plot: Plot, node: ramet.Node) -> None:
        """ENOMEM in a node, for what a call makes there and for what it is sent. It may be lost by that, but not silently."""
        with plot.starving():
            view = node.options(lane=ramet.ANY)
            calls = [view.start(remote_soak.little_memory, SPARE_BYTES, self.stay_s)]
            calls += [view.start(remote_soak.large, 2 * SPARE_BYTES), view.start(remote_soak.echo, 1, b"x" * 2 * SPARE_BYTES)]
            for call in calls:
                error = call.exception(timeout=HANG_S)
                if isinstance(error, ramet.NodeLostError) and not plot.harmed:
                    plot.harm()
                    self.garden.counts["nodes lost for lack of memory"] += 1
                    self.seen_gone(plot, node)
                    return
            assert calls[0].exception() is not None or calls[0].result(), "it has had more memory than it may"

    def full_device(self, plot: Plot, node: ramet.Node) -> None:
        """ENOSPC: what a call gets, its caller gets."""
        assert node.start(remote_soak.full_disk, "/dev/full").result(timeout=HANG_S) == errno.ENOSPC
        if self.full is not None:
            path = str(self.full / f"of-{self.rng.random()}")
            assert node.start(remote_soak.full_disk, path).result(timeout=HANG_S) == errno.ENOSPC

    def full_cache(self, plot: Plot, node: ramet.Node) -> None:
        """ENOSPC where this program keeps what it knows of hosts: a tree of its own, that can't."""
        assert self.full is not None
        before = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = str(self.full)
        try:
            with ramet.Tree() as tree:
                assert tree.local().call(remote_soak.echo, 1, b"") == [1, b""]
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before

    def slow_disk(self, plot: Plot, node: ramet.Node) -> None:
        """A FIFO that gives a byte now and then stands in for a disk: reads of it block. One call waits, one gives up."""
        path, other = (self.fifos / f"slow-{self.rng.random()}" for _ in range(2))
        for one in path, other:
            os.mkfifo(one)
        writers: list[int] = []
        try:
            slow = node.options(lane="disk").start(remote_soak.slow_disk, str(path))
            given_up = node.options(timeout=self.stay_s / 4).start(remote_soak.slow_disk, str(other))
            for one, reader in (path, slow), (other, given_up):
                writer = open_for_writing(one, reader)
                if writer is not None:      # else its node is lost, or the call was given up before it began
                    writers.append(writer)
            for _ in range(3):
                time.sleep(self.stay_s / 4)
                for writer in writers:
                    with contextlib.suppress(BrokenPipeError):
                        os.write(writer, b"s")
            for writer in writers:
                os.close(writer)
            del writers[:]
            assert slow.result(timeout=HANG_S) <= 3
            assert isinstance(given_up.exception(timeout=HANG_S), ramet.CallTimeout | None)
        finally:
            for writer in writers:
                os.close(writer)
            for one in path, other:
                one.unlink()

    def full_pipes(self, plot: Plot, node: ramet.Node) -> None:
        """Much output, and a program that takes it slowly."""
        self.garden.slow_display.set()
        try:
            call = node.options(lane=ramet.ANY).start(remote_soak.flood, 3000)
            time.sleep(self.stay_s)
        finally:
            self.garden.slow_display.clear()
        assert call.result(timeout=HANG_S) == 0

    def clock(self, plot: Plot, node: ramet.Node) -> None:
        """A node's clock jumps, an hour or a day, and back again."""
        seconds = self.rng.choice((-86400, -3600, 3600, 86400))
        assert node.options(lane=ramet.ANY).start(remote_soak.jump, seconds, self.stay_s).result(timeout=HANG_S)

    def clock_here(self, plot: Plot, node: ramet.Node) -> None:
        """So does this program's."""
        real, seconds = time.time, self.rng.choice((-86400, -3600, 3600, 86400))
        time.time = lambda: real() + seconds
        try:
            time.sleep(self.stay_s / 2)
        finally:
            time.time = real


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a node that may be gone just now, with one above it that another fault has harmed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def open_for_writing(path: Path, reader: ramet.Call[Any]) -> int | None:
    """Wait until somebody reads that FIFO. None: nobody ever will."""
    end = time.monotonic() + HANG_S
    while time.monotonic() < end:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if reader.done():
            return None
        time.sleep(0.005)
    raise AssertionError("nobody reads the FIFO")


#: What is done to one node, beside others.
KINDS = ["kill", "kill_guardian", "exits", "kill_by_name", "close_node", "kill_template", "stop_for_good", "cut", "half_open",
         "pause", "pause_guardian", "few_files", "little_memory", "full_device", "slow_disk", "full_pipes", "clock",
         # what is done to this program: alone
         "suspend_all", "few_files_here", "full_cache", "clock_here"]
ALONE = frozenset(KINDS[-4:])

Inject = Callable[[str], bool]


class Turns:
    """Some faults at a time, or one alone."""

    def __init__(self, many: int) -> None:
        self.many, self.free = many, many
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def turn(self, alone: bool) -> Iterator[None]:
        needs = self.many if alone else 1
        with self.changed:
            self.changed.wait_for(lambda: self.free >= needs)
            self.free -= needs
        try:
            yield
        finally:
            with self.changed:
                self.free += needs
                self.changed.notify_all()
