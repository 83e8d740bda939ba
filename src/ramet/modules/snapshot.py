"""Functions and classes as plain data: their code, and what it uses of variables around it, as these are now.

Two ways: marshalled code, for the same bytecode, where all that is captured is immutable, a module, importable by name, or a
function handled alike (else ``pickling`` takes over); or source, for any other Python, where it may be any portable value, a
class, or an instance of one.
What the node makes of it is in ``kernel.by_value``. Any thread.
"""
from __future__ import annotations

import dis
import functools
import marshal
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from ramet import codec
from ramet.kernel import instances
from ramet.kernel.errors import ValueNotPortableError
from ramet.kernel.values import Context
from ramet.modules import class_source, scan, source_text
from ramet.modules.named import CODE, by_name, is_by_value, typed_in

Reference = list[Any]

_LEAVES = frozenset({type(None), bool, int, float, complex, str, bytes})
_MISSING = object()
_ATTRIBUTES = ("__name__", "__qualname__", "__module__", "__doc__")
_GLOBAL_OPS = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_CHANGES = {"STORE_GLOBAL", "DELETE_GLOBAL"}
_CELL_CHANGES = {"STORE_DEREF", "DELETE_DEREF"}


class NotSimpleError(Exception):
    """A function holds what only a pickle can carry."""


