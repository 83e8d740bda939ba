"""What is kept on disk of modules: a second run scans and packs nothing, and an edit is seen."""
from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

from ramet.bootstrap import cache
from ramet.modules import pack, scan, shelves
from ramet.modules.server import ModuleServer
from support import sources

FORM = pack.BYTECODE_FORM
TEXT = "import first\nWORD = 'a'\n" + "# padding\n" * 50


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program and an installed library, and a cache of their own. Files count as settled at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.SETTING, raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)   # an edit of the same size within a second: Python misses it
    monkeypatch.setattr(shelves, "_SETTLED_NS", -1 << 60)
    sources.write(tmp_path, {"app.py": TEXT, "first.py": "import lib.sub\n", "site-packages/lib/__init__.py": "",
                             "site-packages/lib/sub.py": "def f():\n    import second\n    return 1 + g()\n"})  # fmt: skip
    sources.write(tmp_path, {"second.py": "X = 2\n"})
    with sources.on_path(tmp_path, tmp_path / "site-packages"):
        yield tmp_path


def run(form: str = FORM) -> tuple[Any, Any]:
    """What a run of the program gets, which begins with empty memory: the closure, and the records."""
    server = ModuleServer()
    closure = server.closure("app")
    records, absent = server.records(closure.names, form)
    assert absent == {}
    server.save()
    return closure, records


@pytest.mark.parametrize("form", ["source", FORM])
def test_second_run_scans_and_packs_nothing(form: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run(form)
    assert before[0].names == ("app", "first", "lib", "lib.sub")
    monkeypatch.setattr(pack, "packed", None)
    monkeypatch.setattr(pack, "code_of", None)
    monkeypatch.setattr(scan, "imports", None)
    assert run(form) == before
    assert len(cache.files()) == 2, "one for the program's folder, one for the library"


def test_first_run_reads_each_code_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = [], pack.code_of
    monkeypatch.setattr(pack, "code_of", lambda found: read.append(found.name) or real(found))
    closure, _ = run()
    assert sorted(read) == sorted(closure.names)


def test_run_that_needs_another_form_adds_to_what_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary, source = run(FORM), run("source")
    monkeypatch.setattr(pack, "packed", None)
    assert (run(FORM), run("source")) == (binary, source)


@pytest.mark.parametrize("keep", ["nothing", "size", "size and time"])
def test_an_edit_is_seen(keep: str, folder: Path) -> None:
    path = folder / "app.py"
    run("source")
    old = path.stat()
    text = TEXT.replace("first", "other") if keep != "nothing" else "import other"
    sources.write(folder, {"other.py": ""})
    while path.stat().st_ctime_ns == old.st_ctime_ns:   # it has changed when the clock has ticked
        path.write_text(text)
        if keep == "size and time":
            os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    closure, records = run("source")
    assert closure.own == ("app", "other") and pack.zipped(0, text.encode())[1] == records["app"][3]


def test_what_was_changed_just_now_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "_SETTLED_NS", 3_600_000_000_000)
    first = run()
    (folder / "app.py").write_text(TEXT)
    assert all(size < 100 for _, size, _ in cache.files())
    assert run() == first


def test_programs_in_one_folder_keep_what_the_other_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tool.py").write_text("import second")
    servers = [ModuleServer(), ModuleServer()]
    for server, name in zip(servers, ("app", "tool"), strict=True):
        server.records(server.closure(name).names, FORM)
    for server in servers:
        server.save()
    monkeypatch.setattr(scan, "imports", None)
    server = ModuleServer()
    assert server.closure("tool").own == ("second", "tool") and server.closure("app").own == ("app", "first")


def test_files_that_are_gone_are_forgotten(folder: Path) -> None:
    run()
    shelf, = (path for _, _, path in cache.files() if b"first.py" in Path(path).read_bytes())
    (folder / "first.py").unlink()
    (folder / "app.py").write_text("import second")
    run()
    assert b"first.py" not in Path(shelf).read_bytes() and b"second.py" in Path(shelf).read_bytes()


def test_modules_of_other_loaders_are_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rewriter(SourceFileLoader):
        """Like pytest's, whose code is not what the file says."""

    import app  # type: ignore[import-not-found]
    app.__spec__.loader = app.__loader__ = Rewriter("app", app.__file__)
    run()
    assert all(b"app.py" not in Path(path).read_bytes() for _, _, path in cache.files())


def test_when_the_cache_is_off_nothing_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.SETTING, "off")
    assert run() == run()
    assert not (folder / "cache").exists()


def test_names_that_are_no_text_are_kept_as_well(folder: Path) -> None:
    odd = folder / os.fsdecode(b"odd\xff")
    odd.mkdir()
    (odd / "strange.py").write_text("import second\n")
    with sources.on_path(odd):
        for _ in range(2):
            server = ModuleServer()
            assert server.closure("strange").own == ("second", "strange")
            server.records(["strange"], FORM)
            server.save()
