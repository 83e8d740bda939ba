"""Makes Python source small without changing what it does or on which line: tracebacks stay true.

What goes: comments, docstrings and other texts that are statements by themselves, ``if MYPY:`` blocks and ``MYPY = False``,
blanks that nothing needs; and, if asked to, long names of local variables (``shorten``). Indentation becomes one blank a
level. Line breaks stay where they are. Pure; any thread. It is for what the kernel is written in, which has no f-strings; the
tests compare the syntax trees of all of it. The core takes 45 ms, and short names take 30 ms more; with ``tokenize`` it would
be 130 to 200 ms.
"""
from __future__ import annotations

import ast
import re

from ramet.bootstrap.shorten import short_names

_TOKEN = re.compile(r'''
    (?P<gone>   \#[^\n]* | [ \t\f]+ | \\\n )
  | (?P<string> [rRbBuU]{0,2} (?: """ [^\\]*? (?: \\. [^\\]*? )* """ | \'\'\' [^\\]*? (?: \\. [^\\]*? )* \'\'\'
                                | " [^"\\\n]* (?: \\. [^"\\\n]* )* " | ' [^'\\\n]* (?: \\. [^'\\\n]* )* ' ) )
  | (?P<word>   \w+ )
  | (?P<end>    \n )
  | (?P<sign>   . )
''', re.VERBOSE | re.DOTALL)
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
#: Where a statement begins and ends: (line, column).
_Span = tuple[tuple[int, int], tuple[int, int]]
_NOTHING: _Span = (1 << 30, 0), (1 << 30, 0)


def minify(source: str, shorten: bool = False) -> str:
    """The same program in fewer characters.

    Args:
        source: a module's text, ASCII.
        shorten: give parameters and local variables short names, too.

    Raises:
        ValueError: it isn't ASCII (2.7 would want a coding line), or an ``if MYPY:`` has an ``else``.
        SyntaxError: it isn't Python.
    """
    if not source.isascii():
        raise ValueError("the kernel's sources are ASCII, so that Python 2.7 needs no coding line")
    tree = ast.parse(source)
    removed, replaced = _superfluous(tree)
    names = short_names(source, tree) if shorten else {}
    text = _Text()
    row, line_start = 1, 0
    start, end = removed.pop() if removed else _NOTHING
    for found in _TOKEN.finditer(source):
        kind, word = found.lastgroup, found.group()
        if kind == "end":
            text.end_line()
        elif kind != "gone":
            at = row, found.start() - line_start
            while at >= end:
                start, end = removed.pop() if removed else _NOTHING
            if at in replaced:
                text.add(row, at[1], "pass")
            elif at < start:
                text.add(row, at[1], names.get(at, word))
        breaks = word.count("\n")
        if breaks:
            row += breaks
            line_start = found.start() + word.rindex("\n") + 1
    return "".join(text.parts) + "\n"


class _Text:
    """The output as it grows."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.row = 1
        self.depth = 0          # of brackets
        self.indents = [0]      # columns in the source
        self.at_start = True    # of a statement
        self.last = "\n"        # character

    def end_line(self) -> None:
        """A line of the source ends, and a statement with it, unless a bracket is open."""
        self.at_start = self.at_start or not self.depth

    def add(self, row: int, column: int, word: str) -> None:
        """The next word, from where it is in the source."""
        breaks = row - self.row
        if breaks:
            self.parts.append(("\n" if self.at_start or self.depth else "\\\n") * breaks)
            self.last = "\n"
        if self.at_start:
            while column < self.indents[-1]:
                self.indents.pop()
            if column > self.indents[-1]:
                self.indents.append(column)
            self.parts.append(" " * (len(self.indents) - 1))
            self.at_start = False
        elif _in_a_name(self.last) and _in_a_name(word[0]):
            self.parts.append(" ")
        self.parts.append(word)
        self.row = row + word.count("\n")
        self.last = word[-1]
        self.depth += _BRACKETS.get(word, 0)


def _in_a_name(char: str) -> bool:
    return char.isalnum() or char == "_"


def _superfluous(tree: ast.Module) -> tuple[list[_Span], set[tuple[int, int]]]:
    """The statements to leave out, the last one first, and the beginnings of those for which a ``pass`` must stay."""
    removed: list[_Span] = []
    replaced = set()
    nodes: list[ast.AST] = [tree]
    for node in nodes:      # which grows
        for name in ("body", "orelse", "finalbody", "handlers"):
            body = getattr(node, name, ())
            nodes += body
            gone = [statement for statement in body if _is_superfluous(statement)]
            removed += [_span(statement) for statement in gone]
            if gone and len(gone) == len(body) and not isinstance(node, ast.Module):
                replaced.add(_span(gone[0])[0])
    return sorted(removed, reverse=True), replaced


def _is_superfluous(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.If(test=ast.Name(id="MYPY"), orelse=orelse):
            if orelse:
                raise ValueError(f"line {node.lineno}: an 'if MYPY:' with an 'else' can't be left out")
            return True
        case ast.Assign(targets=[ast.Name(id="MYPY")], value=ast.Constant(value=False)):
            return True
    return False


def _span(node: ast.stmt) -> _Span:
    return (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
