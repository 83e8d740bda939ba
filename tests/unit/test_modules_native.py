"""Native modules as the server sees them: the ELF format read, what a module asks for, records, and who gets them."""
from __future__ import annotations

import builtins
import errno
import importlib
import importlib.machinery
import io
import os
import random
import re
import struct
import subprocess
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ramet.kernel import native as kernel_native
from ramet.kernel import values
from ramet.kernel.errors import ModuleNotShippedError
from ramet.kernel.importer import NATIVE, OWN, PACKAGE, ZIPPED, content
from ramet.kernel.staged import STAGED
from ramet.modules import elf, native
from ramet.modules.find import find
from ramet.modules.server import ModuleServer
from support import needs, sources

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]


def made(needed: tuple[str, ...] = (), soname: str = "", runpath: str = "", versions: tuple[str, ...] = (), wide: bool = True,
         order: str = "<", machine: int = 62) -> bytes:
    """A shared library with nothing in it but what it says of itself."""
    strings = b"\0"
    entries: list[tuple[int, int]] = []
    verneed = b""
    for tag, texts in ((1, needed), (14, (soname,) if soname else ()), (29, (runpath,) if runpath else ())):
        for text in texts:
            entries.append((tag, len(strings)))
            strings += text.encode() + b"\0"
    for number, text in enumerate(versions):
        aux = struct.pack(order + "IHHII", 0, 0, 2, len(strings), 16 * (number + 1 < len(versions)))
        strings += text.encode() + b"\0"
        verneed += aux
    verneed = struct.pack(order + "HHIII", 1, len(versions), 0, 16, 0) + verneed if versions else b""
    base, head = 0x10000, 64 + 2 * 56
    word = "qQ" if wide else "iI"
    entries += [(5, base + head)] + ([(0x6FFFFFFE, base + head + len(strings)), (0x6FFFFFFF, 1)] if versions else [])
    dynamic = b"".join(struct.pack(order + word, *entry) for entry in (*entries, (0, 0)))
    body = strings + verneed
    start, size = head + len(body), head + len(body) + len(dynamic)
    if wide:
        header = struct.pack(order + "HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        segments = struct.pack(order + "IIQQQQQQ", 1, 0, 0, base, base, size, size, 0)
        segments += struct.pack(order + "IIQQQQQQ", 2, 0, start, base + start, 0, len(dynamic), 0, 0)
    else:
        header = struct.pack(order + "HHIIIIIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 52, 32, 2, 0, 0, 0)
        segments = struct.pack(order + "IIIIIIII", 1, 0, base, base, size, size, 0, 0)
        segments += struct.pack(order + "IIIIIIII", 2, start, base + start, 0, len(dynamic), 0, 0, 0)
    ident = b"\x7fELF" + bytes([1 + wide, 1 if order == "<" else 2, 1]) + bytes(9)
    return ((ident + header).ljust(64, b"\0") + segments).ljust(head, b"\0") + body + dynamic


# ---------------------------------------------------------------------- the format


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("wide", [True, False])
def test_both_word_sizes_and_byte_orders(wide: bool, order: str) -> None:
    data = made(("liba.so", "libc.so.6"), "me.so.1", "$ORIGIN/../x.libs:/usr/lib", ("GLIBC_2.4", "GLIBC_2.17", "GLIBC_2.9",
                "GLIBC_PRIVATE", "OTHER_9.9"), wide, order, 183)  # fmt: skip
    found = elf.read(data)
    assert found.needed == ("liba.so", "libc.so.6") and found.soname == "me.so.1"
    assert found.search == ("$ORIGIN/../x.libs", "/usr/lib")
    assert found.glibc == (2, 17), "the newest, by number"
    assert found.machine == "aarch64" and found.target == bytes(data[4:6] + data[18:20])


def test_a_library_that_needs_nothing() -> None:
    assert elf.read(made()) == elf.Elf(b"\x02\x01\x3e\0", "x86_64", "", (), (), (0, 0))


def test_what_readelf_says_of_real_ones() -> None:
    readelf = needs.program("readelf")
    folder = Path(sysconfig.get_path("platlib"))
    files = sorted(folder.glob("*/*.so"))[:8] + sorted(folder.glob("*.libs/*"))[:4]
    assert files
    for file in files:
        found = elf.read(file.read_bytes())
        dynamic = subprocess.run([readelf, "-dW", str(file)], capture_output=True, text=True, check=True).stdout
        assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
        assert [found.soname] == (re.findall(r"\(SONAME\).*\[(.*)\]", dynamic) or [""])
        assert ":".join(found.search) == ":".join(re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic))
        versions = subprocess.run([readelf, "-VW", str(file)], capture_output=True, text=True, check=True).stdout
        needed = versions.partition("Version needs")[2] or versions.partition(".gnu.version_r")[2]
        numbers = re.findall(r"Name: GLIBC_(\d+)\.(\d+)", needed)
        assert found.glibc == max(((int(a), int(b)) for a, b in numbers), default=(0, 0)), file


def test_garbage_parses_or_is_refused(rng: random.Random) -> None:
    whole = made(("liba.so", "libc.so.6"), "me.so.1", "$ORIGIN", ("GLIBC_2.4", "GLIBC_2.17"))
    refused = 0
    for length in range(len(whole)):
        with pytest.raises(ValueError):
            elf.read(whole[:length])
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        try:
            elf.read(bytes(data))
        except ValueError:
            refused += 1
    assert 0 < refused < 3000


# ---------------------------------------------------------------------- what a module asks for


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "site-packages").mkdir()
    with sources.on_path(tmp_path, tmp_path / "site-packages"):
        yield tmp_path


