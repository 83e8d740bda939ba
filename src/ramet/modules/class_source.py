"""The source of one class, for an interpreter that doesn't take our bytecode: its statement, and what that uses around it.

A class doesn't keep the code that made it. So its source is looked for where tracebacks look for it, all of that is compiled
again, and what is found must have the methods that the class has. What the statement itself used of the variables of a function
around it is gone, unless a method uses it, too, or it can be seen in what came of it: a base, the value of an attribute.
Any thread.
"""
from __future__ import annotations

import ast
import dis
import enum
import functools
import linecache
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CellType, CodeType, FunctionType
from typing import Any

from ramet.kernel.errors import ValueNotPortableError
from ramet.modules import snapshot, source_text
from ramet.modules.find import namespace_of

_PLAIN = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset, list, dict, set)
_CELL_READS = ("LOAD_CLASSDEREF", "LOAD_DEREF", "LOAD_FROM_DICT_OR_DEREF")
_INSIDE_MAX = 8     # how deep functions are looked for in what decorators made of them


@dataclass(slots=True)
class ClassText:
    """How a class is made elsewhere.

    Attributes:
        text: Python source; its lines are where they were.
        filename: of the source.
        wrapped: the statement stands in functions: the outer has what it uses of the function that it was in as arguments.
        futures: names of ``__future__`` that its file imports.
        cells: what it uses of variables of a function around it, as far as methods have kept it.
        first: the names of those that are used when the statement is run.
        values: the rest of that, as far as it can be seen in the class.
        early: names of globals that the statement uses when it is run.
        late: those that its methods use.
        noted: those in annotations that aren't run: dataclasses look for what stands there, ``ClassVar`` for one.
        space: the globals.
        code: the statement's, None if there is none.
        constants: attributes that the statement sets to what they are now.
    """

    text: str
    filename: str
    wrapped: bool
    futures: list[str]
    cells: dict[str, CellType] = field(default_factory=dict)
    first: set[str] = field(default_factory=set)
    values: dict[str, Any] = field(default_factory=dict)
    early: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    space: dict[str, Any] = field(default_factory=dict)
    code: CodeType | None = None
    constants: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Place:
    """A class statement in a file."""

    node: ast.ClassDef
    code: CodeType
    around: CodeType    # what the statement stands in
    filename: str
    text: str


def text_of(cls: type) -> ClassText:
    """Find a class's source.

    Raises:
        ValueNotPortableError: it can't be had, isn't unmistakable, or uses what isn't there any more; the text says why.
    """
    if cls.__bases__ == (tuple,) and isinstance(fields := vars(cls).get("_fields"), tuple):
        made = _namedtuple(cls, fields)
        if made is not None:
            return made
    functions = [fn for fn in _functions(cls) if fn.__qualname__.startswith(cls.__qualname__ + ".")]
    place = _the_place(cls, functions)
    own = {name: fn for fn in _functions(cls) if _holds(place.code, fn.__code__) for name in [fn.__name__]}
    space = next((fn.__globals__ for fn in own.values()), None) or dict(namespace_of(cls.__module__) or {})
    text, wrapped = _cut(place)
    made = ClassText(text, place.filename, wrapped, _futures(place.text), space=space, code=place.code)
    cells = {name: cell for fn in own.values()
             for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)}
    outside = _outside(place.node)
    for name in _free(place, outside):
        if name in cells:
            made.cells[name] = cells[name]
        else:
            made.values[name] = _seen(cls, place.node, name)
    made.first = {*outside, *(instruction.argval for instruction in dis.get_instructions(place.code)
                              if instruction.opname in _CELL_READS)}
    made.early = [name for name in [*_early(place.code), *outside] if name not in made.cells and name not in made.values]
    made.late = _late(place.code)
    if "annotations" in made.futures:
        noted = [one.annotation for one in place.node.body if isinstance(one, ast.AnnAssign)]
        made.noted = [name.id for part in noted for name in ast.walk(part) if isinstance(name, ast.Name)]
    for name, constant in _constants(place.node).items():
        if name in vars(cls) and type(vars(cls)[name]) is type(constant) and vars(cls)[name] == constant:
            made.constants.add(name)
    return made


