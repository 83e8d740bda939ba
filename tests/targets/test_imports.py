"""Imports of the odder kinds in real nodes: what fails, what was never foreseen, what is there in another version."""
from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import needs, remote, sources
from support.eventually import until

LABELS = ("same", "2.7", "3.6", "3.13")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of the program's own modules, and one of installed libraries in it."""
    (tmp_path / "site-packages").mkdir()
    with sources.on_path(tmp_path, tmp_path / "site-packages"):
        yield tmp_path


def python(label: str) -> list[str]:
    """A bare interpreter."""
    if label == "same":
        return [os.path.realpath(sys.executable), "-I", "-S"]
    return [needs.python(label), *(["-E", "-s", "-S"] if label == "2.7" else ["-I", "-S"])]


@pytest.fixture(params=LABELS)
def node(request: pytest.FixtureRequest, tree: ramet.Tree) -> ramet.Node:
    return tree.local(python=python(request.param))


def function(module: str, name: str = "main") -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


# ---------------------------------------------------------------------- batches of any size


def test_a_module_that_tries_a_hundred_imports_in_vain(folder: Path, node: ramet.Node) -> None:
    """More than 64 texts as keys are looked at where hashes aren't random, as in 2.7; unless an ancestor sent them."""
    tries = "".join(f"try:\n    import nobody_has_{n}\nexcept ImportError:\n    pass\n" for n in range(100))
    sources.write(folder, {"tries.py": tries + "def main():\n    return 'imported'\n"})
    assert node.call(function("tries")) == "imported"
    assert node._tree.stats()["module_requests"] == 0


@pytest.mark.parametrize("label", ["2.7", "same"])
def test_a_long_answer_to_an_import(label: str, folder: Path, tree: ramet.Tree) -> None:
    """In 2.7 the importing thread holds the only import lock, and the keeper must do without to put the answer together."""
    noise = "".join(f"X{n} = '{os.urandom(120).hex()}'\n" for n in range(1500))
    sources.write(folder, {"site-packages/long.py": noise, "uses.py": "import long\ndef main():\n    return len(long.X7)\n"})
    nodes = [tree.local(python=python(label)) for _ in range(6)]
    assert [outcome.value for _, outcome in tree.each(nodes, function("uses"))] == [240] * 6


def test_names_that_are_no_identifiers(folder: Path, node: ramet.Node) -> None:
    sources.write(folder, {"table/__init__.py": "", "table/v17-0-0.py": "WORD = 'data'\n",
                           "looks.py": "import table\nfrom importlib import import_module\ndef main(name):\n"
                                       "    return import_module(name).WORD\n"})  # fmt: skip
    assert node.call(function("looks"), "table.v17-0-0") == "data"


# ---------------------------------------------------------------------- threads


def test_threads_import_what_was_not_foreseen(folder: Path, tree: ramet.Tree) -> None:
    modules = {f"parts/p{n}.py": f"import json, parts\nfrom parts import common\nN = {n}\n" for n in range(6)}
    sources.write(folder, {"parts/__init__.py": "", "parts/common.py": "import decimal\n", **modules, "work.py": """
        import parts
        from importlib import import_module
        def main(n):
            return import_module("parts.p%d" % n).N
        """})  # fmt: skip
    main = function("work")
    nodes = [tree.local(python=python(label)) for label in ("same", "3.13")]
    calls = [node.options(lane=ramet.ANY).start(main, n % 6) for n in range(24) for node in nodes]
    assert [call.result(timeout=90) for call in calls] == [n % 6 for n in range(24) for _ in nodes]
    assert tree.stats()["module_requests"] <= 2 * 7, "one for each name and node"


# ---------------------------------------------------------------------- failing


def test_a_failing_import_is_the_remote_error_and_the_next_try_works(folder: Path, node: ramet.Node) -> None:
    sources.write(folder, {"moody.py": """
        import os
        if os.environ.get("MOOD") != "good":
            raise KeyError("the mood is bad")  # this very line
        def main():
            return "works"
        """, "mood.py": "import os\ndef set(value):\n    os.environ['MOOD'] = value\n"})  # fmt: skip
    node.wait()     # it has its environment
    os.environ["MOOD"] = "good"
    try:
        main, change = function("moody"), function("mood", "set")
    finally:
        del os.environ["MOOD"]
    for _ in range(2):
        with pytest.raises(KeyError, match="the mood is bad") as caught:
            node.call(main)
        assert isinstance(caught.value, ramet.RemoteError)
        assert "moody.py" in caught.value.traceback_text and "# this very line" in caught.value.traceback_text
    node.call(change, "good")
    assert node.call(main) == "works"