class Snapshot:
    """A function, class or instance, and what it uses.

    Args:
        context: how captured values are encoded; None: marshalled code, and nothing captured that could change.
        number_of: gives the number by which a class is known from then on.

    Attributes:
        modules: what must be importable over there.
        files: where classes among it are defined.
        shared: neither these functions nor anything else can change what they captured.
    """

    def __init__(self, thing: Any, context: Context | None, number_of: Callable[[type], str] | None = None) -> None:
        self.context = context
        self.number_of = number_of
        self.modules: set[str] = set()
        self.files: set[str] = set()
        self.shared = context is None
        self._functions: list[list[Any]] = []
        self._cells: list[Reference] = []
        self._spaces: list[dict[str, Reference]] = []
        self._numbers: dict[int, int] = {}
        self._looks: list[list[Any]] = []       # of each function: see _look
        self._classes: list[list[Any]] = []     # each behind those that its statement needs
        self._met: dict[type, str] = {}
        self._open: set[int] = set()            # ids of instances that are being described
        self._keep: list[Any] = []              # what is made on the way: the id of another mustn't be the same
        meant = self._refer(thing, "it")
        whole = [self._functions, self._cells, self._spaces, self._classes, meant]
        self.data = b"".join(codec.encode(whole, context, "captured"))

    def is_current(self, fn: FunctionType) -> bool:
        """Whether the function that this is of, and those that it uses, look the same now.

        What is compared doesn't keep the functions alive: a snapshot is kept no longer than the function.
        """
        functions = {0: fn}
        for number, look in enumerate(self._looks):
            now = _look(functions[number])
            if len(now) != len(look):
                return False
            for old, new in zip(look, now, strict=True):
                if type(old) is _Inner:
                    if type(new) is not FunctionType or functions.setdefault(old.number, new) is not new:
                        return False
                elif old is not new:
                    return False
        return True

    # ------------------------------------------------------------------ a function

    def _add(self, fn: FunctionType) -> int:
        """Describe a function, unless that is done; its number."""
        number = self._numbers.get(id(fn))
        if number is not None:
            return number
        number = self._numbers[id(fn)] = len(self._functions)
        code = fn.__code__
        what = fn.__qualname__.rpartition(".")[2]
        entry: list[Any] = [None] * 8
        self._functions.append(entry)
        look = _look(fn)
        self._looks.append(look)
        attributes = {name: value for name in _ATTRIBUTES if isinstance(value := getattr(fn, name), str)}
        space = self._space(fn.__globals__)
        numbers = [self._cell(cell, f"closure variable {name!r} of {what}")
                   for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=True)]
        self._names(globals_of(code), fn.__globals__, space, what, code)
        defaults = None if fn.__defaults__ is None else [
            self._refer(value, f"default {position} of {what}") for position, value in enumerate(fn.__defaults__)]
        named = {name: self._refer(value, f"default of {name!r} of {what}")
                 for name, value in (fn.__kwdefaults__ or {}).items()}
        held = {name: self._refer(value, f"attribute {name!r} of {what}") for name, value in fn.__dict__.items()}
        entry[:] = [self._code(fn), code.co_name, attributes, numbers, space, defaults, named, held]
        if fn.__dict__ or _changes_itself(code):
            self.shared = False
        look[:] = [_Inner(self._numbers[id(each)]) if type(each) is FunctionType and id(each) in self._numbers else each
                   for each in look]
        for name in _imported(code, fn.__globals__.get("__package__")):
            self.modules.add(name)
        return number

    def _code(self, fn: FunctionType) -> Any:
        if self.context is None:
            return marshal.dumps(fn.__code__)
        text, wrapped = source_text.text_of(fn)
        return [text, fn.__code__.co_filename, wrapped]

    def _cell(self, cell: CellType, what: str) -> int:
        number = self._numbers.get(id(cell))
        if number is None:
            number = self._numbers[id(cell)] = len(self._cells)
            self._cells.append([])
            content = _content(cell)
            if content is not _MISSING:
                self._cells[number] = self._refer(content, what)
        return number

    def _space(self, namespace: dict[str, Any]) -> int:
        """The number of the globals of one or more functions."""
        number = self._numbers.get(id(namespace))
        if number is None:
            number = self._numbers[id(namespace)] = len(self._spaces)
            names = ("__name__", "__package__")
            self._spaces.append({name: ["v", namespace[name]] for name in names if isinstance(namespace.get(name), str)})
            if isinstance(namespace.get("__package__"), str) and namespace["__package__"]:
                self.modules.add(namespace["__package__"])
        return number

    def _names(self, names: Iterable[str], namespace: dict[str, Any], space: int, what: str, code: CodeType | None) -> None:
        """Take up globals."""
        for name in names:
            value = namespace.get(name, _MISSING)
            if value is not _MISSING and name not in self._spaces[space] and name != "__builtins__":
                self._spaces[space][name] = []      # while it is looked at: it may use itself
                self._spaces[space][name] = self._refer(value, f"global {name!r}, which {what} uses,", code)

    # ------------------------------------------------------------------ what it captured

    def _refer(self, value: Any, what: str, code: CodeType | None = None) -> Reference:
        """How something captured is named in the data."""
        if _is_fixed(value):
            return ["v", value]
        if isinstance(value, ModuleType):
            return self._module(value, what, code)
        if isinstance(value, CODE):
            named = by_name(value)
            if named:
                self.modules.add(named[1])
                return ["n", named[0]]
            if type(value) is FunctionType:
                return ["f", self._add(value)]
        if self.context is None:
            raise NotSimpleError(what)
        if isinstance(value, type) and is_by_value(value):
            return ["c", self._class(value)]
        if _of_typing(value):
            return ["n", f"typing:{value._name}"]
        return (self._method(value, what) or self._partial(value, what) or self._instance(value, what)
                or self._value(value, what))

    def _value(self, value: Any, what: str) -> Reference:
        """A value, encoded by itself if it is made of classes that must be there first."""
        within = _Within(self)
        try:
            encoded = codec.encode(value, within, what)
        except RecursionError:
            raise ValueNotPortableError(f"{what}: it holds itself")
        return ["b", b"".join(encoded), sorted(within.used)] if within.used else ["v", value]

    def _method(self, value: Any, what: str) -> Reference | None:
        if not isinstance(value, MethodType):
            return None
        return ["p", self._refer(value.__self__, f"what {value.__name__}, {what}, is a method of"), value.__name__]

    def _partial(self, value: Any, what: str) -> Reference | None:
        if type(value) is not functools.partial:
            return None
        return ["a", *(self._refer(part, f"of a partial, {what},") for part in (value.func, *value.args)),
                {name: self._refer(part, f"{name!r} of a partial, {what},") for name, part in value.keywords.items()}]

    def _instance(self, value: Any, what: str) -> Reference | None:
        """An instance of a class that goes along, which is nothing but its attributes. None for the kinds of ``instances``."""
        cls = type(value)
        if not is_by_value(cls) or instances.is_known(value):
            return None
        if not class_source.is_plain(cls):
            raise ValueNotPortableError(f"{what}: a {cls.__name__} is more than its attributes, or has a way of its own to be "
                                        "copied")
        number = self._class(cls)
        if id(value) in self._open:
            raise ValueNotPortableError(f"{what}: it holds itself")
        self._open.add(id(value))
        state = {name: self._refer(content, f"attribute {name!r} of a {cls.__name__}, {what},")
                 for name, content in instances.attributes(value).items()}
        self._open.discard(id(value))
        return ["o", number, state]

    # ------------------------------------------------------------------ a class

    def _class(self, cls: type) -> str:
        """Describe a class, unless that is done or under way; its number."""
        if cls in self._met:
            return self._met[cls]
        assert self.number_of is not None
        number = self._met[cls] = self.number_of(cls)
        found = class_source.text_of(cls)
        self.files.add(found.filename)
        self._keep.append(found.space)
        space = self._space(found.space)
        free: dict[str, int] = {}
        since: dict[str, Reference] = {}
        inside: list[list[str]] = []
        entry = [number, cls.__name__, cls.__qualname__, cls.__module__, found.text, found.filename, found.wrapped,
                 found.futures, free, space, since, inside]
        what = cls.__name__
        for name, value in found.values.items():
            cell = CellType(value)
            self._keep.append(cell)
            free[name] = self._cell(cell, f"{name!r}, which {what} uses")
        for is_early in (True, False):
            for name, cell in found.cells.items():
                if (name in found.first) is is_early:
                    free[name] = self._cell(cell, f"closure variable {name!r} of {what}")
            if is_early:
                self._names(found.early, found.space, space, what, found.code)
                self._names((name for name in found.noted if _of_typing(found.space.get(name))), found.space, space, what, None)
                self._classes.append(entry)
                for name, inner in class_source.nested(cls):
                    self._met[inner] = self.number_of(inner)
                    inside.append([name, self._met[inner]])
        self._names(found.late, found.space, space, what, found.code)
        if found.code is not None:
            self.modules.update(_imported(found.code, found.space.get("__package__")))
        for name, value in class_source.set_since(cls, found):
            try:
                since[name] = self._refer(value, f"attribute {name!r} of {what}")
            except ValueNotPortableError:
                pass    # it is what the statement makes it there
        return number

    def _module(self, module: ModuleType, what: str, code: CodeType | None) -> Reference:
        name = module.__name__
        if sys.modules.get(name) is not module or (name == "__main__" and typed_in()):
            raise ValueNotPortableError(f"{what} is a module that can't be imported: {name}")
        inner = [other for other in list(sys.modules)
                 if other.startswith(name + ".") and code is not None and set(other.split(".")[1:]) <= set(_names(code))]
        self.modules.update([name, *inner])
        return ["m", name, inner]


