"""What a module needs imported, transitively: its import closure.

It is read from bytecode, so it is a forecast. What it misses is asked for later, at the price of a round trip; what it
has in excess costs bytes. So an import counts when it was seen to happen, or can be expected to:

====================  =========================================  ====================================
the statement stands  in a module that is imported here           in one that isn't
====================  =========================================  ====================================
at top level          if the module it names is imported here,   if the module can be found
                      too (else it was under ``TYPE_CHECKING``,
                      in a branch not taken, or failed), or is
                      the program's own; else if the module
                      imports native code that isn't sent: what
                      it may fall back to in its own package
in a function         of the program's own: if it can be found;  the same
                      of a library: if it is imported here
====================  =========================================  ====================================

What can't be found or sent is listed with the reason, so that ``try: import x`` costs no round trip over there.
Never descends into the standard library or ramet. Not thread-safe: the module server has a lock.
"""
from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from types import CodeType, ModuleType
from typing import Any

from ramet.kernel.importer import ABSENT
from ramet.modules import native, pack, scan
from ramet.modules.find import SHIPPED, Found, Kind, find, main_package, namespace_of
from ramet.modules.shelves import Shelves

#: What a module imports that asks for the metadata of distributions.
METADATA_MODULES = frozenset(("importlib.metadata", "importlib_metadata"))
_OF_IMPORTLIB = frozenset(("importlib.metadata", "importlib.resources"))

#: How many names are remembered that weren't found.
_ABSENT_MAX = 10_000

_NATIVE_ENDINGS = tuple(EXTENSION_SUFFIXES)

#: Begins the reason of a module that is here but isn't sent; another reason begins with ABSENT.
REFUSED = "refused: "


