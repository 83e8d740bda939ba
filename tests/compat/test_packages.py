"""Packages whole, in a node of every Python: data, resources, metadata, source, namespaces, and where they came from."""
from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import pythons, sources

BLOB = bytes(range(256)) * 300

#: A package with data of all kinds, and functions of it that run on every Python.
APP = {
    "shelf/__init__.py": "WORD = 'shelf'\n",
    "shelf/words.txt": "gr\u00fcn\n",
    "shelf/empty.txt": "",
    "shelf/templates/page.html": "<p>page</p>",
    "shelf/templates/deep/leaf.html": "<p>leaf</p>",
    "shelf/templates/deep/.keep": "",
    "shelf/sub/__init__.py": "",
    "shelf/sub/data.txt": "in sub",
    "shelf/sub/plain.py": "WORD = 'plain'\n",
    "shelf/work.py": '''
        # -*- coding: utf-8 -*-
        from __future__ import absolute_import, with_statement
        import os, pkgutil, sys
        import shelf.sub

        def data():
            """What pkgutil and the loader give."""
            folder = os.path.dirname(shelf.__file__)
            loader = shelf.__loader__
            return [
                pkgutil.get_data("shelf", "words.txt"), pkgutil.get_data("shelf.sub", "data.txt"),
                pkgutil.get_data("shelf", "templates/deep/leaf.html"), pkgutil.get_data("shelf", "empty.txt"),
                loader.get_data(os.path.join(folder, "templates", "page.html")),
                loader.get_data(os.path.join(folder, "sub", "..", "words.txt")),
                loader.get_data(shelf.__file__),
            ]

        def blob():
            got = pkgutil.get_data("shelf", "blob.bin")
            return len(got), got == bytes(bytearray(range(256))) * 300

        def missing():
            said = []
            for name in ("no.txt", "templates", "../outside.txt", "/etc/passwd", "no/such/folder.txt",
                         "templates/../../outside.txt"):
                try:
                    said.append(pkgutil.get_data("shelf", name))
                except (IOError, ValueError):
                    error = sys.exc_info()[1]
                    said.append([type(error).__name__, getattr(error, "errno", None), "ramet:" in str(error)])
            return said

        def modules():
            found = [name for _, name, is_package in pkgutil.walk_packages(shelf.__path__, "shelf.")]
            packages = [name for _, name, is_package in pkgutil.iter_modules(shelf.__path__) if is_package]
            return found, packages

        def resources():
            """What importlib.resources gives, by the old functions and the new one."""
            import importlib.resources as r
            assert r.read_text("shelf", "words.txt") == u"gr\\u00fcn\\n", "read_text"
            assert r.read_binary("shelf.sub", "data.txt") == b"in sub", "read_binary"
            with r.open_text("shelf", "words.txt") as file:
                assert file.read() == u"gr\\u00fcn\\n", "open_text"
            with r.open_binary("shelf", "words.txt") as file:
                assert file.read() == u"gr\\u00fcn\\n".encode("utf-8"), "open_binary"
            held = sorted(r.contents("shelf"))
            assert r.is_resource("shelf", "words.txt") and not r.is_resource("shelf", "templates"), "is_resource"
            assert not r.is_resource("shelf", "no.txt"), "no resource"
            with r.path("shelf", "words.txt") as path:
                assert path.read_text(encoding="utf-8") == u"gr\\u00fcn\\n", "path"
            assert not path.exists(), "it is removed"
            try:
                r.open_binary("shelf", "no.txt")
            except FileNotFoundError as error:
                assert "no.txt" in str(error)
            else:
                raise AssertionError("no.txt was opened")
            return held

        def traversal():
            import importlib.resources as r
            top = r.files("shelf")
            page = top / "templates" / "page.html"
            assert page.read_text(encoding="utf-8") == "<p>page</p>" and page.is_file() and not page.is_dir()
            assert top.joinpath("templates/deep/leaf.html").read_bytes() == b"<p>leaf</p>"
            assert (top / "templates").is_dir() and not (top / "no").is_dir()
            assert sys.version_info < (3, 10) or not (top / "no.txt").is_file()     # 3.9's zipfile.Path says so of anything
            assert sorted(item.name for item in (top / "templates").iterdir()) == ["deep", "page.html"]
            with page.open("rb") as file:
                assert file.read(3) == b"<p>"
            with (top / "words.txt").open(encoding="utf-8") as file:
                assert file.readline() == u"gr\\u00fcn\\n"
            with r.as_file(page) as path:
                assert path.read_bytes() == b"<p>page</p>" and path.name.endswith("page.html")
            assert not path.exists(), "it is removed"
            try:
                (top / "no.txt").read_bytes()
            except (FileNotFoundError, KeyError) as error:
                assert "no.txt" in str(error)
            else:
                raise AssertionError("no.txt was read")

            def walk(item):
                return sum(map(walk, item.iterdir()), []) if item.is_dir() else [item.name]
            return sorted(walk(top))

        def folder_as_file():
            import importlib.resources as r
            with r.as_file(r.files("shelf") / "templates") as path:
                found = sorted(str(p.relative_to(path)) for p in path.rglob("*"))
                text = (path / "deep" / "leaf.html").read_text()
            return found, text, path.exists()

        def source():
            import inspect, linecache, traceback
            here = inspect.getsource(source)
            line = linecache.getline(shelf.work.__file__, 2, globals()) if hasattr(shelf, "work") else ""
            try:
                raise ValueError("on purpose")      # this very line
            except ValueError:
                text = traceback.format_exc()
            return here.splitlines()[0], "this very line" in text, "def data" in inspect.getsource(data)

        def post_mortem():
            import pdb
            if sys.version_info[0] == 2:
                from StringIO import StringIO
            else:
                from io import StringIO
            out = StringIO()
            try:
                raise KeyError("dead")     # the dead line
            except KeyError:
                debugger = pdb.Pdb(stdin=StringIO("p 6 * 7\\nlist\\nquit\\n"), stdout=out)
                debugger.use_rawinput = False
                debugger.reset()
                debugger.interaction(None, sys.exc_info()[2])
            return "42" in out.getvalue(), "the dead line" in out.getvalue()

        def attributes():
            spec = getattr(shelf, "__spec__", None)
            loader = shelf.__loader__
            assert spec is None or (spec.loader is loader and spec.origin == shelf.__file__ and spec.parent == "shelf")
            assert loader.is_package("shelf") and not loader.is_package("shelf.work")
            assert loader.get_filename("shelf.work") == __file__
            return shelf.__file__, list(shelf.__path__), getattr(spec, "cached", None), shelf.__package__
        ''',
    "outside.txt": "not of the package",
}  # fmt: skip


