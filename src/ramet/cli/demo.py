"""``ramet demo``: grows a tree on this machine, ships a package that its nodes don't have, and puts all of them to work."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import socket
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

import ramet
from ramet.bootstrap import interpreters
from ramet.cli import picture

# The package to ship lies beside this file and is no part of ramet, which is never shipped.
sys.path.append(str(Path(__file__).with_name("demo_package")))
import filecensus

SSH_TIMEOUT_S = 5
NOT_THE_LIBRARY = (b"site-packages", b"dist-packages", b"__pycache__")


def demo(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", show_default=False, exists=True, file_okay=False,
                                                  help="Whose files to count and hash (the standard library's).")] = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, show_default=False,
                                         help="Show all that is known of a node that failed.")] = 0,
) -> None:
    """Grow a tree on this machine and hash a folder with it: each Python found here, a grandchild, an sshd.

    Every interpreter gets a package that it doesn't have, together with its first call. The files are spread over
    all nodes that see the folder. At the end nothing is left: no process, no file.

    Examples:

    ```
    ramet demo                          the standard library's folder
    ramet demo /usr/share               another one
    RAMET_DEMO_SSH=web1 ramet demo      with a host of yours in the tree
    ```

    Where RAMET_DEMO_SSH names no host, ssh to this machine is tried, without asking for a password.
    RAMET_DEMO_SSH_ARGS holds more arguments for ssh.
    """
    chosen = folder or Path(sysconfig.get_path("stdlib"))
    skip = () if folder else NOT_THE_LIBRARY
    result = Census(os.fsencode(chosen.resolve()))
    with ramet.Tree() as tree:
        picture.say(f"growing a tree, to hash {chosen}")
        garden = grow(tree, result)
        if garden.seeing:
            with picture.progress() as step:
                work(tree, garden, result, skip, step)
        result.stats = tree.stats()
        picture.tree(garden, result, verbose)
    result.left = still_running(garden.pids)
    if result.files:
        picture.summary(result)
    if result.left or not garden.seeing or any(needed for _, _, needed in garden.failed):
        raise typer.Exit(1)


@dataclass
class Garden:
    """The nodes of the demo.

    Attributes:
        planted: those that came up.
        seeing: those of them that see the folder.
        failed: (what, why, whether the demo needs it), for those that didn't come up.
    """

    planted: list[ramet.Node] = field(default_factory=list)
    seeing: list[ramet.Node] = field(default_factory=list)
    failed: list[tuple[str, BaseException, bool]] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        """The processes of nodes on this very machine."""
        here = os.uname().nodename
        return [node.facts["pid"] for node in self.planted if node.facts.get("host") == here]


@dataclass
class Census:
    """What was counted, and what it took."""

    folder: bytes
    files: list[tuple[bytes, int, str]] = field(default_factory=list)
    unreadable: list[bytes] = field(default_factory=list)
    by_pid: dict[int, tuple[int, int]] = field(default_factory=dict)
    batches: int = 0
    stats: dict[str, int] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)
    grow_s: float = 0.0
    work_s: float = 0.0

    def add(self, part: dict[str, Any]) -> None:
        """Take in the census of a batch."""
        self.files += part["files"]
        self.unreadable += part["unreadable"]
        count, size = self.by_pid.get(part["pid"], (0, 0))
        self.by_pid[part["pid"]] = count + len(part["files"]), size + sum(size for _, size, _ in part["files"])


def grow(tree: ramet.Tree, result: Census) -> Garden:
    """Start every node at once, with its first call behind it: that takes the package along. Then see who answers."""
    began = time.monotonic()
    pythons = interpreters.interpreters()
    growing: list[tuple[str, ramet.Node, bool, float | None]] = []
    for label, path in pythons:
        growing.append((f"Python {label}", tree.local(python=path, name="py" + label.removeprefix("py")), True, None))
    if growing:     # the oldest one grows a child of the newest Python
        grandchild = growing[0][1].local(python=pythons[-1][1], name="grandchild")
        growing.append(("grandchild", grandchild, True, None))
    host, arguments = ssh_target()
    if host:
        growing.append((f"ssh {host}", tree.ssh(host, name="over-ssh", ssh_args=arguments), False, SSH_TIMEOUT_S))
    mine = filecensus.identity(result.folder)
    calls = [node.start(filecensus.sees, result.folder, mine) for _, node, _, _ in growing]
    garden = Garden()
    for (what, node, needed, timeout), call in zip(growing, calls, strict=True):
        try:
            sees = call.result(timeout)
        except (ramet.Error, TimeoutError) as error:
            garden.failed.append((what, error, needed))
            node.kill()
        else:
            garden.planted.append(node)
            if sees:
                garden.seeing.append(node)
    result.grow_s = time.monotonic() - began
    return garden


def ssh_target() -> tuple[str, list[str]]:
    """Which host to reach by ssh, and with which further arguments; ("", []) if there is none to try."""
    arguments = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={SSH_TIMEOUT_S - 2}"]
    arguments += shlex.split(os.environ.get("RAMET_DEMO_SSH_ARGS", ""))
    host = os.environ.get("RAMET_DEMO_SSH", "")
    if host or not shutil.which("ssh"):
        return host, arguments
    try:
        socket.create_connection(("localhost", 22), timeout=1).close()
    except OSError:
        return "", []
    return "localhost", arguments


def work(tree: ramet.Tree, garden: Garden, result: Census, skip: tuple[bytes, ...], step: picture.Step) -> None:
    """Spread the files over all nodes that see the folder."""
    began = time.monotonic()
    batches = filecensus.batches(result.folder, skip)
    result.batches = len(batches)
    for part in tree.map(functools.partial(filecensus.census, result.folder), batches, garden.seeing):
        result.add(part)
        step(len(batches))
    result.work_s = time.monotonic() - began


def still_running(pids: list[int], patience_s: float = 20.0) -> list[int]:
    """Those processes that are still there. Looks again for a while: a node may be on its way out."""
    deadline = time.monotonic() + patience_s
    while True:
        left = [pid for pid in pids if _runs(pid)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"    # not one that its parent hasn't waited for
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")
    except PermissionError:
        return True
