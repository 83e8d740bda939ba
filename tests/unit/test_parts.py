"""Late parts of the kernel are sent in the order in which they import each other."""
from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramet import kernel, parts
from ramet.bootstrap import packing

CORE = {name.removeprefix(parts.KERNEL) for name in packing.CORE}


def imported_at_once(part: str) -> set[str]:
    """The late parts that a part imports by its first lines; what functions import is asked for when they run."""
    tree = ast.parse((Path(kernel.__path__[0]) / f"{part}.py").read_text())
    found: set[str] = set()
    for line in tree.body:
        if isinstance(line, ast.ImportFrom) and line.module == "ramet.kernel":
            found.update(alias.name for alias in line.names)
        elif isinstance(line, ast.ImportFrom) and (line.module or "").startswith(parts.KERNEL):
            found.add((line.module or "").removeprefix(parts.KERNEL))
    return found - CORE


def tables() -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, value in vars(parts).items():
        if name.isupper() and isinstance(value, tuple):
            yield name, value
        elif name.isupper() and isinstance(value, dict):
            yield from ((f"{name}[{key}]", its) for key, its in value.items() if isinstance(its, tuple))


TABLES = dict(tables())
# Sent to who has others.
TABLES["COMING_BACK"] = (*parts.GROWING, *parts.FOLLOWING, *parts.COMING_BACK)


@pytest.mark.parametrize("table", TABLES)
def test_what_a_part_imports_stands_before_it(table: str) -> None:
    """`jobs` stood before what it imports: who imported it in between had to ask for them, and who reads the answers could be
    waiting for that import."""
    before: set[str] = set()
    for part in dict.fromkeys((*parts.MOST, *TABLES[table])):
        assert imported_at_once(part) <= before, part
        before.add(part)


def test_the_tables_were_found_and_read() -> None:
    assert {"CANCELLING", "TOGETHER[lanes]", "OWN[held]"} <= {*TABLES} and len(TABLES) > 30
    assert imported_at_once("jobs") == {"compat_late", "offspring", "raising", "swallowed"}


def imported(part: str) -> set[str]:
    """Parts that are imported with one, by whichever of them."""
    found: set[str] = set()
    new = {part}
    while new:
        found |= new
        new = set().union(*map(imported_at_once, new)) - found
    return found


@pytest.mark.parametrize("part", ["channels", "peers", "services", "running", "lanes", "cancelling", "results", "unforeseen"])
def test_what_a_node_asks_for_by_itself_comes_with_all_that_it_imports(part: str) -> None:
    """The first channel in a node took twelve round trips."""
    assert imported(part) <= {*parts.MOST, *parts.TOGETHER[part], part}
