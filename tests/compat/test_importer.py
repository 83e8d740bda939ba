"""The importer in every Python: a node's side of importing over the wire, with a shelf in place of the controller."""
from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from support import kernel_shim, needs, pythons

# What each snippet finds: a cache, a shelf from which `fetch` takes what was asked for, and the list of what was.
NODE = '''
import sys
keep_main = sys.modules["__main__"]     # 2.7 clears the globals of a module that nobody holds
from ramet.kernel import compat, compat_late, importer, packages, unforeseen
from ramet.kernel.errors import ModuleNotShippedError
cache = importer.ModuleCache()
shelf, reasons, asked = {}, {}, []

def record(name, text=u"", flags=2, *package):
    path = name.replace(".", "/") + (u"/" if flags & 8 else u"/__init__.py" if flags & 1 else u".py")
    return [name, flags, u"ramet:/c/" + path, text.encode("utf-8")] + list(package)

def have(*args):
    cache.add("source", [record(*args)], {})

def shelve(name, *args):
    shelf[name] = record(name, *args)

def fetch(name, form):
    asked.append(name)
    if name in shelf:
        cache.add(form, [shelf[name]], {})
    elif name in reasons:
        cache.refuse(name, reasons[name])

def error_of(name):
    try:
        __import__(name)
    except ImportError:
        return sys.exc_info()[1]
    raise AssertionError(name + " was imported")

importer.install(cache, fetch)
PY2 = sys.version_info[0] == 2
'''


@pytest.fixture(params=[pytest.param(path, id=label) for label, path in pythons.interpreters()])
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(python: str, snippet: str) -> None:
    kernel_shim.run(python, NODE + textwrap.dedent(snippet))


def test_a_package_with_all_kinds_of_imports(python: str) -> None:
    run(python, '''
        have("app", u"from __future__ import absolute_import\\nfrom . import util\\nfrom .sub import deep", 3)
        have("app.util", u"import re, string\\nWORD = 'w'")
        have("app.sub", u"", 3)
        have("app.sub.deep", u"from ..util import WORD\\nimport app.util as u\\nclass C(object): pass")
        import app
        assert app.sub.deep.WORD == "w" and app.sub.deep.u is app.util and app.sub.deep.C.__module__ == "app.sub.deep"
        assert app.__file__ == "ramet:/c/app/__init__.py" and app.util.__file__ == "ramet:/c/app/util.py"
        assert app.__path__ == ["ramet:/c/app"] and app.sub.__path__ == ["ramet:/c/app/sub"]
        assert (app.__package__, app.util.__package__, app.sub.deep.__package__) == ("app", "app", "app.sub")
        assert app.__loader__.is_package("app") and not app.__loader__.is_package("app.util")
        if not PY2:
            assert app.__spec__.name == "app" and app.__spec__.origin == app.__file__ and app.__spec__.has_location
            assert list(app.__spec__.submodule_search_locations) == app.__path__
            assert app.util.__spec__.submodule_search_locations is None and app.util.__spec__.parent == "app"
        assert asked == [], asked
    ''')


def test_circular_imports(python: str) -> None:
    run(python, '''
        have("a", u"import b\\ndef f(): return b.g()")
        have("b", u"import a\\ndef g(): return 'g of b, ' + a.__name__")
        import a
        assert a.f() == "g of b, a"
    ''')


def test_bytecode(python: str) -> None:
    run(python, '''
        import marshal
        text = u"def f():\\n    raise KeyError('x')  # the line\\n"
        code = compile(text, "ramet:/c/quick.py", "exec")
        form = compat.form_tag()
        if form != "source":
            cache.add(form, [["quick", 2 | 4, u"ramet:/c/quick.py", marshal.dumps(code)]], {})
            def fetch_source(name, form):
                asked.append((name, form))
                cache.add(form, [record(name, text)], {})
            for finder in sys.meta_path:
                if isinstance(finder, importer.Finder):
                    finder.fetch = fetch_source
            import quick, traceback, inspect
            try:
                quick.f()
            except KeyError:
                said = traceback.format_exc()
            assert 'File "ramet:/c/quick.py", line 2, in f' in said and "# the line" in said, said
            assert "# the line" in inspect.getsource(quick.f)
            assert asked == [("quick", "source")], asked
    ''')


