"""Which Python interpreters this machine has: one for each minor version, real binaries, no shims.

Looked for in this order: what RAMET_TEST_PYTHONS names (paths, separated like PATH), pyenv's versions, /usr/bin,
/usr/local/bin, PATH. The first one found of a version wins.

    for label, path in interpreters(): ...      # [("2.7", "/usr/bin/python2.7"), ("3.13", ...), ("pypy3.10", ...)]
    print(missing())                            # ["3.14", "pypy"]: wanted by the tests, not on this machine
"""
from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
from collections.abc import Iterator

#: What a complete machine has. Newer versions are found and used as well.
WANTED = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "pypy")

_NAME = re.compile(r"(python|pypy)(\d(\.\d+)?)?$")
_PROBE = (
    "import sys; sys.stdout.write('%s %d %d %s\\n' % ('pypy' if hasattr(sys, 'pypy_version_info') else 'cpython', "
    "sys.version_info[0], sys.version_info[1], sys.executable))"
)


def _pyenv_versions() -> Iterator[str]:
    root = os.environ.get("PYENV_ROOT")
    if not root and shutil.which("pyenv"):
        done = subprocess.run(["pyenv", "root"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        root = done.stdout.strip()
    root = root or os.path.expanduser("~/.pyenv")
    for folder in sorted(glob.glob(os.path.join(root, "versions", "*", "bin"))):
        for name in ("python", "pypy3", "pypy"):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                yield path
                break


def _candidates() -> Iterator[str]:
    yield from filter(None, os.environ.get("RAMET_TEST_PYTHONS", "").split(os.pathsep))
    yield from _pyenv_versions()
    for folder in ["/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(os.pathsep)]:
        if not os.path.isabs(folder) or os.path.basename(folder) == "shims":
            continue
        if os.path.exists(os.path.join(os.path.dirname(folder), "pyvenv.cfg")):
            continue    # a virtual environment: the interpreter behind it is found elsewhere
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if _NAME.match(name):
                yield os.path.join(folder, name)


def _probe(path: str) -> tuple[str, str] | None:
    """Label and real path of an interpreter, or None if the file isn't a working one."""
    try:
        argv = [path, "-SEc", _PROBE]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.fullmatch(r"(\w+) (\d+) (\d+) (.+)\n", done.stdout)
    if done.returncode or not found:
        return None
    label = ("pypy" if found[1] == "pypy" else "") + found[2] + "." + found[3]
    return label, os.path.realpath(found[4])


def _order(label: str) -> tuple[bool, list[int]]:
    numbers = label.removeprefix("pypy")
    return label.startswith("pypy"), [int(part) for part in numbers.split(".")]


@functools.lru_cache(maxsize=1)
def interpreters() -> list[tuple[str, str]]:
    """Every interpreter that is here, as (label, absolute path of the real binary), oldest first, PyPy last."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for candidate in _candidates():
        real = os.path.realpath(candidate)
        if real in seen:
            continue
        seen.add(real)
        probed = _probe(candidate)
        if probed is not None and (probed[0].startswith("pypy") or _order(probed[0])[1] >= [2, 7]):
            found.setdefault(*probed)
    return sorted(found.items(), key=lambda item: _order(item[0]))


def missing() -> list[str]:
    """The wanted versions that this machine lacks, by label."""
    have = [label for label, _ in interpreters()]
    return [label for label in WANTED if label not in have and not (label == "pypy" and any("pypy" in h for h in have))]


def interpreter(label: str) -> str:
    """The path of one version. Raises KeyError if it isn't here."""
    return dict(interpreters())[label]
