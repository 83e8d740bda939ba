"""Native extension modules in nodes that have none of them: real packages, modules made here, and what goes wrong."""
from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import needs, sources
from support.eventually import HANGS_S, until
from targets.test_footprint import traced, written

SAME = "{}.{}".format(*sys.version_info[:2])
SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]

#: What is called: each is a module of the program's own with a function ``use``; and what that returns.
USES = {
    "psutil": ("return psutil.Process().pid == __import__('os').getpid()", True),
    "msgpack": ("return msgpack.Packer.__module__, msgpack.unpackb(msgpack.packb([1, 'a']))", ("msgpack._cmsgpack", [1, "a"])),
    "yaml": ("return yaml.__with_libyaml__, yaml.load('a: [1, 2]', yaml.CLoader)", (True, {"a": [1, 2]})),
    "markupsafe": ("return markupsafe._escape_inner.__module__, str(markupsafe.escape('<'))", ("markupsafe._speedups", "&lt;")),
    "orjson": ("return orjson.loads(orjson.dumps({'a': [1.5, None]}))", {"a": [1.5, None]}),
    "ujson": ("return ujson.dumps([1, 2])", "[1,2]"),
    "regex": (r"return regex.findall(r'\p{Lu}', 'aBcD')", ["B", "D"]),
    "charset_normalizer": ("return charset_normalizer.from_bytes('Grüße'.encode('utf-16')).best().encoding", "utf_16"),
    "lxml.objectify": ("return int(lxml.objectify.fromstring('<a><b>1</b></a>').b) + len(lxml.etree.XPath('//b').path)", 4),
    "cryptography.fernet": ("f = cryptography.fernet.Fernet(b'A' * 43 + b'=')\n    return f.decrypt(f.encrypt(b'hi'))", b"hi"),
    "cffi": ("ffi = cffi.FFI()\n    ffi.cdef('int getpid(void);')\n    return ffi.dlopen(None).getpid() > 0", True),
    "psycopg2": ("return psycopg2.__libpq_version__ > 0", True),     # fifteen shared libraries beside it
    "PIL.ImageFont": ("import PIL.features\n    return bool(PIL.features.version('freetype2'))", True),   # two need each other
    "numpy": ("return float((numpy.ones((9, 9)) @ numpy.eye(9)).sum()), numpy.fft.fft([1, 2]).tolist()", (81.0, [3, -1])),
}  # fmt: skip


@pytest.fixture
def tree() -> Iterator[ramet.Tree]:
    with ramet.Tree(on_output=lambda node, stream, text: None) as tree:
        yield tree


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with sources.on_path(tmp_path):
        yield tmp_path


def bare(tree: ramet.Tree | ramet.Node, label: str = SAME, **options: Any) -> ramet.Node:
    """A node whose interpreter has nothing but its standard library, and has said so."""
    node = tree.local(python=[needs.python(label), "-s", "-S"], **options)
    node.call(int)
    return node


def use(folder: Path, package: str) -> Any:
    """A function that uses a package which is installed here."""
    if importlib.util.find_spec(package.partition(".")[0]) is None:
        needs.lacking(f"the package {package}")
    name = "use_" + package.replace(".", "_")
    text = f"# coding: utf-8\nimport {package}\ndef use():\n    {USES[package][0]}\ndef loaded():\n    return True\n"
    sources.write(folder, {f"{name}.py": text})
    return importlib.import_module(name).use


# ---------------------------------------------------------------------- real packages


@pytest.mark.parametrize("package", USES)
def test_packages_that_are_installed_here_only(package: str, tree: ramet.Tree, folder: Path) -> None:
    function = use(folder, package)
    expected = USES[package][1]
    assert function() == expected
    assert bare(tree).call(function) == expected


@pytest.mark.parametrize("label", ["3.6", "3.9", "3.13"])
def test_the_stable_abi_on_other_versions(label: str, tree: ramet.Tree, folder: Path) -> None:
    """psutil's is for 3.6 and newer; before 3.8, ctypes makes the memory file."""
    assert bare(tree, label).call(use(folder, "psutil")) is True


