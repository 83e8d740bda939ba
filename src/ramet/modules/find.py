"""Where a module is and what it is, without importing it.

What the controller has imported is looked up in ``sys.modules``; the rest is asked of the finders on ``sys.meta_path``,
package by package, so that no parent package runs. Thread-safe: it reads only; a race with an import shows the state
before or after.
"""
from __future__ import annotations

import enum
import errno
import functools
import os
import pkgutil
import re
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import BuiltinImporter, ExtensionFileLoader, ModuleSpec, SourceFileLoader
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

NAME_CHARS_MAX = 500
_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
STAYS = "the standard library is always the node's own"


class Kind(enum.Enum):
    """What a module is, which decides whether it travels."""

    OWN = "the program's own"
    LIBRARY = "of an installed library"
    STANDARD = "of the standard library"
    RAMET = "of ramet itself"
    NATIVE = "a native extension module that can't be shipped"
    DYNAMIC = "made at run time"
    ABSENT = "not to be found"


SHIPPED = (Kind.OWN, Kind.LIBRARY)


@dataclass(frozen=True, slots=True)
class Found:
    """A module's whereabouts.

    Attributes:
        path: its file, or its folder for a namespace package; "" if it has none.
        folders: where its submodules are; None if it isn't a package.
        namespace: a package without a file of its own.
        loader: what can give its source or its code.
        real_name: under another name in ``sys.modules``: that name. Else its own.
        reason: for what doesn't travel: why, and what to do.
        native: a native extension module, which can be shipped.
    """

    name: str
    kind: Kind
    path: str = ""
    folders: tuple[str, ...] | None = None
    namespace: bool = False
    loader: Any = None
    real_name: str = ""
    reason: str = ""
    native: bool = False


def is_module_name(name: object) -> bool:
    """Whether this is a dotted name of bounded length. Nothing else is ever looked for.

    Hyphens are let through: what is imported by a computed name needn't be an identifier (``unicode17-0-0`` in rich).
    """
    return isinstance(name, str) and len(name) <= NAME_CHARS_MAX and _NAME.fullmatch(name) is not None


def is_standard(name: str) -> bool:
    """Whether a name is taken by the standard library, on any platform."""
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names or top in sys.builtin_module_names


def namespace_of(name: str) -> dict[str, Any] | None:
    """The globals of a module that is imported here, None if it isn't.

    Never by ``getattr``, which would run a module's own ``__getattr__`` or set off a lazy loader.
    """
    module = sys.modules.get(name)
    if not issubclass(type(module), ModuleType):     # by its own type: some claim another one
        return None
    namespace: dict[str, Any] = ModuleType.__getattribute__(module, "__dict__")
    return namespace


def find(name: str) -> Found:
    """Find a module by its name, which must be a module name."""
    if name == "ramet" or name.startswith("ramet."):
        return Found(name, Kind.RAMET, reason="ramet is in every node already, as much of it as runs there")
    if name == "__main__":
        return _find_main()
    if is_standard(name):
        return Found(name, Kind.STANDARD, reason=STAYS)
    imported = namespace_of(name)
    spec = _find_spec(name) if imported is None else imported.get("__spec__")
    if spec is None:
        return _without_spec(name, imported)
    if spec.name != name:
        reason = f"here it is another name of {spec.name}, given while the program ran"
        return Found(name, Kind.DYNAMIC, real_name=spec.name, reason=reason)
    folders = _folders(spec if imported is None else imported)
    return _classify(name, spec, folders)


def _classify(name: str, spec: ModuleSpec, folders: tuple[str, ...] | None) -> Found:
    loader: Any = spec.loader
    path = spec.origin or ""
    if isinstance(loader, LazyLoader):
        loader = loader.__dict__["loader"]
    if isinstance(loader, ExtensionFileLoader) or loader is BuiltinImporter:
        return _native(name, path, folders, loader)
    if folders and spec.origin is None:
        kind = Kind.OWN if all(kind_of_path(folder) is Kind.OWN for folder in folders) else Kind.LIBRARY
        return Found(name, kind, folders[0] + "/", folders, True)
    if loader is None:
        return _made_at_run_time(name)
    if not any(hasattr(loader, method) for method in ("get_code", "get_source", "get_data")):
        return Found(name, Kind.DYNAMIC, reason=f"its loader ({type(loader).__name__}) gives neither source nor code")
    kind = kind_of_path(path)
    return Found(name, kind, path, folders, False, loader, reason=STAYS if kind is Kind.STANDARD else "")


def _made_at_run_time(name: str) -> Found:
    """No code to send; but if it is the parent of modules that have files (pytest makes such), an empty package will do."""
    below = [other for other in list(sys.modules) if other.startswith(name + ".")]
    if any((namespace_of(other) or {}).get("__file__") for other in below):
        return Found(name, Kind.OWN, name.replace(".", "/") + "/", (), True)
    return Found(name, Kind.DYNAMIC, reason="it was made while the program ran, so there is no code to send")


