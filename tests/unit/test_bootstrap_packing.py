"""The payload: what is in it, how large it is, where it is kept."""
from __future__ import annotations

import ast
import marshal
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from ramet.bootstrap import cache, loader, packing, slim
from ramet.kernel import compat, stub
from ramet.kernel.importer import BYTECODE, ZIPPED, content
from support import source
from support.eventually import until


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache directory of the test's own, and nothing packed yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.SETTING, raising=False)
    packing.payload.cache_clear()
    packing.packed.cache_clear()
    yield tmp_path / "cache" / "ramet"
    packing.payload.cache_clear()
    packing.packed.cache_clear()


def unpack(payload: bytes) -> tuple[str, dict[str, Any], list[str]]:
    """(the form, the modules, their order) of a payload."""
    assert payload.startswith(stub.HEAD)
    stream = zlib.decompressobj()
    text, _, loader = stream.decompress(payload[stub.HEAD_BYTES:]).rpartition(b"\0")
    assert stream.eof and not stream.unused_data and b"def load(" in loader
    form, _, rest = text.partition(b"\0")
    modules = rest.split(b"\0") if form == b"source" else marshal.loads(rest)
    names = [name.decode() for name in modules[::2]]
    return form.decode(), dict(zip(names, modules[1::2], strict=True)), names


def test_head_has_the_announced_length() -> None:
    assert len(stub.HEAD) == stub.HEAD_BYTES
    assert f"[0]*{stub.HEAD_BYTES}" in stub.PROGRAM
    assert len(stub.program(1)) < 4096      # what any pipe takes


@pytest.mark.parametrize("form", packing.FORMS)
def test_payload_holds_the_core_in_order(form: str) -> None:
    said, modules, order = unpack(packing.payload(form))
    assert said == form and order == ["ramet", "ramet.kernel", *packing.CORE]
    assert modules["ramet"] == b"" and all(modules[name] for name in packing.CORE)


def test_source_is_within_its_budget() -> None:
    """All that is sent, and that a node can load: with the head and the loader."""
    assert len(packing.payload("source")) <= 14_000


def test_each_module_comes_behind_what_it_imports() -> None:
    known: set[str] = set()
    for name in packing.CORE:
        tree = ast.parse((source.PACKAGE / "kernel" / f"{name.rpartition('.')[2]}.py").read_text())
        top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        needed = {one for one in source.imports(top, name, False) if one in packing.CORE}
        assert needed <= known, f"{name} needs {sorted(needed - known)} before it"
        known.add(name)


def test_bytecode_has_no_path_of_this_machine_and_true_lines() -> None:
    form = packing.FORMS[-1]
    assert form == compat.form_tag() != "source"
    _, modules, _ = unpack(packing.payload(form))
    assert str(source.PACKAGE).encode() not in packing.payload(form) + marshal.dumps(list(modules.values()))
    code = modules["ramet.kernel.frames"]
    assert code.co_filename == "ramet/kernel/frames.py"
    kept = {found.co_name: found.co_firstlineno for found in code.co_consts if isinstance(found, CodeType)}
    defined = {node.name: node.lineno for node in ast.parse((source.PACKAGE / "kernel/frames.py").read_text()).body
               if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.decorator_list}  # fmt: skip
    assert {name: kept[name] for name in defined} == defined


