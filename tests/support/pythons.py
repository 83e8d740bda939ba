"""The interpreters to test with: what ``ramet/bootstrap/interpreters.py`` finds here, RAMET_TEST_PYTHONS first.

That file is run by itself, without the package around it, so that the kernel's tests run when a layer above is broken.

    for label, path in interpreters(): ...      # [("2.7", "/usr/bin/python2.7"), ("3.13", ...), ("pypy3.10", ...)]
    for python in everywhere(): ...             # those, and what only a root of another system has (see `in_roots`)
    print(missing())                            # ["3.15", "pypy"]: wanted by the tests, not on this machine
"""
from __future__ import annotations

import functools
import os
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from support.source import PACKAGE

#: What a complete machine has. Newer versions are found and used as well.
WANTED = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15", "pypy")

#: Where roots of other systems are, such as debootstrap makes: releases of Debian with other Pythons, most of them minimal.
ROOTS = Path(os.environ.get("RAMET_TEST_ROOTS", "/var/lib/rmt/roots"))

# Into such a root, with /proc and /dev, in a mount namespace of its own: nothing stays mounted, and the process stays one.
_ENTER = 'mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$@"'


class Python(NamedTuple):
    """An interpreter.

    Attributes:
        path: inside of its root, if it is in one.
        before: the words that lead there, for the connector `command`; none if it is simply here.
    """

    label: str
    path: str
    before: tuple[str, ...] = ()


def _finder() -> dict[str, Any]:
    return runpy.run_path(str(PACKAGE / "bootstrap/interpreters.py"))


@functools.lru_cache(maxsize=1)
def interpreters() -> list[tuple[str, str]]:
    """Every interpreter that is here, as (label, absolute path of the real binary), oldest first, PyPy last."""
    first = [path for path in os.environ.get("RAMET_TEST_PYTHONS", "").split(os.pathsep) if path]
    found: list[tuple[str, str]] = _finder()["interpreters"](first)
    return found


def in_roots() -> list[tuple[str, Path, str]]:
    """The interpreters in roots of other systems: (label, root, path inside)."""
    found = []
    for path in sorted(ROOTS.glob("*/usr/bin/*")):
        match = re.fullmatch(r"(?:python|(pypy))(\d\.\d+)", path.name)
        if match and os.access(path, os.X_OK):
            found.append(((match[1] or "") + match[2], path.parents[2], f"/usr/bin/{path.name}"))
    return found


def entering(root: Path) -> tuple[str, ...]:
    """The words that lead into a root. Only root can go there."""
    return ("unshare", "-m", "--propagation", "private", "sh", "-c", _ENTER, "sh", str(root))


@functools.lru_cache(maxsize=1)
def everywhere() -> list[Python]:
    """One interpreter of each version: those that are here, then those that only roots have, if they can be entered."""
    found = {label: Python(label, path) for label, path in interpreters()}
    for label, root, path in in_roots():
        if label not in found and _can_enter(root):
            found[label] = Python(label, path, entering(root))
    version_of = _finder()["version_of"]
    return sorted(found.values(), key=lambda python: (python.label.startswith("pypy"), version_of(python.label)))


@functools.cache
def _can_enter(root: Path) -> bool:
    try:
        done = subprocess.run([*entering(root), "true"], stdin=subprocess.DEVNULL, capture_output=True)
    except OSError:
        return False
    return os.geteuid() == 0 and done.returncode == 0


def missing() -> list[str]:
    """The wanted versions that this machine lacks, by label."""
    have = [python.label for python in everywhere()]
    return [label for label in labels(have) if label not in have]


def labels(have: list[str]) -> list[str]:
    """Those labels, and the wanted ones that aren't among them: for tests that name what they skip."""
    absent = [label for label in WANTED if label not in have and not (label == "pypy" and any("pypy" in h for h in have))]
    return [*have, *absent]


def interpreter(label: str) -> str:
    """The path of one version. Raises KeyError if it isn't here."""
    return dict(interpreters())[label]
