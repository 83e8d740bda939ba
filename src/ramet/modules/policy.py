"""Who may have which module, and why not.

By default a node may have what the functions called there need, any module of the same distributions and of what they
require (SQLAlchemy picks its dialects by name at run time), and the program's own modules. ``strict`` narrows that to
what was sent with a call. Patterns, ``ship prefer forbid stage``, change it for single packages. It decides by names and by
what ``find`` says; it must not know how anything is sent. Not thread-safe: the module server has a lock.
"""
from __future__ import annotations

import functools
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ramet.modules.find import Found, Kind


@dataclass(slots=True)
class Grant:
    """What one node may have since functions that need it were called there."""

    names: set[str] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)    # top-level names
    called: set[str] = field(default_factory=set)       # those of the names that the program sent, unasked

    def add(self, names: Iterable[str], library: Iterable[str], asked: bool = False) -> None:
        """Take in a closure.

        Args:
            asked: the node asked for it; else the program sent it, for a call.
        """
        self.names.update(names)
        self.libraries.update(name.partition(".")[0] for name in library)
        if not asked:
            self.called.update(names)


class Policy:
    """The rules of one tree.

    A pattern is a module's name, which stands for all below it, too, or one with wildcards: ``django``, ``acme.*_test``.

    Args:
        strict: a node gets what its calls carry, and nothing on request.

    Attributes:
        data_bytes_max: how large a data file of a package may be.
        staged_bytes_max: what the files of a staged package may take.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.ship: list[str] = []
        self.prefer: list[str] = ["cloudpickle"]    # what it writes, no other version of it reads
        self.forbid: list[str] = []
        self.stage: list[str] = []
        self.data_bytes_max = 1 << 24
        self.staged_bytes_max = 1 << 28

    def prefers(self, name: str) -> bool:
        """Whether the controller's module wins over one that is installed over there."""
        return _match(self.prefer, name) is not None

    def stages(self, name: str) -> bool:
        """Whether a module's package is written to a folder over there, whole."""
        return bool(self.stage) and _match(self.stage, name.partition(".")[0]) is not None

    def forbids(self, name: str) -> str | None:
        """Why a module is never sent, or None."""
        pattern = _match(self.forbid, name)
        return None if pattern is None else f"the program forbids it by tree.modules.forbid({pattern!r})"

    def ships(self, name: str) -> bool:
        """Whether the program said that nodes may have it."""
        return _match(self.ship, name) is not None

    def data_objection(self, packages: list[Found], grant: Grant) -> str | None:
        """Why a node doesn't get a package's data, or None. It is narrower than for modules.

        A folder without code is a namespace package, wherever it lies on the import path: such a one must have been sent
        with a call. So must a package of the program's own; of a library, it is enough that the node has it.

        Args:
            packages: the package, and those that it is in before it.
        """
        found = packages[-1]
        forbidden = self.forbids(found.name)
        if forbidden or self.ships(found.name):
            return forbidden
        allow = f"allow it by tree.modules.ship({found.name.partition('.')[0]!r})"
        if self.strict:
            return f"no call sends data, and the policy is strict; {allow}"
        names = grant.called if found.kind is Kind.OWN else grant.names
        if found.name in grant.called or any(one.name in names and not one.namespace for one in packages):
            return None
        return f"its package wasn't sent with any call; {allow}"

    def has_from_here(self, grant: Grant) -> frozenset[str]:
        """The distributions, by normalized name, of what a node may have: all that it is told of when it asks for all.

        One that is installed for editing doesn't list its modules, so the name counts.
        """
        return distributions_of({name.partition(".")[0] for name in grant.names}) | {normal(name) for name in grant.names}

    def metadata_objection(self, distribution: str, grant: Grant) -> str | None:
        """Why a node doesn't get a distribution's metadata, or None. Those that are required may be had like their modules."""
        known = self.has_from_here(grant)
        if distribution in known or (not self.strict and distribution in requirements_of(known)):
            return None
        return "it is no distribution of what was sent there, nor required by one"

    def objection(self, found: Found, grant: Grant) -> str | None:
        """Why a node that asks for a module doesn't get it, or None. The module is one that can be sent."""
        forbidden = self.forbids(found.name)
        if forbidden or _match(self.ship, found.name) or found.name in grant.names:
            return forbidden
        top = found.name.partition(".")[0]
        allow = f"allow it by tree.modules.ship({top!r})"
        if self.strict:
            return f"no call sent it, and the policy is strict; {allow}"
        if found.kind is Kind.OWN or top in grant.libraries:
            return None
        if distributions_of([top]) & requirements_of(distributions_of(grant.libraries)):
            return None
        return f"it isn't needed by any function that was called there, nor by what such a function needs; {allow}"


def module_of(parts: Sequence[str]) -> str:
    """The module to which a file belongs, code or data, by its path: it is forbidden if that is."""
    return ".".join((*parts[:-1], parts[-1].partition(".")[0])).removesuffix(".__init__")


def _match(patterns: list[str], name: str) -> str | None:
    for pattern in patterns:
        if fnmatchcase(name, pattern) or fnmatchcase(name, pattern + ".*"):
            return pattern
    return None


# ---------------------------------------------------------------------- distributions


@functools.lru_cache(maxsize=8)
def _distributions_by_top(path: tuple[str, ...]) -> dict[str, list[str]]:
    """Reads every distribution's list of files, so it is done once for an import path, when it is first needed."""
    return dict(importlib.metadata.packages_distributions())


def distributions_of(tops: Iterable[str]) -> frozenset[str]:
    """The installed distributions that top-level names belong to, normalized."""
    known = _distributions_by_top(tuple(sys.path))
    return frozenset(normal(name) for top in tops for name in known.get(top, ()) if name)   # one half removed has none


def requirements_of(distributions: frozenset[str]) -> frozenset[str]:
    """These distributions and all that they require, transitively and with extras: those are picked at run time."""
    reached: set[str] = set()
    waiting = list(distributions)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _required_by(name)
    return frozenset(reached)


@functools.cache
def _required_by(distribution: str) -> tuple[str, ...]:
    try:
        lines = importlib.metadata.requires(distribution) or ()
    except importlib.metadata.PackageNotFoundError:
        return ()
    found = (re.match(r"\s*([\w.-]+)", line) for line in lines)
    return tuple(normal(match[1]) for match in found if match)


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