def test_slim_code_does_the_same() -> None:
    text = (
        '"""Module."""\n'
        "def f(a, b=2):\n"
        '    """Doc."""\n'
        "    try:\n"
        "        return a / b, ('text' for _ in range(1)), lambda: 'text'\n"
        "    except ZeroDivisionError as error:\n"
        "        return error.__traceback__.tb_lineno\n"
        "def g():\n"
        "    return 'not a docstring'\n"
        "class C:\n"
        '    """Doc of a class."""\n'
        "    def m(self): return 'value', [x for x in 'ab']\n"
    )
    code = compile(text, "/secret/path.py", "exec")
    small = slim.slim(code, "x.py")
    space: dict[str, object] = {}
    exec(small, space)
    f, g, kind = space["f"], space["g"], space["C"]
    quotient, texts, function = f(4)  # type: ignore[operator]
    assert (quotient, list(texts), function()) == (2, ["text"], "text")
    assert f(1, 0) == 5 and g() == "not a docstring" and kind().m() == ("value", ["a", "b"])  # type: ignore[operator]
    assert f.__doc__ is None and space["__doc__"] is None and f.__code__.co_filename == "x.py"  # type: ignore[attr-defined]
    assert list(small.co_lines())[-1][2] == list(code.co_lines())[-1][2]
    assert len(marshal.dumps(small)) < len(marshal.dumps(code))


def test_forms_that_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="cp26"):
        packing.payload("cp26")
    with pytest.raises(ImportError, match=r"ramet\.kernel\.nothing"):
        packing.late_records(["ramet.kernel.nothing"], "source")


def test_late_records() -> None:
    for form, flags in zip(packing.FORMS, (ZIPPED, ZIPPED | BYTECODE), strict=False):
        (name, flag, filename, data), = records = packing.late_records(["ramet.kernel.stub"], form)
        assert (name, flag, filename) == ("ramet.kernel.stub", flags, "ramet/kernel/stub.py")
        assert isinstance(data, bytes) and len(data) < len(content(records[0]))