@dataclass(frozen=True)
class Closure:
    """A module and all that it needs.

    Attributes:
        own: the program's own modules, packages before what is in them.
        library: modules of installed distributions: they are sent where they aren't installed.
        absent: names that will be tried and can't be had, with the reason as it goes over the wire.
        standard: top-level names of the standard library that are imported; an older Python may lack some. Also those of
            ``importlib`` that need a part of the kernel.
        asks_metadata: modules that import ``importlib.metadata`` or its backport.
        order: all of it about as it is needed: a module behind those whose imports lead to it.
    """

    own: tuple[str, ...] = ()
    library: tuple[str, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)
    standard: tuple[str, ...] = ()
    asks_metadata: tuple[str, ...] = ()
    order: tuple[str, ...] = field(default=(), compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be sent."""
        return self.own + self.library


@dataclass(slots=True)
class _Needs:
    """What one module's own code needs: modules that are there, and names that aren't."""

    found: list[Found] = field(default_factory=list)
    missing: list[Found] = field(default_factory=list)
    standard: set[str] = field(default_factory=set)
    asks_metadata: bool = False


def reason_for(found: Found) -> str:
    """Why a module can't be sent, as it goes over the wire."""
    if found.kind is Kind.ABSENT:
        return ABSENT
    if found.kind in (Kind.DYNAMIC, Kind.STANDARD):
        return f"{ABSENT}: {found.reason}"
    return REFUSED + found.reason


class ClosureFinder:
    """Finds closures, and remembers what it found out about each module.

    What is remembered isn't looked at again, so a module that is edited while the program runs is seen as it was first.

    Args:
        shelves: has the import statements of modules that were looked at in earlier runs.

    Attributes:
        codes: by name, the code that was read to find the newest closure; who packs a module takes it out.
    """

    def __init__(self, shelves: Shelves | None = None) -> None:
        self.codes: dict[str, CodeType] = {}
        self._shelves = shelves or Shelves()
        self._found: dict[str, Found] = {}
        self._absent: dict[str, Found] = {}
        self._needs: dict[str, _Needs] = {}
        self._parents: dict[str, tuple[Found, ...]] = {}
        self._closures: dict[str, Closure] = {}

    def find(self, name: str) -> Found:
        """``find.find``, remembered; what wasn't found is looked for again for the next closure."""
        found = self._found.get(name) or self._absent.get(name)
        if found is None:
            found = find(name)
            if len(self._absent) >= _ABSENT_MAX:    # a node may ask for any number of names, also below `os` or `ramet`
                self._absent.clear()
            lasting = found.kind is not Kind.ABSENT and (found.kind not in (Kind.STANDARD, Kind.RAMET) or name in sys.modules)
            (self._found if lasting else self._absent)[name] = found
        return found

    def closure(self, name: str) -> Closure:
        """The closure of a module, which isn't imported for it. Empty, but for the reason, if it can't be sent."""
        known = self._closures.get(name)
        if known is None:
            known = self._closures[name] = self._close(name)
        return known

    def _close(self, root: str) -> Closure:
        self._absent.clear()
        self.codes.clear()
        seen: dict[str, Found] = {}
        standard: set[str] = set()
        asking: list[str] = []
        waiting = list(self._with_parents(root))
        while waiting:
            found = waiting.pop()
            if found.name in seen:
                continue
            seen[found.name] = found
            if found.kind in SHIPPED:
                needs = self._needs_of(found)
                standard |= needs.standard
                if needs.asks_metadata:
                    asking.append(found.name)
                waiting += reversed(needs.found)
                for missing in needs.missing:
                    seen.setdefault(missing.name, missing)
        names = {kind: tuple(sorted(f.name for f in seen.values() if f.kind is kind)) for kind in SHIPPED}
        absent = {f.name: reason_for(f) for f in seen.values() if f.kind not in (*SHIPPED, Kind.STANDARD, Kind.RAMET)}
        return Closure(names[Kind.OWN], names[Kind.LIBRARY], dict(sorted(absent.items())), tuple(sorted(standard)),
                       tuple(sorted(asking)), tuple(seen))  # fmt: skip

    def _with_parents(self, name: str) -> tuple[Found, ...]:
        """A module behind the packages that it is in. Remembered, since each name comes up ten times."""
        known = self._parents.get(name)
        if known is None:
            parent = name.rpartition(".")[0]
            known = (*(self._with_parents(parent) if parent else ()), self.find(name))
            if known[-1].kind is not Kind.ABSENT:
                self._parents[name] = known
        return known

    # ------------------------------------------------------------------ one module

    def _needs_of(self, found: Found) -> _Needs:
        needs = self._needs.get(found.name)
        if needs is None:
            needs = _Needs()
            for name, expected in self._wanted(found):
                self._add(needs, name, expected)
            if any(other.native or other.kind is Kind.NATIVE for other in (*needs.missing, *needs.found)):
                for name, expected in self._wanted(found, falls_back=True):
                    self._add(needs, name, expected)
            if found.name == "__main__" and main_package():
                self._add(needs, main_package(), True)
            self._needs[found.name] = needs     # not before it is whole
        return needs

    def _add(self, needs: _Needs, name: str, expected: bool) -> None:
        """Sort a module that is named by an import, with the packages that it is in.

        Not the main module: a library that looks into it (``import __main__``) doesn't need its code sent.
        """
        if name == "__main__":
            return
        needs.asks_metadata |= name in METADATA_MODULES
        for found in self._with_parents(name):
            if found.real_name and found.kind is Kind.DYNAMIC:
                self._add(needs, found.real_name, expected)     # an alias: send what it stands for
            if found.kind is Kind.STANDARD:
                needs.standard.update({found.name.partition(".")[0]} | {name} & _OF_IMPORTLIB)
            if found.kind in (Kind.STANDARD, Kind.RAMET):
                return
            if found.kind not in SHIPPED:
                needs.missing.append(found)
                return
            if expected or found.name in sys.modules:
                needs.found.append(found)

    def _wanted(self, found: Found, falls_back: bool = False) -> Iterator[tuple[str, bool]]:
        """The names that a module imports, each with whether it is expected even if it isn't imported here.

        Args:
            falls_back: what it does at its top level may turn out otherwise over there.
        """
        imported = namespace_of(found.name)
        if found.native and imported is not None:
            names = (*native.imported_by(found.name, found.path), *_modules_in(imported, found.name))
            yield from ((name, True) for name in names)
        statements = self._statements_in(found)
        if statements is None:
            return
        if imported is not None and str(imported.get("__file__")).endswith(_NATIVE_ENDINGS):
            falls_back = True       # here it runs compiled, over there from the source that lies beside it
        own = found.kind is Kind.OWN
        package = found.name if found.folders is not None else found.name.rpartition(".")[0]
        if found.name == "__main__":
            package = main_package()
        for statement in statements:
            base = _absolute(statement, package)
            if not base:
                continue
            instead = falls_back and base.partition(".")[0] == found.name.partition(".")[0]
            expected = own if statement.deferred else imported is None or instead
            yield base, expected or (own and self.find(base).kind is Kind.OWN)
            for name in self._names_from(base, statement.names):
                yield name, expected or (own and self.find(name).kind is Kind.OWN)
        if own and imported is not None:
            yield from ((name, True) for name in _modules_in(imported, found.name))

    def _statements_in(self, found: Found) -> list[scan.ImportStatement] | None:
        """The import statements of a module; None if nobody can tell."""
        if found.namespace or found.native:
            return None
        entry = self._shelves.entry(found)
        if entry.imports is None:
            code = pack.code_of(found)
            if code is not None:
                self.codes[found.name] = code
                entry.imports = scan.imports(code)
                entry.learnt()
        return entry.imports

    def _names_from(self, base: str, names: tuple[str, ...]) -> Iterator[str]:
        """Which of the names that are taken from a module are submodules of it."""
        if base == "importlib":
            yield from _OF_IMPORTLIB & {f"importlib.{name}" for name in names}
        if not names or self.find(base).folders is None:
            return
        namespace = namespace_of(base)
        if names == ("*",):
            listed = (namespace or {}).get("__all__", ())
            names = tuple(name for name in listed if isinstance(name, str)) if isinstance(listed, Iterable) else ()
        for name in names:
            whole = f"{base}.{name}"
            if whole in sys.modules:
                yield whole
            elif namespace is not None:
                if name not in namespace:
                    yield whole     # not imported yet, or the import fails
            elif self.find(whole).kind is not Kind.ABSENT:
                yield whole


def _absolute(statement: scan.ImportStatement, package: str) -> str:
    """The module that is named behind ``import`` or ``from``. "" if the dots lead out of the top."""
    if not statement.level:
        return statement.name
    parts = package.split(".")
    if not package or statement.level > len(parts):
        return ""
    base = ".".join(parts[: len(parts) - statement.level + 1])
    return f"{base}.{statement.name}" if statement.name else base


def _modules_in(namespace: dict[str, Any], name: str) -> Iterator[str]:
    """Modules that a module holds in its globals, but for its own submodules: some are imported by computed names."""
    for value in list(namespace.values()):
        if issubclass(type(value), ModuleType):
            other = ModuleType.__getattribute__(value, "__dict__").get("__name__")
            if isinstance(other, str) and other in sys.modules and not other.startswith(name + "."):
                yield other
