"""Packages' own test suites in bare nodes: pytest and the package come over the wire, the same tests pass as do here."""
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from packages.test_matrix import COMPLETE, HERE, bare
from support import needs
from support.source import TOP


@dataclass(frozen=True)
class Suite:
    """One test suite.

    Attributes:
        passed: how many tests pass, here and there.
        needed: modules that its tests import besides.
        skipped: how many say that they can't be run.
        inside: the package holds its tests itself; else they are in its source distribution.
    """

    name: str
    passed: int
    needed: tuple[str, ...] = ()
    skipped: int = 0
    inside: bool = False


SUITES = [
    Suite("toolz", 187, skipped=1, inside=True),
    Suite("itsdangerous", 297, ("freezegun", "dateutil", "six")),
    Suite("jinja2", 909, ("markupsafe", "trio", "outcome", "sniffio", "attr", "attrs", "sortedcontainers", "idna")),
]


def suite_folder(suite: Suite, folder: Path) -> Path:
    """The folder of its tests."""
    version = needs.distribution(suite.name)
    if suite.inside:
        spec = importlib.util.find_spec(suite.name)
        assert spec is not None and spec.origin is not None
        return Path(spec.origin).parent / "tests"
    archive = Path(sys.prefix) / "sdists" / f"{suite.name}-{version}.tar.gz"
    if not archive.is_file():
        needs.lacking(f"{archive.name} (make packages fetches it)")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / f"{suite.name}-{version}" / "tests"


def run(suite: Suite, tests: Path, where: str, folder: Path) -> Any:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
    env["PYTHONPATH"] = str(TOP / "src")
    argv = [sys.executable, str(HERE / "suite_controller.py"), suite.name, str(tests), where, *suite.needed]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd=folder, timeout=170)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


PARAMS = [pytest.param(suite, id=suite.name, marks=[] if suite.inside else [pytest.mark.packages]) for suite in SUITES]


@pytest.mark.timeout(500)
@pytest.mark.parametrize("suite", PARAMS)
def test_the_same_tests_pass_there_as_here(suite: Suite, tmp_path: Path) -> None:
    tests = suite_folder(suite, tmp_path)
    expected = {"passed": suite.passed} | ({"skipped": suite.skipped} if suite.skipped else {})
    places = ["here", *(words for label in ("same", *(["3.13"] if COMPLETE else [])) if (words := bare(label)))]
    for place in places:
        outcomes, failed, package, its_pytest = run(suite, tests, place.partition("=")[2] or place, tmp_path)
        assert (outcomes, failed) == (expected, []), place
        for file in (package, its_pytest):
            assert file.startswith("ramet:") == (place != "here"), "the node had one of its own"
