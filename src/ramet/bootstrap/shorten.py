"""Short names for parameters and local variables, for ``minify``: which word of a source becomes which.

A function, with all that is nested in it, is one space of names: a name in it becomes the same other name wherever it
stands, or nowhere. That is right for closures, comprehensions and 2.7's leaking loops alike, without a look at which of them
binds what. A name stays what it is where it

- is a global or a builtin anywhere in the function, or is bound by ``import``, ``def``, ``class`` or in a class body;
- is a parameter with a default and in ``PASSED_BY_NAME``;
- stands in a function that looks at its own names (``locals()``, ``exec`` without a namespace).

The first name of a function becomes ``a``, the next one ``b``, and so on: ``self`` is ``a`` everywhere, and zlib finds the
same text again and again (170 bytes better than first letters, 110 than by frequency). Pure; any thread.
"""
from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator

try:
    import symtable
except ImportError:     # PyPy has none: what its programs send is larger
    symtable = None  # type: ignore[assignment]

#: Parameters that calls name, in the kernel (a test looks) or outside of it: whoever asks finders may name ``path`` and
#: ``target``, and a user those of errors.
PASSED_BY_NAME = frozenset(("path", "target", "message", "stage", "seen"))

#: Where a word stands (line, column) -> what it becomes.
Names = dict[tuple[int, int], str]

_Function = ast.FunctionDef | ast.Lambda
_AS = re.compile(r"\s*as\s+")
_LOOKS_AT_ITSELF = {"exec", "eval", "locals", "vars", "dir"}


def short_names(source: str, tree: ast.Module) -> Names:
    """What becomes of which word.

    Args:
        source: a module's text, ASCII.
        tree: the same, parsed.
    """
    if symtable is None:
        return {}
    lines = source.splitlines()
    tables = _tables(symtable.symtable(source, "", "exec"))
    found: Names = {}
    for function in _outermost(tree):
        nodes = list(_within(function))
        places = sorted(_places(nodes, lines))
        name = "lambda" if isinstance(function, ast.Lambda) else function.name
        kept = _kept([function, *nodes], tables[name, function.lineno])
        free = iter([letter for letter in string.ascii_letters if letter not in kept])
        chosen: dict[str, str] = {}
        for place, word in places:
            if word not in kept:
                found[place] = chosen[word] = chosen.get(word) or next(free, word)
    return found


def _tables(module: symtable.SymbolTable) -> dict[tuple[str, int], list[symtable.SymbolTable]]:
    """The scopes of functions and lambdas that aren't within another one, by name and line."""
    found: dict[tuple[str, int], list[symtable.SymbolTable]] = {}
    tables = [module]
    for table in tables:    # which grows
        if table.get_type() == "function":
            found.setdefault((table.get_name(), table.get_lineno()), []).append(table)
        else:
            tables += table.get_children()
    return found


def _outermost(tree: ast.Module) -> Iterator[_Function]:
    """The functions that aren't within another one."""
    nodes: list[ast.AST] = [tree]
    for node in nodes:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Function):
                yield child
                nodes += [*getattr(child, "decorator_list", ()), *child.args.defaults]
            else:
                nodes.append(child)


def _within(function: _Function) -> Iterator[ast.AST]:
    """All of a function but its decorators and defaults: those are evaluated outside of it."""
    args = function.args
    inside: list[ast.AST] = [*args.args, *filter(None, (args.vararg, args.kwarg))]
    inside += [function.body] if isinstance(function, ast.Lambda) else function.body
    for node in inside:
        yield from ast.walk(node)


def _places(nodes: list[ast.AST], lines: list[str]) -> Iterator[tuple[tuple[int, int], str]]:
    """Where each name stands."""
    for node in nodes:
        if isinstance(node, ast.Name):
            yield (node.lineno, node.col_offset), node.id
        elif isinstance(node, ast.arg):
            yield (node.lineno, node.col_offset), node.arg
        elif isinstance(node, ast.ExceptHandler) and node.type and node.name:
            row = node.type.end_lineno or 0
            as_word = _AS.match(lines[row - 1], node.type.end_col_offset or 0)
            yield (row, as_word.end() if as_word else -1), node.name


def _kept(nodes: list[ast.AST], tables: list[symtable.SymbolTable]) -> set[str]:
    """The names in a function that must stay."""
    kept: set[str] = set()
    tables = tables[:]
    for one in tables:      # which grows
        tables += one.get_children()
        in_class = one.get_type() == "class"
        kept.update(symbol.get_name() for symbol in one.get_symbols()
                    if in_class or symbol.is_global() or symbol.is_imported() or symbol.is_namespace())
    for node in nodes:
        if isinstance(node, _Function):
            defaults = len(node.args.defaults)
            kept.update(arg.arg for arg in node.args.args[-defaults:] if defaults and arg.arg in PASSED_BY_NAME)
        elif (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _LOOKS_AT_ITSELF
              and len(node.args) < 2):
            kept.update(symbol.get_name() for one in tables for symbol in one.get_symbols())
    return kept
