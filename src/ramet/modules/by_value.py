"""What of a call travels by value, and in which form; see ``kernel.by_value`` for what becomes of it over there.

- Functions and classes that can be imported there travel by name, also as arguments.
- Others travel as they are at the time of the call: a copy, which each call makes anew. Where the node's bytecode is ours: a
  ``Snapshot`` of functions that hold nothing but what can't change, which is kept and used again while it is current; else a
  pickle, made for every call. For another Python: a snapshot by source. Where that isn't known yet, both.
- What is sent to a node for the second time is sent as a record that it keeps; from then on only its name travels.

Must not know of links. Thread-safe: what one call needs is gathered by the thread that encodes it.
"""
from __future__ import annotations

import functools
import hashlib
import itertools
import secrets
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from inspect import CO_COROUTINE
from types import FunctionType, MethodType
from typing import Any, Protocol

from ramet.kernel import instances
from ramet.kernel.errors import ValueNotPortableError
from ramet.kernel.instances import BY_VALUE
from ramet.kernel.values import Context
from ramet.modules.named import CODE, by_name, is_by_value
from ramet.modules.pack import BYTECODE_FORM, Record
from ramet.modules.snapshot import NotSimpleError, Snapshot

#: Begins the name of a record that is no module's.
RECORD = "value:"
#: What a node keeps: so many records, and none larger than this. More travel with each call.
KEPT_MAX = 256
KEPT_BYTES_MAX = 1 << 20
#: What was sent once is remembered by its digest, to be recognised.
SEEN_MAX = 1024


class Destination(Protocol):
    """What must be known of a node: see ``node.State``."""

    form: str | None
    sure: bool
    up: bool
    has: set[tuple[str, str]]


@dataclass(slots=True)
class Carried:
    """Something by value, in one form."""

    carrier: str
    data: bytes
    modules: frozenset[str]
    shared: bool = False
    _name: str = ""

    @property
    def name(self) -> str:
        """The name of its record: it isn't one that could be imported."""
        if not self._name:
            self._name = RECORD + hashlib.blake2b(self.data, digest_size=16, key=self.carrier.encode()).hexdigest()
        return self._name