def test_source_that_cannot_be_had_is_asked_for_once(python: str) -> None:
    run(python, '''
        import marshal
        form = compat.form_tag()
        if form != "source":
            cache.add(form, [["bare", 6, u"ramet:/c/bare.py", marshal.dumps(compile("x = 1", "f", "exec"))]], {})
            import bare
            assert bare.__loader__.get_source("bare") is None and bare.__loader__.get_source("bare") is None
            assert asked == ["bare"]
            def cut(name, form):
                raise OSError("the link is cut")
            bare.__loader__.fetch = cut
            cache.reasons.clear()
            assert bare.__loader__.get_source("bare") is None
    ''')


def test_tracebacks_and_inspect_of_source(python: str) -> None:
    run(python, '''
        import inspect, traceback
        have("told", u"# -*- coding: utf-8 -*-\\ndef boom():\\n    raise ValueError('no')  # \\u00e4\\n")
        import told
        try:
            told.boom()
        except ValueError:
            said = traceback.format_exc()
        assert 'File "ramet:/c/told.py", line 3, in boom' in said and "raise ValueError('no')" in said, said
        assert "raise ValueError" in inspect.getsource(told.boom)
        assert asked == []
    ''')


def test_coding_cookie(python: str) -> None:
    run(python, '''
        data = u"# -*- coding: latin-1 -*-\\nWORD = u'gr\\u00fcn'\\n".encode("latin-1")
        cache.add("source", [["old", 2, u"ramet:/c/old.py", data]], {})
        import old
        assert old.WORD == u"gr\\u00fcn"
        assert PY2 or u"gr\\u00fcn" in old.__loader__.get_source("old")
    ''')


def test_path_that_is_not_ascii(python: str) -> None:
    run(python, '''
        cache.add("source", [["odd", 3, u"ramet:/home/j\\u00f6rg/odd/__init__.py", b"from .part import X"],
                             ["odd.part", 2, u"ramet:/home/j\\u00f6rg/odd/part.py", b"X = 1"]], {})
        import odd
        assert odd.X == 1 and isinstance(odd.__file__, str) and isinstance(odd.__path__[0], str)
    ''')


def test_main_module_under_its_alias(python: str) -> None:
    run(python, '''
        have("__main__", u"import sys, __main__\\nassert sys.modules['__main__'].__dict__ is globals()\\n"
                         u"class K(object): pass\\nif __name__ == '__main__': raise SystemExit('the guarded part ran')\\n")
        try:
            sys.modules.pop("__main__")
            assert isinstance(error_of("__main__"), ImportError)    # never run under that name
        finally:
            sys.modules["__main__"] = keep_main
        __import__("__ramet_main__")
        main = sys.modules["__main__"]
        assert main is sys.modules["__ramet_main__"] and main.K.__module__ == "__ramet_main__"
        assert importer.find_class("__main__", "K") is main.K
        assert main.__file__ == "ramet:/c/__main__.py"
        import pickle
        assert type(pickle.loads(pickle.dumps(main.K(), 2))) is main.K
        assert asked == []
    ''')


def test_main_module_that_was_run_by_m(python: str) -> None:
    run(python, '''
        have("pkg", u"ORDER = ['pkg']", 3)
        have("pkg.other", u"from pkg import ORDER\\nORDER.append('other')")
        have("__main__", u"from . import other\\nfrom .other import ORDER\\nimport pkg.other\\n", 2, "pkg")
        __import__("__ramet_main__")
        main = sys.modules["__main__"]
        assert main.ORDER == ["pkg", "other"] and main.__package__ == "pkg" and main.__name__ == "__ramet_main__"
    ''')


def test_main_module_that_fails_can_be_tried_again(python: str) -> None:
    run(python, '''
        have("gate", u"OPEN = []")
        have("__main__", u"import gate\\nif not gate.OPEN: raise RuntimeError('closed')\\nDONE = 1\\n")
        for _ in range(2):
            try:
                __import__("__ramet_main__")
            except RuntimeError:
                assert "__ramet_main__" not in sys.modules
                sys.modules["gate"].OPEN.append(1)
        assert sys.modules["__main__"].DONE
    ''')


