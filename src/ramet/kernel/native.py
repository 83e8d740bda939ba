"""Native extension modules in a node: whether one fits this interpreter, and loading it from memory.

Late part of the kernel, and of ``importer``. A native module's record holds Python code that says what the module asks for
(``modules/native.py``); it calls ``check``. The native code itself is a second record, in NATIVE_FORM, and is loaded from an
anonymous memory file: no name in any folder, gone with the process. Any thread that may fetch modules.
"""
import itertools
import os
import sys

from ramet.kernel import compat, compat_late
from ramet.kernel.errors import ModuleNotShippedError
from ramet.kernel.importer import PACKAGE, _path, content

MYPY = False
if MYPY:
    from typing import Any, Dict, Iterator, Optional, Set

    from ramet.kernel.importer import Finder, Record

NATIVE_FORM = "native"  # (wire) the form of records that hold native code
LIBRARY = "lib/"        # (wire) before the name of a shared library, which is no module

FOLDER = "/proc/self/fd/"

_numbers = itertools.count(1)
_paths = {}  # type: Dict[str, str]     # of modules that were loaded
_libraries = set()  # type: Set[str]    # that were loaded
_lock = compat.new_lock()   # held while these are loaded


def check(name, needs):
    # type: (str, Dict[str, Any]) -> None
    """Compare what a module asks for with what is here.

    Raises:
        ModuleNotShippedError: it doesn't fit; an ImportError, so that a package's fallback is used.
    """
    differing = list(differences(needs))
    if differing:
        since = " %d.%d or newer" % tuple(needs["since"]) if needs["python"] == "abi3" else ""
        raise ModuleNotShippedError(
            "%s is native code for %s%s on %s with %s%s; but here (%s) is %s. Install it here, or use a Python here that "
            "is like the controller's" % (name, needs["python"], since, needs["platform"], needs["libc"],
                                          " or newer" if needs["libc"] != "musl" else "", sys.executable,
                                          ", ".join(differing)))


def differences(needs):
    # type: (Dict[str, Any]) -> Iterator[str]
    """What is other here than a native module asks for, in words."""
    suffixes = compat_late.extension_suffixes()
    tag = getattr(getattr(sys, "implementation", None), "cache_tag", None) or "cpython-%d%d" % sys.version_info[:2]
    tag += getattr(sys, "abiflags", "")
    if needs["python"] == "abi3":
        if ".abi3.so" not in suffixes or compat_late.is_older(needs["since"]):
            yield tag
    elif needs["python"] != tag:
        yield tag
    if target() not in (needs["target"], None) or not sys.platform.startswith("linux"):
        yield "%s-%s" % (sys.platform, os.uname()[4])
    have = libc()
    if not newer_or_same(have, needs["libc"]):
        yield have


def target():
    # type: () -> Optional[str]
    """For which machine this interpreter is built, as its file says; None if that can't be read."""
    try:
        with open(sys.executable, "rb") as file:
            head = file.read(20)
    except (OSError, IOError):
        return None
    return "".join("%02x" % byte for byte in bytearray(head[4:6] + head[18:20])) if head[:4] == b"\x7fELF" else None


