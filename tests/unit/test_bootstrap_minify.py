"""What minifying may and may not change."""
from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

import pytest

from ramet.bootstrap.minify import minify
from support import source


def essence(text: str) -> list[object]:
    """What a program means: its syntax tree with line numbers, but without what minifying leaves out."""
    return list(_nodes(ast.parse(text)))


def _nodes(node: ast.AST) -> Iterator[object]:
    yield type(node).__name__, getattr(node, "lineno", 0)
    for name, value in ast.iter_fields(node):
        if name in ("body", "orelse", "finalbody") and isinstance(value, list):
            value = [one for one in value if not _left_out(one)]
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, ast.AST):
                yield from _nodes(one)
            else:
                yield name, one


def _left_out(node: ast.AST) -> bool:
    text = ast.unparse(node)
    return (isinstance(node, ast.Pass) or text.startswith("if MYPY:") or text == "MYPY = False"
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)))


@pytest.mark.parametrize("path", [file.path for file in source.files() if file.in_kernel] + [
    source.PACKAGE / "bootstrap/loader.py"], ids=lambda path: path.stem)  # fmt: skip
def test_kernel_means_the_same_on_the_same_lines(path: source.Path) -> None:
    text = path.read_text()
    small = minify(text)
    assert essence(small) == essence(text)
    assert len(small) < len(text) and "# type:" not in small and "MYPY" not in small


@pytest.mark.parametrize("text, small", [
    ("x = 1  # why\n", "x=1\n"),
    ("if a :\n    b = [ 1,\n         2 ]\n\n    c\n", "if a:\n b=[1,\n2]\n\n c\n"),
    ('def f():\n    """Doc."""\n', "def f():\n pass\n"),
    ('def f():\n    """Doc.\n\n    More."""\n    return 1\n', "def f():\n\n\n\n return 1\n"),
    ("class A(object):\n    '''Doc.'''\n\n    def f(self):\n        pass\n", "class A(object):\n\n\n def f(self):\n  pass\n"),
    ("MYPY = False\nif MYPY:\n    from a import b\nx = 1\n", "\n\n\nx=1\n"),
    ("x = a if b else - 1\n", "x=a if b else-1\n"),
    ("x = 'a # b' + \"c\\\"# d\" # e\n", "x='a # b'+\"c\\\"# d\"\n"),
    ("x = a + \\\n    b\n", "x=a+\\\nb\n"),
    ("x = b'a' b'b', u'c', r'\\d'\n", "x=b'a'b'b',u'c',r'\\d'\n"),
    ("for x in 1, 2: print(x) ; y\n", "for x in 1,2:print(x);y\n"),
    ("x = '''a\n  # b\n'''\ny\n", "x='''a\n  # b\n'''\ny\n"),
    ("if a:\n  if b:\n        c\n  d\nelse:\n    e\n", "if a:\n if b:\n  c\n d\nelse:\n e\n"),
    ("x = not a and 1.5e3 or 0x10 is None\n", "x=not a and 1.5e3 or 0x10 is None\n"),
    ("def f(a, *b, **c):\n    # type: (int, *int, **int) -> None\n    g(*b, **c)\n", "def f(a,*b,**c):\n\n g(*b,**c)\n"),
])  # fmt: skip
def test_examples(text: str, small: str) -> None:
    assert minify(text) == small
    assert essence(minify(text)) == essence(text)


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        minify("x = '\xe9'\n")
    with pytest.raises(ValueError, match="line 1"):
        minify("if MYPY:\n    a\nelse:\n    b\n")
    with pytest.raises(SyntaxError):
        minify("x = (\n")


def test_words_never_grow_together() -> None:
    parts = ("a", "1", "'s'", "not d", "(b)", "-1", "b'x'", "[c]")
    for one, two in itertools.product(parts, parts):
        text = f"x = {one} if {two} else {two} in ({one}) or {one} is ({two})\n"
        assert essence(minify(text)) == essence(text)