def test_namespace_packages(python: str) -> None:
    run(python, '''
        have("ns", u"", 9)
        have("ns.inner", u"", 9)
        have("ns.inner.leaf", u"LEAF = 1", 0)
        import ns.inner.leaf
        assert ns.inner.leaf.LEAF == 1 and list(ns.__path__) == ["ramet:/c/ns"]
        assert getattr(ns, "__file__", None) is None
    ''')


def test_own_modules_win_and_libraries_yield(python: str, tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        (tmp_path / f"{name}.py").write_text("HERE = 1\n")
    package = tmp_path / "installed"
    package.mkdir()
    (package / "__init__.py").write_text("")
    run(python, f'''
        sys.path.insert(0, {str(tmp_path)!r})
        have("mine", u"HERE = 0", 2)
        have("theirs", u"HERE = 0", 0)
        import mine, theirs
        assert not mine.HERE and theirs.HERE
        # versions of a package aren't mixed: what the installed one lacks doesn't come from elsewhere
        have("installed.extra", u"", 0)
        shelve("installed.other", u"", 0)
        assert isinstance(error_of("installed.extra"), ImportError) and isinstance(error_of("installed.other"), ImportError)
        assert asked == [], asked
    ''')


def test_current_folder_never_matters(python: str, tmp_path: Path) -> None:
    trap = tmp_path / "ramet:" / "c" / "app"
    trap.mkdir(parents=True)
    (trap / "trap.py").write_text("raise SystemExit('trapped')\n")
    (tmp_path / "absent.py").write_text("raise SystemExit('trapped')\n")
    run(python, f'''
        import os
        sys.path[:] = [p for p in sys.path if p]
        os.chdir({str(tmp_path)!r})
        have("app", u"", 3)
        import app
        assert isinstance(error_of("app.trap"), ImportError) and isinstance(error_of("absent"), ImportError)
        import pkgutil
        assert list(pkgutil.iter_modules(app.__path__)) == []
    ''')


def test_what_was_not_foreseen_is_asked_for_once(python: str) -> None:
    run(python, '''
        have("app", u"", 3)
        shelve("app.lazy", u"import string, json, app\\nL = 1")
        shelve("lib", u"V = 2", 1)
        import app
        for _ in range(2):
            from app import lazy
            import lib
        assert lazy.L == 1 and lib.V == 2
        for _ in range(2):
            error_of("nowhere")
            error_of("app.nowhere")
        assert asked == ["app.lazy", "lib", "nowhere", "app.nowhere"], asked
    ''')


def test_errors_say_which_and_where(python: str) -> None:
    run(python, '''
        have("app", u"", 3)
        reasons["secret"] = u"refused: it isn't needed by any function"
        reasons["made"] = u"absent: it was made while the program ran"
        cache.add(compat.form_tag(), [], {"told": "absent"})
        for name in "absent_one", "app.none", "made", "told":
            error = error_of(name)
            assert type(error) is compat.ModuleMissing and error.name == name, (type(error), error.name)
            for part in "No module named %r here (%s)" % (name, sys.executable), "controller sends none: absent", "explain":
                assert part in str(error), error
        assert "made while" in str(error_of("made")) and "told" not in asked
        error = error_of("secret")
        assert isinstance(error, ModuleNotShippedError) and isinstance(error, compat.ModuleMissing)
        assert sys.executable in str(error) and "refused: it isn't needed" in str(error)
    ''')


def test_from_import_of_what_a_package_lacks(python: str) -> None:
    run(python, '''
        have("app", u"", 3)
        reasons["app.secret"] = u"refused: strict"
        try:
            from app import nothing
        except ImportError:
            pass
        try:
            from app import secret
        except ImportError:
            assert "refused: strict" in str(sys.exc_info()[1]), sys.exc_info()[1]
    ''')


def test_who_only_looks_gets_no_error(python: str) -> None:
    run(python, '''
        import pkgutil
        if sys.version_info >= (3, 4):
            import importlib.util
            assert importlib.util.find_spec("absent_one") is None
            have("there", u"")
            assert importlib.util.find_spec("there").origin == "ramet:/c/there.py"
        if sys.version_info < (3, 12):
            assert pkgutil.find_loader("absent_two") is None
        assert set(asked) <= {"absent_one", "absent_two"}
    ''')


def test_failing_imports_leave_nothing_and_can_be_tried_again(python: str) -> None:
    run(python, '''
        have("app", u"TRIES = []", 3)
        have("fails", u"import app\\napp.TRIES.append(1)\\nif len(app.TRIES) < 2: import missing_thing\\nY = 2")
        have("worse", u"import app\\nraise KeyError(len(app.TRIES))")
        error = error_of("fails")
        assert error.name == "missing_thing" and "fails" not in sys.modules
        import fails
        assert fails.Y == 2
        for _ in range(2):
            try:
                import worse
            except KeyError:
                assert "worse" not in sys.modules
    ''')


def test_syntax_error_is_that_of_the_node(python: str) -> None:
    run(python, '''
        have("future", u"x = 1\\nthis was written tomorrow\\n")
        try:
            import future
        except SyntaxError:
            error = sys.exc_info()[1]
        assert (error.filename, error.lineno) == ("ramet:/c/future.py", 2) and "written tomorrow" in error.text
        assert "future" not in sys.modules
    ''')


def test_a_finder_that_a_program_appends_is_asked_before_the_controller(python: str) -> None:
    run(python, '''
        class Own(object):
            """As six has it, for six.moves."""
            def find_module(self, name, path=None):
                return self if name == "pkg.moves" else None
            def load_module(self, name):
                import types
                return sys.modules.setdefault(name, types.ModuleType(name))
            def find_spec(self, name, path=None, target=None):
                if name == "pkg.moves":
                    from importlib.util import spec_from_loader
                    return spec_from_loader(name, self)
            def create_module(self, spec): pass
            def exec_module(self, module): pass
        have("pkg", u"", 3)
        cache.refuse("pkg.moves", "absent")
        sys.meta_path.append(Own())
        import pkg.moves
        assert asked == []
    ''')


# Asked for by hardly used modules of old Pythons, or by PyPy's own, so not in the kernel's list.
RARE = """_bsddb _dbm _gdbm _xmlrpclib al AL Carbon Carbon.File Mailman SOCKS dbm gdbm gestalt sunaudiodev SUNAUDIODEV
          _distutils_system_mod setuptools UserDict"""
# They open windows or browsers, print, start a program, need a terminal, or are for setuptools.
SKIPPED = """_distutils_system_mod cffi this antigravity idlelib turtle turtledemo tkinter lib2to3 test __phello__ rlcompleter
             pty tty user site ensurepip"""


def test_standard_library_asks_nobody(python: str) -> None:
    run(python, f'''
        import os, pkgutil, warnings
        warnings.simplefilter("ignore")
        for _, name, _ in pkgutil.iter_modules([os.path.dirname(os.__file__)]):
            if name not in {SKIPPED.split()!r} and not name.endswith("_build"):     # PyPy's: they write C files
                try:
                    __import__(name)
                except (Exception, SystemExit):
                    pass    # not for this platform
        said = set(asked) - set({RARE.split()!r})
        assert len(sys.modules) > 200 and not said, said
    ''')


def test_implicit_relative_imports_cost_no_request(python: str) -> None:
    run(python, '''
        have("app", u"import string\\nimport xml.dom", 3)
        have("app.mod", u"import decimal\\nimport os.path\\nfrom xml import sax")
        shelve("app.near", u"N = 1")
        have("app.asks", u"from . import near\\nfrom .near import N")
        import app.mod, app.asks
        assert app.asks.N == 1
        assert asked == ["app.near"], asked
    ''')


def test_threads_import_at_once(python: str) -> None:
    run(python, '''
        import threading, time
        have("app", u"", 3)
        def slow(name, form):
            asked.append(name)
            time.sleep(0.05)
            cache.add(form, [record(name, u"import app, json\\nT = 1\\n")], {})
        for finder in sys.meta_path:
            if isinstance(finder, importer.Finder):
                finder.fetch = slow
        got = []
        def go(name):
            __import__(name)
            got.append(sys.modules[name].T)
            if not PY2:
                import importlib.util
                got.append(bool(importlib.util.find_spec(name + "_looked_for")))
        threads = [threading.Thread(target=go, args=("w%d" % (i % 5),)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == (20 if PY2 else 40) and all(got), got
        assert len(asked) == len(set(asked)) == (5 if PY2 else 10), asked
    ''')


def test_other_threads_import_while_one_waits(python: str) -> None:
    run(python, '''
        import threading
        arrived, deliver = threading.Event(), threading.Event()
        def stuck(name, form):
            arrived.set()
            assert deliver.wait(150)
            cache.add(form, [record(name)], {})
        for finder in sys.meta_path:
            if isinstance(finder, importer.Finder):
                finder.fetch = stuck
        thread = threading.Thread(target=__import__, args=("late",))
        thread.start()
        assert arrived.wait(150)
        if not PY2:     # there the waiting thread holds the only import lock
            import decimal
        deliver.set()
        thread.join()
        assert "late" in sys.modules
    ''')


def test_interrupted_request_can_be_made_again(python: str) -> None:
    run(python, '''
        class Stop(BaseException): pass
        def stop(name, form):
            raise Stop
        for finder in sys.meta_path:
            if isinstance(finder, importer.Finder):
                finder.fetch = stop
        shelve("again", u"")
        try:
            __import__("again")
        except Stop:
            pass
        sys.meta_path[-1].fetch = fetch
        __import__("again")
        assert asked == ["again"]
    ''')


def test_own_ramet_never_from_elsewhere(python: str, tmp_path: Path) -> None:
    package = tmp_path / "ramet"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('the installed one')\n")
    (package / "late.py").write_text("raise SystemExit('the installed one')\n")
    run(python, f'''
        sys.path.insert(0, {str(tmp_path)!r})
        sys.modules["ramet"].__path__.insert(0, {str(package)!r})
        have("ramet.kernel.late_part", u"P = 1")
        from ramet.kernel import late_part
        assert late_part.P == 1
        assert isinstance(error_of("ramet.late"), ImportError)
        assert asked == ["ramet.late"]
    ''')


def test_malformed_records(python: str) -> None:
    run(python, '''
        from ramet.kernel.errors import ProtocolError
        for records, absent in ([1], {}), ([[]], {}), ([["a", 2, "f"]], {}), (None, {}), ([], 3):
            try:
                cache.add(compat.form_tag(), records, absent)
            except ProtocolError:
                continue
            raise AssertionError((records, absent))
    ''')


def test_looking_whether_a_finder_has_a_method_fetches_nothing(python: str) -> None:
    run(python, '''
        sys.modules["ramet.kernel.packages"] = None     # importing it is an ImportError now
        import ramet
        if hasattr(ramet.kernel, "packages"):
            del ramet.kernel.packages
        for finder in (sys.meta_path[0], sys.meta_path[-1], importer.Nowhere("ramet:/c/app")):
            for name in ("get_resource_reader", "find_distributions", "get_data", "get_source", "iter_modules"):
                assert callable(getattr(finder, name)), name
            for name in ("invalidate_caches", "path_stats", "load_data", "_path", "__wrapped__"):
                assert not hasattr(finder, name), name
        if not PY2:
            import importlib
            importlib.invalidate_caches()
        assert not asked
        try:
            sys.meta_path[0].get_data("ramet:/c/app/x")
        except ImportError:
            pass
        else:
            raise AssertionError("it was there")
        ''')


SETTLED = """
import sys, threading
import collections
from ramet.kernel import compat_late
sys.setswitchinterval(1e-6)
wrong = []

def ours():
    compat_late.settle_collections()
    try:
        from collections.abc import Mapping
    except ImportError as error:
        wrong.append(str(error))

def the_programs():
    import collections.abc

for _ in range(1000):
    sys.modules.pop("collections.abc", None)
    threads = [threading.Thread(target=fn) for fn in (the_programs, ours, ours)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
import collections.abc
print(len(wrong), hasattr(collections.abc, "Mapping"))
"""


@pytest.mark.parametrize("label", ["3.12", "3.13"])
def test_a_thread_of_ours_imports_what_needs_collections_abc_while_the_program_does(label: str) -> None:
    """In 3.13 the second of two threads may be given an empty module: one import in fifteen failed here."""
    assert kernel_shim.run(needs.python(label), SETTLED).strip() == "0 True"