def libc():
    # type: () -> str
    """This machine's C library: "glibc 2.36", or "musl" for what isn't glibc."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "musl"
    except (ValueError, OSError, AttributeError):
        return "musl"


def newer_or_same(have, wanted):
    # type: (str, str) -> bool
    """Whether one C library does for what asks for another: the same kind, and no older."""
    kind, _, version = have.partition(" ")
    wanted_kind, _, wanted_version = wanted.partition(" ")
    return kind == wanted_kind and _numbers_of(version) >= _numbers_of(wanted_version)


def _numbers_of(version):
    # type: (str) -> Any
    return [int(number) for number in version.split(".") if number.isdigit()]


# ---------------------------------------------------------------------- finding and loading


def spec(finder, record):
    # type: (Finder, Record) -> Any
    """The spec of a native module, or None: it doesn't fit, and nobody imports it or others are to be asked yet.

    Raises:
        ModuleNotShippedError: it is to be imported, and doesn't fit.
    """
    name = record[0]
    scope = {"__name__": name}  # type: Dict[str, Any]
    try:
        exec(finder.get_code(name), scope)
    except ImportError:
        if finder.front or not _is_imported(name):
            return None
        raise
    if "spec" in scope:     # `staged` has made it
        return scope["spec"]
    found = compat.ModuleSpec(name, NativeLoader(finder, record, scope["needs"]), origin=record[2])
    found.has_location = True
    if record[1] & PACKAGE:
        found.submodule_search_locations = _path(record)
    return found


def _is_imported(name):
    # type: (str) -> bool
    return compat_late.asker(name) > 1


class NativeLoader(compat_late.ExtensionFileLoader):  # type: ignore[misc]
    """Loads a native module from memory."""

    def __init__(self, finder, record, needs):
        # type: (Finder, Record, Dict[str, Any]) -> None
        compat_late.ExtensionFileLoader.__init__(self, record[0], record[2])
        self.finder = finder
        self.needs = needs

    def create_module(self, spec):
        # type: (Any) -> Any
        """Load the module's library, and let it make the module object."""
        if self.needs["libraries"]:
            with _lock:
                self._load_libraries()
        # Where it was loaded before (and taken out of sys.modules), its own path leads to that library; a second one would
        # have its own globals. glibc compares paths before it looks for the file, which is gone.
        path = _paths.get(spec.name)
        if path and libc() != "musl":
            return self._create(spec, path)
        file = MemoryFile(self.fetch(spec.name), spec.name)
        try:
            module = self._create(spec, file.path)
        finally:
            os.close(file.fd)
        _paths[spec.name] = file.path
        return module

    def fetch(self, name):
        # type: (str) -> Any
        """A file's bytes."""
        record = self.finder.obtain(name, NATIVE_FORM)
        if not record:
            raise _cannot(self.name, "the controller sends no %s: %s" % (
                name, self.finder.cache.reasons.get(name + "/" + NATIVE_FORM)))
        return content(record)

    def _create(self, spec, path):
        # type: (Any, str) -> Any
        inner = compat.ModuleSpec(spec.name, self, origin=path)
        inner.submodule_search_locations = spec.submodule_search_locations
        try:
            module = compat_late.create_dynamic(inner)
        except ImportError:
            error = sys.exc_info()[1]
            if getattr(error, "path", None) != path:
                raise   # of its own code
            raise _cannot(spec.name, str(error).replace(path, spec.origin))
        module.__file__ = spec.origin
        return module

    # ------------------------------------------------------------------ the shared libraries that lie beside it

    def _load_libraries(self):
        # type: () -> None
        """Load what isn't yet, in order. The C library's loader knows each by its name from then on."""
        try:
            from _ctypes import dlopen
        except ImportError:
            raise _cannot(self.name, "it needs shared libraries that lie beside it, and this Python has no ctypes to load them")
        for library in self.needs["libraries"]:
            if library in _libraries:
                continue
            files = {}  # type: Dict[str, Any]
            try:
                self._open(library, files)
                dlopen(files[library].path, 2)      # RTLD_NOW
            except OSError:
                raise _cannot(self.name, "%s can't be loaded: %s" % (library, sys.exc_info()[1]))
            finally:
                for file in files.values():
                    if file:
                        os.close(file.fd)
            _libraries.update(files)

    def _open(self, library, files):
        # type: (str, Dict[str, Any]) -> None
        """Make a library's memory file, and those of others that it needs and that aren't loaded.

        There are such only where libraries need each other. By their names they couldn't be found, so in its copy here the
        names are replaced by paths of the same length.
        """
        files[library] = None
        data = self.fetch(LIBRARY + library)
        for other in self.needs["libraries"]:
            name = b"\0" + other.encode("utf-8") + b"\0"
            if other != library and other not in _libraries and name in data:
                if other not in files:
                    self._open(other, files)
                if files[other]:
                    data = data.replace(name, b"\0" + files[other].path.encode("utf-8") + b"\0")
        files[library] = MemoryFile(data, self.name, len(library) if len(files) > 1 else 0)


class MemoryFile(object):
    """A file without a name, for as long as it takes to load it; who made it closes ``fd``.

    Its path is one that was never used before: the C library's loader takes the same path for the same library, even though
    another file has its descriptor by now.

    Args:
        wanted: the module for which it is loaded.
        length: of the path, if that matters.
    """

    def __init__(self, data, wanted, length=0):
        # type: (Any, str, int) -> None
        number = next(_numbers)
        try:
            self.fd = compat_late.memory_file(wanted)
        except (OSError, ImportError, AttributeError):
            raise _cannot(wanted, "this system or this Python makes no anonymous memory file: %s" % sys.exc_info()[1])
        try:
            left = memoryview(data)
            while len(left):
                left = left[os.write(self.fd, left):]
            room = length - len(FOLDER) - len(str(self.fd))
            filling = "/" * number
            if length:
                filling = "".join("./" if number >> bit & 1 else "//" for bit in range(room // 2)) + "/" * (room % 2)
                if number >> room // 2:
                    raise _cannot(wanted, "it needs libraries that need each other, and their names are too short for this")
            self.path = "%s%s%d" % (FOLDER, filling, self.fd)
            if not os.path.exists(self.path):
                raise _cannot(wanted, "/proc isn't mounted here, and without it a memory file can't be loaded")
        except BaseException:
            os.close(self.fd)
            raise


def _cannot(name, why):
    # type: (str, str) -> ModuleNotShippedError
    return ModuleNotShippedError("%s is native code that can't be loaded here (%s): %s. Install it here" % (
        name, sys.executable, why))
