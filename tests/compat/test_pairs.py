"""Controllers of every Python from 3.10 on with nodes of every Python: calls, failures, modules, grandchildren, values.

Where there are roots of other Debian releases, nodes run in these, too: Pythons that this system lacks, and small ones.

A controller of another version than the tests' is a process of its own, with a node of each version under it. It needs
msgpack: tools/setup.sh puts a compiled one for each version into .venv; where there is none, its pure Python part will do.
"""
from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cloudpickle
import msgpack
import pytest

from support import needs, pythons
from support.source import TOP

CONTROLLERS = ["3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]
NODES = pythons.labels([python.label for python in pythons.everywhere()])
CHECKS = ["call", "exception", "own_module", "grandchild", "values", "streaming", "cancelling", "asynchronous", "serving"]

#: A controller whose msgpack has no C part: another codec.
PURE = f"{sys.version_info[0]}.{sys.version_info[1]}-pure"


def pairs() -> list[Any]:
    """Each controller's pairs in one process of pytest-xdist: it is run once."""
    return [pytest.param(controller, node, id=f"{controller}-{node}", marks=pytest.mark.xdist_group(f"pairs-{controller}"))
            for controller in [*CONTROLLERS, PURE] for node in NODES]


@pytest.mark.parametrize(("controller", "node"), pairs())
def test_pair(controller: str, node: str) -> None:
    python = needs.python(controller.removesuffix("-pure"))
    needs.python_anywhere(node)
    outcome = report(controller, python)[node]
    failed = {check: outcome[check] for check in CHECKS if outcome[check] is not None}
    assert not failed, "\n".join(f"{check}: {said}" for check, said in failed.items())


@functools.cache
def report(controller: str, python: str) -> dict[str, dict[str, str | None]]:
    """What a controller of that version says of all nodes."""
    with tempfile.TemporaryDirectory() as folder:
        packages, pure = Path(sys.prefix) / "controllers" / controller, [cloudpickle]
        if not (packages / "msgpack").is_dir():
            pure.append(msgpack)
        for package in pure:
            source = Path(package.__file__).parent
            shutil.copytree(source, Path(folder, source.name), ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        env["PYTHONPATH"] = os.pathsep.join(map(str, (TOP / "src", TOP / "tests", folder, packages)))
        argv = [python, str(Path(__file__).with_name("pair_controller.py"))]
        argv += [json.dumps(one) for one in pythons.everywhere()]
        done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0 and not done.stderr, f"status {done.returncode}: {done.stderr}"
    said: dict[str, dict[str, str | None]] = json.loads(done.stdout)
    return said