def test_a_module_that_exits_when_it_is_imported(folder: Path, node: ramet.Node) -> None:
    sources.write(folder, {"leaves.py": "import sys\nif sys.argv[0] != 'stay':\n    sys.exit('goodbye')\ndef main(): pass\n"})
    before, sys.argv = sys.argv, ["stay"]
    try:
        main = function("leaves")
    finally:
        sys.argv = before
    for _ in range(2):
        with pytest.raises(ramet.RemoteError, match="goodbye") as caught:
            node.call(main)
        assert caught.value.type_name.endswith(".SystemExit")
    assert node.call(remote.add, 1) == 1


def test_a_syntax_error_for_the_other_version(folder: Path, tree: ramet.Tree) -> None:
    sources.write(folder, {"modern.py": "def main(items):\n    return f'{items!r}'\n",
                           "fine.py": "def main():\n    return 'fine'\n"})  # fmt: skip
    node = tree.local(python=python("2.7"))
    with pytest.raises(SyntaxError) as caught:
        node.call(function("modern"), 1)
    assert isinstance(caught.value, ramet.RemoteError) and "modern.py" in str(caught.value)
    assert node.call(function("fine")) == "fine"


# ---------------------------------------------------------------------- modules that do tricks


def test_a_module_that_changes_sys_path(folder: Path, tmp_path_factory: pytest.TempPathFactory, node: ramet.Node) -> None:
    there = tmp_path_factory.mktemp("there")
    (there / "only_there.py").write_text("WORD = 'from its own disk'\n")
    sources.write(folder, {"paths.py": f"""
        import sys
        sys.path.insert(0, {str(there)!r})
        def main():
            import only_there
            return only_there.WORD, only_there.__file__.startswith({str(there)!r})
        """})  # fmt: skip
    try:
        main = function("paths")
    finally:
        sys.path.remove(str(there))
    assert node.call(main) == ("from its own disk", True)


def test_a_module_that_puts_something_else_into_sys_modules(folder: Path, node: ramet.Node) -> None:
    sources.write(folder, {"facade.py": """
        import sys, types
        class Facade(types.ModuleType):
            @property
            def word(self):
                return "computed"
        sys.modules[__name__] = Facade(__name__)
        made = sys.modules["facade_made"] = types.ModuleType("facade_made")
        made.word = "made"
        """, "uses_facade.py": """
        import facade
        import facade_made
        def main():
            from facade_made import word
            return facade.word, word
        """})  # fmt: skip
    assert node.call(function("uses_facade")) == ("computed", "made")


def test_a_package_with_a_lazy_getattr(folder: Path, node: ramet.Node) -> None:
    if node.wait().facts["hexversion"] < 0x3070000:
        pytest.skip("not on this machine: module __getattr__ before Python 3.7")
    sources.write(folder, {"lazy/__init__.py": """
        import importlib
        def __getattr__(name):
            if name in ("heavy", "light"):
                return importlib.import_module("." + name, __name__)
            raise AttributeError(name)
        """, "lazy/heavy.py": "from . import light\nWORD = 'heavy and ' + light.WORD\n", "lazy/light.py": "WORD = 'light'\n",
        "uses_lazy.py": "import lazy\ndef main():\n    return lazy.heavy.WORD, hasattr(lazy, 'none')\n"})  # fmt: skip
    assert node.call(function("uses_lazy")) == ("heavy and light", False)


# ---------------------------------------------------------------------- what is there already