def put(path: Path, *args: Any, **kw: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made(*args, **kw))
    importlib.invalidate_caches()
    return path


def needs_of(record: list[Any]) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(record[3].partition(b"\n")[0], scope)
    asked: dict[str, Any] = scope["needs"]
    return asked


def test_a_record_says_what_it_asks_for(folder: Path) -> None:
    put(folder / f"site-packages/pkg/_fast{SUFFIX}", ("libc.so.6",), versions=("GLIBC_2.14",))
    sources.write(folder, {"site-packages/pkg/__init__.py": ""})
    records, absent = ModuleServer().records(["pkg._fast"], "cp36")
    assert absent == {}
    name, flags, filename, _ = records["pkg._fast"]
    assert (name, flags, filename) == ("pkg._fast", NATIVE, f"ramet:{folder}/site-packages/pkg/_fast{SUFFIX}")
    assert needs_of(records["pkg._fast"]) == {
        "python": f"{sys.implementation.cache_tag}{sys.abiflags}", "since": (0, 0), "target": "02013e00",
        "platform": "linux-x86_64", "libc": "glibc 2.14", "libraries": [],
    }  # fmt: skip


def test_own_ones_packages_and_musl(folder: Path) -> None:
    put(folder / f"pkg/__init__{SUFFIX}", ("libc.musl-x86_64.so.1",))
    put(folder / f"pkg/inner{SUFFIX}", ("libc.musl-x86_64.so.1",))
    server = ModuleServer()
    assert server.closure("pkg.inner").own == ("pkg", "pkg.inner")
    records, _ = server.records(["pkg", "pkg.inner"], "cp311")
    assert records["pkg"][1] == NATIVE | OWN | PACKAGE and records["pkg.inner"][1] == NATIVE | OWN
    assert needs_of(records["pkg"])["libc"] == "musl"


