"""Values that one Python sends arrive in every other: equal, of the same type, or refused where that has no such type.

Each interpreter dumps the corpus once, and loads what all the others dumped, as from above and as from below.
"""
from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import needs, pythons

CORPUS = Path(__file__).parent.parent / "support" / "values_corpus.py"
LABELS = pythons.labels([label for label, _ in pythons.interpreters()])

pytestmark = pytest.mark.xdist_group("values of all pythons")   # each interpreter dumps and loads once


def run(python: str, *args: str) -> Any:
    done = subprocess.run([python, str(CORPUS), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For each interpreter here, the file with what it dumped."""
    folder = tmp_path_factory.mktemp("values")
    found = {}
    for label, path in pythons.interpreters():
        file = folder / f"{label}.json"
        file.write_text(json.dumps(run(path, "dump")))
        found[label] = str(file)
    return found


@functools.cache
def wrong_at(receiver: str, *files: str) -> list[dict[str, object]]:
    """What an interpreter has to say about what each of the others dumped."""
    found: list[dict[str, object]] = run(receiver, "load", *files)
    return found


@pytest.mark.parametrize("receiver", LABELS)
@pytest.mark.parametrize("sender", LABELS)
def test_values_travel(sender: str, receiver: str, dumps: dict[str, str]) -> None:
    needs.python(sender)
    found = dict(zip(dumps, wrong_at(needs.python(receiver), *dumps.values()), strict=True))
    assert not found[sender], "\n".join(f"{case}: {what}" for case, what in found[sender].items())


def test_most_cases_can_be_made_here(dumps: dict[str, str]) -> None:
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    needs.python(own)
    made = json.loads(Path(dumps[own]).read_text())
    cases = CORPUS.read_text().partition('CASES = """')[2].partition('"""')[0].split("\n")
    assert len(made) >= len([case for case in cases if case]) - 1
