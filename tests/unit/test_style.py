"""The house style, executed. What ruff, mypy and import-linter don't check; see CONTRIBUTING.md."""
from __future__ import annotations

import ast
import collections
import re
import subprocess

import pytest

from support import needs, source
from support.source import TOP, SourceFile

LINES_MAX = 400
FUNCTION_LINES_MAX = 60     # besides its docstring

#: One concept, one word (docs/glossary.md): what isn't said, and what is said instead.
BANNED_WORDS = {
    "slave": "child",
    "master": "controller, or parent",
    "minion": "node",
    "worker": "node, lane or thread",
    "broker": "loop",
    "router": "routing",
    "packet": "frame",
    "rpc": "call",
    "whitelist": "the allowed ...",
    "blacklist": "the forbidden ...",
    "todo": "an issue",
    "fixme": "an issue",
}
#: Other people's names for their own things.
FOREIGN_NAMES = re.compile(r"ControlMaster|master connection|ServerAliveInterval|ssh-agent|sqlite_master")

#: What the core of the kernel may import at its top: built in, or cheap; there in the smallest Python 2.7 as well.
CORE_IMPORTS = {
    "_collections", "_thread", "errno", "gc", "itertools", "marshal", "os", "select", "struct", "sys", "thread", "time",
    "typing", "zlib",
}  # fmt: skip

#: Methods that the standard library calls by name.
CALLED_BY_OTHERS = {
    "_condition", "find_module", "load_module", "find_spec", "create_module", "exec_module", "get_source", "get_code",
    "get_data", "get_filename", "is_package", "invalidate_caches", "write", "writelines", "flush", "isatty",
    "fileno", "readline", "emit", "run", "get_resource_reader", "find_distributions", "locate_file",
    "open_resource", "resource_path", "is_resource", "set_running_or_notify_cancel", "get_hook_dirs",
}  # fmt: skip

#: Modules whose public names are for users: a test or a page that shows them is use enough.
FOR_USERS = ("ramet.tree", "ramet.grower", "ramet.node", "ramet.call", "ramet.process", "ramet.outcome", "ramet.testing",
             "ramet.kernel.channels", "ramet.kernel.errors", "ramet.kernel.facade",
             "ramet.__pyinstaller.hook-ramet")  # fmt: skip


def each_file() -> list[object]:
    return [pytest.param(file, id=file.where.removeprefix("src/ramet/")) for file in source.files()]


def each_kernel_file() -> list[object]:
    return [pytest.param(file, id=file.path.name) for file in source.files() if file.in_kernel]


@pytest.mark.parametrize("file", each_file())
def test_one_idea_a_file_and_a_screen_a_function(file: SourceFile) -> None:
    too_long = []
    whole = file.text.count("\n")
    if whole > LINES_MAX:
        too_long.append(f"the file: {whole} lines, more than {LINES_MAX}")
    for node in source.definitions(file.tree):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
        if not isinstance(node, ast.ClassDef) and lines > FUNCTION_LINES_MAX:
            too_long.append(f"line {node.lineno}, {node.name}(): {lines} lines, more than {FUNCTION_LINES_MAX}")
    assert not too_long, f"{file.where}: " + "; ".join(too_long)


@pytest.mark.parametrize("file", each_file())
def test_every_module_says_what_it_is(file: SourceFile) -> None:
    assert ast.get_docstring(file.tree), f"{file.where} has no docstring"


