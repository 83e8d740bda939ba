"""Every Python that other systems have, in every kind of container: most of them minimal, as Debian's small packages are.

The containers get the /usr of a root of ``pythons.ROOTS``; nspawn and chroot get the root itself. Each: grow, call, a module of
our own, and children grown from there. What isn't here is skipped by name.
"""
from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ramet import Node, Tree
from support import needs, pythons, remote_small
from targets.containers import overlay, run
from targets.kinds import TARGETS, Kind

#: Root -> the Pythons that it should have, by their labels.
WANTED = {"bullseye": ("2.7", "3.9"), "trixie": ("3.13",), "sid": ("3.14", "3.15", "pypy")}
HERE = {(root.name, "pypy" if label.startswith("pypy") else label): path for label, root, path in pythons.in_roots()}
CASES = [(root, label) for root, labels in WANTED.items() for label in labels]

#: Grows a node in a container that is named after a root, with the Python of a path.
Grow = Callable[[Tree, str, str], Node]


def roots() -> dict[str, Path]:
    """The roots that are here."""
    return {name: pythons.ROOTS / name for name in WANTED if (pythons.ROOTS / name / "usr/bin").is_dir()}


@pytest.fixture(scope="module")
def inside(request: pytest.FixtureRequest) -> Iterator[Grow]:
    """One kind of container, with one container for each root."""
    needs.root()
    found = roots()
    if not found:
        needs.lacking(f"roots of other systems in {pythons.ROOTS} (make targets makes them)")
    if request.param in TARGETS:
        with TARGETS[request.param]({name: f"{root}/usr" for name, root in found.items()}) as target:
            kind = Kind(request.param, target)
            yield lambda tree, root, path: kind.grow(tree, root, python=path)
        return
    needs.program({"nspawn": "systemd-nspawn"}.get(request.param, request.param))
    folder = Path(tempfile.mkdtemp(prefix="rmt", dir="/var/tmp"))
    try:
        places = {name: overlay(root, folder, name) for name, root in found.items()}
        more: dict[str, Any] = {"nspawn_args": ["--keep-unit"]} if request.param == "nspawn" else {}
        yield lambda tree, root, path: getattr(tree, request.param)(places[root], python=path, **more)
    finally:
        for name in found:
            run("umount", str(folder / f"{name}-root"), check=False)
        shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.parametrize("inside", [*TARGETS, "nspawn", "chroot"], indirect=True, scope="module")
@pytest.mark.parametrize(("root", "label"), CASES, ids=[" ".join(case) for case in CASES])
def test_every_python_in_every_container(inside: Grow, root: str, label: str) -> None:
    if (root, label) not in HERE:
        needs.lacking(f"python {label} in a root {root} (make targets makes it)")
    with Tree() as tree:
        node = inside(tree, root, HERE[root, label]).wait(120)
        if label == "pypy":
            assert node.facts["implementation"] == "PyPy"
        else:
            assert (node.facts["implementation"], node.facts["version"].rpartition(".")[0]) == ("CPython", label)
        assert node.call(remote_small.work) == 42
        assert node.call(remote_small.echo, bytes(range(256)) * 1000) == bytes(range(256)) * 1000
        assert "threading" in node.call(remote_small.has, ["threading"]) or label == "2.7"
        further = node.local().local(name="further")
        assert further.call(remote_small.work) == 42
        assert further.facts["version"] == node.facts["version"]
        with pytest.raises(KeyError, match="missing"):
            further.call(remote_small.fail)
