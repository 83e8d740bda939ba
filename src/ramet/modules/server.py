"""The module server: answers what of the program's modules a node needs, may have, and gets.

It must not know of links, messages or what was sent: the caller keeps account of that by the names it is given.

    closure = server.closure("app.tasks")                        # what a call of a function there needs
    server.grant(node_id, closure)                               # so that node may have it, and what belongs to it
    names = server.lacking(closure, installed_there)
    records, absent = server.records(names, form)
    absent |= server.absent(closure, form)

Nothing is ever imported because a node asked for it. Thread-safe: one lock.
"""
from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Container, Iterable
from typing import Any

from ramet.kernel import compat
from ramet.kernel.errors import ModuleNotShippedError, ValueNotPortableError
from ramet.kernel.importer import ABSENT
from ramet.kernel.native import NATIVE_FORM
from ramet.kernel.staged import STAGED
from ramet.modules import native, pack, staging
from ramet.modules.answers import Data, DataServer
from ramet.modules.by_value import Coder
from ramet.modules.closure import REFUSED, Closure, ClosureFinder, reason_for
from ramet.modules.find import NAME_CHARS_MAX, SHIPPED, Found, Kind, is_module_name
from ramet.modules.policy import Grant, Policy
from ramet.modules.shelves import Shelves

#: The first Python that knows the names of its whole standard library; an older one has to be told.
_KNOWS_STANDARD_NAMES = 10