def test_late_records_come_from_the_cache_the_second_time(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packing.late_records(["ramet.kernel.stub"], "source")
    packing.packed.cache_clear()
    monkeypatch.setattr(packing, "_code", None)
    assert packing.late_records(["ramet.kernel.stub"], "source") == first


def test_loader_is_sent_as_it_stands() -> None:
    text = Path(loader.__file__).read_text()
    assert "load(text, data, excepthook, entry)" in text      # packing calls it with s, d.unused_data, h, p of HEAD


# ---------------------------------------------------------------------- the cache

def test_second_time_it_comes_from_the_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packing.payload("source")
    file, = own_cache.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600 and own_cache.stat().st_mode & 0o777 == 0o700
    packing.payload.cache_clear()
    monkeypatch.setattr(packing, "build", None)
    assert packing.payload("source") == first


@pytest.mark.parametrize("damage", ["cut", "changed", "writable", "link", "folder"])
def test_damaged_files_do_not_count(own_cache: Path, damage: str, tmp_path: Path) -> None:
    first = packing.payload("source")
    file, = own_cache.iterdir()
    text = file.read_bytes()
    if damage == "cut":
        file.write_bytes(text[:-1])
    elif damage == "changed":
        file.write_bytes(text[:-1] + b"x")
    elif damage == "writable":
        file.chmod(0o666)
    elif damage == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
        file.mkdir()
    assert cache.get(file.name) is None
    packing.payload.cache_clear()
    assert packing.payload("source") == first


@pytest.mark.parametrize("place", ["file", "open to all", "read-only", "nowhere", "relative"])
def test_without_a_usable_directory_nothing_is_kept(own_cache: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "file":
        own_cache.parent.mkdir()
        own_cache.write_text("")
    elif place == "open to all":
        own_cache.mkdir(parents=True)
        own_cache.chmod(0o777)
    elif place == "read-only":
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "" if place == "nowhere" else "some/where")
        monkeypatch.setenv("HOME", "")
    assert packing.payload("source").startswith(stub.HEAD)
    assert not own_cache.is_dir() or not list(own_cache.iterdir())
    assert not os.path.exists("some")


def test_somebody_elses_home_is_left_alone(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_cache.parent.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    cache.put(cache.name_of("key"), b"data")
    assert not own_cache.exists()


def test_cache_is_bounded_and_the_longest_unused_goes_first(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.SETTING, " 1 ")
    names = [cache.name_of(number) for number in range(5)]
    for age, name in enumerate(names[:4]):
        cache.put(name, bytes(250_000))
        os.utime(own_cache / name, (0, time.time() - 9000 + age))
    (own_cache / "notes.txt").write_text("somebody else's")
    (own_cache / ".new-killed").write_bytes(b"half")
    os.utime(own_cache / ".new-killed", (0, 0))
    assert cache.get(names[0]) == bytes(250_000), "it is used, so it is the newest now"
    cache.put(names[4], bytes(250_000))
    assert [cache.get(name) is not None for name in names] == [True, False, True, True, True]
    assert {path.name for path in own_cache.iterdir()} == {names[0], *names[2:], "notes.txt"}
    assert sum(size for _, size, _ in cache.files()) <= cache.bytes_max() == 1 << 20
    cache.put(names[1], bytes(600_000))
    assert cache.get(names[1]) is None, "one file isn't all"
    assert cache.clear() == 4 and cache.files() == [] and (own_cache / "notes.txt").exists()


@pytest.mark.parametrize("said, megabytes", [("off", 0), ("OFF", 0), ("0", 0), ("200", 200), ("", 64), ("many", 64)])
def test_cache_size_is_set_by_the_environment(said: str, megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.SETTING, said)
    assert cache.bytes_max() == megabytes << 20


def test_cache_that_is_off_is_neither_written_nor_read(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = cache.name_of("x")
    cache.put(name, b"data")
    monkeypatch.setenv(cache.SETTING, "off")
    assert cache.get(name) is None
    cache.put(cache.name_of("y"), b"data")
    assert [path.name for path in own_cache.iterdir()] == [name]


def test_programs_that_write_the_same_file_at_once(own_cache: Path, tmp_path: Path) -> None:
    """Each reader sees one of the texts whole, whatever the writers do."""
    name, texts = cache.name_of("contested"), [bytes([number]) * 200_000 for number in range(4)]
    script = ("import os, sys; from ramet.bootstrap import cache\n"
              "while not os.path.exists(sys.argv[3]): cache.put(sys.argv[1], bytes([int(sys.argv[2])]) * 200_000)")  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(source.TOP / "src")}
    enough = tmp_path / "enough"
    writers = [subprocess.Popen([sys.executable, "-c", script, name, str(number), str(enough)], env=env) for number in range(4)]
    seen = set()
    try:
        until(lambda: seen.add(cache.get(name)) or seen >= set(texts), "not all of them write")
    finally:
        enough.touch()
        ended = [writer.wait() for writer in writers]
    assert ended == [0] * 4
    assert cache.get(name) in texts and seen <= {None, *texts}
    assert [path.name for path in own_cache.iterdir()] == [name], "nothing half-written is left"


# ---------------------------------------------------------------------- columns

def inner_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from inner_codes(const)


def test_bytecode_without_columns_keeps_its_lines() -> None:
    paths = [*Path(os.__file__).parent.glob("[a-d]*.py"), Path(__file__)]
    count = saved = 0
    for path in paths:
        code = compile(path.read_bytes(), str(path), "exec")
        small = slim.without_columns(code)
        for one, other in zip(inner_codes(code), inner_codes(small), strict=True):
            assert list(lines_of(one)) == list(lines_of(other)), (path, one)
            count += 1
        saved += len(marshal.dumps(code)) - len(marshal.dumps(small))
    assert count > 500
    has_columns = sys.version_info >= (3, 11) and sys.implementation.name == "cpython"
    assert (saved > count * 30) is has_columns, "if not, this Python's location tables have changed: see slim.lines_only"


def lines_of(code: CodeType) -> Iterator[int | None]:
    for start, end, line in code.co_lines():
        yield from [line] * ((end - start) // 2)


def test_location_tables_that_are_not_understood_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    slim._tables_are_understood.cache_clear()
    monkeypatch.setattr(slim, "lines_only", lambda table: b"\xe8\x02")
    code = compile("def f():\n    return 1\n", "x", "exec")
    try:
        assert slim.without_columns(code) is code
    finally:
        slim._tables_are_understood.cache_clear()
