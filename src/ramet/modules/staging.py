"""Packages that must have files over there: all of a distribution, or of a package's folder, as one record.

The module's own record leads to it as that of a native module does: a few lines of Python that call ``kernel/staged.py``. It
must not know which node asks or why. Not thread-safe: the module server has a lock.
"""
from __future__ import annotations

import functools
import importlib.metadata
import os
import zlib
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

from ramet import codec
from ramet.kernel.errors import ModuleNotShippedError
from ramet.kernel.importer import NATIVE, SCHEME, ZIPPED
from ramet.kernel.staged import STAGED
from ramet.modules import native
from ramet.modules.find import Found, lacks_descriptor
from ramet.modules.policy import Policy, distributions_of, module_of

#: (wire) Of a record's flags, besides NATIVE: its package is written to a folder.
STAGES = 64
_LEVEL = 1
_SKIPPED = (".pyc", ".pyo")


def packed(found: Found, wins: bool, policy: Policy) -> tuple[int, bytes]:
    """What a staged package's own record holds, the same in every form: flags and source.

    Raises:
        ModuleNotShippedError: its files can't be had, or are too many.
    """
    size, bytes_max = size_of(found, policy), policy.staged_bytes_max
    if size > bytes_max:
        raise ModuleNotShippedError(f"{found.name} is to be staged, and its files take {size} bytes, over the limit of "
                                    f"{bytes_max}: raise tree.modules.staged_bytes_max")
    return NATIVE | STAGES, f"from ramet.kernel import staged\nspec = staged.put(__name__, {wins}, {size})\n".encode()


def size_of(found: Found, policy: Policy) -> int:
    """What a package's files take, in bytes.

    Raises:
        ModuleNotShippedError: it has none.
    """
    return sum(map(native.size_of, _allowed(found, policy).values()))


def record(found: Found, policy: Policy) -> list[Any]:
    """All of a package's files, but for those of modules that are forbidden.

    Raises:
        ModuleNotShippedError: they can't be read.
    """
    return _record(found, tuple(_allowed(found, policy).items()))


@functools.lru_cache(maxsize=32)
def _record(found: Found, allowed: tuple[tuple[str, str], ...]) -> list[Any]:
    files = []
    for inside, path in allowed:
        try:
            with open(path, "rb") as file:
                files.append([inside, file.read(), *_needs(inside, path)])
        except OSError as error:
            if lacks_descriptor(error):
                raise
            raise ModuleNotShippedError(f"{path} can't be read: {error}") from None
    # Those of pure Python come first: over there they stand in for native ones that don't fit.
    files.sort(key=lambda file: (file[2] is not None, file[0]))
    data = zlib.compress(b"".join(map(bytes, codec.encode(files))), _LEVEL)
    return [STAGED + found.name, NATIVE | ZIPPED, SCHEME + found.path, data]


def _allowed(found: Found, policy: Policy) -> dict[str, str]:
    files = _files(found.name, found.path, found.folders)
    return {inside: path for inside, path in files.items() if not policy.forbids(module_of(inside.split("/")))}


@functools.lru_cache(maxsize=256)
def _files(name: str, path: str, folders: tuple[str, ...] | None) -> dict[str, str]:
    """The files of the distributions that a top-level module belongs to, by their paths over there; else those beside it."""
    found: dict[str, str] = {}
    for distribution in sorted(distributions_of([name])):
        for file in importlib.metadata.files(distribution) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts and file.suffix not in _SKIPPED:
                found[str(file)] = str(file.locate())
    if not any(inside == f"{name}.py" or inside.startswith(f"{name}/") for inside in found):     # installed for editing
        found.update(_beside(name, path, folders))
    found = {inside: place for inside, place in found.items() if os.path.isfile(place)}
    if not found:
        raise ModuleNotShippedError(f"{name} is to be staged, and has no files here: it was imported from {path or 'nowhere'}")
    return found


def _beside(name: str, path: str, folders: tuple[str, ...] | None) -> Iterator[tuple[str, str]]:
    if folders is None:
        yield os.path.basename(path), path

    def fail(error: OSError) -> None:
        """What is found now is remembered; a folder that may not be read isn't missed."""
        if lacks_descriptor(error):
            raise error
    for folder in folders or ():
        for place, below, names in os.walk(folder, onerror=fail):
            below[:] = [each for each in below if each != "__pycache__" and not each.startswith(".")]
            for file in names:
                if not file.endswith(_SKIPPED) and not file.startswith("."):
                    whole = os.path.join(place, file)
                    yield f"{name}/{os.path.relpath(whole, folder)}", whole


def _needs(inside: str, path: str) -> tuple[dict[str, Any] | None, str]:
    """What a file asks of an interpreter if it is a native module, and the module's name."""
    suffix = next((suffix for suffix in EXTENSION_SUFFIXES if inside.endswith(suffix)), None)
    if suffix is None or ".libs/" in inside:
        return None, ""
    name = inside.removesuffix(suffix).replace("/", ".")
    try:
        described = native.describe(name, os.path.realpath(path))
    except ModuleNotShippedError:
        return None, ""     # a library, perhaps; who loads it will see
    return native.needs_of(described), name