def test_another_version_that_is_installed_there(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    there = tmp_path_factory.mktemp("there") / "site-packages"
    sources.write(there, {"lib/__init__.py": "VERSION = 'theirs'\n", "lib/only_theirs.py": ""})
    sources.write(folder, {"site-packages/lib/__init__.py": "VERSION = 'ours'\n", "uses_lib.py": """
        import lib
        def main():
            return lib.VERSION
        """})  # fmt: skip
    main, env = function("uses_lib"), {"PYTHONPATH": str(there)}
    with ramet.Tree() as tree:
        its_own = tree.local(python=[word for word in python("same") if word != "-I"], env=env)
        bare = tree.local(python=python("same"))
        assert its_own.call(main) == "theirs" and bare.call(main) == "ours"
        until(lambda: f"lib isn't installed on {bare.name}, so it is sent" in tree.modules.explain("lib", bare), "not told")
        assert its_own.call(main) == "theirs" and bare.call(main) == "ours"     # now that it is known what is installed there
        assert f"lib is installed on {its_own.name}, in whatever version" in tree.modules.explain("lib", its_own)
        assert f"Node {bare.id} may ask for it" in tree.modules.explain("lib", bare)
    for label in ("same", "2.7", "3.13"):
        words = [word for word in python(label) if word not in ("-I", "-E")]
        with ramet.Tree() as tree:
            assert tree.local(python=words, env=env).call(main) == "theirs"
        with ramet.Tree() as tree:
            tree.modules.prefer("lib")
            assert tree.local(python=words, env=env).call(main) == "ours"


@pytest.mark.parametrize("label", LABELS)
def test_files_in_the_nodes_working_directory_never_win(label: str, folder: Path, tmp_path_factory: pytest.TempPathFactory,
                                                        tree: ramet.Tree) -> None:  # fmt: skip
    trap = tmp_path_factory.mktemp("trap")
    for name in ("clash", "own_package", "lib", "json", "colorsys", "absent_here"):
        (trap / f"{name}.py").write_text("raise SystemExit('trapped')\n")
    sources.write(folder, {"own_package/__init__.py": "", "own_package/clash.py": "WORD = 'own'\n",
                           "site-packages/lib/__init__.py": "WORD = 'lib'\n", "clash.py": """
        import colorsys, json, lib
        from own_package import clash
        def main():
            try:
                import absent_here
            except ImportError:
                return clash.WORD, lib.WORD
        """})  # fmt: skip
    words = [word for word in python(label) if word != "-I"]
    assert tree.local(python=words, cwd=str(trap)).call(function("clash")) == ("own", "lib")


def test_circular_imports_and_relative_ones(folder: Path, node: ramet.Node) -> None:
    sources.write(folder, {"ring/__init__.py": "from __future__ import absolute_import\nfrom .a import go\n",
                           "ring/a.py": "import ring.b\ndef go():\n    return ring.b.back()\n",
                           "ring/b.py": "import ring.a\ndef back():\n    return ring.a.__name__\n"})  # fmt: skip
    assert node.call(function("ring", "go")) == "ring.a"


# ---------------------------------------------------------------------- a node that asks for what it has no business with

ODD = ["/etc/passwd", "../../etc/passwd", "ramet:/etc/passwd", "etc.passwd", "os\0", "a" * 5000, "", ".", "..", "site-packages",
       "__main__.secret", "lib.../x", 7, None, ["x"], {"a": 1}, b"os"]  # fmt: skip


def ask(names: list[Any], form: str = "source") -> list[Any]:
    """Run in a node that was taken over: ask by hand for anything, and tell what came."""
    from ramet.kernel import core, frames, start
    own = start.node
    assert own is not None
    before = set(own.cache.records)
    answers = [own.core.request(0, core.MODULE_REQUEST, [form, [name], own.core.id], frames.CONTROL)[0] for name in names]
    return [len(answers), sorted(name for _, name in set(own.cache.records) - before)]


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "ramet.modules"]


def test_a_node_that_asks_for_files_by_odd_names(tree: ramet.Tree, caplog: pytest.LogCaptureFixture) -> None:
    node = tree.local(python=sys.executable)
    with caplog.at_level(logging.INFO, "ramet"):
        assert node.options(timeout=90).call(ask, ODD) == [len(ODD), []]
    told = refusals(caplog)
    assert "'/etc/passwd'" in told[0] and "isn't a module's name" in told[0] and len(told) <= 5
    assert all(len(line) < 500 for line in told), "whatever a node sends, a line of the log is a line"
    assert node.call(remote.add, 1) == 1


def test_a_node_that_asks_for_what_no_call_needs(folder: Path, tree: ramet.Tree, caplog: pytest.LogCaptureFixture) -> None:
    sources.write(folder, {"site-packages/private_lib.py": "KEY = 1\n"})
    node = tree.local(python=sys.executable)
    with caplog.at_level(logging.INFO, "ramet"):
        assert node.options(timeout=90).call(ask, ["private_lib"]) == [1, []]
    told = refusals(caplog)
    assert len(told) == 1 and "isn't needed by any function" in told[0] and "'private_lib'" in told[0]
    assert "Node %d doesn't get it on request" % node.id in tree.modules.explain("private_lib", node.id)
    tree.modules.ship("private_lib")
    assert node.call(ask, ["private_lib"]) == [1, ["private_lib"]]
    assert f"Node {node.id} may ask for it" in tree.modules.explain("private_lib", node.id)


def test_a_node_that_asks_without_end_gets_a_short_log(tree: ramet.Tree, caplog: pytest.LogCaptureFixture) -> None:
    node = tree.local(python=sys.executable)
    names = [f"/odd/{n}" for n in range(500)]
    with caplog.at_level(logging.INFO, "ramet"):
        assert node.options(timeout=90).call(ask, names) == [500, []]
    assert 1 <= len(refusals(caplog)) <= 10
    assert node.call(remote.add, 1) == 1
