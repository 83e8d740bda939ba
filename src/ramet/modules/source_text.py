"""The source of one function, for an interpreter that doesn't take our bytecode.

It is looked for where tracebacks look for it (``linecache``: files, IPython's cells, doctests), and checked by compiling it
again: what was found must give the very code that the function has. Any thread.
"""
from __future__ import annotations

import ast
import functools
import io
import linecache
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from ramet.kernel.errors import ValueNotPortableError

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def text_of(fn: FunctionType) -> tuple[str, bool]:
    """A function's source with its lines where they were, and whether it stands in a wrapper that has its free variables.

    Raises:
        ValueNotPortableError: it can't be had, or isn't unmistakable; the text says why.
    """
    filename = fn.__code__.co_filename
    text = "".join(lines_of(filename, fn.__globals__))
    if not text:
        raise ValueNotPortableError(f"its source isn't known ({filename})")
    return _find(fn.__code__, filename, text)


@functools.lru_cache(maxsize=256)
def _find(code: CodeType, filename: str, text: str) -> tuple[str, bool]:
    lines = split(text)
    try:
        definitions, imported = _parsed(text)
    except (SyntaxError, ValueError):
        raise ValueNotPortableError(f"its source isn't in {filename} any more")
    fitting = {}
    # 3.11 and 3.12 call a method of what is imported in the same file by other instructions
    also = "".join(f"\nimport {name}" for name in imported)
    for node in definitions.get((code.co_name, code.co_firstlineno), ()):
        text, wrapped = _cut(node, lines, code.co_freevars)
        if is_same(_compiled(text + also, wrapped, code.co_name), code):
            fitting[_bare(text)] = text, wrapped
    if not fitting:
        raise ValueNotPortableError(f"its source isn't in {filename}, line {code.co_firstlineno}, any more: that was "
                                    "edited, or the code was changed by a tool, as pytest does with what is in an assert")
    if len(fitting) > 1:
        raise ValueNotPortableError(f"{len(fitting)} functions in line {code.co_firstlineno} of {filename} are alike: "
                                    "write each on a line of its own")
    return next(iter(fitting.values()))


def split(text: str) -> list[str]:
    """The lines of a text as the parser counts them: ``splitlines`` ends some at form feeds, U+2028 and others, too."""
    return list(io.StringIO(text, newline=""))


def lines_of(filename: str, namespace: dict[str, Any]) -> list[str]:
    """The lines of a source, as far as Python knows them; also what was given behind ``-c``."""
    if filename == "<string>" and not linecache.getlines(filename):
        return split(_command_line())
    return linecache.getlines(filename, namespace)


def _command_line() -> str:
    """What was given behind ``-c``."""
    if sys.argv[:1] != ["-c"]:
        return ""
    for number, option in enumerate(sys.orig_argv[1:], 1):
        if option[:1] == "-" and option[1:2] != "-" and "c" in option:
            attached = option.partition("c")[2]
            return attached or "".join(sys.orig_argv[number + 1:number + 2])
    return ""


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> tuple[dict[tuple[str, int], list[Definition]], list[str]]:
    """All functions of a source by name and first line, their decorators' lines included; and what is imported at its top."""
    found: dict[tuple[str, int], list[Definition]] = {}
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
            decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
            found.setdefault((name, min([node.lineno, *(each.lineno for each in decorators)])), []).append(node)
    return found, list(dict.fromkeys(_imported(tree)))


def _imported(tree: ast.AST) -> Iterator[str]:
    """The names that import statements bind outside of functions and classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names if alias.name != "*")
        elif not isinstance(node, Definition | ast.ClassDef):
            yield from _imported(node)


def _cut(node: Definition, lines: list[str], free: tuple[str, ...]) -> tuple[str, bool]:
    """A definition alone, without its decorators, at the line where it was."""
    head = f"def _({', '.join(free)}):"
    end = node.end_lineno or node.lineno
    if isinstance(node, ast.Lambda):
        cut = [line.encode() for line in lines[node.lineno - 1:end]]
        cut[-1] = cut[-1][:node.end_col_offset]
        cut[0] = cut[0][node.col_offset:]
        return "\n" * (node.lineno - 1) + f"{head} return (" + b"".join(cut).decode() + ")\n", True
    text = "".join(lines[node.lineno - 1:end])
    if node.col_offset == 0 and not free:
        return "\n" * (node.lineno - 1) + text, False
    if node.col_offset == 0 or lines[node.lineno - 1][:node.col_offset].strip():
        return f"{head}\n {_bare(ast.unparse(node))}", True     # unusual: `if x: def ...` isn't Python, exec'ed text may be odd
    return "\n" * max(node.lineno - 2, 0) + f"{head}\n{text}", True


def _bare(text: str) -> str:
    return text.lstrip("\n")


def _compiled(text: str, wrapped: bool, name: str) -> CodeType | None:
    """The function's code object in what ``text_of`` gives; None if it doesn't compile alone.

    ``kernel.by_value`` finds it the same way.
    """
    try:
        found = compile(text, "?", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    for wanted in ("_", name)[not wrapped:]:
        inner = [constant for constant in found.co_consts if isinstance(constant, CodeType) and constant.co_name == wanted]
        if not inner:
            return None
        found = inner[-1]
    return found


def is_same(code: CodeType | None, wanted: CodeType) -> bool:
    """Whether two code objects do the same, wherever they stand."""
    if code is None or (code.co_code, code.co_names, code.co_varnames, code.co_freevars) != (
            wanted.co_code, wanted.co_names, wanted.co_varnames, wanted.co_freevars):
        return False
    ours, theirs = list(_constants(code)), list(_constants(wanted))
    return len(ours) == len(theirs) and all(
        is_same(one, other) if isinstance(one, CodeType) and isinstance(other, CodeType)
        else type(one) is type(other) and one == other for one, other in zip(ours, theirs, strict=True))


def _constants(code: CodeType) -> Iterator[object]:
    """A code object's constants, but for the names of places, which differ."""
    return (constant for constant in code.co_consts if not (isinstance(constant, str) and "<locals>" in constant))
