"""Which imports are read from bytecode: compared with what the syntax tree says."""
from __future__ import annotations

import ast
import os
import textwrap
from pathlib import Path

import pytest

from ramet.modules.scan import ImportStatement, imports


def scan(text: str) -> list[ImportStatement]:
    return imports(compile(textwrap.dedent(text), "f", "exec"))


def by_syntax(text: str) -> list[ImportStatement]:
    """The slow and sure way."""
    found = []

    def visit(node: ast.AST, deferred: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(ImportStatement(alias.name, 0, (), deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found.append(ImportStatement(node.module or "", node.level, names, deferred))
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(text), False)
    return found


@pytest.mark.parametrize(("text", "expected"), [
    ("import a", ("a", 0, (), False)),
    ("import a.b.c as d", ("a.b.c", 0, (), False)),
    ("from a.b import c, d as e", ("a.b", 0, ("c", "d"), False)),
    ("from . import x", ("", 1, ("x",), False)),
    ("from ...a import x", ("a", 3, ("x",), False)),
    ("from a import *", ("a", 0, ("*",), False)),
    ("def f():\n    import a", ("a", 0, (), True)),
    ("class C:\n    import a", ("a", 0, (), False)),
    ("class C:\n    def f(self):\n        from .b import c", ("b", 1, ("c",), True)),
    ("async def f():\n    import a", ("a", 0, (), True)),
    ("try:\n    import a\nexcept ImportError:\n    pass", ("a", 0, (), False)),
])  # fmt: skip
def test_one_statement(text: str, expected: tuple[object, ...]) -> None:
    assert [tuple(one) for one in scan(text)] == [expected]


def test_long_code_with_extended_arguments() -> None:
    text = "".join(f"import m{i}\nfrom .p{i} import x{i}, y{i}\n" for i in range(400))
    assert scan(text) == by_syntax(text)


def test_no_imports() -> None:
    assert scan("x = 1\ndef f(): return lambda: x") == []


def test_the_standard_library_gives_what_its_syntax_says() -> None:
    folder = Path(os.__file__).parent
    paths = [*sorted(folder.glob("*.py")), *sorted((folder / "asyncio").glob("*.py")), *sorted((folder / "email").glob("*.py"))]
    assert len(paths) > 150
    for path in paths:
        text = path.read_text(encoding="utf-8")
        # the compiler leaves out what follows `if __debug__ == False` and the like, and doubles `finally` blocks
        assert set(imports(compile(text, str(path), "exec", dont_inherit=True))) == set(by_syntax(text)), path
