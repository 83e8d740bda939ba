"""The module server: records, who may have what, what nodes ask for, and main modules of every kind."""
from __future__ import annotations

import importlib
import json
import marshal
import py_compile
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from ramet.kernel import compat
from ramet.kernel.errors import ModuleNotShippedError, ValueNotPortableError
from ramet.kernel.importer import BYTECODE, NAMESPACE, OWN, PACKAGE, ZIPPED, content
from ramet.modules import pack
from ramet.modules.policy import Policy, distributions_of, requirements_of
from ramet.modules.server import ModuleServer
from support import sources

FORM = pack.BYTECODE_FORM
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of sources that can be imported, and one of installed libraries in it."""
    (tmp_path / "site-packages").mkdir()
    with sources.on_path(tmp_path, tmp_path / "site-packages"):
        yield tmp_path


def one_record(name: str, form: str, server: ModuleServer | None = None) -> Any:
    records, absent = (server or ModuleServer()).records([name], form)
    assert absent == {}
    return plain(records[name])


def plain(record: Any) -> Any:
    """A record as it would be if it weren't compressed."""
    name, flags, filename, _, *more = record
    return [name, flags & ~ZIPPED, filename, content(record), *more]


def all_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from all_codes(constant)


# ---------------------------------------------------------------------- records


def test_records_as_source(folder: Path) -> None:
    sources.write(folder, {"app/__init__.py": "X = 1\n", "ns/leaf.py": ""})
    text = "# -*- coding: latin-1 -*-\r\nWORD = 'grün'\r\n".encode("latin-1")
    (folder / "app" / "old.py").write_bytes(text)
    assert one_record("app", "source") == ["app", PACKAGE | OWN, f"ramet:{folder}/app/__init__.py", b"X = 1\n"]
    assert one_record("app.old", "cp36") == ["app.old", OWN, f"ramet:{folder}/app/old.py", text]
    assert one_record("ns", "source") == ["ns", PACKAGE | OWN | NAMESPACE, f"ramet:{folder}/ns/", b""]


def test_records_as_bytecode_name_the_file_as_the_node_sees_it(folder: Path) -> None:
    sources.write(folder, {"app.py": "class C:\n    def f(self):\n        return [lambda: x for x in ()]\nassert C\n"})
    name, flags, filename, data = one_record("app", FORM)
    assert (name, flags, filename) == ("app", OWN | BYTECODE, f"ramet:{folder}/app.py")
    codes = list(all_codes(marshal.loads(data)))
    assert len(codes) >= 4 and {code.co_filename for code in codes} == {filename}
    importlib.import_module("app")
    assert sys.modules["app"].C.f.__code__.co_filename == str(folder / "app.py"), "ours is left alone"


def test_renaming_without_the_private_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "_fix_co_filename", lambda: None)
    code = pack.renamed(compile("def f():\n    return lambda: 0\n", "a", "exec"), "b")
    assert [one.co_filename for one in all_codes(code)] == ["b", "b", "b"]


def test_module_that_does_not_compile_here_goes_as_source(folder: Path) -> None:
    sources.write(folder, {"old.py": "print 'for Python 2'\n"})
    assert one_record("old", FORM)[1:] == [OWN, f"ramet:{folder}/old.py", b"print 'for Python 2'\n"]


def test_bytecode_without_source(folder: Path) -> None:
    sources.write(folder, {"app/__init__.py": "from . import inner", "app/inner.py": "X = 1"})
    for path in list((folder / "app").glob("*.py")):
        py_compile.compile(str(path), str(path) + "c")
        path.unlink()
    server = ModuleServer()
    assert server.closure("app").own == ("app", "app.inner")
    assert one_record("app.inner", FORM)[1] == OWN | BYTECODE
    records, absent = server.records(["app.inner"], "source")
    assert records == {} and absent["app.inner"].startswith("refused: ") and FORM in absent["app.inner"]


def test_zipped_modules(folder: Path) -> None:
    sources.write(folder, {"z/app/__init__.py": "from . import inner", "z/app/inner.py": "X = 1\n",
                           "z/both.py": "import app.inner"})  # fmt: skip
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for path in sorted((folder / "z").rglob("*.py")):
            archive.write(path, path.relative_to(folder / "z"))
        py_compile.compile(str(folder / "z" / "both.py"), str(folder / "both.pyc"))
        archive.write(folder / "both.pyc", "both.pyc")
    (folder / "both.pyc").unlink()
    with sources.on_path(folder / "a.zip"):
        server = ModuleServer()
        assert server.closure("both").own == ("app", "app.inner", "both")
        assert one_record("app.inner", "source", server) == ["app.inner", OWN, f"ramet:{folder}/a.zip/app/inner.py", b"X = 1\n"]
        assert one_record("app", FORM, server)[1] == PACKAGE | OWN | BYTECODE
        assert one_record("both", "source", server)[3] == b"import app.inner"
        assert one_record("both", FORM, server)[1] == OWN | BYTECODE
        assert server.source_line(f"ramet:{folder}/a.zip/app/inner.py", 1) == "X = 1\n"


