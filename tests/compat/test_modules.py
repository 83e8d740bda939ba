"""Modules from the controller's side to a node of every Python: found, packed, loaded there; no request needed."""
from __future__ import annotations

import importlib
import marshal
import os
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramet.modules import pack
from ramet.modules.server import ModuleServer
from support import kernel_shim, needs, pythons, sources

# A bare interpreter (-S: no site-packages). Whatever it asks for, it doesn't get.
NODE = '''
import marshal, sys
from ramet.kernel import compat, compat_late, importer, unforeseen
cache = importer.ModuleCache()
asked = []
importer.install(cache, lambda name, form: asked.append(name))
with open(sys.argv[1], "rb") as f:
    batches = marshal.load(f)
form = compat.form_tag()
if form not in batches:
    form = "source"
cache.add(form, *batches[form])
if form != compat.form_tag():
    cache.add(compat.form_tag(), [], batches[form][1])
module, function = sys.argv[2].split(":")
module = compat.local_module(module)
__import__(module)
said = getattr(sys.modules[module], function)()
assert not asked, asked
sys.stdout.write(str(said))
'''


@pytest.fixture(params=[pytest.param(path, id=label) for label, path in pythons.interpreters()])
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with sources.on_path(tmp_path):
        yield tmp_path


def call(python: str, target: str, tmp_path: Path) -> str:
    """Run ``module:function`` in a bare node that gets what a call would bring it."""
    server = ModuleServer()
    closure = server.closure(target.partition(":")[0])
    batches = {}
    for form in ("source", pack.BYTECODE_FORM):
        records, absent = server.records(server.lacking(closure, ()), form)
        batches[form] = [list(records.values()), server.absent(closure, form) | absent]
    path = tmp_path / "batches"
    path.write_bytes(marshal.dumps(batches, 2))
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    argv = [python, "-S", os.path.abspath(kernel_shim.__file__), "-c", NODE, str(path), target]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd="/")
    assert not done.returncode, done.stderr
    return done.stdout


APP = {
    "app/__init__.py": """
        from __future__ import absolute_import
        from . import config
        try:
            import speedups_that_nobody_has
        except ImportError:
            FAST = False
        """,
    "app/config.py": """
        import json
        try:
            import tomllib
        except ImportError:
            tomllib = None
        try:
            from collections.abc import Mapping
        except ImportError:
            from collections import Mapping
        class Config(dict): pass
        """,
    "app/tasks.py": """
        from __future__ import absolute_import
        import app
        from .config import Config
        from app.circle import one
        import spaces.part.leaf
        def main():
            from . import later
            from app.sub import deep
            return " ".join([one.word(), later.WORD, deep.WORD, spaces.part.leaf.WORD, type(Config()).__name__, str(app.FAST)])
        """,
    "app/later.py": "WORD = 'later'",
    "app/sub/__init__.py": "from .deep import WORD",
    "app/sub/deep.py": "from .. import tasks\nfrom ..later import WORD as other\nWORD = 'deep'\n",
    "app/circle/__init__.py": "",
    "app/circle/one.py": "from app.circle import two\ndef word(): return two.WORDS[0]\ndef get(): return 'one'",
    "app/circle/two.py": "import app.circle.one\nWORDS = ['two']",
    "spaces/part/leaf.py": "WORD = 'leaf'",
}


@pytest.mark.parametrize("imported", [True, False], ids=["imported-here", "not-imported-here"])
def test_own_package(python: str, folder: Path, imported: bool) -> None:
    sources.write(folder, APP)
    if imported:
        importlib.import_module("app.tasks").main()
    assert call(python, "app.tasks:main", folder) == "two later deep leaf Config False"


def test_library_that_supports_all_pythons(python: str, folder: Path) -> None:
    text = "def main():\n    from sortedcontainers import SortedDict\n    return list(SortedDict(b=1, a=2))"
    sources.write(folder, {"uses.py": text})
    assert eval(call(python, "uses:main", folder)) == ["a", "b"]


@pytest.mark.parametrize("label", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_library_with_many_modules(label: str, folder: Path) -> None:
    python = needs.python(label)
    sources.write(folder, {"uses.py": textwrap.dedent("""
        from rich.console import Console
        from rich.table import Table
        def main():
            table = Table("host", title="nodes")
            table.add_row("web1")
            console = Console(width=40, no_color=True)
            with console.capture() as said:
                console.print(table)
            return said.get().count("web1")
        """)})  # fmt: skip
    importlib.import_module("uses").main()
    assert call(python, "uses:main", folder) == "1"


def test_syntax_too_new_for_the_node_is_an_error_there(folder: Path) -> None:
    sources.write(folder, {"new.py": "def main() -> int:\n    return f'{1}'\n"})
    with pytest.raises(AssertionError, match="SyntaxError") as raised:
        call(needs.python("2.7"), "new:main", folder)
    assert f'File "ramet:{folder}/new.py", line 1' in str(raised.value) and "def main() -> int:" in str(raised.value)
