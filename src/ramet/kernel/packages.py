"""What a package holds besides code, and the rarer questions about modules: late part of the kernel, and of ``importer``.

Its functions are methods of ``importer.Finder`` (see ``Finder.__getattr__``): they take the finder first. Any thread that
may fetch modules; not one that reads a link.
"""
from ramet.kernel import compat_late
from ramet.kernel.importer import BYTECODE, PACKAGE, content

MYPY = False
if MYPY:
    from typing import Any

    from ramet.kernel.importer import Finder


def is_package(finder, name):
    # type: (Finder, str) -> bool
    """Whether a module is a package."""
    record = finder._get(name)
    return bool(record and record[1] & PACKAGE)


def get_source(finder, name):
    # type: (Finder, str) -> Any
    """A module's source as text, for tracebacks, ``inspect`` and ``pdb``.

    It is asked for, once, when the module came as bytecode; None if it can't be had.
    """
    record = finder._get(name)
    if record and record[1] & BYTECODE:
        try:
            record = finder.obtain(name, "source")
        except Exception:
            return None     # who prints a traceback isn't helped by another one
    return record and compat_late.decode_source(content(record))


def get_data(finder, path):
    # type: (Finder, str) -> bytes
    """Package data isn't shipped."""
    raise IOError(2, "ramet doesn't ship package data", path)