def test_the_stable_abi_by_the_wheels_tag(folder: Path) -> None:
    site = folder / "site-packages"
    put(site / "wheeled/_x.abi3.so", ("libc.so.6",))
    put(site / "unsaid/_x.abi3.so", ("libc.so.6",))
    put(site / "inside/_x.abi3.so", ("libc.so.6",))
    for name, package in (("wheeled", "wheeled"), ("other_name", "inside")):
        sources.write(site, {f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
                             f"{name}-1.dist-info/WHEEL": "Tag: cp37.cp38-abi3-manylinux_2_17_x86_64\nTag: cp39-abi3-x\n",
                             f"{name}-1.dist-info/RECORD": f"{package}/_x.abi3.so,,\n{package}/__init__.py,,\n"})  # fmt: skip
    from ramet.modules import policy

    policy._distributions_by_top.cache_clear()
    native.describe.cache_clear()
    try:
        names = ("wheeled", "unsaid", "inside")
        found = {name: native.describe(f"{name}._x", str(site / name / "_x.abi3.so")) for name in names}
    finally:
        policy._distributions_by_top.cache_clear()
        native.describe.cache_clear()
    assert {one.python for one in found.values()} == {"abi3"}
    assert found["wheeled"].since == (3, 7), "the oldest of all that the tags name"
    assert found["inside"].since == (3, 7), "its distribution has another name"
    assert found["unsaid"].since == sys.version_info[:2], "nobody says it, so as old as ours"


def test_libraries_beside_it_come_in_the_order_of_loading(folder: Path) -> None:
    site = folder / "site-packages"
    libs = site / "pkg.libs"
    module = put(site / f"pkg/deep/_x{SUFFIX}", ("libtop.so", "libc.so.6"), "", "$ORIGIN/../../pkg.libs", ("GLIBC_2.4",))
    put(libs / "libtop.so", ("libleft.so", "libright.so", "libz.so.1"), "libtop.so", "", ("GLIBC_2.28",))
    put(libs / "libleft.so", ("libbase.so", "libc.so.6"), "libleft.so")
    put(libs / "libright.so", ("libleft.so", "libtop.so"), "libright.so")     # they need each other
    put(libs / "libbase.so", (), "libbase.so")
    put(libs / "libunused.so", (), "libunused.so")
    found = native.describe("pkg.deep._x", str(module))
    assert list(found.libraries) == ["libbase.so", "libleft.so", "libright.so", "libtop.so"]
    assert found.libc == "glibc 2.28", "the newest that any of them asks for"
    assert found.libraries["libtop.so"] == str(libs / "libtop.so")


def test_nothing_outside_of_the_installation_is_read(folder: Path) -> None:
    site = folder / "site-packages"
    put(folder / "secret/libother.so", ())
    (site / "pkg").mkdir(parents=True)
    (site / "pkg" / "libfar.so").symlink_to(folder / "secret/libother.so")
    for search in ("$ORIGIN/../../secret", f"$ORIGIN/{'../' * 20}{folder}/secret", f"{folder}/secret"):
        module = put(site / f"pkg/_x{SUFFIX}", ("libother.so", "../../secret/libother.so", f"{folder}/secret/libother.so",
                     "libfar.so"), "", f"{search}:$ORIGIN", ("GLIBC_2.4",))  # fmt: skip
        native.describe.cache_clear()
        assert native.describe("pkg._x", str(module)).libraries == {}


def test_a_damaged_one_is_refused_with_the_reason(folder: Path) -> None:
    (folder / f"broken{SUFFIX}").write_bytes(made()[:80])
    (folder / f"script{SUFFIX}").write_bytes(b"INPUT(-lfoo)")
    records, absent = ModuleServer().records(["broken", "script"], "cp311")
    assert records == {} and absent["broken"].startswith("refused: ") and "damaged" in absent["broken"]
    assert "isn't an ELF file" in absent["script"]
    assert "can't be sent" in ModuleServer().explain("broken")


def test_what_lies_beside_as_source_goes_as_source(folder: Path) -> None:
    put(folder / f"both{SUFFIX}")
    put(folder / f"pkg/__init__{SUFFIX}")
    sources.write(folder, {"both.py": "X = 1\n", "pkg/__init__.py": "X = 2\n"})
    records, _ = ModuleServer().records(["both", "pkg"], "source")
    assert records["both"][3] == b"X = 1\n" and records["pkg"][1:4:2] == [PACKAGE | OWN, b"X = 2\n"]