def prose_and_code() -> list[object]:
    paths = [file.path for file in source.files()]
    paths += [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
    kept = [path for path in paths if "decisions" not in path.parts]  # those quote others
    return [pytest.param(path, id=str(path.relative_to(TOP))) for path in kept if path.exists()]


@pytest.mark.parametrize("path", prose_and_code())
def test_one_word_for_one_concept(path: source.Path) -> None:
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        spelled_out = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", FOREIGN_NAMES.sub("", line)).lower()
        for word in re.findall(r"[a-z]+", spelled_out):
            use = BANNED_WORDS.get(word) or BANNED_WORDS.get(word.removesuffix("s"))
            if use:
                found.append(f"{path.relative_to(TOP)}:{number} says {word!r}; the word is: {use}")
    assert not found, "\n".join(found)


def test_class_names_are_unique() -> None:
    places = collections.defaultdict(list)
    for file in source.files():
        for node in source.definitions(file.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file.where}:{node.lineno}")
    doubled = {name: where for name, where in places.items() if len(where) > 1}
    assert not doubled, doubled


def test_every_file_is_imported_by_another() -> None:
    imported: set[str] = set()
    named: set[str] = set()  # the manifest of the kernel and the demo's package are named in strings
    for file in source.files():
        names = source.imports(file.tree, file.module, file.path.name == "__init__.py")
        imported.update(name for name in names if name != file.module)
        if any(layer in file.module for layer in ("kernel", "bootstrap", "cli", "connectors")):
            named.update(file.words())
    alone = [
        file.where
        for file in source.files()
        if file.path.name not in ("__init__.py", "__main__.py")
        and file.module not in (*imported, *FOR_USERS)
        and not (file.path.parent.name in ("kernel", "bootstrap", "connectors") and file.path.stem in named)
    ]
    assert not alone, f"nobody imports {alone}"


def test_nothing_is_defined_in_vain() -> None:
    uses = collections.Counter(word for file in source.files() for word in file.words())
    shown = "\n".join(p.read_text() for folder in ("tests", "docs") for p in sorted((TOP / folder).rglob("*.*"))
                      if p.suffix in (".py", ".md"))  # fmt: skip
    shown_words = set(re.findall(r"[A-Za-z_]\w*", shown))
    dead = []
    for file in source.files():
        for node in source.definitions(file.tree):
            dunder = node.name.startswith("__") and node.name.endswith("__")
            if dunder or (node.decorator_list and file.module.startswith("ramet.cli")) or node.name in CALLED_BY_OTHERS:
                continue
            if uses[node.name] > 1 or (file.module in FOR_USERS and node.name in shown_words):
                continue
            dead.append(f"{file.where}:{node.lineno} {node.name}")
    assert not dead, "defined, and used nowhere:\n" + "\n".join(dead)


def too_new_for_the_kernel(node: ast.AST) -> str | None:
    """What is wrong with a piece of the kernel's syntax, or None."""
    match node:
        case ast.JoinedStr():
            return "an f-string"
        case ast.arguments(kwonlyargs=[_, *_]) | ast.arguments(posonlyargs=[_, *_]):
            return "a keyword-only or positional-only argument"
        case ast.AnnAssign() | ast.arg(annotation=ast.expr()) | ast.FunctionDef(returns=ast.expr()):
            return "an annotation (use a type comment)"
        case ast.NamedExpr() | ast.Nonlocal() | ast.YieldFrom() | ast.AsyncFunctionDef():
            return type(node).__name__
        case ast.Raise(cause=ast.expr()):
            return "raise ... from"
        case ast.Assert():
            return "an assert (python -O strips it; input from the wire must never meet one)"
    return None


@pytest.mark.parametrize("file", each_kernel_file())
def test_kernel_is_written_for_old_pythons(file: SourceFile) -> None:
    said = [(getattr(node, "lineno", "?"), too_new_for_the_kernel(node)) for node in ast.walk(file.tree)]
    wrong = [f"{file.where}:{line}: {what}" for line, what in said if what]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("snippet", [
    "f'{x}'", "def f(*, x): pass", "def f(x, /): pass", "x: int = 1", "def f(x: int): pass", "def f() -> int: pass",
    "(x := 1)", "raise A from b", "assert x",
])  # fmt: skip
def test_what_the_kernel_must_not_hold_is_seen(snippet: str) -> None:
    assert any(map(too_new_for_the_kernel, ast.walk(ast.parse(snippet))))


@pytest.mark.parametrize("file", each_kernel_file())
def test_kernel_branches_on_versions_in_compat_only(file: SourceFile) -> None:
    if file.path.stem in ("compat", "compat_late"):
        return
    wrong = []
    for node in ast.walk(file.tree):
        named = isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).rpartition(".")[2] in ("PY2", "PYPY")
        compared = isinstance(node, ast.Compare) and re.search("hexversion|version_info", ast.unparse(node))
        if named or compared:
            wrong.append(f"{file.where}:{node.lineno} {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def _top_level_imports(tree: ast.Module) -> set[str]:
    top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    return {name.split(".")[0] for name in source.imports(top, "", False)}


def _core_names() -> list[str]:
    """The modules that are sent at bootstrap, as bootstrap/packing.py lists them."""
    try:
        from ramet.bootstrap import packing
    except ImportError:
        return ["compat", "limits", "faults", "frames", "flow", "routing", "loop", "links"]
    return [name.rpartition(".")[2] for name in packing.CORE]


@pytest.mark.parametrize("file", each_kernel_file())
def test_kernel_imports_little(file: SourceFile) -> None:
    imported = _top_level_imports(file.tree) - {"ramet"}
    if file.path.stem in _core_names():
        assert imported <= CORE_IMPORTS, f"{file.where} imports {sorted(imported - CORE_IMPORTS)} at its top"
    unused = [
        name
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [(alias.asname or alias.name).split(".")[0] for alias in node.names]
        if name != "*" and not file.path.stem.startswith("compat") and len(re.findall(rf"\b{name}\b", file.text)) < 2
    ]
    assert not unused, f"{file.where} imports {unused} and doesn't use it"


COMPILE = "import sys\nfor p in sys.argv[1:]: compile(open(p, 'rb').read(), p, 'exec')\n"


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.14"])
def test_kernel_compiles_on(label: str) -> None:
    paths = [str(file.path) for file in source.files() if file.in_kernel or "demo_package" in file.path.parts]
    done = subprocess.run([needs.python(label), "-c", COMPILE, *paths], capture_output=True, text=True)
    assert not done.returncode, done.stderr