class _Within(Context):
    """How values are encoded that may hold classes of a snapshot, and instances of these."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot
        self.used: set[str] = set()

    def _name(self, cls: type) -> tuple[str, str]:
        number = self.snapshot._class(cls)
        self.used.add(number)
        return instances.BY_VALUE, number

    def pack(self, value: Any) -> Any:
        """The encoder meets a value that isn't of the standard library."""
        if isinstance(value, type) and is_by_value(value):
            return b"C", ("made", self._name(value)[1])
        if is_by_value(type(value)) and instances.is_known(value):
            return instances.pack(value, type(value), self._name)
        outer: Any = self.snapshot.context
        return outer.pack(value) if hasattr(outer, "pack") else None


class _Inner:
    """Stands for a function that a snapshot holds."""

    def __init__(self, number: int) -> None:
        self.number = number


def _look(fn: FunctionType) -> list[Any]:
    """All that a function is made of and what it captured, in an order that depends on its code alone."""
    around = fn.__globals__
    look = [fn.__code__, *(around.get(name, _MISSING) for name in globals_of(fn.__code__))]
    if fn.__closure__:
        look += map(_content, fn.__closure__)
    for named in (fn.__kwdefaults__, fn.__dict__):
        if named:
            look += named.values()
    if fn.__defaults__:
        look += fn.__defaults__
    return look


def _of_typing(value: Any) -> bool:
    """Whether it is one of the words for annotations that aren't classes, such as ``ClassVar``."""
    name = getattr(value, "_name", None) if type(value).__module__ == "typing" else None
    return isinstance(name, str) and getattr(sys.modules["typing"], name, None) is value


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _is_fixed(value: Any) -> bool:
    """Whether a value is portable, and can't change, nor anything in it."""
    kind = type(value)
    return kind in _LEAVES or (kind in (tuple, frozenset) and all(map(_is_fixed, value)))


# ---------------------------------------------------------------------- one code object


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and all that are in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@functools.lru_cache(maxsize=1024)
def globals_of(code: CodeType) -> tuple[str, ...]:
    """The global names that a function uses, in the order of their first use. Some may be builtins."""
    found = (instruction.argval for each in _codes(code) for instruction in dis.get_instructions(each)
             if instruction.opname in _GLOBAL_OPS)
    return tuple(dict.fromkeys(found))


@functools.lru_cache(maxsize=1024)
def _changes_itself(code: CodeType) -> bool:
    """Whether a function assigns to its globals, or to variables of the function that it was defined in."""
    free = set(code.co_freevars)
    return any(instruction.opname in _CHANGES or (instruction.opname in _CELL_CHANGES and instruction.argval in free)
               for each in _codes(code) for instruction in dis.get_instructions(each))


@functools.lru_cache(maxsize=1024)
def _names(code: CodeType) -> frozenset[str]:
    return frozenset(name for each in _codes(code) for name in each.co_names)


def _imported(code: CodeType, package: str | None) -> list[str]:
    return imported_by(code, package if isinstance(package, str) else "")


@functools.lru_cache(maxsize=1024)
def imported_by(code: CodeType, package: str) -> list[str]:
    """The modules that a function's own import statements name."""
    found = []
    for statement in scan.imports(code):
        name = statement.name
        if statement.level:
            parts = package.split(".")
            parts = parts[:len(parts) - statement.level + 1]
            name = ".".join([*parts, name] if name else parts)
        if name:
            found += [name, *(f"{name}.{each}" for each in statement.names if f"{name}.{each}" in sys.modules)]
    return found