def test_explain(folder: Path) -> None:
    put(folder / f"site-packages/fast{SUFFIX}", ("libc.so.6",), versions=("GLIBC_2.14",))
    said = ModuleServer().explain("fast")
    assert f"native code: it loads where cpython-{sys.version_info[0]}{sys.version_info[1]}" in said
    assert "linux-x86_64, glibc 2.14 or newer" in said


# ---------------------------------------------------------------------- sending


FACTS = {"hexversion": sys.hexversion, "implementation": "CPython", "abiflags": sys.abiflags, "platform": "linux-x86_64"}


def test_what_seems_to_fit_is_sent_ahead(folder: Path) -> None:
    put(folder / f"fast{SUFFIX}", ("libc.so.6",))
    put(folder / "stable.abi3.so", ("libc.so.6",))
    server = ModuleServer()
    server.records(["fast", "stable"], "source")

    def sent(form: str = "source", **facts: Any) -> list[str]:
        return list(server.native_records(["fast", "stable"], {**FACTS, **facts} if facts else {}, form, 10_000))
    form = f"cp3{sys.version_info[1]}"
    assert sent(form) == sent(hexversion=sys.hexversion) == ["fast", "stable"]
    assert sent("source") == sent("cp36") == sent(hexversion=0x30600F0) == sent(platform="linux-aarch64") == []
    assert sent(implementation="PyPy") == sent(platform="darwin-x86_64") == []
    assert sent("cp399") == sent(hexversion=0x36300F0) == ["stable"], "the stable ABI is good for newer ones"
    assert server.native_records(["fast", "stable"], FACTS, form, 100) == {}, "more than that"


def test_native_code_is_given_only_to_who_may_have_the_module(folder: Path) -> None:
    site = folder / "site-packages"
    put(site / f"pkg/_x{SUFFIX}", ("libbeside.so", "libc.so.6"), "", "$ORIGIN")
    put(site / "pkg/libbeside.so", ())
    sources.write(folder, {"site-packages/pkg/__init__.py": "", "app.py": "import pkg._x"})
    server = ModuleServer()
    odd = ("lib/../../etc/passwd", "/etc/passwd", "", "x" * 10**6)
    for name in ("pkg._x", "lib/libbeside.so", *odd):
        records, absent = server.native_answer(name, 1)
        assert records == {} and [why[:9] for why in absent.values()] == ["refused: "], "nothing was offered yet"
    closure = server.closure("app")
    server.records(closure.names, "source")
    for name in ("pkg._x", "lib/libbeside.so"):
        records, absent = server.native_answer(name, 1)
        assert records == {} and "isn't needed by any function" in absent[f"{name}/native"], "offered, but not to this node"
    server.grant(1, closure)
    for name, file in (("pkg._x", site / f"pkg/_x{SUFFIX}"), ("lib/libbeside.so", site / "pkg/libbeside.so")):
        records, absent = server.native_answer(name, 1)
        assert absent == {} and records[name][:3] == [name, NATIVE | ZIPPED, f"ramet:{file}"]
        assert content(records[name]) == file.read_bytes()
    server.forbid("pkg")
    assert "forbid" in server.native_answer("lib/libbeside.so", 1)[1]["lib/libbeside.so/native"]


def test_a_file_that_is_gone_is_refused(folder: Path) -> None:
    path = put(folder / f"fleeting{SUFFIX}")
    server = ModuleServer()
    server.records(["fleeting"], "source")
    path.unlink()
    records, absent = server.native_answer("fleeting", 1)
    assert records == {} and "can't be read" in absent["fleeting/native"]