def test_source_that_only_the_loader_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loader:
        def get_source(self, name: str) -> str:
            return "# coding: latin-1\nWORD = 'grün'\n"

    import types

    module: Any = types.ModuleType("told")
    module.__loader__ = Loader()
    monkeypatch.setitem(sys.modules, "told", module)
    assert one_record("told", "source")[1:] == [OWN, "ramet:told.py", "# coding: latin-1\nWORD = 'grün'\n".encode("latin-1")]
    assert one_record("told", FORM)[1] == OWN | BYTECODE


# ---------------------------------------------------------------------- what is sent with calls


def test_libraries_go_where_they_are_not_installed(folder: Path) -> None:
    sources.write(folder, {"app.py": "import lib.sub, nspace.part", "site-packages/lib/__init__.py": "",
                           "site-packages/lib/sub.py": "", "site-packages/nspace/part.py": ""})  # fmt: skip
    server = ModuleServer()
    closure = server.closure("app")
    assert closure.library == ("lib", "lib.sub", "nspace", "nspace.part")
    assert server.lacking(closure, ()) == ["app", "lib", "lib.sub", "nspace", "nspace.part"]
    assert server.lacking(closure, {"lib", "nspace"}) == ["app", "nspace", "nspace.part"]
    assert server.lacking(closure, {"lib", "nspace"}, "lib.sub")[1:3] == ["lib", "lib.sub"], "it was looked for in vain"
    assert one_record("lib.sub", FORM, server)[1] == BYTECODE
    server.prefer("lib")
    assert server.lacking(closure, {"lib", "nspace"}) == ["app", "lib", "lib.sub", "nspace", "nspace.part"]
    assert one_record("lib.sub", FORM, server)[1] == BYTECODE | OWN, "preferred, it wins over there"


def test_absent_standard_modules_are_told_to_old_pythons_only(folder: Path) -> None:
    sources.write(folder, {"app.py": "import tomllib, gone_one"})
    server = ModuleServer()
    closure = server.closure("app")
    assert server.absent(closure, "cp313") == server.absent(closure, "cp310") == {"gone_one": "absent"}
    for form in ("cp39", "source"):
        assert sorted(server.absent(closure, form)) == ["gone_one", "tomllib"]


def test_forbidden_modules_stay(folder: Path) -> None:
    sources.write(folder, {"app/__init__.py": "", "app/tasks.py": "from . import secret, public", "app/secret.py": "",
                           "app/public.py": ""})  # fmt: skip
    server = ModuleServer()
    server.forbid("app.secret")
    closure = server.closure("app.tasks")
    assert closure.own == ("app", "app.public", "app.tasks")
    assert closure.absent["app.secret"].startswith("refused: ") and "forbid('app.secret')" in closure.absent["app.secret"]
    with pytest.raises(ModuleNotShippedError, match=r"app\.secret can't be sent"):
        server.check("app.secret")
    server.check("app.tasks")


def test_any_other_module_can_be_tried() -> None:
    for name in ("os", "ramet.kernel.core", "not_here_but_maybe_there", "pytest"):
        ModuleServer().check(name)


# ---------------------------------------------------------------------- what nodes ask for


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a..b", "os.path/../..", "a b", "a" * 501, "x" * 10_000_000])
def test_odd_names_are_refused_unseen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramet.modules.find.find", None)
    answer = ModuleServer().answer(name, 1)
    assert answer.names == () and all(why.startswith("refused: ") for why in answer.absent.values())
    assert len(name) > 500 or list(answer.absent) == [name]


def test_nothing_is_imported_for_a_node(folder: Path) -> None:
    sources.write(folder, {"bomb/__init__.py": "raise SystemExit('imported')", "bomb/inner.py": "raise SystemExit('imported')"})
    answer = ModuleServer().answer("bomb.inner", 1)
    assert answer.own == ("bomb", "bomb.inner") and "bomb" not in sys.modules


def test_own_modules_and_what_belongs_to_the_calls_may_be_asked_for(folder: Path) -> None:
    sources.write(folder, {"app.py": "import lib", "plugin.py": "import other_lib", "site-packages/lib/__init__.py": "",
                           "site-packages/lib/lazy.py": "", "site-packages/other_lib.py": ""})  # fmt: skip
    server = ModuleServer()
    refused = server.answer("lib.lazy", 1)
    assert refused.names == () and "isn't needed by any function" in refused.absent["lib.lazy"]
    server.grant(1, server.closure("app"))
    assert server.answer("lib.lazy", 1).library == ("lib", "lib.lazy")
    assert server.answer("lib.lazy", 2).names == (), "granted to another node"
    assert server.answer("other_lib", 1).names == ()
    assert server.answer("plugin", 1).names == ("plugin", "other_lib")
    assert server.answer("other_lib", 1).names == ("other_lib",)
    server.forget(1)
    assert server.answer("lib.lazy", 1).names == ()


