"""Native extension modules as records: what each asks of the interpreter that loads it, and the bytes of its files.

A native module is sent in two steps. Its ordinary record holds no native code, but a few lines of Python: what the module
asks of an interpreter. The node itself compares (``kernel/native.py``), and then takes the code, a record in the form
NATIVE_FORM, or says what differs. The shared libraries that lie beside a module (auditwheel puts them into ``NAME.libs``)
are records of that form as well, under names that no module can have.

It must not know which node asks or why. Only files that belong to a module which the server was asked for by name are
read. Any thread.
"""
from __future__ import annotations

import functools
import importlib.metadata
import mmap
import os
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramet.kernel.errors import ModuleNotShippedError
from ramet.kernel.importer import NATIVE, SCHEME, ZIPPED
from ramet.kernel.native import LIBRARY, libc
from ramet.modules import elf
from ramet.modules.find import Found, Kind, kind_of_path, lacks_descriptor, namespace_of
from ramet.modules.policy import distributions_of

Record = list[Any]

#: Of zlib: native code shrinks to 45 % at 60 MB/s; the best level gives 40 % at 12 MB/s.
_LEVEL = 1

#: The needs of a module of the interpreter's stable ABI.
STABLE = "abi3"


@dataclass(frozen=True, slots=True)
class Native:
    """What a native module asks of an interpreter.

    Attributes:
        python: the interpreter's ABI, such as "cpython-311"; or STABLE.
        since: for STABLE: the first version of Python that will do.
        target: see ``elf.Elf``.
        platform: system and machine: "linux-x86_64".
        libc: "glibc 2.17": that or newer; or "musl".
        libraries: shared libraries that lie beside it, by the names under which they are needed, each behind those that it
            needs itself.
    """

    python: str
    since: tuple[int, int]
    target: bytes
    platform: str
    libc: str
    libraries: dict[str, str]


    def wanted(self) -> str:
        """It in words."""
        python = self.python if self.python != STABLE else "{} of Python {}.{} or newer".format(STABLE, *self.since)
        return f"{python}, {self.platform}, {self.libc}{' or newer' if self.libc != 'musl' else ''}"


def abi() -> str:
    """This interpreter's ABI, as the names of extension modules have it."""
    return f"{sys.implementation.cache_tag}{sys.abiflags}"


@functools.lru_cache(maxsize=4096)
def describe(name: str, path: str) -> Native:
    """What a native module that lies in a file asks for.

    Raises:
        ModuleNotShippedError: it can't be read, or is of a kind that isn't shipped.
    """
    own = _read(path)
    stable = path.endswith(f".{STABLE}.so")
    libraries = dict(_libraries(path, own, _root(name, path), [], {os.path.basename(path)}))
    all_of_it = [own, *map(_read, libraries.values())]
    needed = {library for one in all_of_it for library in one.needed}
    if "libc.so.6" in needed or (
            libc() != "musl" and not any(library.startswith("libc.") for library in needed)):
        c_library = "glibc {}.{}".format(*max((2, 0), *(one.glibc for one in all_of_it)))
    else:
        c_library = "musl"
    since = _stable_since(name) if stable else (0, 0)
    return Native(STABLE if stable else abi(), since, own.target, f"linux-{own.machine}", c_library, libraries)


def _read(path: str) -> elf.Elf:
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return elf.read(data)
    except (OSError, ValueError) as error:
        if lacks_descriptor(error):
            raise   # what is said now is remembered, here and over there; so everywhere below
        raise ModuleNotShippedError(f"{os.path.basename(path)} isn't a shared library that can be read: {error}") from None


def _stable_since(name: str) -> tuple[int, int]:
    """For which Python a module of the stable ABI was built: the tags of its wheel say it, its file doesn't."""
    for tags in _wheels(name.partition(".")[0]):
        versions = [int(version) for version in re.findall(r"^Tag: [\w.]*?cp3(\d+)[\w.]*-abi3-", tags, re.MULTILINE)]
        if versions:
            return 3, min(versions)
    return sys.version_info[:2]


def _wheels(top: str) -> Iterator[str]:
    """The WHEEL files of the distributions that may hold a top-level module; most are called like it, and quickly found."""
    try:
        distribution = importlib.metadata.distribution(top)
        if any(file.parts[:1] == (top,) for file in distribution.files or ()):
            yield distribution.read_text("WHEEL") or ""
            return
    except importlib.metadata.PackageNotFoundError:
        pass
    for name in distributions_of([top]):
        yield importlib.metadata.distribution(name).read_text("WHEEL") or ""


