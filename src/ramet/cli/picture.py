"""How ``ramet demo`` shows what it did. Knows rich, and nothing of how nodes work."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as RichTree

if TYPE_CHECKING:
    import ramet
    from ramet.cli.demo import Census, Garden

Step = Callable[[int], None]

console = Console(highlight=False)


def say(text: str) -> None:
    """One line about what goes on."""
    console.print(escape(text))


@contextlib.contextmanager
def progress() -> Iterator[Step]:
    """A bar on a terminal, nothing elsewhere. The function given advances it by one of so many."""
    with Progress(TextColumn("hashing"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
                  console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda total: bar.update(task, total=total, advance=1)


def tree(garden: Garden, result: Census, verbose: int) -> None:
    """The nodes, each below its parent, with what it did."""
    root = RichTree(f"[bold]controller[/bold]  {platform.python_implementation()} {platform.python_version()}")
    branches: dict[ramet.Node, RichTree] = {}
    for node in garden.planted:
        above = root if node.parent is None else branches.get(node.parent, root)
        facts = node.facts
        count, size = result.by_pid.get(facts["pid"], (0, 0))
        did = f"{count:,} files, {megabytes(size)}" if node in garden.seeing else "doesn't see the folder"
        about = f"  {facts['implementation']} {facts['version']}, pid {facts['pid']}  "
        branches[node] = above.add(Text.assemble((node.name, "bold"), about, (did, "green")))
    for what, error, needed in garden.failed:
        said = f"{type(error).__name__}: {error}"
        root.add(Text.assemble((what, "red" if needed else "yellow"), ": ", said if verbose else said.splitlines()[0]))
    console.print(root)


def summary(result: Census) -> None:
    """What was found, and what it took."""
    stats = result.stats
    size = sum(size for _, size, _ in result.files)
    distinct = len({digest for _, _, digest in result.files})
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    unreadable = f", {len(result.unreadable):,} not readable" if result.unreadable else ""
    table.add_row("files", f"{len(result.files):,}, {megabytes(size)}, {distinct:,} different{unreadable}")
    table.add_row("sha256", fingerprint(result.files))
    table.add_row("time", f"{result.grow_s:.2f} s to grow the nodes and get the first call's answer from each, "
                          f"{result.work_s:.2f} s to hash: {megabytes(size / max(result.work_s, 1e-9))}/s")
    table.add_row("round trips", f"{stats['nodes']} to grow the nodes, first call included; {result.batches:,} calls "
                                 f"to hash; {stats['module_requests']:,} for modules")
    table.add_row("on the wire", f"{stats['bytes_out']:,} bytes out, {stats['bytes_in']:,} bytes in, "
                                 f"{stats['messages_out']:,} messages out, {stats['messages_in']:,} in")
    table.add_row("modules", f"{stats['modules_sent']:,} sent along with calls that needed them")
    left = ", ".join(map(str, result.left))
    table.add_row("left behind", f"[red]processes {left}[/red]" if left else "[green]nothing[/green]")
    console.print(table)


def fingerprint(files: list[tuple[bytes, int, str]]) -> str:
    """One hash over paths and hashes: the same for the same files, however they were spread over nodes."""
    lines = sorted(digest.encode() + b"  " + path + b"\n" for path, _, digest in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def megabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e6:,.1f} MB"
