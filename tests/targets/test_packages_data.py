"""Package data and metadata at the real thing: libraries, policy, limits, and a node that asks for what it may not have."""
from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import sources

#: Functions that ask as a hostile node would: past everything that the kernel checks.
ASKS = '''
from ramet.kernel import start

def ask(form, name):
    """What the controller sends for a name: the kind of answer, and the data or the reason."""
    node = start.node
    finder = [finder for finder in __import__("sys").meta_path if hasattr(finder, "obtain")][-1]
    record = finder.obtain(name, form)
    if record:
        from ramet.kernel.importer import content
        return "sent", content(record)
    return "not sent", node.cache.reasons[name + "/" + form]

def ask_all(form, names):
    return [ask(form, name) for name in names]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "site-packages").mkdir()
    with sources.on_path(tmp_path, tmp_path / "site-packages"):
        yield tmp_path


@pytest.fixture
def tree() -> Iterator[ramet.Tree]:
    with ramet.Tree() as tree:
        yield tree


def bare(tree: ramet.Tree) -> ramet.Node:
    """A node without site-packages."""
    return tree.local(python=[sys.executable, "-S"])


def use(folder: Path, text: str, name: str = "uses", **files: str) -> Any:
    sources.write(folder, {f"{name}.py": text, **files})
    return importlib.import_module(name)


METADATA = '''
import importlib.metadata as m

def ask():
    from importlib.metadata import PackageNotFoundError, distribution, entry_points, files, metadata, requires, version
    here = distribution("rich")
    found = [version("rich"), metadata("rich")["Name"], sorted(requires("typer"))[:1], here.read_text("no.txt")]
    found.append(len([file for file in files("rich") if str(file).endswith(".py")]))
    located = [file for file in files("rich") if str(file) == "rich/markup.py"][0]
    found.append("class Tag" in located.read_text())
    try:
        version("no-such-distribution")
    except PackageNotFoundError as error:
        found.append(str(error))
    return found

def scripts():
    return sorted(point.name for point in m.entry_points(group="console_scripts")), sorted(
        d.metadata["Name"] for d in m.distributions())

def tops():
    return {name: found for name, found in m.packages_distributions().items() if name in ("rich", "typer")}
'''


def test_metadata_of_shipped_distributions(tree: ramet.Tree, folder: Path) -> None:
    import importlib.metadata

    app = use(folder, METADATA + "\nimport rich.markup, typer\n")
    node = bare(tree)
    here, there = app.ask(), node.call(app.ask)
    assert there[:4] == here[:4] and there[4:6] == [here[4], True] and "no-such-distribution" in there[6]
    names, distributions = node.call(app.scripts)
    assert "typer" in names and {"rich", "typer"} <= set(distributions) and "pytest" not in distributions
    assert len(distributions) == len(set(distributions))
    assert node.call(app.tops) == {"rich": ["rich"], "typer": ["typer"]}
    assert importlib.metadata.version("rich") == there[0]