def test_what_cannot_be_read_for_lack_of_a_descriptor_can_be_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was refused, here and over there for good; and a package was staged without what couldn't be listed."""
    path = put(folder / f"scarce{SUFFIX}")
    put(folder / f"rare{SUFFIX}")
    sources.write(folder, {"whole/__init__.py": "", "whole/below/data.txt": "x"})
    server = ModuleServer()
    server.stage("whole")
    server.grant(1, server.closure("whole"))

    def short(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    def now_and_then(place: Any, name: str, ask: Any) -> Any:
        with monkeypatch.context() as patched, pytest.raises(OSError, match="Too many open files"):
            patched.setattr(place, name, short)
            ask()
        records, absent = ask()
        assert absent == {}
        return records
    now_and_then(builtins, "open", lambda: server.records(["rare"], "source"))
    now_and_then(native, "files", lambda: server.records(["scarce"], "source"))
    now_and_then(io, "open", lambda: server.native_answer("scarce", 1))
    now_and_then(os, "scandir", lambda: server.records(["whole"], "source"))
    staged = now_and_then(builtins, "open", lambda: server.native_answer(STAGED + "whole", 1))[STAGED + "whole"]
    assert sorted(file[0] for file in values.decode(content(staged))) == ["whole/__init__.py", "whole/below/data.txt"]
    other = types.ModuleType("other")
    other.__file__ = "other.so"
    monkeypatch.setitem(sys.modules, "other", other)
    now_and_then(io, "open", lambda: (list(native.imported_by("scarce", str(path))), {}))


# ---------------------------------------------------------------------- the node's comparison


def asking(**changes: Any) -> dict[str, Any]:
    """What fits this very interpreter, but for some changes."""
    return {"python": f"{sys.implementation.cache_tag}{sys.abiflags}", "since": (0, 0), "target": kernel_native.target(),
            "platform": "linux-x86_64", "libc": kernel_native.libc(), "libraries": [], **changes}  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), [
    ({}, ""),
    ({"python": "abi3", "since": (3, 2)}, ""),
    ({"python": "abi3", "since": sys.version_info[:2]}, ""),
    ({"python": "abi3", "since": (3, 99)}, "abi3 3.99 or newer on linux-x86_64"),
    ({"python": "cpython-39"}, r"cpython-39 on .*; but here \(.*\) is cpython-3\d+\."),
    ({"python": "pypy310"}, r"; but here \(.*\) is cpython-3"),
    ({"target": "0201b700", "platform": "linux-aarch64"}, "on linux-aarch64 with .*; but here .* is linux-"),
    ({"libc": "glibc 2.99"}, r"with glibc 2\.99 or newer; but here .* is glibc 2\.\d+\."),
    ({"libc": "glibc 2.4"}, ""),
    ({"libc": "musl"}, "with musl; but here .* is glibc"),
    ({"libc": "glibc 2.99", "python": "cpython-39"}, r" is cpython-3\d+, glibc 2\.\d+\. Install it here"),
])  # fmt: skip
def test_what_differs_is_said(changes: dict[str, Any], said: str) -> None:
    if not kernel_native.libc().startswith("glibc"):
        needs.lacking("glibc")
    if not said:
        return kernel_native.check("pkg._x", asking(**changes))
    with pytest.raises(ModuleNotShippedError, match=said) as caught:
        kernel_native.check("pkg._x", asking(**changes))
    assert str(caught.value).startswith("pkg._x is native code for ") and isinstance(caught.value, ImportError)


def test_c_libraries_are_compared_by_number() -> None:
    same = kernel_native.newer_or_same
    assert same("glibc 2.36", "glibc 2.36") and same("glibc 2.36", "glibc 2.4") and same("musl", "musl")
    assert not same("glibc 2.4", "glibc 2.36") and not same("musl", "glibc 2.17") and not same("glibc 2.36", "musl")


def test_a_machine_without_glibc_is_taken_for_musl(monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(name: str) -> str:
        raise ValueError("unrecognized configuration name")
    monkeypatch.setattr(os, "confstr", confstr)
    assert kernel_native.libc() == "musl"


# ---------------------------------------------------------------------- the closure


def test_what_native_code_imports_goes_along() -> None:
    """Its imports can't be read; those beside it that are imported here are taken to be its own."""
    pytest.importorskip("numpy")
    import numpy.random

    server = ModuleServer()
    closure = server.closure("numpy.random.mtrand")
    assert {"numpy.random._common", "numpy.random.bit_generator", "numpy.random._bounded_integers"} <= set(closure.library)
    assert find("numpy.random.mtrand").native and numpy.random is not None
