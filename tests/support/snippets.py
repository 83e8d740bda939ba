"""The Python blocks of a documentation page, made into programs that can be run.

A block with ``title="name.py"`` is a file. It lies beside all other programs of its page, and is run if it has a guard. Any
other block is a fragment: it runs inside of ``with ramet.Tree() as tree``, with the imports and definitions of the fragments
before it; ``node``, ``web`` and ``nodes`` are there where it uses them. A ``text`` block right behind a Python block is what it
prints; in it ``...`` stands for anything. A line ``--8<-- "examples/NAME.py"`` stands for that file, as in MkDocs; it is run
by test_examples.py instead. A comment ``<!-- not run: REASON -->`` right before a block leaves it at a look at
its syntax.
"""
from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from support.source import TOP

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n\n?)?```python(?: title=\"(?P<title>[^\"\n]+)\")?\n(?P<code>.*?)^```\n"
    r"(?:\n```text\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL)

_INCLUDED = re.compile(r'^--8<-- "(examples/[^"]+)"$', re.MULTILINE)

DEFINITIONS = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom

#: What a fragment may use without having made it.
GIVEN = {
    "node": "node = tree.local()",
    "web": 'web = tree.ssh("web1")',
    "nodes": "nodes = [tree.local() for _ in range(2)]",
}


@dataclass(frozen=True)
class Snippet:
    """One block.

    Attributes:
        name: the file's, or "fragment_LINE.py".
        program: what to run; "" for a file without a guard, and where it isn't to be run.
        output: what it prints to stdout; None if the page doesn't say.
        files: what lies beside it: name and text.
    """

    page: Path
    line: int
    name: str
    code: str
    program: str
    output: str | None
    files: dict[str, str]


def snippets(page: Path) -> list[Snippet]:
    """All Python blocks of a page, in order."""
    text = _INCLUDED.sub(lambda match: (TOP / match[1]).read_text().rstrip("\n"), page.read_text())
    found: list[Snippet] = []
    files: dict[str, str] = {}
    definitions: list[str] = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        code, title = match["code"], match["title"]
        name = title or f"fragment_{line}.py"
        program = ""
        if title:
            files[name] = code
            program = code if "__main__" in code and not (TOP / "examples" / title).exists() else ""
        elif not match["reason"]:
            program = _program(code, definitions)
        found.append(Snippet(page, line, name, code, "" if match["reason"] else program, match["output"], dict(files)))
    return found


def _program(code: str, definitions: list[str]) -> str:
    """A fragment as a whole program; what it defines is added to the definitions."""
    body: list[str] = []
    lines = code.splitlines()
    tree = ast.parse(code)
    end = 0
    for statement in tree.body:
        first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
        part = "\n".join(lines[end if end < first else first - 1:statement.end_lineno])
        end = statement.end_lineno or end
        (definitions if isinstance(statement, DEFINITIONS) else body).append(part)
        if isinstance(statement, ast.AsyncFunctionDef) and statement.name == "main":
            body.append("import asyncio; asyncio.run(main())")
    names = {node.id: node.ctx for node in reversed(list(ast.walk(tree))) if isinstance(node, ast.Name)}
    given = [line for name, line in GIVEN.items() if isinstance(names.get(name), ast.Load)]
    inside = "\n".join(["with ramet.Tree() as tree:", *(_indented(part) for part in [*given, *body, "pass"])])
    return "\n".join(["import ramet", *definitions, "", 'if __name__ == "__main__":', _indented(inside), ""])


def _indented(text: str) -> str:
    return "\n".join("    " + line if line.strip() else line for line in text.splitlines())


def matches(expected: str, got: str) -> bool:
    """Whether a program printed what its page says; ``...`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, got.strip(), re.DOTALL) is not None