def _namedtuple(cls: Any, fields: tuple[str, ...]) -> ClassText | None:
    """``collections.namedtuple``'s classes have no statement. None for what isn't one."""
    held = vars(cls)    # a typing.NamedTuple has a statement
    if not getattr(cls.__new__, "__code__", None) or {"__annotations__", "__annotate__", "__orig_bases__"} & set(held):
        return None
    defaults = cls.__new__.__defaults__ or ()
    text = f"{cls.__name__} = __import__('collections').namedtuple({cls.__name__!r}, {list(fields)!r})\n"
    if defaults:
        if any(type(value) not in (int, str, bool, float, type(None)) for value in defaults):
            return None
        text += f"{cls.__name__}.__new__.__defaults__ = {defaults!r}\n"
    return ClassText(text, "<namedtuple>", False, [], space={"__name__": cls.__module__}, constants=set(vars(cls)))


# ---------------------------------------------------------------------- where it is


def _the_place(cls: type, functions: list[FunctionType]) -> _Place:
    """The statement that made a class."""
    looked: list[str] = []
    found: list[_Place] = []
    # what a tool generates, such as a dataclass's __init__, is in no file, or in one of its own
    methods = dict.fromkeys(fn.__code__.co_filename for fn in functions if fn.__code__.co_filename != "<string>")
    for names in (methods, _files(cls)):
        for filename in names:
            text = "".join(source_text.lines_of(filename, namespace_of(cls.__module__) or {}))
            if text and not found:
                looked.append(filename)
                found += [place for name, place in _places(filename, text)
                          if name == cls.__qualname__ and _fits(place, cls, functions)]
    if not looked:
        raise ValueNotPortableError("its source isn't known")
    if not found:
        raise ValueNotPortableError(f"its source isn't in {looked[0]} any more: that was edited, a method was replaced, or its "
                                    "code was changed by a tool, as pytest does with what is in an assert")
    if len({ast.dump(place.node) for place in found}) > 1:
        found = [place for place in found if _agrees(place.node, cls)]
        if len({ast.dump(place.node) for place in found}) != 1:
            raise ValueNotPortableError(f"several classes in {looked[0]} are called {cls.__qualname__}: give them other names")
    return found[-1]


def _files(cls: type) -> list[str]:
    """What a class's module was made of."""
    file = (namespace_of(cls.__module__) or {}).get("__file__")
    if file or cls.__module__ != "__main__":
        return [str(file)] if file else []
    # Typed in: each entry is a file for itself, which only this knows. The latest comes first.
    known = list(linecache.cache.items())[::-1]
    return [*(str(name) for name, entry in known if len(entry) == 4 and entry[1] is None), "<string>"]


@functools.lru_cache(maxsize=16)
def _places(filename: str, text: str) -> list[tuple[str, _Place]]:
    """All class statements of a source, by qualified name. None if it isn't Python."""
    try:
        return _statements(filename, text)
    except (SyntaxError, ValueError):
        return []


