"""What a module needs, and what it is: closures of packages that are made for each test."""
from __future__ import annotations

import errno
import importlib
import sys
import types
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path

import pytest

from ramet.modules import pack, scan
from ramet.modules.closure import Closure, ClosureFinder
from ramet.modules.find import Kind, find, is_module_name
from support import sources


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of sources that can be imported, and one of installed libraries in it."""
    (tmp_path / "site-packages").mkdir()
    with sources.on_path(tmp_path, tmp_path / "site-packages"):
        yield tmp_path


def closure(name: str) -> Closure:
    return ClosureFinder().closure(name)


def test_imports_of_all_kinds(folder: Path) -> None:
    sources.write(folder, {
        "app/__init__.py": "from . import core",
        "app/core.py": "from .sub.deep import f\nimport os, json.decoder\nfrom app import text as t\nfrom app.core import x",
        "app/text.py": "VALUE = 1",
        "app/sub/__init__.py": "from .. import early\nfrom ..text import VALUE",
        "app/sub/deep.py": "def f():\n    from . import lazy\n    import app.lazier",
        "app/sub/lazy.py": "", "app/lazier.py": "import sys", "app/early.py": "import app.core", "app/unused.py": "",
    })  # fmt: skip
    found = closure("app.core")
    assert found.own == ("app", "app.core", "app.early", "app.lazier", "app.sub", "app.sub.deep", "app.sub.lazy", "app.text")
    assert found.library == () and found.standard == ("json", "os", "sys")
    assert "app" not in sys.modules, "a closure imports nothing"


def test_what_cannot_be_read_now_can_be_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While too many files are open, neither a module nor that there is none is taken down."""
    sources.write(folder, {"app/__init__.py": "", "app/tasks.py": "from app import helper\nimport app.other",
                           "app/helper.py": "", "app/other.py": "import app.deep", "app/deep.py": ""})  # fmt: skip
    finder = ClosureFinder()

    def short(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    def fails(*_: object) -> None:
        raise RecursionError
    for where, error in ((SourceFileLoader, "get_data"), short), ((FileFinder, "find_spec"), short), ((scan, "imports"), fails):
        with monkeypatch.context() as patched, pytest.raises((OSError, RecursionError)):
            patched.setattr(*where, error)
            finder.closure("app.tasks")
    assert finder.closure("app.tasks").own == ("app", "app.deep", "app.helper", "app.other", "app.tasks")
    monkeypatch.setattr(SourceFileLoader, "get_data", short)
    with pytest.raises(OSError, match="Too many"):
        pack.packed(find("app.deep"), "source")


def test_star_import_of_a_package_that_lists_its_modules(folder: Path) -> None:
    sources.write(folder, {"app.py": "from pkg import *", "pkg/__init__.py": "__all__ = ['one', 'NAME']\nNAME = 1",
                           "pkg/one.py": "", "pkg/two.py": ""})  # fmt: skip
    importlib.import_module("app")
    assert closure("app").own == ("app", "pkg", "pkg.one")


def test_libraries_are_kept_apart_and_count_when_they_were_imported(folder: Path) -> None:
    sources.write(folder, {
        "app.py": "import lib\ndef f():\n    import other",
        "site-packages/lib/__init__.py": "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import typed\nfrom . import used\n",
        "site-packages/lib/used.py": "def f():\n    from . import lazy\n    import lib.called",
        "site-packages/lib/lazy.py": "", "site-packages/lib/called.py": "", "site-packages/typed.py": "",
        "site-packages/other/__init__.py": "from . import inner", "site-packages/other/inner.py": "import gone",
    })  # fmt: skip
    importlib.import_module("app")
    importlib.import_module("lib.called")
    found = closure("app")
    assert found.own == ("app",)
    assert found.library == ("lib", "lib.called", "lib.used", "other", "other.inner")
    assert found.absent == {"gone": "absent"}
    assert "other" not in sys.modules


def test_own_modules_under_type_checking_go_along(folder: Path) -> None:
    sources.write(folder, {"app.py": "X = 0\nif X:\n    import hints", "hints.py": ""})
    importlib.import_module("app")
    assert closure("app").own == ("app", "hints")


def test_what_is_optional_and_missing_is_absent(folder: Path) -> None:
    sources.write(folder, {"pkg/__init__.py": "", "app.py": """
        try:
            import nowhere.at.all
        except ImportError:
            pass
        try:
            from pkg import nothing
        except ImportError:
            pass
        try:
            import winreg, _winapi
        except ImportError:
            pass
        """})  # fmt: skip
    importlib.import_module("app")
    found = closure("app")
    assert found.absent == {"nowhere": "absent", "pkg.nothing": "absent"}
    assert found.standard == ("_winapi", "winreg")


def test_modules_by_computed_names(folder: Path) -> None:
    sources.write(folder, {"app.py": "import importlib\nplugin = importlib.import_module('plug' + 'in')", "plugin.py": ""})
    importlib.import_module("app")
    assert closure("app").own == ("app", "plugin")


def test_circular_imports_end(folder: Path) -> None:
    sources.write(folder, {"a.py": "import b", "b.py": "import a"})
    assert closure("a").own == ("a", "b")


def test_namespace_packages(folder: Path) -> None:
    sources.write(folder, {"ns/inner/leaf.py": "import ns.other", "ns/other.py": "", "site-packages/ns/theirs.py": ""})
    assert closure("ns.inner.leaf").own == ("ns.inner", "ns.inner.leaf", "ns.other")
    assert closure("ns.inner.leaf").library == ("ns",), "part of it is installed, so what is over there has a say"
    found = find("ns.inner")
    assert found.namespace and found.kind is Kind.OWN and found.path == str(folder / "ns" / "inner") + "/"


def test_relative_import_above_the_top_is_nobodys(folder: Path) -> None:
    sources.write(folder, {"app.py": "def f():\n    from ... import x\n    from . import y"})
    assert closure("app") == Closure(own=("app",))


def test_syntax_error_and_missing_module(folder: Path) -> None:
    sources.write(folder, {"bad.py": "this is not python"})
    assert closure("bad").own == ("bad",), "its import fails over there as it does here"
    assert closure("nowhere") == Closure(absent={"nowhere": "absent"})


def test_standard_library_and_ramet_need_nothing() -> None:
    assert closure("json") == closure("os.path") == closure("ramet.kernel.core") == closure("builtins") == Closure()


def test_made_at_run_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.write(folder, {"app.py": "import made\nimport alias_of_real", "real.py": ""})
    monkeypatch.setitem(sys.modules, "made", types.ModuleType("made"))
    monkeypatch.setitem(sys.modules, "alias_of_real", importlib.import_module("real"))
    importlib.import_module("app")
    found = closure("app")
    assert found.own == ("app", "real")
    assert found.absent["made"].startswith("absent: ") and "another name of real" in found.absent["alias_of_real"]


def test_made_parent_of_real_modules_is_an_empty_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.write(folder, {"loose.py": ""})
    monkeypatch.setitem(sys.modules, "made", types.ModuleType("made"))
    spec = importlib.util.spec_from_file_location("made.loose", folder / "loose.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "made.loose", module)
    assert closure("made.loose").own == ("made", "made.loose")


def test_a_modules_own_getattr_is_not_called(folder: Path) -> None:
    sources.write(folder, {"app.py": "import lazy_one", "lazy_one.py": "def __getattr__(name): raise SystemExit(name)"})
    importlib.import_module("app")
    assert closure("app").own == ("app", "lazy_one")


def test_native_modules_go_along_as_source_if_that_lies_beside_them(folder: Path) -> None:
    sources.write(folder, {"app.py": "import fast, compiled", "compiled.py": "X = 1"})
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    for name in ("fast", "compiled"):
        (folder / f"{name}{suffix}").write_bytes(b"")
    assert closure("app").own == ("app", "compiled", "fast")
    assert find("fast").native and find("fast").path == f"{folder}/fast{suffix}"
    assert not find("compiled").native and find("compiled").path == f"{folder}/compiled.py"


def test_what_takes_the_place_of_native_code_goes_along(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the native module is used, so its substitute was never imported; over there it will be."""
    suffix = EXTENSION_SUFFIXES[0]
    sources.write(folder / "site-packages", {
        "lib/__init__.py": "try:\n    from ._fast import f\nexcept ImportError:\n    from ._slow import f\n"
                           "if 0:\n    import hints\ndef later():\n    import lib.rare\n",
        "lib/_slow.py": "f = 1", "lib/rare.py": "",
        "plain.py": "if 0:\n    import lib.rare\n", "lib/mixed.py": "import lib._slow\n",
        "hints.py": "", f"lib/_fast{suffix}": "", f"lib/mixed{suffix}": ""})  # fmt: skip
    for name in ("lib._fast", "lib.mixed"):
        path = str(folder / "site-packages" / (name.replace(".", "/") + suffix))
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, ExtensionFileLoader(name, path), origin=path)
        module.__file__ = path
        monkeypatch.setitem(sys.modules, name, module)
    setattr(sys.modules["lib._fast"], "f", 1)   # noqa: B010
    importlib.import_module("lib")
    importlib.import_module("plain")
    assert "lib._slow" not in sys.modules
    found = closure("lib")
    assert found.library == ("lib", "lib._fast", "lib._slow", "lib.mixed") and not found.absent     # mixed: _fast's neighbour
    assert closure("plain").library == ("plain",), "not where no native code is involved"
    assert "lib._slow" in closure("lib.mixed").library, "compiled here, source over there"
    assert not find("lib.mixed").native


def test_what_the_test_run_itself_is() -> None:
    assert find("pytest").kind is Kind.LIBRARY
    assert find(__name__).kind is Kind.OWN
    assert find("test.support").kind is Kind.STANDARD
    assert find("ramet").kind is Kind.RAMET
    assert find("sys").kind is find("_winapi").kind is find("importlib.util").kind is Kind.STANDARD


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "/etc/passwd", "../x", "a/b", "a b", "a\0", "a.-/b",
                                  "a" * 501, "a" * 10_000_000, None, 3, b"os", ["os"]])  # fmt: skip
def test_odd_names(name: object) -> None:
    assert not is_module_name(name)


@pytest.mark.parametrize("name", ["a", "a.b", "a._b1", "a.v17-0-0", "a.1b", "gr\u00fcn.x"])
def test_names_that_can_be_imported_by_import_module(name: str) -> None:
    assert is_module_name(name)


def test_a_module_that_put_another_object_in_its_place(folder: Path) -> None:
    """As cryptography's do, to warn of deprecated names."""
    trick = "import sys, types\nclass M(types.ModuleType):\n    def __getattr__(self, name): return 1\n"
    sources.write(folder, {"app.py": "from pkg import modes, inner", "pkg/__init__.py": "",
                           "pkg/modes.py": trick + "sys.modules[__name__] = M(__name__)\nimport leaf\n", "leaf.py": "",
                           "pkg/inner/__init__.py": trick + "sys.modules[__name__] = M(__name__)\n"})  # fmt: skip
    importlib.import_module("app")
    assert closure("app").own == ("app", "leaf", "pkg", "pkg.inner", "pkg.modes")
    assert find("pkg.inner").folders == (str(folder / "pkg/inner"),)