@pytest.fixture(params=[pytest.param((label, path), id=label) for label, path in pythons.interpreters()])
def python(request: pytest.FixtureRequest) -> tuple[str, str]:
    label, path = request.param
    return label, path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with sources.on_path(tmp_path):
        yield tmp_path


def work(folder: Path) -> Any:
    sources.write(folder, APP)
    (folder / "shelf" / "blob.bin").write_bytes(BLOB)
    return importlib.import_module("shelf.work")


def version(python: tuple[str, str]) -> tuple[int, int]:
    major, _, minor = python[0].removeprefix("pypy").partition(".")
    return int(major), int(minor)


def bytes_of(value: Any) -> Any:
    """Text of 2.7, where it was ASCII bytes, as bytes."""
    return value.encode() if isinstance(value, str) else value


def test_data_by_path(python: tuple[str, str], folder: Path) -> None:
    app = work(folder)
    with ramet.Tree() as tree:
        node = tree.local(python=python[1])
        green = "gr\u00fcn\n".encode()
        expected = [green, b"in sub", b"<p>leaf</p>", b"", b"<p>page</p>", green, b"WORD = 'shelf'\n"]
        assert [bytes_of(one) for one in node.call(app.data)] == expected
        assert node.call(app.blob) == (len(BLOB), True)
        kind = "IOError" if python[0] == "2.7" else "FileNotFoundError"
        assert node.call(app.missing) == [[kind, 2, True]] * 6


def test_what_a_package_holds_is_listed_for_pkgutil(python: tuple[str, str], folder: Path) -> None:
    app = work(folder)
    with ramet.Tree() as tree:
        modules, packages = tree.local(python=python[1]).call(app.modules)
        assert modules == ["shelf.sub", "shelf.sub.plain", "shelf.work"] and packages == ["sub"]


def test_importlib_resources(python: tuple[str, str], folder: Path) -> None:
    app = work(folder)
    with ramet.Tree() as tree:
        node = tree.local(python=python[1])
        if version(python) >= (3, 7):
            held = ["__init__.py", "blob.bin", "empty.txt", "sub", "templates", "words.txt", "work.py"]
            assert node.call(app.resources) == held
        if version(python) >= (3, 9):
            leaves = ["__init__.py", "__init__.py", "blob.bin", "data.txt", "empty.txt", "leaf.html", "page.html", "plain.py",
                      "words.txt", "work.py"]  # fmt: skip
            assert node.call(app.traversal) == leaves
        if version(python) >= (3, 12):
            assert node.call(app.folder_as_file) == (["deep", "deep/leaf.html", "page.html"], "<p>leaf</p>", False)
        else:
            assert node.call(app.blob) == (len(BLOB), True), "there are folders for none older"


def test_source_is_there_for_inspect_tracebacks_and_pdb(python: tuple[str, str], folder: Path) -> None:
    app = work(folder)
    with ramet.Tree() as tree:
        node = tree.local(python=python[1])
        assert node.call(app.source) == ("def source():", True, True)
        assert node.call(app.post_mortem) == (True, True)


def test_attributes(python: tuple[str, str], folder: Path) -> None:
    app = work(folder)
    with ramet.Tree() as tree:
        file, path, cached, package = tree.local(python=python[1]).call(app.attributes)
        assert (file, path, package) == (f"ramet:{folder}/shelf/__init__.py", [f"ramet:{folder}/shelf"], "shelf")
        assert cached is None or (cached.startswith(f"ramet:{folder}/shelf/__pycache__/") and cached.endswith(".pyc"))