@pytest.mark.parametrize("behind", [False, True])
def test_what_was_not_sent_ahead_is_asked_for(
        behind: bool, tree: ramet.Tree, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another Python has the source of what its ordinary record holds, which isn't the native code."""
    monkeypatch.setattr(tree._shipper.server, "native_records", lambda *args: {})
    node = bare(bare(tree) if behind else tree, "3.9" if SAME != "3.9" else "3.10")
    assert node.call(use(folder, "psutil")) is True


def test_another_version_falls_back_or_is_told_why(tree: ramet.Tree, folder: Path) -> None:
    node = bare(tree, "3.9" if SAME != "3.9" else "3.10")
    sources.write(folder, {"fallback.py": "import markupsafe, msgpack\ndef modules():\n    return "
                           "markupsafe._escape_inner.__module__, msgpack.Packer.__module__, str(markupsafe.escape('<'))\n"})
    assert node.call(importlib.import_module("fallback").modules) == ("markupsafe._native", "msgpack.fallback", "&lt;")
    tag = f"cpython-{SAME.replace('.', '')}"
    for _ in range(2):      # the next try says the same
        said = rf"orjson\.orjson is native code for {tag} on linux-.* is cpython-3\d+\."
        with pytest.raises(ramet.RemoteError, match=said) as caught:
            node.call(use(folder, "orjson"))
        assert isinstance(caught.value, ImportError) and "Install it here" in str(caught.value)
    assert node.call(int) == 0


def test_python_2_is_told_why(tree: ramet.Tree, folder: Path) -> None:
    sources.write(folder, {"new.py": "import ujson\ndef use():\n    pass\n"})
    needs_package("ujson")
    with pytest.raises(ramet.RemoteError, match=r"ujson is native code for .*but here .* is cpython-27\b"):
        bare(tree, "2.7").call(importlib.import_module("new").use)


def needs_package(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        needs.lacking(f"the package {name}")


def test_who_only_looks_is_told_whether_it_would_load(tree: ramet.Tree, folder: Path) -> None:
    use(folder, "markupsafe")
    sources.write(folder, {"looks.py": "import markupsafe\nimport importlib.util\ndef look():\n"
                           "    return importlib.util.find_spec('markupsafe._speedups') is not None\n"})
    look = importlib.import_module("looks").look
    assert bare(tree).call(look) is True
    assert bare(tree, "3.9" if SAME != "3.9" else "3.10").call(look) is False


def test_on_a_known_node_nothing_has_to_be_asked_for(
        tree: ramet.Tree, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes ahead of the call. Only parts of the kernel may be asked for, that follow behind the first call under credit."""
    function = use(folder, "psutil")
    node = bare(tree)
    wait_for_installed(node)
    asked: list[str] = []
    answer = tree._shipper._answer

    def noted(node: Any, form: str, names: list[Any], given: bool) -> Any:
        asked.extend(names)
        return answer(node, form, names, given)
    monkeypatch.setattr(tree._shipper, "_answer", noted)
    assert node.call(function) is True
    assert [name for name in asked if not name.startswith("ramet.kernel.")] == []


def test_on_a_new_node_one_request_brings_module_and_native_code(tree: ramet.Tree, folder: Path) -> None:
    function = use(folder, "psutil")
    assert tree.local(python=[needs.python(SAME), "-s", "-S"]).call(function) is True
    assert tree.stats()["module_requests"] <= 1


def wait_for_installed(node: ramet.Node) -> None:
    until(lambda: node._state.installed is not None, "it hasn't told what it has")


def test_a_grandchild_gets_it_from_its_parent(tree: ramet.Tree, folder: Path) -> None:
    function = use(folder, "markupsafe")
    parent = bare(tree)
    grandchild = bare(parent)
    assert grandchild.call(function) == USES["markupsafe"][1]
    sent = tree.stats()["bytes_out"]
    assert parent.call(function) == bare(parent).call(function) == USES["markupsafe"][1]
    assert tree.stats()["bytes_out"] - sent < 20_000, "the second and third got it without sending it again"


def test_other_lanes_and_threads(tree: ramet.Tree, folder: Path) -> None:
    use(folder, "yaml")
    use(folder, "lxml.objectify")
    sources.write(folder, {"many.py": """
        import threading
        def many():
            found = []
            def one(module):
                found.append(__import__(module).use())
            threads = [threading.Thread(target=one, args=(m,)) for m in ("use_yaml", "use_lxml_objectify") * 4]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            return len(found)
        """})
    node = bare(tree)
    calls = [node.options(lane=ramet.ANY).start(importlib.import_module("many").many) for _ in range(4)]
    assert [call.result(timeout=HANGS_S) for call in calls] == [8] * 4


def test_no_file_but_memory_files_is_made(tree: ramet.Tree, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    log = tmp_path_factory.mktemp("trace") / "trace"
    node = tree.command(traced(log), python=[needs.python(SAME), "-s", "-S"])
    assert node.call(use(folder, "psutil")) is True
    tree.close()
    assert log.stat().st_size > 1000
    lines = written(log)
    assert lines and all("memfd_create" in line for line in lines), lines


# ---------------------------------------------------------------------- modules made here


SINGLE = """
#include <Python.h>
static int count = 0;
static PyObject *bump(PyObject *self, PyObject *unused) { return PyLong_FromLong(++count); }
static PyMethodDef methods[] = {{"bump", bump, METH_NOARGS, ""}, {0}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "single", "", -1, methods};
PyMODINIT_FUNC PyInit_single(void) { return PyModule_Create(&def); }
"""
MULTI = """
#include <Python.h>
static int count = 0;
static PyObject *bump(PyObject *self, PyObject *unused) { return PyLong_FromLong(++count); }
static PyMethodDef methods[] = {{"bump", bump, METH_NOARGS, ""}, {0}};
static int fill(PyObject *module) {
    PyObject *sibling = PyImport_ImportModule("made.sibling");
    return sibling ? PyModule_AddObject(module, "word", PyObject_GetAttrString(sibling, "WORD")) : -1;
}
static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "multi", "", 0, methods, slots};
PyMODINIT_FUNC PyInit_multi(void) { return PyModuleDef_Init(&def); }
"""
FAILING = """
#include <Python.h>
PyMODINIT_FUNC PyInit_failing(void) { PyErr_SetString(PyExc_ImportError, "its own trouble"); return NULL; }
"""
UNDEFINED = """
#include <Python.h>
extern int nobody_has_this(void);
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "undefined", "", -1, NULL};
PyMODINIT_FUNC PyInit_undefined(void) { return nobody_has_this() ? NULL : PyModule_Create(&def); }
"""
CIRCLE = """
#include <Python.h>
extern int left(void);
static PyObject *turn(PyObject *self, PyObject *unused) { return PyLong_FromLong(left()); }
static PyMethodDef methods[] = {{"turn", turn, METH_NOARGS, ""}, {0}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "circle", "", -1, methods};
PyMODINIT_FUNC PyInit_circle(void) { return PyModule_Create(&def); }
"""


def build(folder: Path, name: str, text: str, *options: str) -> None:
    compiler = needs.program("gcc")
    include = sysconfig.get_path("include")
    if not (Path(include) / "Python.h").exists():
        needs.lacking("Python.h")
    (folder / f"{name}.c").write_text(text)
    target = folder / (name + (".so" if name.startswith("lib") else SUFFIX))
    command = [compiler, "-shared", "-fPIC", "-I", include, str(folder / f"{name}.c"), "-o", str(target), *options]
    subprocess.run(command, check=True)


@pytest.fixture
def made(folder: Path) -> Path:
    sources.write(folder, {"made/__init__.py": "", "made/sibling.py": "WORD = 'from C'\n", "calls.py": """
        import sys
        def facts(name):
            import importlib, os
            module = importlib.import_module(name)
            open_files = [os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
                          if os.path.exists("/proc/self/fd/" + fd)]
            return (module.__name__, module.__file__, module.__spec__.origin, module.__package__, module.__loader__.name,
                    [file for file in open_files if "memfd" in file])
        def bump(name):
            import importlib
            return importlib.import_module(name).bump()
        def again(name):
            import importlib
            del sys.modules[name]
            return importlib.import_module(name).bump()
        def word():
            import made.multi
            return made.multi.word
        def turn():
            import made.circle
            return made.circle.turn()
        def load(name):
            __import__(name)
        def without(what):
            import errno, os
            from ramet.kernel import native
            if what == "proc":
                native.FOLDER = "/no/proc/self/fd/"
            else:
                def refuse(*args):
                    raise OSError(errno.EACCES, "Permission denied")
                os.memfd_create = refuse
        """})
    return folder / "made"


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_module_of_the_programs_own(kind: str, made: Path, tree: ramet.Tree) -> None:
    build(made, "single", SINGLE)
    build(made, "multi", MULTI)
    calls = importlib.import_module("calls")
    node = bare(tree)
    name = f"made.{kind}"
    file = f"ramet:{made}/{kind}{SUFFIX}"
    assert node.call(calls.facts, name) == (name, file, file, "made", name, [])
    assert [node.call(calls.bump, name) for _ in range(2)] == [1, 2]
    assert node.call(calls.again, name) == 3, "the same library when it is imported anew, so the same globals"
    other = {"single": "multi", "multi": "single"}[kind]
    assert node.call(calls.bump, f"made.{other}") == 1, "another library, though it had the same descriptor"
    if kind == "multi":
        assert node.call(calls.word) == "from C"


def test_libraries_that_need_each_other(made: Path, tree: ramet.Tree) -> None:
    libs = made / "libs_of_it"
    libs.mkdir()
    names = {"left": "libleft-of-this-circle-0123.so", "right": "libright-of-this-circle-45.so"}
    texts = {"left": "int right(void); int middle(void) { return 40; } int left(void) { return right() + 1; }",
             "right": "int middle(void); int right(void) { return middle() + 1; }"}  # fmt: skip
    origin = ["-L", str(libs), "-Wl,-rpath,$ORIGIN", "-Wl,--no-as-needed"]
    for _ in range(2):      # the first time each lacks the other
        for key, other in (("left", "right"), ("right", "left")):
            beside = [f"-l:{names[other]}"] if (libs / names[other]).exists() else []
            build(libs, names[key][:-3], texts[key], f"-Wl,-soname,{names[key]}", *origin, *beside)
    build(made, "circle", CIRCLE, "-L", str(libs), "-Wl,-rpath,$ORIGIN/libs_of_it", f"-l:{names['left']}",
          "-Wl,--allow-shlib-undefined")  # fmt: skip
    assert bare(tree).call(importlib.import_module("calls").turn) == 42


def test_what_goes_wrong_is_said_and_the_node_lives(made: Path, tree: ramet.Tree) -> None:
    build(made, "failing", FAILING)
    build(made, "undefined", UNDEFINED)
    build(made, "single", SINGLE)
    calls = importlib.import_module("calls")
    node = bare(tree)
    for _ in range(2):
        with pytest.raises(ramet.RemoteError, match=r"its own trouble"):
            node.call(calls.load, "made.failing")
        with pytest.raises(ramet.RemoteError, match=r"made\.undefined is native code that can't be loaded here .*: "
                           rf"ramet:.*undefined{SUFFIX}: undefined symbol: nobody_has_this"):
            node.call(calls.load, "made.undefined")
    assert node.call(calls.bump, "made.single") == 1


@pytest.mark.parametrize(("what", "said"), [
    ("proc", "/proc isn't mounted here"), ("memfd", "makes no anonymous memory file.*denied"),
])  # fmt: skip
def test_what_the_system_lacks_is_said(what: str, said: str, made: Path, tree: ramet.Tree) -> None:
    build(made, "single", SINGLE)
    calls = importlib.import_module("calls")
    node = bare(tree)
    node.call(calls.without, what)
    with pytest.raises(ramet.RemoteError, match=f"made.single is native code that can't be loaded here .*{said}") as caught:
        node.call(calls.bump, "made.single")
    assert isinstance(caught.value, ImportError)


def test_a_damaged_module_is_refused_with_the_reason(made: Path, tree: ramet.Tree) -> None:
    (made / f"single{SUFFIX}").write_bytes(b"\x7fELF\x02\x01" + bytes(100))
    with pytest.raises(ramet.RemoteError, match=r"single.* isn't a shared library that can be read: it is damaged"):
        bare(tree).call(importlib.import_module("calls").bump, "made.single")
