"""The source of ramet as syntax trees, for the tests that execute the house style."""
from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "src" / "ramet"

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class SourceFile:
    """One module of src/ramet."""

    path: Path
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)

    @property
    def where(self) -> str:
        """The path as it is said in failures: from the top of the repository."""
        return str(self.path.relative_to(TOP))

    @property
    def module(self) -> str:
        """The dotted name under which it is imported."""
        parts = list(self.path.relative_to(PACKAGE.parent).with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def in_kernel(self) -> bool:
        """True for what every node runs."""
        return self.path.parent == PACKAGE / "kernel"

    @functools.cached_property
    def docstrings(self) -> set[int]:
        """The identities of the constants that are docstrings."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Module | Definition) and ast.get_docstring(node) is not None:
                first = node.body[0]
                assert isinstance(first, ast.Expr)
                found.add(id(first.value))
        return found

    def words(self) -> Iterator[str]:
        """Every identifier, also those within strings that aren't docstrings (handlers and manifests are named so)."""
        for node in ast.walk(self.tree):
            for name in ("id", "attr", "name", "asname", "arg", "rest"):
                word = getattr(node, name, None)
                if isinstance(word, str):
                    yield from word.split(".")
            value = node.value if isinstance(node, ast.Constant) and id(node) not in self.docstrings else None
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            if isinstance(value, str):
                yield from re.findall(r"[A-Za-z_]\w*", value)


@functools.lru_cache(maxsize=1)
def files() -> list[SourceFile]:
    """Every Python file of src/ramet."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [SourceFile(path, text := path.read_text(), ast.parse(text, str(path))) for path in paths]


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Every dotted name that a tree imports; ``from a import b`` gives "a" and "a.b"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"


def definitions(tree: ast.AST) -> Iterator[Definition]:
    """Functions, methods and classes at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            yield node