def _native(name: str, path: str, folders: tuple[str, ...] | None, loader: Any) -> Found:
    kind = kind_of_path(path)
    if kind is Kind.STANDARD:
        return Found(name, Kind.STANDARD, path, reason=STAYS)
    source = os.path.join(os.path.dirname(path), os.path.basename(path).partition(".")[0] + ".py")
    if path and os.path.isfile(source):
        # mypyc and Cython in its pure mode leave the source that they compiled beside it
        return Found(name, kind_of_path(source), source, folders, False, SourceFileLoader(name, source))
    if path and sys.platform == "linux":
        return Found(name, kind, path, folders, False, loader, native=True)
    reason = (f"it is a native extension module ({os.path.basename(path) or 'built into the interpreter'}), and native code "
              f"is shipped from Linux to Linux only; install its distribution over there")  # fmt: skip
    return Found(name, Kind.NATIVE, path, reason=reason)


def _without_spec(name: str, imported: dict[str, Any] | None) -> Found:
    if imported is None:
        return Found(name, Kind.ABSENT)
    loader = imported.get("__loader__")
    if hasattr(loader, "get_source"):
        path = imported.get("__file__") or ""
        return Found(name, kind_of_path(path), path, _folders(imported), False, loader)
    spec = _find_spec(name)
    if spec is not None and spec.loader is not None:
        return _classify(name, spec, _folders(spec))    # a module put something else into sys.modules in its own place
    return _made_at_run_time(name)


def _find_main() -> Found:
    """The main module: a script, ``python -m``, or a folder or zip that is run. What is typed in has no file."""
    main = namespace_of("__main__") or {}
    spec, loader, path = main.get("__spec__"), main.get("__loader__"), main.get("__file__")
    if path and path[:1] + path[-1:] != "<>" and hasattr(loader, "get_data"):
        real_name = spec.name if spec is not None else "__main__"
        return Found("__main__", Kind.OWN, path, None, False, loader, real_name)
    if os.path.isfile(path or ""):
        return Found("__main__", Kind.OWN, str(path), None, False, None, "__main__")
    reason = ("the main module has no file: it was typed in, or given by -c or on stdin; put the function into a file, "
              "and import it")  # fmt: skip
    return Found("__main__", Kind.DYNAMIC, reason=reason)


def main_file() -> str | None:
    """The main module's ``__file__``; None if it has none."""
    path = (namespace_of("__main__") or {}).get("__file__")
    return path if isinstance(path, str) else None


def main_package() -> str:
    """The package in which the main module does relative imports: set when it was run by ``python -m``, else ""."""
    main = namespace_of("__main__") or {}
    return (getattr(main.get("__spec__"), "parent", "") or "") if main.get("__file__") else ""


def _folders(source: ModuleSpec | dict[str, Any]) -> tuple[str, ...] | None:
    """The search path of a package, from its spec or its globals."""
    folders: Any = source.get("__path__") if isinstance(source, dict) else source.submodule_search_locations
    if folders is None:
        return None
    # The path of a namespace package looks up its parent in sys.modules when it is iterated, where that may be missing.
    return tuple(map(str, getattr(folders, "_path", folders)))


def lacks_descriptor(error: Exception) -> bool:
    """Whether too many files were open, here or in the whole system: another time it may be otherwise."""
    cause = error.__cause__ if isinstance(error, ImportError) else error    # loaders' get_source raises that
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)


def _find_spec(name: str) -> ModuleSpec | None:
    """Ask the import system's finders, as it does itself, but without importing the parents."""
    parent = name.rpartition(".")[0]
    path: Iterable[str] | None = None
    if parent:
        package = namespace_of(parent) or _find_spec(parent)
        path = _folders(package) if package else None
        if path is None:
            return None
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        try:
            found: ModuleSpec | None = find_spec(name, path) if find_spec else None
        except KeyError:
            found = _find_namespace(name, path or ())
        except Exception as error:
            if lacks_descriptor(error):
                raise   # what is found now is remembered
            continue    # a finder that can't cope isn't one that has it
        if found is not None:
            return found
    return None


def _find_namespace(name: str, path: Iterable[str]) -> ModuleSpec | None:
    """A namespace package in one whose parent isn't imported: the import system's own finder needs the parent for it."""
    folders: list[str] = []
    for entry in path:
        finder: Any = pkgutil.get_importer(entry)
        part: ModuleSpec | None = finder.find_spec(name) if finder is not None else None
        if part is not None and part.loader is None:
            folders += part.submodule_search_locations or ()
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec if folders else None


@functools.cache
def _standard_folders() -> tuple[str, ...]:
    if getattr(sys, "frozen", False):
        return ()   # in a bundle all lies in one folder; the standard library is known by its names
    named = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.__file__)}
    named |= {os.path.realpath(folder) for folder in named}
    return tuple(folder + os.sep for folder in named)


@functools.cache
def _library_folders() -> tuple[str, ...]:
    named = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return tuple(folder + os.sep for folder in named)


def kind_of_path(path: str) -> Kind:
    """Whose a file is, by where it lies: OWN, LIBRARY or STANDARD."""
    parts = path.replace(os.sep, "/").split("/")
    if "site-packages" in parts or "dist-packages" in parts or path.startswith(_library_folders()):
        return Kind.LIBRARY
    return Kind.STANDARD if path.startswith(_standard_folders()) else Kind.OWN
