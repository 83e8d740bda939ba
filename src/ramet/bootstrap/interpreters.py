"""Which Python interpreters this machine has: one for each minor version, real binaries, no shims.

Looked for in this order: paths that the caller names, pyenv's versions, /usr/bin, /usr/local/bin, PATH. The first one
found of a version wins. For the demo and for tests; growing a node where no interpreter is named doesn't come here (the
first stage's search does that, over there). Starts each candidate once; any thread.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator

_NAME = re.compile(r"(python|pypy)(\d(\.\d+)?)?$")
_PROBE = (
    "import sys; sys.stdout.write('%s %d %d %s\\n' % ('pypy' if hasattr(sys, 'pypy_version_info') else 'cpython', "
    "sys.version_info[0], sys.version_info[1], sys.executable))"
)
_PROBE_TIMEOUT_S = 20


def interpreters(first: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Every interpreter that a node can run on.

    Args:
        first: paths to look at before all others.

    Returns:
        (label, absolute path) pairs such as ("2.7", "/usr/bin/python2.7"), ("pypy3.10", ...): oldest first, PyPy last.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    for candidate in [*first, *_pyenv_versions(), *_on_path()]:
        real = os.path.realpath(candidate)
        if real in seen:
            continue
        seen.add(real)
        label, path = _probe(candidate)
        if label and version_of(label) >= (2, 7) and not (3, 0) <= version_of(label) < (3, 6):
            found.setdefault(label, path)
    return sorted(found.items(), key=lambda item: (item[0].startswith("pypy"), version_of(item[0])))


def version_of(label: str) -> tuple[int, ...]:
    """The version in a label: (3, 10) for "3.10" and "pypy3.10"."""
    return tuple(int(part) for part in label.removeprefix("pypy").split("."))


def _pyenv_versions() -> Iterator[str]:
    root = os.environ.get("PYENV_ROOT")
    if not root and shutil.which("pyenv"):
        done = subprocess.run(["pyenv", "root"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        root = done.stdout.strip()
    root = root or os.path.expanduser("~/.pyenv")
    for folder in sorted(glob.glob(os.path.join(glob.escape(root), "versions", "*", "bin"))):
        for name in ("python", "pypy3", "pypy"):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                yield path
                break


def _on_path() -> Iterator[str]:
    for folder in ["/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(os.pathsep)]:
        if not os.path.isabs(folder) or os.path.basename(folder) == "shims":
            continue
        if os.path.exists(os.path.join(os.path.dirname(folder), "pyvenv.cfg")):
            continue    # a virtual environment: the interpreter behind it is found elsewhere
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) and os.access(folder, os.R_OK) else ():
            if _NAME.match(name):
                yield os.path.join(folder, name)


def _probe(path: str) -> tuple[str, str]:
    """Label and real path of an interpreter; two empty strings if the file isn't a working one."""
    try:
        argv = [path, "-SEc", _PROBE]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return "", ""
    found = re.fullmatch(r"(\w+) (\d+) (\d+) (.+)\n", done.stdout)
    if done.returncode or not found:
        return "", ""
    return ("pypy" if found[1] == "pypy" else "") + f"{found[2]}.{found[3]}", os.path.realpath(found[4])
