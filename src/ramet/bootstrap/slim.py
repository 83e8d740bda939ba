"""Makes bytecode small: without docstrings, paths of this machine, and columns. Lines stay, so tracebacks stay true.

The core as bytecode of 3.11 is 64 KB compressed as the import system keeps it, 42 KB like this. Pure; any thread.
"""
from __future__ import annotations

import sys
from types import CodeType

_IS_FUNCTION = 0x2      # CO_NEWLOCALS
_HAS_DOCSTRING = 0x4000000
# Kinds of entries of a location table since 3.11, see CPython's InternalDocs/code_objects.md (before 3.14:
# Objects/locations.md): a line without columns, and no line at all.
_LINE_ONLY = 0x80 | 13 << 3
_NO_LINE = 0x80 | 15 << 3
_UNITS_MAX = 8


def slim(code: CodeType, filename: str) -> CodeType:
    """The same code with less in it.

    Args:
        filename: what its tracebacks shall say.
    """
    consts = [slim(const, filename) if isinstance(const, CodeType) else const for const in code.co_consts]
    if consts and isinstance(consts[0], str) and _first_is_docstring(code):
        consts[0] = None
    small = code.replace(co_consts=tuple(consts), co_filename=filename)
    if sys.version_info >= (3, 11):
        table = _lines_only(code)
        slimmer = small.replace(co_linetable=table)
        if _line_of_each_unit(slimmer) == _line_of_each_unit(code):     # else the format is another by now
            small = slimmer
    return small


def _first_is_docstring(code: CodeType) -> bool:
    if code.co_name == "<module>":
        return code.co_names[:1] == ("__doc__",)
    if sys.version_info >= (3, 14):
        return bool(code.co_flags & _HAS_DOCSTRING)
    return bool(code.co_flags & _IS_FUNCTION) and not code.co_name.startswith("<")


def _line_of_each_unit(code: CodeType) -> list[int | None]:
    return [line for start, end, line in code.co_lines() for _ in range(start, end, 2)]


def _lines_only(code: CodeType) -> bytes:
    """A location table that holds lines alone."""
    table = bytearray()
    known = code.co_firstlineno
    lines = _line_of_each_unit(code)
    at = 0
    while at < len(lines):
        line, start = lines[at], at
        while at < len(lines) and lines[at] == line and at - start < _UNITS_MAX:
            at += 1
        if line is None:
            table.append(_NO_LINE | at - start - 1)
        else:
            table.append(_LINE_ONLY | at - start - 1)
            table += _signed(line - known)
            known = line
    return bytes(table)


def _signed(number: int) -> bytes:
    """A signed number of any size, 6 bits a byte, the lowest first."""
    left = -number << 1 | 1 if number < 0 else number << 1
    out = bytearray()
    while left > 63:
        out.append(64 | left & 63)
        left >>= 6
    out.append(left)
    return bytes(out)
