"""Which imports a code object holds, read from its bytecode.

Pure; any thread. It must not know of files or ``sys.modules``. Searching the bytecode for one opcode with ``bytes.find``
is thirty times faster than ``dis.get_instructions``: a thousand modules take half a second, not fifteen.
"""
from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from inspect import CO_OPTIMIZED
from types import CodeType
from typing import NamedTuple

_IMPORT_NAME = dis.opmap["IMPORT_NAME"]
_EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
_LOAD_CONST = dis.opmap["LOAD_CONST"]
_LOAD_SMALL_INT = dis.opmap.get("LOAD_SMALL_INT", -1)   # 3.14: the level isn't a constant any longer
_NAME_SHIFT = 2 if sys.version_info >= (3, 15) else 0   # below that, 3.15 keeps whether the import is lazy


class ImportStatement(NamedTuple):
    """One import statement.

    Attributes:
        name: what is written behind ``import`` or ``from``; "" for ``from . import x``.
        level: how many dots were before it.
        names: what is taken from there; empty for ``import name``, ("*",) for a star.
        deferred: it stands in a function, so it isn't run when the module is imported.
    """

    name: str
    level: int
    names: tuple[str, ...]
    deferred: bool


def imports(code: CodeType) -> list[ImportStatement]:
    """Every import statement of a module's code object, its classes and functions included."""
    return list(_imports(code, False))


def _imports(code: CodeType, deferred: bool) -> Iterator[ImportStatement]:
    if code.co_names:
        ops = code.co_code
        at = ops.find(_IMPORT_NAME)
        while at >= 0:
            if not at & 1:      # an opcode, not an argument
                yield _statement(code, ops, at, deferred)
            at = ops.find(_IMPORT_NAME, at + 1)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports(constant, deferred or bool(constant.co_flags & CO_OPTIMIZED))


def _statement(code: CodeType, ops: bytes, at: int, deferred: bool) -> ImportStatement:
    """Read back from IMPORT_NAME: it follows the loading of the level and of the tuple of names."""
    name, at = _argument(ops, at)
    names, at = _constant(code, ops, at - 2)
    level, _ = _constant(code, ops, at - 2)
    return ImportStatement(
        code.co_names[name >> _NAME_SHIFT],
        level if isinstance(level, int) else 0,
        tuple(name for name in names if isinstance(name, str)) if isinstance(names, tuple) else (),
        deferred,
    )


def _argument(ops: bytes, at: int) -> tuple[int, int]:
    """An instruction's argument, and where the instruction begins."""
    argument, shift = ops[at + 1], 8
    while at >= 2 and ops[at - 2] == _EXTENDED_ARG:
        at -= 2
        argument |= ops[at + 1] << shift
        shift += 8
    return argument, at


def _constant(code: CodeType, ops: bytes, at: int) -> tuple[object, int]:
    """What the instruction at (or, with extended arguments, ending at) a place loads, and where it begins."""
    opcode = ops[at]
    argument, at = _argument(ops, at)
    if opcode == _LOAD_CONST:
        return code.co_consts[argument], at
    return argument if opcode == _LOAD_SMALL_INT else None, at
