"""What minifying may and may not change."""
from __future__ import annotations

import ast
import itertools
import symtable
from collections.abc import Iterator

import pytest

from ramet.bootstrap import packing, shorten
from ramet.bootstrap.minify import minify
from support import source

KERNEL = [file.path for file in source.files() if file.in_kernel] + [source.PACKAGE / "bootstrap/loader.py"]


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


@pytest.mark.parametrize("path", KERNEL, ids=lambda path: path.stem)
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


# ---------------------------------------------------------------------- short names

class Renaming:
    """Compares a program with one whose functions have other names for what is their own."""

    def __init__(self, old: str, new: str) -> None:
        self.there: dict[str, str] = {}     # within the outermost function that is looked at: old name -> new name
        self.back: dict[str, str] = {}
        self.arguments: ast.AST | None = None       # of that function
        self.tree(ast.parse(old), ast.parse(new), False)

    def tree(self, old: ast.AST, new: ast.AST, inside: bool) -> None:
        """Compare two nodes, which stand for the same thing."""
        assert type(old) is type(new) and getattr(old, "lineno", 0) == getattr(new, "lineno", 0)
        starts = isinstance(old, ast.FunctionDef | ast.Lambda) and not inside
        if starts:
            self.there, self.back, self.arguments = {}, {}, old.args  # type: ignore[attr-defined]
        for (name, one), (_, other) in zip(ast.iter_fields(old), ast.iter_fields(new), strict=True):
            ones, others = self.listed(name, one), self.listed(name, other)
            assert len(ones) == len(others)
            for a, b in zip(ones, others, strict=True):
                if isinstance(a, ast.AST):
                    outside = old is self.arguments and name == "defaults"
                    self.tree(a, b, not outside and (inside or (starts and name in ("args", "body"))))
                elif isinstance(a, str) and name in ("id", "arg", "name") and not isinstance(old, ast.alias | ast.keyword):
                    if inside:
                        assert self.there.setdefault(a, b) == b and self.back.setdefault(b, a) == a, (a, b, old.lineno)
                    assert a == b or (inside and not isinstance(old, ast.FunctionDef | ast.ClassDef)), a
                else:
                    assert a == b

    @staticmethod
    def listed(name: str, value: object) -> list[object]:
        """A field as a list, without what minifying leaves out."""
        items = value if isinstance(value, list) else [value]
        return [one for one in items if not _left_out(one)] if name in ("body", "orelse", "finalbody") else items


def scopes(table: symtable.SymbolTable) -> list[object]:
    """What a program's names are, scope by scope, but not how they are called."""
    kinds = ("is_parameter", "is_local", "is_global", "is_free", "is_assigned", "is_referenced", "is_imported")
    found = sorted((*(getattr(symbol, kind)() for kind in kinds), symbol.is_global() and symbol.get_name())
                   for symbol in table.get_symbols() if not (table.get_type() == "module" and symbol.get_name() in ("MYPY",)))
    return [table.get_type(), found, [scopes(child) for child in table.get_children()]]


@pytest.mark.parametrize("path", KERNEL, ids=lambda path: path.stem)
def test_short_names_mean_the_same(path: source.Path) -> None:
    plain = minify(path.read_text())
    small = minify(path.read_text(), True)
    assert scopes(symtable.symtable(plain, "", "exec")) == scopes(symtable.symtable(small, "", "exec"))
    Renaming(plain, small)


@pytest.mark.parametrize("text, small", [
    ("def f(self, data=1):\n    self.data = data\n", "def f(a,b=1):\n a.data=b\n"),
    ("def f(a, long):\n    return long, a\n", "def f(a,b):\n return b,a\n"),
    ("def f(long):\n    a = b(long)\n", "def f(a):\n c=b(a)\n"),                  # b is a global, and can't be taken
    ("def f(x):\n    import zlib\n    y = zlib\n", "def f(a):\n import zlib\n b=zlib\n"),
    ("def f(x=default, y=x):\n    pass\n", "def f(a=default,b=x):\n pass\n"),         # the x outside
    ("def f(xs):\n    return [x for x in xs]\n", "def f(a):\n return[b for b in a]\n"),
    ("def f(xx):\n    def g(yy):\n        return xx + yy\n    return g\n",
     "def f(a):\n def g(b):\n  return a+b\n return g\n"),
    ("def f(end):\n    def g():\n        global end\n        end = 1\n", "def f(end):\n def g():\n  global end\n  end=1\n"),
    ("def f():\n    def g():\n        end = 1\n    return lambda: end\n", "def f():\n def g():\n  end=1\n return lambda:end\n"),
    ("def f(x):\n    class C:\n        x = y = 1\n    x = y\n", "def f(x):\n class C:\n  x=y=1\n x=y\n"),
    ("def f(x):\n    try:\n        pass\n    except (A, B) as  error:\n        g(error)\n",
     "def f(a):\n try:\n  pass\n except(A,B)as b:\n  g(b)\n"),
    ("def f(*args, **options):\n    g(*args, args=1, **options)\n", "def f(*a,**b):\n g(*a,args=1,**b)\n"),
    ("f = lambda xx, yy=[zz for zz in a]: xx\n", "f=lambda a,b=[zz for zz in a]:a\n"),
    ("def f(x, path=None):\n    y = locals()\n", "def f(x,path=None):\n y=locals()\n"),
    ("def f(x, path=None):\n    y = 1\n", "def f(a,path=None):\n b=1\n"),
    ("class C:\n    long = 1\n    def f(self, long):\n        return long\n", "class C:\n long=1\n def f(a,b):\n  return b\n"),
])  # fmt: skip
def test_examples_of_short_names(text: str, small: str) -> None:
    assert minify(text, True) == small
    Renaming(minify(text), small)


def test_more_names_than_letters() -> None:
    body = "".join(f"    name{number} = {number}\n" for number in range(60))
    text = f"def f():\n{body}    return name59, name0\n"
    small = minify(text, True)
    Renaming(text, small)
    space: dict[str, object] = {}
    exec(small, space)
    assert space["f"]() == (59, 0)  # type: ignore[operator]


def test_no_call_in_the_kernel_names_a_parameter_that_was_renamed() -> None:
    trees = {file.module: file.tree for file in source.files() if file.in_kernel}
    functions: dict[str, list[ast.FunctionDef]] = {}
    for name in packing.CORE:
        for node in ast.walk(trees[name]):
            for one in ast.iter_child_nodes(node):
                if isinstance(one, ast.FunctionDef):
                    called = node.name if one.name == "__init__" and isinstance(node, ast.ClassDef) else one.name
                    functions.setdefault(called, []).append(one)
    looked_at = 0
    for tree in trees.values():
        for call in ast.walk(tree):
            called = getattr(call, "func", None)
            for function in functions.get(getattr(called, "attr", getattr(called, "id", "")), ()):
                names = [arg.arg for arg in function.args.args]
                optional = set(names[len(names) - len(function.args.defaults):])
                passed = {keyword.arg for keyword in call.keywords}  # type: ignore[attr-defined]
                assert passed & set(names) <= shorten.PASSED_BY_NAME & optional, (ast.unparse(call), passed)
                looked_at += 1
    assert looked_at > 500
