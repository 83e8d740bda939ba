"""Makes bytecode small: without docstrings, paths of this machine, and columns. Lines stay, so tracebacks stay true.

The core as bytecode of 3.11 is 64 KB compressed as the import system keeps it, 42 KB like this. Pure; any thread.
"""
from __future__ import annotations

import functools
import re
import sys
from types import CodeType

_IS_FUNCTION = 0x2      # CO_NEWLOCALS
_HAS_DOCSTRING = 0x4000000
# Kinds of entries of a location table since 3.11, see CPython's InternalDocs/code_objects.md (before 3.14:
# Objects/locations.md). An entry's first byte is 0x80 | kind << 3 | units - 1; all others are below 0x80.
_ONE_LINE_ON, _TWO_LINES_ON, _LINE_ONLY, _LINE_AND_COLUMNS, _NO_LINE = 11, 12, 13, 14, 15
_ELSEWHERE = 0x80 | _ONE_LINE_ON << 3     # entries that may lead to another line, or to none, begin so or higher
_UNITS_MAX = 8
_ENTRIES = re.compile(rb"[\x80-\xff][\x00-\x7f]*")


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
        slimmer = small.replace(co_linetable=lines_only(code.co_linetable))
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


def without_columns(code: CodeType) -> CodeType:
    """The same code without columns, and all that are in it: of libraries' bytecode they are a quarter.

    A traceback shows them as a row of ``^``, and loses nothing else.
    """
    return _without_columns(code) if _tables_are_understood() else code


def _without_columns(code: CodeType) -> CodeType:
    consts = [_without_columns(const) if type(const) is CodeType else const for const in code.co_consts]
    return code.replace(co_consts=tuple(consts), co_linetable=lines_only(code.co_linetable))


@functools.cache
def _tables_are_understood() -> bool:
    """Whether this interpreter's location tables are what is meant here, seen by this module's own."""
    if sys.version_info < (3, 11):
        return False
    try:
        for code in (lines_only.__code__, slim.__code__, _write.__code__, _first_is_docstring.__code__):
            if _line_of_each_unit(_without_columns(code)) != _line_of_each_unit(code):
                return False
    except (IndexError, ValueError, TypeError):
        return False
    return True


def lines_only(table: bytes) -> bytes:
    """A location table that holds lines alone, from one of CPython 3.11 or newer."""
    out = bytearray()
    units, kind, step = 0, _LINE_ONLY, b"\0"     # what waits to be written; the next entries may be on the same line
    for entry in _ENTRIES.findall(table):
        first = entry[0]
        if first < _ELSEWHERE and kind == _LINE_ONLY:   # nine of ten
            units += (first & 7) + 1
            continue
        its_kind = first >> 3 & 15
        if its_kind < _ONE_LINE_ON:
            its_step = b"\0"
        elif its_kind == _LINE_AND_COLUMNS:
            end = 1
            while entry[end] & 64:
                end += 1
            its_step = entry[1 : end + 1]
        else:
            its_step = _STEPS.get(its_kind, entry[1:])
        if its_kind == _NO_LINE:
            same = kind == _NO_LINE
        else:
            same = kind == _LINE_ONLY and its_step == b"\0"
            its_kind = _LINE_ONLY
        if same:
            units += (first & 7) + 1
            continue
        if 0 < units <= _UNITS_MAX:     # the usual case: what _write would do
            out.append(0x80 | kind << 3 | units - 1)
            out += step
        else:
            _write(out, kind, units, step)
        units, kind, step = (first & 7) + 1, its_kind, its_step
    _write(out, kind, units, step)
    return bytes(out)


_STEPS = {_ONE_LINE_ON: b"\2", _TWO_LINES_ON: b"\4", _NO_LINE: b""}


def _write(out: bytearray, kind: int, units: int, step: bytes) -> None:
    """Entries for so many units on one line, or on none; ``step`` is how far it is from the line before."""
    more = 0x80 | kind << 3 | _UNITS_MAX - 1
    while units > _UNITS_MAX:
        out.append(more)
        out += step
        units -= _UNITS_MAX
        step = b"\0" if step else b""
    if units:
        out.append(0x80 | kind << 3 | units - 1)
        out += step
