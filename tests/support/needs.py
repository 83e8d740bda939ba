"""Skips by name: what a test needs and this machine lacks. Looks first, so that nothing is skipped that could run."""
from __future__ import annotations

import importlib.metadata
import os
import shutil

import pytest

from support import pythons

# The last is where Debian keeps the daemon of Incus.
_SYSTEM_FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin:/usr/libexec/incus"


def lacking(what: str) -> None:
    """Skip the running test: ``what`` isn't on this machine."""
    pytest.skip(f"not on this machine: {what}")


def program(name: str) -> str:
    """The path of a program, also one that only root's PATH has. Skips the test where it isn't installed."""
    path = shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)
    if path is None:
        lacking(name)
    assert path is not None
    return path


def root() -> None:
    """Skip the test unless it runs as root."""
    if os.geteuid() != 0:
        lacking("root (this run is an ordinary user's)")


def python(label: str) -> str:
    """The path of an interpreter by version ("2.7", "3.13", "pypy"). Skips the test where there is none."""
    for have, path in pythons.interpreters():
        if have == label or (label == "pypy" and have.startswith("pypy")):
            return path
    lacking(f"python {label}")
    raise AssertionError("not reached")


def python_anywhere(label: str) -> pythons.Python:
    """An interpreter by its label, of this system or in a root that can be entered. Skips the test where there is none."""
    for have in pythons.everywhere():
        if have.label == label or (label == "pypy" and have.label.startswith("pypy")):
            return have
    lacking(f"python {label}")
    raise AssertionError("not reached")


def distribution(name: str, who: str = "make packages") -> str:
    """The version of an installed distribution. Skips the test where it isn't installed, and says who installs it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        lacking(f"the package {name} ({who} installs it)")
    raise AssertionError("not reached")
