"""Requests for package data and metadata, whatever a node sends: an answer for each, and no exception."""
from __future__ import annotations

import builtins
import errno
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramet.kernel.importer import ABSENT, ZIPPED, content
from ramet.modules import data
from ramet.modules.server import ModuleServer
from support import sources

PIECES = st.sampled_from(["app", ":", "/", ".", "..", "sub", "a.txt", "\0", "*", "rich", "RECORD", "etc"])
VALUES = st.one_of(st.none(), st.integers(), st.binary(), st.lists(st.text()), st.text(), st.lists(PIECES).map("".join))


@pytest.fixture
def server(tmp_path: Path) -> Any:
    sources.write(tmp_path, {"app/__init__.py": "", "app/a.txt": "a" * 5000, "app/sub/b.txt": "b", "outside": "secret"})
    (tmp_path / "app" / "c.bin").write_bytes(bytes(range(256)))
    with sources.on_path(tmp_path):
        server = ModuleServer()
        server.grant(1, server.closure("app"))
        yield server


@given(form=st.sampled_from(["data", "dist"]), name=VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
def test_whatever_is_asked_for_is_answered(server: Any, form: str, name: Any) -> None:
    records, reasons = server.data(form, name, 1)
    assert records or reasons or form == "dist"
    assert all(reason.startswith((ABSENT, "refused: ")) for reason in reasons.values())
    assert not any(b"secret" in content(record) for record in records.values())
    if not isinstance(name, str):
        assert not records


def test_a_file_a_folder_and_what_comes_along(server: Any) -> None:
    records, reasons = server.data("data", "app:c.bin", 1)
    assert reasons == {} and set(records) == {"app:c.bin", "app:a.txt"}, "no code, and nothing of another folder"
    assert records["app:a.txt"][1] == ZIPPED and content(records["app:a.txt"]) == b"a" * 5000
    assert records["app:c.bin"] == ["app:c.bin", 0, "", bytes(range(256))], "it wouldn't be smaller"
    records, _ = server.data("data", "app:", 1)
    assert content(records["app:"]).split(b"\0") == [b"__init__.py", b"a.txt", b"c.bin", b"sub/"]
    assert content(records["app:sub/"]) == b"b.txt" and "app:sub/b.txt" not in records


@pytest.mark.parametrize("asked", [0, data.WHOLE_FROM])
def test_what_is_beside_and_cannot_be_read_spoils_nothing(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                          asked: int) -> None:  # fmt: skip
    """A secret of another user, a folder of one, a link that leads to itself, a file that has gone since it was listed."""
    sources.write(tmp_path, {"app/key.txt": "k", "app/gone.txt": "g", "app/shut/d.txt": "d"})
    (tmp_path / "app" / "loop").symlink_to("loop")
    read, names = data.DiskFolder.read, data.DiskFolder.names

    def reads(folder: Any, parts: Any, bytes_max: int) -> Any:
        if parts == ("key.txt",):
            raise PermissionError(13, "not yours")
        return None if parts == ("gone.txt",) else read(folder, parts, bytes_max)

    def lists(folder: Any, parts: Any) -> Any:
        if parts == ("shut",):
            raise PermissionError(13, "not yours")
        return names(folder, parts)
    monkeypatch.setattr(data.DiskFolder, "read", reads)
    monkeypatch.setattr(data.DiskFolder, "names", lists)
    for _ in range(asked):
        server.data("data", "app:c.bin", 1)
    records, reasons = server.data("data", "app:c.bin", 1)
    along = {"app:c.bin", "app:a.txt"} | ({"app:sub/b.txt"} if asked else set())
    assert reasons == {} and set(records) == along
    records, reasons = server.data("data", "app:", 1)
    assert not reasons and "app:sub/" in records and "app:shut/" not in records
    assert content(records["app:"]).split(b"\0")[-2:] == [b"shut/", b"sub/"] and b"loop" not in content(records["app:"])
    for name in "app:shut/", "app:key.txt":
        (reason,) = server.data("data", name, 1)[1].values()
        assert "not yours" in reason


def test_whoever_asks_again_gets_more_along(tmp_path: Path) -> None:
    """A library that opens hundreds of files one after the other costs a few requests."""
    names = {f"zones/{area}/{city}": f"{area}{city}" * 400 for area in "abcd" for city in "wxyz"}      # 51 KB
    files = {f"clock/{name}": text for name, text in names.items()}
    sources.write(tmp_path, {"clock/__init__.py": "", "clock/tool.py": "", **files})
    with sources.on_path(tmp_path):
        server = ModuleServer()
        server.grant(1, server.closure("clock"))
        have: set[str] = set()
        requests = 0
        for name in sorted(names):
            if f"clock:{name}" not in have:
                records, reasons = server.data("data", f"clock:{name}", 1)
                assert not reasons and f"clock:{name}" in records
                have.update(records)
                requests += 1
        assert requests == 3 and not any(name.endswith(".py") for name in have)
        for _ in range(data.ALONG_TIMES_MAX):
            records, _ = server.data("data", "clock:zones/a/w", 1)
        assert set(records) == {"clock:zones/a/w"}, "a node that asks for ever gets nothing along"
        server.forget(1)


def test_what_is_too_large_or_not_there(server: Any) -> None:
    server.data_bytes_max = 4999
    assert server.data_bytes_max == 4999
    (reason,) = server.data("data", "app:a.txt", 1)[1].values()
    assert "5000 bytes, over the limit of 4999" in reason
    assert server.data("data", "app:no.txt", 1) == ({}, {"app:no.txt/data": ABSENT})
    assert server.data("data", "app:a.txt/", 1) == ({}, {"app:a.txt//data": ABSENT})
    assert server.data("data", "app:a.txt", 2)[0] == {}, "another node wasn't granted it"


@pytest.mark.parametrize("form, name, place", [
    ("data", "app:a.txt", (os, "listdir")), ("data", "app:a.txt", (builtins, "open")), ("data", "app:", (os, "scandir")),
    ("data", "zipped:in.txt", (io, "open")), ("dist", "pytest:", (Path, "open")),
], ids=lambda value: value if isinstance(value, str) else value[1])  # fmt: skip
def test_what_cannot_be_read_for_lack_of_a_descriptor_can_be_later(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                   form: str, name: str, place: Any) -> None:  # fmt: skip
    """That there is none, or it can't be read, nodes remember."""
    with zipfile.ZipFile(tmp_path / "packages.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", "")
        archive.writestr("zipped/in.txt", "x")

    def short(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")
    with sources.on_path(*[tmp_path / "packages.zip"] * name.startswith("zipped")):    # importlib.metadata keeps zips open
        server.grant(1, server.closure("zipped"))
        server.grant(1, server.closure("pytest"))
        expected = server.data(form, name, 1)
        assert name in expected[0] and expected[1] == {}
        with monkeypatch.context() as patched, pytest.raises(OSError, match="Too many open files"):
            patched.setattr(*place, short)
            if place[0] is io:
                patched.setattr(builtins, "open", short)
            server.data(form, name, 1)
        assert name in server.data(form, name, 1)[0]


@pytest.mark.parametrize("name", ["app", "app:/a", "app:a//b", "app:..", "app:a/../b", "app:./a", "app:a//", "app:\0", 5])
def test_odd_names_mean_nothing(name: object) -> None:
    assert data.split(name) is None


def test_names(server: Any) -> None:
    assert data.split("a.b:c/d") == ("a.b", ("c", "d"), False)
    assert data.split("a:c/") == ("a", ("c",), True) and data.split("a:") == ("a", (), True)