def _statements(filename: str, text: str) -> list[tuple[str, _Place]]:
    nodes: dict[tuple[str, int], list[ast.ClassDef]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            nodes.setdefault((node.name, first), []).append(node)
    return [(name, _Place(nodes[code.co_name, code.co_firstlineno][0], code, around, filename, text))
            for name, code, around in _codes(compile(text, filename, "exec", dont_inherit=True), "")
            if len(nodes.get((code.co_name, code.co_firstlineno), ())) == 1]


def _codes(code: CodeType, before: str) -> Iterator[tuple[str, CodeType, CodeType]]:
    """All code objects in a code object, with their qualified names and what they are in."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            name = before + inner.co_name
            yield name, inner, code
            yield from _codes(inner, f"{name}." if _is_class(inner) else f"{name}.<locals>.")


def _is_class(code: CodeType) -> bool:
    return "__qualname__" in code.co_names and not code.co_flags & 2    # 2: CO_NEWLOCALS, which functions have


def _fits(place: _Place, cls: type, functions: list[FunctionType]) -> bool:
    """Whether a statement may have made a class: it has the methods that the class has."""
    line = vars(cls).get("__firstlineno__")     # since 3.13
    return line in (None, place.code.co_firstlineno) and all(
        _holds(place.code, fn.__code__) for fn in functions
        if fn.__code__.co_filename == place.filename and not (place.filename == "<string>" and fn.__name__[:2] == "__"))


def _holds(code: CodeType, wanted: CodeType) -> bool:
    return any(inner.co_firstlineno == wanted.co_firstlineno and inner.co_name == wanted.co_name
               and source_text.is_same(inner, wanted) for _, inner, _ in _codes(code, ""))


def _agrees(node: ast.ClassDef, cls: type) -> bool:
    """Whether a statement's plain attributes are those of a class: for what is defined several times under one name."""
    held = vars(cls)
    noted = [one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
    members = getattr(cls, "_member_map_", {})
    for name, constant in _constants(node).items():
        value = members[name].value if name in members else held.get(name)
        if type(value) is not type(constant) or value != constant:
            return False
    return noted == list(held.get("__annotations__", noted))


def _constants(node: ast.ClassDef) -> dict[str, Any]:
    """The attributes that a statement sets to a constant."""
    return {name: value.value for name, value in _assigned(node) if isinstance(value, ast.Constant)}


def _assigned(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for one in node.body:
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        value = getattr(one, "value", None)
        if value is not None and len(targets) == 1 and isinstance(targets[0], ast.Name):
            yield targets[0].id, value


def _functions(cls: type) -> list[FunctionType]:
    """The functions that a class's attributes are, or are made of."""
    found: dict[int, FunctionType] = {}

    def look(value: Any, depth: int) -> None:
        if depth > _INSIDE_MAX:
            return
        if isinstance(value, FunctionType) and id(value) not in found:
            found[id(value)] = value
            for cell in value.__closure__ or ():
                try:
                    content = cell.cell_contents
                except ValueError:
                    continue
                if isinstance(content, FunctionType):
                    look(content, depth + 1)
        for name in ("__func__", "__wrapped__", "fget", "fset", "fdel", "func"):
            inner = None if isinstance(value, type) else getattr(value, name, None)
            if isinstance(inner, FunctionType):
                look(inner, depth + 1)
    for value in list(vars(cls).values()):
        look(value, 0)
    return list(found.values())


# ---------------------------------------------------------------------- what it uses


def _outside(node: ast.ClassDef) -> list[str]:
    """The names that a statement uses outside of its body."""
    parts = [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]
    return list(dict.fromkeys(name.id for part in parts for name in ast.walk(part) if isinstance(name, ast.Name)))


def _free(place: _Place, outside: list[str]) -> list[str]:
    """The names of variables of a function around a statement that it uses."""
    around = place.around
    local = {*around.co_varnames, *around.co_cellvars, *around.co_freevars} if around.co_flags & 2 else set()
    return list(dict.fromkeys([*(name for name in place.code.co_freevars if name not in ("__class__", place.node.name)),
                               *(name for name in outside if name in local)]))


def _early(code: CodeType) -> list[str]:
    """The global names that a statement's body uses when it is run, but for those that it has set before."""
    first: dict[str, bool] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_NAME"):
            first.setdefault(instruction.argval, instruction.opname != "STORE_NAME")
    inner = [name for each in code.co_consts if isinstance(each, CodeType) and (each.co_name[:1] == "<" or _is_class(each))
             for name in snapshot.globals_of(each)]
    return list(dict.fromkeys([*(name for name, is_read in first.items() if is_read), *inner]))


def _late(code: CodeType) -> list[str]:
    """The global names that the functions in a statement's body use."""
    return list(dict.fromkeys(name for each in code.co_consts if isinstance(each, CodeType)
                              for name in snapshot.globals_of(each)))


def _seen(cls: type, node: ast.ClassDef, name: str) -> Any:
    """What a variable was that only the statement used."""
    bases = getattr(cls, "__orig_bases__", cls.__bases__)
    if len(bases) == len(node.bases):
        for base, expression in zip(bases, node.bases, strict=True):
            if isinstance(expression, ast.Name) and expression.id == name:
                return base
    for keyword in node.keywords:
        if keyword.arg == "metaclass" and isinstance(keyword.value, ast.Name) and keyword.value.id == name:
            return type(cls)
    for attribute, value in _assigned(node):
        if isinstance(value, ast.Name) and value.id == name and attribute in vars(cls):
            held = vars(cls)[attribute]
            return held.value if isinstance(held, enum.Enum) and isinstance(cls, enum.EnumMeta) else held
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.annotation, ast.Name) and one.annotation.id == name:
            noted = getattr(cls, "__annotations__", {}).get(getattr(one.target, "id", ""))
            if isinstance(noted, type):
                return noted
    raise ValueNotPortableError(f"its statement uses {name!r}, a variable of the function that it stands in, and Python keeps "
                                "that only for methods which use it, too")


# ---------------------------------------------------------------------- its text


def _cut(place: _Place) -> tuple[str, bool]:
    """The statement alone, at the line where it was, and whether it stands in two functions."""
    node, lines = place.node, source_text.split(place.text)
    first = place.code.co_firstlineno
    text = "".join(lines[first - 1:node.end_lineno])
    text += "" if text.endswith("\n") else "\n"
    if node.col_offset == 0:
        return "\n" * (first - 1) + text, False
    before = lines[node.lineno - 1][:node.col_offset]
    if before.strip(" ") or len(before) < 2:
        before = "  "
        text = "".join(f"  {line}\n" for line in ast.unparse(node).splitlines())
    free = ", ".join(_free(place, _outside(node)))
    # the line of "return" names the class, so that it is a variable of the inner function
    return "\n" * max(first - 3, 0) + f"def _({free}):\n def _():\n{text}{before}return {node.name}\n", True


@functools.lru_cache(maxsize=16)
def _futures(text: str) -> list[str]:
    return sorted({alias.name for node in ast.parse(text).body
                   if isinstance(node, ast.ImportFrom) and node.module == "__future__" for alias in node.names})


def set_since(cls: type, made: ClassText) -> Iterator[tuple[str, Any]]:
    """The attributes that may have been set since the statement was run."""
    if isinstance(cls, enum.EnumMeta):
        return
    for name, value in list(vars(cls).items()):
        if name[:2] == "__" or name in made.constants:
            continue
        if isinstance(value, FunctionType):
            if not value.__qualname__.startswith(cls.__qualname__ + "."):
                yield name, value
        elif type(value) in _PLAIN:
            yield name, value


def nested(cls: type) -> Iterator[tuple[str, type]]:
    """The classes that a class's statement makes, too, by their names in it."""
    for name, value in list(vars(cls).items()):
        if isinstance(value, type) and (value.__module__, value.__qualname__) == (cls.__module__, f"{cls.__qualname__}.{name}"):
            yield name, value
            yield from ((f"{name}.{deeper}", inner) for deeper, inner in nested(value))


def is_plain(cls: type) -> bool:
    """Whether an instance of a class is nothing but its attributes."""
    own = [base for base in cls.__mro__ if base is not object]
    hooks = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__", "__new__")
    return all(base.__flags__ & 1 << 9 for base in own) and not any(hook in vars(base) for base in own for hook in hooks)

