"""The interpreters to test with: what ``ramet/bootstrap/interpreters.py`` finds here, RAMET_TEST_PYTHONS first.

That file is run by itself, without the package around it, so that the kernel's tests run when a layer above is broken.

    for label, path in interpreters(): ...      # [("2.7", "/usr/bin/python2.7"), ("3.13", ...), ("pypy3.10", ...)]
    print(missing())                            # ["3.14", "pypy"]: wanted by the tests, not on this machine
"""
from __future__ import annotations

import functools
import os
import runpy

from support.source import PACKAGE

#: What a complete machine has. Newer versions are found and used as well.
WANTED = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "pypy")


@functools.lru_cache(maxsize=1)
def interpreters() -> list[tuple[str, str]]:
    """Every interpreter that is here, as (label, absolute path of the real binary), oldest first, PyPy last."""
    first = [path for path in os.environ.get("RAMET_TEST_PYTHONS", "").split(os.pathsep) if path]
    found: list[tuple[str, str]] = runpy.run_path(str(PACKAGE / "bootstrap/interpreters.py"))["interpreters"](first)
    return found


def missing() -> list[str]:
    """The wanted versions that this machine lacks, by label."""
    have = [label for label, _ in interpreters()]
    return [label for label in WANTED if label not in have and not (label == "pypy" and any("pypy" in h for h in have))]


def interpreter(label: str) -> str:
    """The path of one version. Raises KeyError if it isn't here."""
    return dict(interpreters())[label]