def _root(name: str, path: str) -> str:
    """The folder of the installation in which a module lies: nothing outside of it is read for its sake."""
    levels = name.count(".") + (os.path.basename(path).split(".")[0] == "__init__")
    return str(Path(os.path.realpath(path)).parents[levels])


def _libraries(path: str, library: elf.Elf, root: str, search: list[str], seen: set[str]) -> Iterator[tuple[str, str]]:
    """The shared libraries of the same installation that one needs: (name, file), dependencies first, where they go in no
    circle. What has been ``seen`` isn't given again.
    """
    origin = os.path.dirname(os.path.realpath(path))
    folders = [os.path.realpath(re.sub(r"\$(ORIGIN|{ORIGIN})", origin, entry)) for entry in library.search if "ORIGIN" in entry]
    search = folders + search
    for name in library.needed:
        for folder in () if name in seen else search:
            file = os.path.join(folder, name)
            if "/" not in name and os.path.realpath(file).startswith(root + os.sep) and os.path.isfile(file):
                seen.add(name)
                yield from _libraries(file, _read(file), root, search, seen)
                yield name, file
                break


# ---------------------------------------------------------------------- records


def packed(found: Found) -> tuple[int, bytes]:
    """What the ordinary record of a native module holds, the same in every form: flags; and as Python source, what it asks for.

    Raises:
        ModuleNotShippedError: see ``describe``.
    """
    needs = needs_of(describe(found.name, found.path))
    return NATIVE, f"needs = {needs!r}\nfrom ramet.kernel import native\nnative.check(__name__, needs)\n".encode()


def needs_of(native: Native) -> dict[str, Any]:
    """What ``kernel/native.py`` compares."""
    return {"python": native.python, "since": native.since, "target": native.target.hex(), "platform": native.platform,
            "libc": native.libc, "libraries": list(native.libraries)}


def files(found: Found) -> Iterator[tuple[str, str]]:
    """The records in NATIVE_FORM that loading a native module takes: (name, file), in the order of loading.

    Raises:
        ModuleNotShippedError: see ``describe``.
    """
    for name, path in describe(found.name, found.path).libraries.items():
        yield LIBRARY + name, path
    yield found.name, found.path


def size_of(path: str) -> int:
    """Of a file, in bytes; 0 if it is gone, which shows when it is read."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


@functools.lru_cache(maxsize=256)
def file_record(name: str, path: str) -> Record:
    """A file of native code as a record.

    Raises:
        ModuleNotShippedError: it can't be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        if lacks_descriptor(error):
            raise
        raise ModuleNotShippedError(f"{path} can't be read: {error}") from None
    return [name, NATIVE | ZIPPED, SCHEME + path, zlib.compress(data, _LEVEL)]


def seems_to_fit(found: Found, facts: dict[str, Any], form: str) -> bool:
    """Whether it is worth sending a native module ahead. What decides is the node's own comparison.

    Args:
        facts: of HELLO; empty if it hasn't come yet.
        form: the node's.
    """
    try:
        native = describe(found.name, found.path)
    except ModuleNotShippedError:
        return False
    version = facts.get("hexversion")
    if isinstance(version, int):
        python = f"{str(facts.get('implementation')).lower()}-{version >> 24}{version >> 16 & 255}{facts.get('abiflags')}"
        here = version >> 24, version >> 16 & 255
        if facts.get("platform") != native.platform:
            return False
    else:
        matched = re.fullmatch(r"cp3(\d+)", form)
        python, here = f"cpython-3{matched[1]}" if matched else "", (3, int(matched[1]) if matched else 0)
    return python == native.python or (native.python == STABLE and python.startswith("cpython-") and here >= native.since)


# ---------------------------------------------------------------------- what native code imports


def imported_by(name: str, path: str) -> Iterator[str]:
    """Modules that a native module which is imported here is expected to import: its code can't be read for it.

    Those beside it in its package that are imported here, and native ones at the top level that its file names.
    """
    package = name.rpartition(".")[0]
    alone = []
    for other in list(sys.modules):
        if package and other.rpartition(".")[0] == package and other != name:
            yield other
        elif "." not in other and other != name:
            file = str((namespace_of(other) or {}).get("__file__"))
            if file.endswith(".so") and kind_of_path(file) is not Kind.STANDARD:
                alone.append(other)
    try:
        data = Path(path).read_bytes() if alone else b""    # in a memory map, `find` takes twenty times as long
    except OSError as error:
        if lacks_descriptor(error):
            raise
        return
    yield from (other for other in alone if other.encode() in data)