@dataclass(slots=True)
class Needs:
    """What must be over there before a call arrives that carries code.

    Attributes:
        modules: by form; "" for both.
        records: what is kept over there.
        coroutines: there are coroutine functions among it.
    """

    modules: dict[str, set[str]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    coroutines: bool = False

    def modules_for(self, form: str) -> set[str]:
        """The modules for a node of that form."""
        both = self.modules.get("", set())
        return both | self.modules.get(form if form == BYTECODE_FORM else "source", set())


class Coder:
    """Makes values of code, for the nodes of one tree."""

    def __init__(self) -> None:
        self._snapshots: weakref.WeakKeyDictionary[FunctionType, tuple[Snapshot, Carried]] = weakref.WeakKeyDictionary()
        self._numbers: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
        self._classes: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
        self._count = itertools.count(1)
        self._name = secrets.token_hex(4)   # a node may get classes of a program above it that has numbers of its own
        self._lock = threading.RLock()
        self._gathered = threading.local()
        self.files: set[str] = set()    # of functions that were sent: their lines may be shown in tracebacks

    # ------------------------------------------------------------------ classes

    def number_of(self, cls: type) -> str:
        """The number of a class that goes by value: nodes name it so in what they send back."""
        with self._lock:
            number = self._numbers.get(cls)
            if number is None:
                number = self._numbers[cls] = f"{next(self._count)}.{self._name}"
                self._classes[number] = cls
            return number

    def find_class(self, module: str, name: str) -> type | None:
        """The class that a node names by its number; None for other modules' classes."""
        if module != BY_VALUE:
            return None
        found = self._classes.get(name)
        if found is None:
            raise ValueNotPortableError("a node sent an instance of a class that this program didn't send, or that is gone")
        return found

    # ------------------------------------------------------------------ packing

    def take_needs(self) -> Needs | None:
        """What this thread's latest values need, once."""
        needs: Needs | None = getattr(self._gathered, "needs", None)
        self._gathered.needs = None
        return needs

    def pack(self, value: Any, context: CodeContext) -> tuple[bytes, Any] | None:
        """Kind and items of code, or of an instance of a class that goes by value. None for anything else."""
        needs = getattr(self._gathered, "needs", None) or Needs()
        if isinstance(value, CODE) or _is_wrapper(value):
            named = None if isinstance(value, MethodType) else by_name(value)
            if named is not None:
                needs.modules.setdefault("", set()).add(named[1])
                self._gathered.needs = needs
                return b"C", ("name", named[0])
        elif not isinstance(value, functools.partial) and not is_by_value(type(value)):
            return None
        if (context.form not in (None, BYTECODE_FORM) and not isinstance(value, CODE) and is_by_value(type(value))
                and instances.is_known(value)):
            # its class by itself, which the node keeps after the second of its instances
            self._gathered.needs = needs
            kind, items = instances.pack(value, type(value), lambda cls: (BY_VALUE, self.number_of(cls))) or (b"", ())
            return b"C", ("instance", type(value), kind.decode(), *items)
        needs.coroutines |= bool(getattr(getattr(value, "__code__", None), "co_flags", 0) & CO_COROUTINE)
        items = self._items(value, context, needs)
        self._gathered.needs = needs
        return b"C", items

    def _items(self, value: Any, context: CodeContext, needs: Needs) -> list[Any]:
        form = context.form
        if form == BYTECODE_FORM:
            carried = self._same_bytecode(value)
            needs.modules.setdefault(form, set()).update(carried.modules)
            return context.kept(carried, form, needs) or [carried.carrier, form, carried.data]
        sourced, trouble = self._by_source(value, context)
        if sourced is not None:
            needs.modules.setdefault("source", set()).update(sourced.modules)
        if form is not None:
            if sourced is None:
                raise ValueNotPortableError(trouble)
            return context.kept(sourced, "source", needs) or [sourced.carrier, "source", sourced.data]
        carried = self._same_bytecode(value)
        needs.modules.setdefault(BYTECODE_FORM, set()).update(carried.modules)
        other = ["why", "source", trouble] if sourced is None else [sourced.carrier, "source", sourced.data]
        return [carried.carrier, BYTECODE_FORM, carried.data, *other]

    def current(self, fn: FunctionType) -> Carried | None:
        """What was made of a function before, if it would be the same now."""
        known = self._snapshots.get(fn)
        return known[1] if known is not None and known[0].is_current(fn) else None

    def _same_bytecode(self, value: Any) -> Carried:
        """Something by value for a node that takes our bytecode."""
        if type(value) is FunctionType:
            known = self.current(value)
            if known is not None:
                return known
            try:
                snapshot = Snapshot(value, None, self.number_of)
            except NotSimpleError:
                pass
            else:
                carried = Carried("functions", snapshot.data, frozenset(snapshot.modules), snapshot.shared)
                self._snapshots[value] = snapshot, carried
                self._note(value)
                return carried
        from ramet.modules import pickling  # cloudpickle takes 20 ms to load, and few programs need it

        data, modules = pickling.dump(value, self.number_of)
        self._note(value)
        return Carried("pickle", data, frozenset(modules))

    def _by_source(self, value: Any, context: CodeContext) -> tuple[Carried | None, str]:
        """Something by value for a node that doesn't; or None, and why not."""
        try:
            snapshot = Snapshot(value, context, self.number_of)
        except ValueNotPortableError as error:
            name = value.__qualname__.rpartition(".")[2] if hasattr(value, "__qualname__") else f"a {type(value).__name__}"
            return None, (f"{name} can't go to another Python than "
                          f"{sys.version.split()[0]}: {error}; put it into a module")
        self._note(value, snapshot.files)
        return Carried("functions", snapshot.data, frozenset(snapshot.modules)), ""

    def _note(self, value: Any, files: Iterable[str] = ()) -> None:
        self.files.update(files)
        code = getattr(getattr(value, "__func__", value), "__code__", None)
        if code is not None:
            self.files.add(code.co_filename)


def _is_wrapper(value: Any) -> bool:
    """Whether it is what ``functools.cache`` makes of a function, or the like."""
    return type(value).__module__ == "functools" and hasattr(value, "__wrapped__")


class CodeContext(Context):
    """How values go to and come from one node: code goes there, and only data comes from there."""

    def __init__(self, coder: Coder, destination: Destination, find_class: Any) -> None:
        super().__init__(False, find_class)
        self.unpack: Callable[[str, list[Any]], Any] | None = None     # makes what references stand for
        self.coder = coder
        self.destination = destination
        self._seen: dict[str, bool] = {}    # name of a record: is it kept over there?
        self._kept = 0

    @property
    def form(self) -> str | None:
        """Which code the node takes; None while that isn't certain: a node that others grow counts as "source" at first."""
        there = self.destination
        return there.form if there.sure and (there.up or there.form != "source") else None

    def pack(self, value: Any) -> tuple[bytes, Any] | None:
        """The encoder meets a value that isn't of the standard library."""
        return self.coder.pack(value, self)

    def kept_target(self, fn: FunctionType) -> tuple[str, str] | None:
        """What names a function as the target of a CALL that the node keeps, and its record. None if it doesn't."""
        carried = self.coder.current(fn)
        # Another thread may be about to send the record, or it was never sent because the call was refused after all.
        if carried is None or (self.destination.form or "", carried.name) not in self.destination.has:
            return None
        how = "shared" if carried.shared else "anew"
        return f"ramet.kernel.by_value:{how}.{carried.name.removeprefix(RECORD)}", carried.name

    def kept(self, carried: Carried, form: str, needs: Needs) -> list[Any] | None:
        """The items for what the node keeps, or shall keep from now on; None to send it whole."""
        if len(carried.data) > KEPT_BYTES_MAX:
            return None
        name = carried.name
        if name not in self._seen:
            if len(self._seen) >= SEEN_MAX:
                self._seen = {old: kept for old, kept in list(self._seen.items()) if kept}
            self._seen[name] = False
            return None
        if not self._seen[name]:
            if self._kept >= KEPT_MAX:
                return None
            self._kept += 1
            self._seen[name] = True
        needs.modules.setdefault(form, set()).update(carried.modules)
        needs.records.append([name, 0, carried.carrier, carried.data])
        return ["kept", name, carried.shared]