class ModuleServer:
    """The modules of one tree: ``tree.modules``.

    Args:
        policy: who may have what; default: what calls need, and what belongs to that.

    Thread-safety: any thread may call anything.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.coder = Coder()
        self._lock = threading.RLock()
        self._shelves = Shelves()
        self._finder = ClosureFinder(self._shelves)
        self._grants: dict[int, Grant] = {}
        self._records: dict[tuple[str, str, bool], pack.Record] = {}
        self._shipped: dict[str, Found] = {}    # by name
        self._files: dict[str, Found] = {}      # by file name over there
        self._data = DataServer(self.policy, self._finder.find)
        self._native: dict[str, tuple[Found, str]] = {}     # what holds native code, by name: for which module, its file

    # ------------------------------------------------------------------ for users

    @property
    def strict(self) -> bool:
        """Whether nodes get only what their calls carry, and nothing else on request, but for what ``ship`` allows.

        Set it before nodes grow. What is chosen by name at run time must then be imported by the module that is called.
        """
        return self.policy.strict

    @strict.setter
    def strict(self, strict: bool) -> None:
        self.policy.strict = strict

    def ship(self, *patterns: str) -> None:
        """Let nodes have modules that no call needs, by name or pattern (``"acme"``, ``"acme.plugin_*"``)."""
        self.policy.ship += patterns

    def prefer(self, *patterns: str) -> None:
        """Send these libraries even where they are installed: the controller's version wins there."""
        self.policy.prefer += patterns

    def forbid(self, *patterns: str) -> None:
        """Never send these modules. An import of one fails over there unless it is installed there."""
        self.policy.forbid += patterns

    def stage(self, *packages: str) -> None:
        """Send these packages whole, to be written to a private temporary folder, which is removed at the node's end.

        For packages that open files by paths beside their modules, which they can't where they are only in memory. It is
        the one case in which something is written to a disk over there.

        Args:
            packages: names or patterns of top-level packages.
        """
        for name in packages:
            if not name or "." in name:
                raise ValueError(f"{name!r} isn't a top-level package's name: what is staged is a whole package, so name that")
        self.policy.stage += packages

    @property
    def staged_bytes_max(self) -> int:
        """What the files of a staged package may take: 256 MiB at first."""
        return self.policy.staged_bytes_max

    @staged_bytes_max.setter
    def staged_bytes_max(self, limit: int) -> None:
        self.policy.staged_bytes_max = limit

    @property
    def data_bytes_max(self) -> int:
        """How large a data file of a package may be to be sent: 16 MiB at first."""
        return self.policy.data_bytes_max

    @data_bytes_max.setter
    def data_bytes_max(self, limit: int) -> None:
        self.policy.data_bytes_max = limit

    def explain(self, name: str, node: Any = None) -> str:
        """Say in words what happens when a node imports a module, and why.

        Args:
            node: a node, or its id, to be told what becomes of it there, and whether that node may have it on request.
        """
        if not is_module_name(name):
            return f"{name!r}: not a module's name, so it is refused unseen."
        with self._lock:
            found = self._finder.find(name)
            if found.kind not in SHIPPED:
                advice = " Install it in the controller's Python." if found.kind is Kind.ABSENT else ""
                return f"{name}: {found.kind.value}, so it is never sent. {found.reason or reason_for(found)}.{advice}"
            said = f"{name}: {found.kind.value} ({found.path}). "
            forbidden = self.policy.forbids(name)
            if forbidden:
                return said + f"Never sent: {forbidden}. An import of it fails over there unless it is installed there."
            said += self._fate(found, node)
            if self.policy.stages(name):
                said += " It is staged: all of its package is written to a private temporary folder there."
            if node is not None:
                id = getattr(node, "id", node)
                objection = self.policy.objection(found, self._grants.get(id, Grant()))
                said += f" Node {id} doesn't get it on request: {objection}." if objection else f" Node {id} may ask for it."
            return said + (self._native_advice(found) if found.native else "")

    @staticmethod
    def _native_advice(found: Found) -> str:
        try:
            return f" It is native code: it loads where {native.describe(found.name, found.path).wanted()} fits."
        except ModuleNotShippedError as error:
            return f" It is native code that can't be sent: {error}."

    def _fate(self, found: Found, node: Any) -> str:
        """Which one a node gets of a module that can be sent: ours or its own."""
        if self._wins(found):
            return "It is sent with every call that needs it, and wins over what is installed there."
        top = found.name.partition(".")[0]
        installed = getattr(getattr(node, "_state", None), "installed", None)
        if installed is None:
            return "It is sent with a call that needs it where it isn't installed; else that node's own is used."
        if top not in installed:
            return f"{top} isn't installed on {node.name}, so it is sent there with a call that needs it."
        return (f"{top} is installed on {node.name}, in whatever version, so that one is used; tree.modules.prefer({top!r}) "
                f"turns that round.")  # fmt: skip

    # ------------------------------------------------------------------ ahead of a call

    def check(self, module: str) -> None:
        """See to it that functions of a module can be called elsewhere at all.

        Raises:
            ModuleNotShippedError: the main module was typed in, or the program forbids to send this one of its own.
        """
        with self._lock:
            found = self._finder.find(module) if is_module_name(module) else Found(module, Kind.ABSENT)
            forbidden = self.policy.forbids(module) if found.kind is Kind.OWN else None
            if forbidden or (found.name == "__main__" and found.kind not in SHIPPED):
                raise ModuleNotShippedError(f"{module} can't be sent: {forbidden or found.reason}")

    def closure(self, module: str) -> Closure:
        """What a module needs, less what the program forbids. Empty for what every Python has."""
        with self._lock:
            closure = self._finder.closure(module)
            if not self.policy.forbid:
                return closure
            refused = {name: why for name in closure.names if (why := self.policy.forbids(name))}
            return Closure(
                tuple(name for name in closure.own if name not in refused),
                tuple(name for name in closure.library if name not in refused),
                closure.absent | {name: REFUSED + why for name, why in refused.items()},
                closure.standard, closure.asks_metadata, closure.order)  # fmt: skip

    def grant(self, node: int, closure: Closure, asked: bool = False) -> None:
        """Let a node ask for a closure, and for what belongs to it by the policy.

        Args:
            asked: the node asked for it; else a call there needs it.
        """
        with self._lock:
            self._grants.setdefault(node, Grant()).add(closure.names, closure.library, asked)

    def forget(self, node: int) -> None:
        """The node is gone; so is what it was allowed."""
        with self._lock:
            self._grants.pop(node, None)
            self._data.forget(node)

    def lacking(self, closure: Closure, installed: Container[str], asked: str = "") -> list[str]:
        """Which modules of a closure a node needs from here.

        Args:
            installed: top-level names that are installed over there.
            asked: the module that the node asked for, if it did: that one isn't there, whatever ``installed`` says.
        """
        missing = asked.partition(".")[0]

        def is_there(name: str) -> bool:
            # of a namespace package, parts may be installed there, and others here
            return name != missing and name in installed and not self._finder.find(name).namespace

        with self._lock:
            needed = [*closure.own, *(name for name in closure.library
                                      if not is_there(name.partition(".")[0]) or self.policy.prefers(name))]
            if self.policy.stage:
                needed = [name.partition(".")[0] if self.policy.stages(name) else name for name in needed]
            return list(dict.fromkeys(needed))

    def absent(self, closure: Closure, form: str) -> dict[str, str]:
        """What a closure will try to import in vain. Told beforehand, it costs the node no round trip."""
        version = form.removeprefix("cp3")
        if version.isdigit() and int(version) >= _KNOWS_STANDARD_NAMES:
            return closure.absent
        return closure.absent | dict.fromkeys(closure.standard, _NOT_IN_THIS_PYTHON)

    # ------------------------------------------------------------------ records

    def records(self, names: Iterable[str], form: str) -> tuple[dict[str, pack.Record], dict[str, str]]:
        """Pack modules.

        Args:
            names: of modules that can be sent, as ``closure`` and ``answer`` give them.
            form: the node's; see ``compat.form_of``.

        Returns:
            The records by name; and the names that can't be had in this form, with the reason for each.
        """
        packed, absent = {}, {}
        with self._lock:
            for name in names:
                try:
                    packed[name] = self._record(name, form)
                except ModuleNotShippedError as error:
                    absent[name] = f"{REFUSED}{error}"
        return packed, absent

    def never_packed(self, names: Iterable[str], form: str) -> dict[str, int]:
        """The plain library modules among these that weren't ever packed in a form, and the bytes of their files."""
        with self._lock:
            found = [f for f in map(self._finder.find, names) if not (f.native or self._wins(f) or self.policy.stages(f.name))]
            return {f.name: sum(entry.stamp[2:3]) for f in found
                    if (f.name, form, False) not in self._records and form not in (entry := self._shelves.entry(f)).packed}

    def _record(self, name: str, form: str) -> pack.Record:
        found = self._finder.find(name)
        form = form if form == pack.BYTECODE_FORM else "source"
        key = name, form, self._wins(found)
        record = self._records.get(key)
        if record is None:
            record = pack.record(found, *self._packed(found, form, key[2]), key[2])
            self._shipped[name] = self._files[record[2]] = found
            if self.policy.stages(name):
                self._native[STAGED + name] = found, ""
            elif found.native:
                self._native.update((file, (found, path)) for file, path in native.files(found))
            self._records[key] = record     # not before all is known that belongs to it
        return record

    def _packed(self, found: Found, form: str, wins: bool) -> tuple[int, bytes]:
        if self.policy.stages(found.name):
            return staging.packed(found, wins, self.policy)
        entry = self._shelves.entry(found)
        if form not in entry.packed:
            entry.packed[form] = pack.packed(found, form, self._finder.codes.pop(found.name, None))
            entry.learnt()
        return entry.packed[form]

    def save(self) -> None:
        """Keep on disk what was scanned and packed, so that the next run of the program needn't."""
        with self._lock:
            self._shelves.save()

    def _wins(self, found: Found) -> bool:
        return found.kind is Kind.OWN or self.policy.prefers(found.name)

    def native_records(self, names: Iterable[str], facts: dict[str, Any], form: str, bytes_max: int) -> dict[str, pack.Record]:
        """The native code of those of these modules that have some and seem to fit a node, to be sent ahead.

        Args:
            names: of modules whose records were packed.
            facts: what the node has told in HELLO; empty if that hasn't come yet.
            bytes_max: if their files come to more, none is given, nor even read.
        """
        with self._lock:
            found_ones = [self._finder.find(name) for name in names]
            staged = [found for found in found_ones if self.policy.stages(found.name)]
            native_ones = [found for found in found_ones if found.native and found not in staged]
            fitting = [found for found in native_ones if native.seems_to_fit(found, facts, form)]
            files = {name: path for found in fitting for name, path in native.files(found)}
            sizes = [*map(native.size_of, files.values()), *(staging.size_of(found, self.policy) for found in staged)]
            if sum(sizes) > bytes_max:
                return {}
            return {STAGED + found.name: staging.record(found, self.policy) for found in staged} | {
                name: native.file_record(name, path) for name, path in files.items()}

    # ------------------------------------------------------------------ what comes from nodes

    def native_answer(self, name: str, node: int) -> tuple[dict[str, pack.Record], dict[str, str]]:
        """What a node gets that asks for native code, by the name of a module or library that its records have named.

        Returns:
            The record; or why there is none, under the name, a slash and the form.
        """
        with self._lock:
            found, path = self._native.get(name, (None, ""))
            if found is None:
                said = name[:NAME_CHARS_MAX]
                self._data.log_refusal(node, said, _NOT_OFFERED)
                return {}, {f"{said}/{NATIVE_FORM}": REFUSED + _NOT_OFFERED}
            objection = self.policy.objection(found, self._grants.get(node, Grant()))
            if not objection:
                try:
                    return {name: native.file_record(name, path) if path else staging.record(found, self.policy)}, {}
                except ModuleNotShippedError as error:
                    objection = str(error)
            self._data.log_refusal(node, name, objection)
            return {}, {f"{name}/{NATIVE_FORM}": REFUSED + objection}

    def answer(self, name: str, node: int) -> Closure:
        """What a node gets that asks for a module: it with all that it needs, or nothing and the reason.

        The name is any text at all: nothing is looked for that isn't a module's name.
        """
        if not is_module_name(name):
            with self._lock:
                self._data.log_refusal(node, name, _NO_NAME)
            return Closure(absent={name: REFUSED + _NO_NAME} if len(name) <= NAME_CHARS_MAX else {})
        module = "__main__" if name == compat.MAIN else name
        with self._lock:
            found = self._finder.find(module)
            if found.kind not in SHIPPED:
                if found.kind is Kind.STANDARD:
                    return Closure(absent={module: _NOT_IN_THIS_PYTHON})
                reason = REFUSED + found.reason if found.kind is Kind.RAMET else reason_for(found)
                return Closure(absent={module: reason})
            objection = self.policy.objection(found, self._grants.get(node, Grant()))
            if objection:
                self._data.log_refusal(node, module, objection)
                return Closure(absent={module: REFUSED + objection})
            closure = self.closure(module)
            self.grant(node, closure, True)
            return closure

    def data(self, form: str, name: object, node: int) -> Data:
        """Package data or metadata that a node asks for, by any value at all: records by name, and reasons."""
        with self._lock:
            return self._data.answer(form, name, node, self._grants.get(node, Grant()))

    def metadata_ahead(self, closure: Closure, installed: Container[str]) -> dict[str, pack.Record]:
        """Metadata of distributions that a closure's modules are expected to ask for."""
        with self._lock:
            return self._data.ahead(closure, installed)

    def find_class(self, module: str, qualname: str) -> type:
        """The class that a node names: one that is defined in a module that was sent to nodes.

        Raises:
            ValueNotPortableError: it isn't such a class. Nothing is imported for it.
        """
        by_value = self.coder.find_class(module, qualname)
        if by_value is not None:
            return by_value
        sent = module in self._shipped or (self.policy.stages(module) and module.partition(".")[0] in self._shipped)
        found: Any = sys.modules.get(module) if sent else None
        for part in qualname.split("."):
            found = getattr(found, "__dict__", {}).get(part)
        if isinstance(found, type) and (found.__module__, found.__qualname__) == (module, qualname):
            return found
        raise ValueNotPortableError(f"a node sent an instance of {module[:200]}.{qualname[:200]}, which isn't a class of a "
                                    "module that this program sent to nodes: return tuple(), int() or str() of it")

    def source_line(self, file: str, line: int) -> str:
        """A line of a module that was sent to nodes, by the file's name over there, for tracebacks. "" if there is none."""
        with self._lock:
            found = self._files.get(file)
        if found is None:
            return linecache.getline(file, line) if file in self.coder.files else ""
        return linecache.getline(found.path, line, {"__name__": found.real_name or found.name, "__loader__": found.loader})


_NOT_OFFERED = "this isn't native code that was offered"
_NO_NAME = "this isn't a module's name"
_NOT_IN_THIS_PYTHON = f"{ABSENT}: it is of the standard library, but this Python lacks it"