def test_distributions_reach_what_they_require(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = folder / "site-packages"
    for name, top, needs in [("Web-Kit", "webkit", "Requires-Dist: data_kit (>=1) ; extra == 'db'"),
                             ("data.kit", "data_kit", ""), ("spare", "spare", "")]:  # fmt: skip
        info = f"{name.replace('-', '_')}-1.0.dist-info"
        sources.write(site, {f"{top}/__init__.py": "", f"{top}/late.py": "", f"{info}/top_level.txt": top + "\n",
                             f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}\n"})  # fmt: skip
    sources.write(folder, {"app.py": "import webkit", "site-packages/webkit-0.9.dist-info/top_level.txt": "webkit\n"})
    from ramet.modules import policy

    for cached in (policy._distributions_by_top, policy._required_by):
        cached.cache_clear()
    assert distributions_of(["webkit"]) == {"web-kit"} and requirements_of(frozenset({"web-kit"})) == {"web-kit", "data-kit"}
    server = ModuleServer()
    server.grant(1, server.closure("app"))
    assert server.answer("data_kit.late", 1).library == ("data_kit", "data_kit.late")
    assert server.answer("spare.late", 1).names == ()
    server.ship("spare")
    assert server.answer("spare.late", 1).library == ("spare", "spare.late")
    for cached in (policy._distributions_by_top, policy._required_by):
        cached.cache_clear()


def test_strict_means_what_calls_carried(folder: Path) -> None:
    sources.write(folder, {"app.py": "import helper", "helper.py": "", "plugin.py": ""})
    server = ModuleServer(Policy(strict=True))
    server.grant(1, server.closure("app"))
    assert server.answer("helper", 1).own == ("helper",)
    assert "strict" in server.answer("plugin", 1).absent["plugin"]


@pytest.mark.parametrize(("name", "begins"), [
    ("json", "absent: "), ("_winapi", "absent: "), ("ramet.tree", "refused: "), ("not_here_at_all", "absent"),
    ("os.path", "absent: "),
])  # fmt: skip
def test_what_is_never_sent(name: str, begins: str) -> None:
    answer = ModuleServer().answer(name, 1)
    assert answer.names == () and answer.absent[name].startswith(begins)


@pytest.mark.parametrize(("name", "says"), [
    ("json", "standard library"), ("a/b", "refused unseen"), ("not_here_at_all", "Install it in the controller's"),
    ("pytest", "Node 5 doesn't get it on request"), ("ramet", "in every node already"), (__name__, "Node 5 may ask"),
])  # fmt: skip
def test_explain(name: str, says: str) -> None:
    assert says in ModuleServer().explain(name, 5)


def test_explain_says_why_for_every_kind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import types
    sources.write(folder, {"app.py": "", "plugin.py": "", "site-packages/lib.py": ""})
    monkeypatch.setitem(sys.modules, "made_here", types.ModuleType("made_here"))
    server = ModuleServer(Policy(strict=True))
    server.grant(5, server.closure("app"))
    assert "wins over what is installed there. Node 5 may ask for it." in server.explain("app", 5)
    assert "Node 5 doesn't get it on request: no call sent it, and the policy is strict" in server.explain("plugin", 5)
    assert "Node 5 doesn't get it on request" in server.explain("lib", 5)
    assert "made while the program ran" in server.explain("made_here", 5)
    assert "It is native code" in server.explain("numpy._core._multiarray_umath", 5)
    server.ship("plugin")
    server.forbid("lib")
    assert "Node 5 may ask for it" in server.explain("plugin", 5)
    assert "forbids it by tree.modules.forbid('lib'). An import of it fails over there unless" in server.explain("lib", 5)


def test_explain_patterns() -> None:
    server = ModuleServer()
    assert "where it isn't installed" in server.explain("pytest")
    server.prefer("pyte*")
    assert "wins over what is installed there" in server.explain("pytest")
    server.forbid("pytest")
    assert "Never sent" in server.explain("pytest")


# ---------------------------------------------------------------------- what nodes send back


def test_classes_of_shipped_modules_only(folder: Path) -> None:
    text = "import subprocess\nfrom subprocess import Popen\nclass A:\n    class B: pass\ndef f(): pass"
    sources.write(folder, {"shapes.py": text})
    server = ModuleServer()
    module = importlib.import_module("shapes")
    with pytest.raises(ValueNotPortableError):
        server.find_class("shapes", "A")
    server.records(["shapes"], FORM)
    assert server.find_class("shapes", "A") is module.A and server.find_class("shapes", "A.B") is module.A.B
    for module_name, name in [("shapes", "Popen"), ("shapes", "subprocess.Popen"), ("shapes", "f"), ("shapes", "none"),
                              ("subprocess", "Popen"), ("builtins", "eval"), ("nowhere", "A")]:  # fmt: skip
        with pytest.raises(ValueNotPortableError):
            server.find_class(module_name, name)


def test_source_lines_of_shipped_modules_only(folder: Path) -> None:
    sources.write(folder, {"app.py": "one = 1\ntwo = 2\n"})
    server = ModuleServer()
    name = f"ramet:{folder}/app.py"
    assert server.source_line(name, 2) == ""
    server.records(["app"], FORM)
    assert server.source_line(name, 2) == "two = 2\n"
    assert server.source_line(name, 9) == server.source_line("ramet:/etc/passwd", 1) == ""


# ---------------------------------------------------------------------- the main module

TELL = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
def tell():
    import json
    from ramet.kernel.importer import content
    from ramet.modules.server import ModuleServer
    server = ModuleServer()
    try:
        server.check("__main__")
    except ImportError as error:
        print(json.dumps([type(error).__name__, str(error)]))
        return
    closure = server.closure("__main__")
    records, absent = server.records(closure.names, "source")
    binary, _ = server.records(["__main__"], {FORM!r})
    for record in records["__main__"], binary["__main__"]:
        record[1:4:2] = record[1] & ~32, content(record)
    print(json.dumps([closure.own, closure.library, absent, records["__main__"][1:3] + records["__main__"][4:],
                      records["__main__"][3].decode()[-20:], binary["__main__"][1:3]]))
if __name__ == "__main__":
    tell()
# the last line
"""


def run(*args: str, cwd: Path, stdin: str = "") -> Any:
    done = subprocess.run([sys.executable, *args], input=stdin, capture_output=True, text=True, cwd=cwd)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def expect_main(told: Any, path: Path, *own: str, package: str = "") -> None:
    names, library, absent, rest, end, binary = told
    assert names == ["__main__", *own] and library == [] and absent == {}
    assert rest == [OWN, f"ramet:{path}", *([package] if package else [])] and "the last line" in end
    assert binary == [OWN | BYTECODE, f"ramet:{path}"]


def test_main_is_a_script(tmp_path: Path) -> None:
    sources.write(tmp_path, {"script": TELL + "import helper\n# the last line\n", "helper.py": ""})
    expect_main(run("script", cwd=tmp_path), tmp_path / "script", "helper")
    assert not (tmp_path / "__pycache__" / "script.cpython-311.pyc").exists()
    (tmp_path / "link").symlink_to(tmp_path / "script")
    expect_main(run(str(tmp_path / "link"), cwd=Path("/")), tmp_path / "link", "helper")
    expect_main(run("-O", "script", cwd=tmp_path), tmp_path / "script", "helper")


def test_main_is_run_by_m(tmp_path: Path) -> None:
    text = "from . import near\n" + TELL
    sources.write(tmp_path, {"pkg/__init__.py": "import outer", "pkg/tool.py": text, "pkg/near.py": "", "pkg/__main__.py": text,
                             "outer.py": ""})  # fmt: skip
    expect_main(run("-m", "pkg.tool", cwd=tmp_path), tmp_path / "pkg/tool.py", "outer", "pkg", "pkg.near", package="pkg")
    expect_main(run("-m", "pkg", cwd=tmp_path), tmp_path / "pkg/__main__.py", "outer", "pkg", "pkg.near", package="pkg")


def test_main_is_a_folder_or_a_zip(tmp_path: Path) -> None:
    sources.write(tmp_path, {"folder/__main__.py": "import helper\n" + TELL, "folder/helper.py": ""})
    expect_main(run("folder", cwd=tmp_path), tmp_path / "folder/__main__.py", "helper")
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        for path in (tmp_path / "folder").glob("*.py"):
            archive.write(path, path.name)
    expect_main(run("app.pyz", cwd=tmp_path), tmp_path / "app.pyz/__main__.py", "helper")


def test_main_has_no_file(tmp_path: Path) -> None:
    for args, stdin in ((["-c", TELL], ""), (["-"], TELL), ([], TELL)):
        kind, text = run(*args, cwd=tmp_path, stdin=stdin)
        assert kind == "ModuleNotShippedError" and "no file" in text and "put the function into a file" in text


def test_form_is_this_interpreters() -> None:
    assert compat.form_tag() in (FORM, "source")
