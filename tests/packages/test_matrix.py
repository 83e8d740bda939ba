"""Real packages, installed in the controller's environment only, used in bare nodes: of the same Python, and of others.

``table.py`` says what is to come of each. Every package has a controller of its own (``controller.py``), so that nothing is
imported in it but what a user's program would import. ``make packages`` runs all; ``make test`` those that are light.
"""
from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from packages import table
from support import needs, pythons
from support.source import TOP

HERE = Path(__file__).parent
#: Whether this is the environment of ``make packages``, with the versions of which the table tells.
COMPLETE = Path(sys.prefix).name == "packages"
#: Where any version of a package works alike.
NEW_ENOUGH = ("same", "3.13")


def bare(label: str) -> str | None:
    """An interpreter without packages, with its flags; None if there is none of that version here."""
    path = os.path.realpath(sys.executable) if label == "same" else dict(pythons.interpreters()).get(label)
    flags = ",-E,-s,-S" if label == "2.7" else ",-I,-S"
    return path and f"{label}={path}{flags}"


def params() -> list[Any]:
    return [pytest.param(case, id=case.name, marks=[] if case.light else [pytest.mark.packages]) for case in table.CASES]


def run(case: table.Case, folder: Path, staged: str = "") -> dict[str, Any]:
    """What the controller tells."""
    (folder / f"{case.module}.py").write_text(case.source)
    nodes = [words for label in case.outcomes if (COMPLETE or label in NEW_ENOUGH) and (words := bare(label))]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env["STAGED"] = staged
    env["PYTHONPATH"] = f"{folder}{os.pathsep}{TOP / 'src'}"
    argv = [sys.executable, str(HERE / "controller.py"), case.module, ",".join(case.natives), *nodes]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd=folder, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def came_of(outcome: dict[str, Any], here: str, natives: tuple[str, ...]) -> str:
    """WORKS, FALLS_BACK, or the error."""
    if outcome["error"]:
        return str(outcome["error"])
    assert outcome["value"] == here, "another result than here"
    return table.FALLS_BACK if natives and not outcome["natives"] else table.WORKS


@pytest.mark.timeout(200)
@pytest.mark.parametrize("case", params())
def test_package(case: table.Case, tmp_path: Path) -> None:
    needs.distribution(case.name)
    told = run(case, tmp_path)
    assert told["outcomes"], "no interpreter to try it with"
    for label, outcome in told["outcomes"].items():
        expected, came = case.outcomes[label], came_of(outcome, told["here"], case.natives)
        if expected in (table.WORKS, table.FALLS_BACK):
            assert came == expected, f"in {label}: {came}"
            assert case.module in outcome["came"], "it came from elsewhere"
        else:
            assert re.search(expected, came), f"in {label}: {came}"


@pytest.mark.packages
@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", table.STAGED)
def test_staged_package(name: str, tmp_path: Path) -> None:
    """Those that open files by paths work when they are staged; so do others."""
    case = next(case for case in table.CASES if case.name == name)
    needs.distribution(name)
    packages, outcomes = table.STAGED[name]
    told = run(case, tmp_path, packages)
    for label, outcome in told["outcomes"].items():
        came = str(outcome["error"]) or (table.WORKS if outcome["value"] == told["here"] else "another result than here")
        assert re.search(outcomes[label], came), f"in {label}: {came}"
        assert not set(packages.split()) & set(outcome["came"]), "it was in memory"


def test_there_are_enough_and_each_tells_what_comes_of_it_in_two_pythons() -> None:
    assert len(table.CASES) >= 25 and sum(case.light for case in table.CASES) >= 6
    for case in table.CASES:
        assert "same" in case.outcomes and len(case.outcomes) >= 2, case.name


def test_the_docs_tell_what_was_tried() -> None:
    told = (TOP / "docs/how-to/modules.md").read_text()
    for rows in (table.rows(), table.staged_rows()):
        assert "\n".join(rows) in told, "put there what tests/packages/table.py's rows() and staged_rows() give"


@pytest.mark.packages
def test_every_package_is_here_as_pinned() -> None:
    if not COMPLETE:
        needs.lacking("the environment that make packages makes")
    text = (TOP / "pyproject.toml").read_text()
    pinned = dict(re.findall(r'"([\w-]+)==([^"]+)"', text[text.index("\npackages = ["):text.index("\ndocs = [")]))
    assert {case.name for case in table.CASES} <= set(pinned)
    assert {name: importlib.metadata.version(name) for name in pinned} == pinned
