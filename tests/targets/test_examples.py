"""Each program of examples/ is run, as a user would run it: it prints what its own text says that it prints."""
from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from support import needs
from support.snippets import matches
from support.source import TOP
from targets.kinds import TARGETS, Kind

EXAMPLES = sorted((TOP / "examples").glob("*.py"))


def promised(path: Path) -> str:
    """What an example says that it prints."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    _, prints, after = text.partition("\nPrints")
    assert prints, f"{path.name} doesn't say what it prints"
    return textwrap.dedent(after.partition(":\n")[2]).strip()


def printed(path: Path, *args: str, env: dict[str, str] | None = None) -> str:
    """What it does print. One that is written cell by cell is typed in."""
    environment = {**os.environ, "PYTHONPATH": str(TOP / "src"), "PYTHONIOENCODING": "utf-8", **(env or {})}
    typed = "# %%" in path.read_text()
    done = subprocess.run([sys.executable, *(["-"] if typed else [str(path)]), *args], env=environment, text=True,
                          input=path.read_text() if typed else "", capture_output=True, timeout=150)
    assert done.returncode == 0 and not done.stderr, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem != "containers"], ids=lambda path: path.stem)
def test_an_example(path: Path) -> None:
    if "TaskGroup" in path.read_text() and sys.version_info < (3, 11):
        needs.lacking("Python 3.11, for asyncio.TaskGroup, as this run's own")
    found = printed(path)
    assert matches(promised(path), found), f"it promises\n{promised(path)}\nit printed\n{found}"


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_the_one_about_containers(name: str) -> None:
    path = TOP / "examples/containers.py"
    with TARGETS[name]() as target:
        found = printed(path, f"{name}:full", f"{name}:full", env=Kind(name, target).env)
    assert matches(promised(path).replace("docker:", f"{name}:"), found), found


def test_without_a_word_it_explains_itself() -> None:
    done = subprocess.run([sys.executable, str(TOP / "examples/containers.py")], capture_output=True, text=True, timeout=150,
                          env={**os.environ, "PYTHONPATH": str(TOP / "src")})
    assert done.returncode == 1 and "docker:web" in done.stderr


def test_there_are_examples_of_each_kind() -> None:
    assert {path.stem for path in EXAMPLES} >= {"first_call", "fan_out", "follow_log", "timeouts", "task_group", "siblings",
                                                "pipeline", "notebook", "containers"}
