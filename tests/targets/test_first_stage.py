"""The first stage, the stub and the loader, in real interpreters behind real login shells."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from ramet.bootstrap import first_stage, packing, wishes
from ramet.kernel import stub
from support import booting, needs, pythons

SHELLS = ("sh", "dash", "bash", "zsh", "ksh", "tcsh", "csh", "fish", "busybox")
MARKER = re.compile(rb"\nRAMET1 ([0-9a-f]+) ([cp])\n$")

each_python = pytest.mark.parametrize("python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])
each_python_3 = pytest.mark.parametrize(
    "python", [pytest.param(path, id=label) for label, path in pythons.interpreters() if label not in ("2.7",)])


def shell(name: str) -> list[str]:
    return [needs.program(name), "sh", "-c"] if name == "busybox" else [needs.program(name), "-c"]


def same_from_the_inside(found: dict[str, object], usual: dict[str, object]) -> None:
    """A node's interpreter is as it would have been, but for the current directory on sys.path and -B."""
    for key in ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix", "environ", "cwd", "encodings", "within", "files"):
        assert found[key] == usual[key], key
    assert found["path"] == usual["path"][1:]  # type: ignore[index]
    assert os.path.samefile(found["executable"], usual["executable"])  # type: ignore[arg-type]
    assert found["argv"] == [""]


# ---------------------------------------------------------------------- the command line

def test_lengths() -> None:
    assert len(first_stage.shell_command(["python3"], "web1", brief=True)) <= 400
    assert len(first_stage.shell_command(None, "web1", brief=True)) <= 520
    assert len(first_stage.shell_command(None, "web1")) <= 620
    assert first_stage.shell_command(["sudo", "python3"], "web1", brief=True) == first_stage.shell_command(
        ["sudo", "python3"], "web1")
    assert not set("!\n\0") & set(first_stage.shell_command(None, "web1"))


@pytest.mark.parametrize("name", SHELLS)
def test_login_shells(name: str, tmp_path: Path) -> None:
    env = booting.environment(HOME=str(tmp_path))
    found = booting.boot([*shell(name), first_stage.shell_command([sys.executable], "web1:a-b_c@d.e")], env=env, cwd=tmp_path)
    assert found["cmdline"] == [sys.executable + "(ramet:web1:a-b_c@d.e)", "-B"]
    found = booting.boot([*shell(name), first_stage.shell_command(None, "web1")], env=env, cwd=tmp_path)
    assert found["cmdline"][0].endswith("(ramet:web1)")
    assert "RAMET1" not in found["stderr"] and not found["stderr"]


@pytest.mark.parametrize("name", SHELLS)
def test_words_of_any_kind_survive_login_shells(name: str, tmp_path: Path) -> None:
    words = ["a b", "it's", "a!b!", "\\", "\\\\", "a\\'b", "\\n", "$HOME", "~", "*", "`id`", "#", "", "=x", "{a,b}", "a;b|c&d",
             "%1", "(x)", "<y>", "\\!", "'\\", "é", '"', "!!", "\t"]
    line = " ".join(map(first_stage.quote, [sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *words]))
    done = booting.run([*shell(name), line], b"", env=booting.environment(HOME=str(tmp_path), LC_ALL="C.UTF-8"), cwd=tmp_path)
    assert done.stdout.decode().strip() == ascii(words), done.stderr


def test_words_that_no_shell_can_be_given() -> None:
    with pytest.raises(ValueError, match="no login shell"):
        first_stage.shell_command(["python\n3"], "web1")


def test_flags_of_an_interpreter() -> None:
    assert wishes.flags(["python3"]) == []
    assert wishes.flags(["nice", "-n", "5", "python3", "-X", "utf8", "-O"]) == ["-X", "utf8", "-O"]
    assert wishes.flags(["env", "A=1", "python3", "-Wignore"]) == ["-Wignore"]
    assert wishes.flags(["python3", "-X"]) == []


def test_search_finds_none(tmp_path: Path) -> None:
    if os.path.exists("/usr/libexec/platform-python"):
        pytest.skip("not on this machine: a machine without /usr/libexec/platform-python")
    os.symlink(needs.program("sh"), tmp_path / "sh")
    done = booting.run(["/bin/sh", "-c", first_stage.shell_command(None, "web1")], b"", env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (97, b"")


@pytest.mark.parametrize("program", ["python3", "python", "python2.7"])
def test_search_takes_what_there_is(program: str, tmp_path: Path) -> None:
    for name, path in (("sh", needs.program("sh")), (program, sys.executable)):
        os.symlink(path, tmp_path / name)
    found = booting.boot(["/bin/sh", "-c", first_stage.shell_command(None, "web1")], env={"PATH": str(tmp_path)})
    assert "(ramet:web1)" in found["cmdline"][0]


# ---------------------------------------------------------------------- the interpreters

def named(words: list[str], python: str) -> list[str]:
    """An interpreter's command line with a node's name, as ``ps`` shows it."""
    return [*words, "-", "(ramet:web1)"] if "pypy" in python else [words[0] + "(ramet:web1)", *words[1:]]


@each_python
def test_interpreter_is_as_it_would_be(python: str, tmp_path: Path) -> None:
    found = booting.boot(first_stage.command([python], "web1"), cwd=tmp_path)
    same_from_the_inside(found, booting.plain([python], cwd=tmp_path))
    assert MARKER.match(found["marker"])
    version = subprocess.run([python, "-c", "import sys; print('%x' % sys.hexversion)"], capture_output=True, text=True)
    assert MARKER.match(found["marker"])[1].decode() == version.stdout.strip()  # type: ignore[index]
    assert found["links"][0] == 9 and found["fds"] == sorted({0, 1, 2, *found["links"]})
    assert bytes(found["data"]) == booting.BEHIND and found["form"] == "source" and found["hook"]
    assert found["code"] == ["ramet/kernel/start.py", 4]
    assert all(name.startswith("__") for name in found["main"]), found["main"]
    assert not found["stderr"]


@each_python
def test_what_a_node_keeps_starts_a_child(python: str) -> None:
    found = booting.boot(first_stage.command([python], "web1"))
    child = booting.run(first_stage.command([python], "web2"), stub.HEAD + zlib.compress(bytes(found["pack"])) + b"!")
    assert b"RAMET2" in child.stdout, child.stderr


@each_python
def test_flags_survive(python: str) -> None:
    more = ["-O", "-W", "ignore"] if "2.7" in python else ["-O", "-X", "utf8", "-W", "ignore"]
    found = booting.boot(first_stage.command([python, *more], "web1"))
    usual = booting.plain([python, "-B", *more])
    assert found["flags"] == usual["flags"] and found["encodings"] == usual["encodings"]
    assert found["cmdline"] == named([found["cmdline"][0].partition("(")[0], "-B", *more], python)


# CPython 3.13's own -c imports linecache from there before it runs anything: nothing that we could do about it.
@each_python
def test_nothing_is_imported_from_the_current_directory(python: str, tmp_path: Path) -> None:
    for name in ("os", "zlib", "struct", "json", "marshal", "posixpath", "stat", "sys", "posix", "tempfile", "site",
                 "encodings", "codecs", "io", "abc", "types", "genericpath", "traceback", "select", "signal", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import sys; sys.stdout.write('HOSTILE'); raise SystemExit(66)\n")
    for argv in (first_stage.command([python], "web1"), first_stage.command([python, "-s"], "web1")):
        found = booting.boot(argv, cwd=tmp_path)
        assert not [path for path in found["path"] if path in ("", ".", str(tmp_path))]
        assert not any(str(tmp_path) in (file or "") for file in found["files"])


@each_python
def test_virtual_environment(python: str, tmp_path: Path) -> None:
    if "2.7" in python:
        pytest.skip("not on this machine: virtual environments for Python 2.7")
    for kind in ("--symlinks", "--copies"):
        place = tmp_path / kind
        subprocess.run([python, "-m", "venv", "--without-pip", kind, place], check=True, env=booting.environment())
        (next(place.glob("lib/*/site-packages")) / "within.py").write_text("")
        own = str(place / "bin" / "python")
        usual = booting.plain([own])
        found = booting.boot(first_stage.command([own], "web1"))
        same_from_the_inside(found, usual)
        assert found["prefix"] == str(place) and found["within"]
        assert found["executable"] == own and found["cmdline"] == named([own, "-B"], python)
        base = found["_base_executable"]    # of a copy, 3.11 and newer may say `python3`, whichever version that is
        assert base is None or any(os.path.samefile(base, one) for one in (usual["_base_executable"], python))


@each_python
def test_link_from_another_folder(python: str, tmp_path: Path) -> None:
    own = tmp_path / "bin" / "mypython"
    own.parent.mkdir()
    own.symlink_to(python)
    same_from_the_inside(booting.boot(first_stage.command([str(own)], "web1")), booting.plain([str(own)]))


@each_python
def test_relocated_interpreter_behind_a_link(python: str, tmp_path: Path) -> None:
    """As uv keeps them: what is compiled in doesn't matter, only where the binary really is."""
    usual = booting.plain([python])
    binary, library = Path(os.path.realpath(usual["executable"])), Path(usual["files"][0]).parent
    if library.parent != Path(usual["prefix"]) / "lib" or library.name.startswith("pypy"):
        pytest.skip(f"not on this machine: a {python} that can be relocated")
    moved = tmp_path / "share" / "python"
    (moved / "bin").mkdir(parents=True)
    (moved / "lib").mkdir()
    shutil.copy(binary, moved / "bin" / binary.name)
    (moved / "lib" / library.name).symlink_to(library)
    link = tmp_path / "bin" / "python3"
    link.parent.mkdir()
    link.symlink_to(moved / "bin" / binary.name)
    found = booting.boot(first_stage.command([str(link)], "web1"))
    assert found["prefix"] == str(moved)
    same_from_the_inside(found, booting.plain([str(link)]))
    assert found["executable"] == str(moved / "bin" / binary.name)


@each_python
@pytest.mark.parametrize("env", [{"PYTHONUNBUFFERED": "1"}, {"LANG": "C", "LC_ALL": "C"}, {"PYTHONSAFEPATH": "1"}, {"HOME": ""},
                                 {"PYTHONPATH": "/nowhere"}], ids=lambda env: next(iter(env)))  # fmt: skip
def test_environments(python: str, env: dict[str, str]) -> None:
    given = booting.environment(**env)
    found = booting.boot(first_stage.command([python], "web1"), env=given)
    usual = booting.plain([python], env=given)
    if "PYTHONSAFEPATH" in env and "" not in usual["path"]:
        usual["path"].insert(0, "")
    same_from_the_inside(found, usual)


def test_pythonhome(tmp_path: Path) -> None:
    """An interpreter that needs it to find its library keeps it, wherever its own file is."""
    usual = booting.plain([sys.executable])
    env = booting.environment(PYTHONHOME=usual["base_prefix"])
    moved = tmp_path / "python"
    shutil.copy(os.path.realpath(sys.executable), moved)
    found, usual = booting.boot(first_stage.command([str(moved)], "web1"), env=env), booting.plain([str(moved)], env=env)
    same_from_the_inside({**found, "executable": usual["executable"]}, usual)


def test_where_no_argv0_works_the_name_is_an_argument(tmp_path: Path) -> None:
    """Seen in PyPy and in build directories: here the end of sys.path is made to look so."""
    odd = tmp_path / "python"
    odd.write_text(f"#!/bin/sh\nexport ODD=1\nexec {sys.executable} \"$@\"\n")
    odd.chmod(0o755)
    words = first_stage.command([str(odd)], "web1")
    words[words.index("-uSBc") + 1] = "import sys;sys.path.append('/x');" + words[words.index("-uSBc") + 1]
    found = booting.boot(words)
    assert found["cmdline"] == [sys.executable, "-B", "-", "(ramet:web1)"]
    assert found["argv"] == [""] and found["executable"] == sys.executable
    assert found["marker"].endswith(b" p\n")


# ---------------------------------------------------------------------- the payload

@each_python
def test_payload_in_pieces(python: str) -> None:
    """Byte by byte, all at once, and with more behind it: the same."""
    payload = packing.build("source", booting.PARTS) + booting.BEHIND
    for sizes in ([1] * len(payload), [stub.HEAD_BYTES - 1, 1, 1], [stub.HEAD_BYTES], [500], [len(payload) - 1]):
        with subprocess.Popen(first_stage.command([python], "web1"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                              env=booting.environment()) as process:  # fmt: skip
            assert process.stdin and process.stdout
            at = 0
            for size in sizes:
                process.stdin.write(payload[at:at + size])
                at += size
            process.stdin.write(payload[at:])
            said = process.stdout.read()
        assert b"\nRAMET2\n" in said


@each_python
def test_short_payload_ends_with_98(python: str) -> None:
    payload = packing.build("source", booting.PARTS)
    for size in (0, 1, stub.HEAD_BYTES - 1, stub.HEAD_BYTES, stub.HEAD_BYTES + 1, 400, len(payload) - 1, len(payload)):
        done = booting.run(first_stage.command([python], "web1"), payload[:size])
        assert done.returncode == 98, (size, done.stderr)
        assert b"RAMET2" not in done.stdout


@each_python
def test_broken_payload_ends_with_98_and_says_so(python: str) -> None:
    payload = packing.build("source", booting.PARTS)
    for at in (stub.HEAD_BYTES, 300, len(payload) - 40):
        done = booting.run(first_stage.command([python], "web1"), payload[:at] + b"\xff" * 9 + payload[at + 9:] + b"!")
        assert done.returncode == 98 and b"rror" in done.stderr, (at, done)
    payload = packing.build("source", [("ramet.kernel.start", "\n\n1/0")])
    done = booting.run(first_stage.command([python], "web1"), payload + b"!")
    assert done.returncode == 98 and b'File "ramet/kernel/start.py", line 3' in done.stderr


def test_bytecode_for_the_same_version() -> None:
    form = packing.FORMS[-1]
    assert form != "source"
    found = booting.boot(first_stage.command([sys.executable], "web1"), form=form)
    assert found["code"] == ["ramet/kernel/start.py", 4]
    same_from_the_inside(found, booting.plain([sys.executable]))


@each_python
def test_bytecode_for_another_version_is_refused(python: str) -> None:
    form = packing.FORMS[-1]
    found = booting.plain([python])
    if found["files"][0].count("python%d.%d" % sys.version_info[:2]):
        return
    done = booting.run(first_stage.command([python], "web1"), packing.build(form, booting.PARTS) + b"!")
    assert done.returncode == 98 and b"bytecode of " + form.encode() + b" came for Python" in done.stderr


@each_python
def test_link_is_read_in_large_blocks(python: str, tmp_path: Path) -> None:
    """Also where Python's own files are unbuffered. The head alone comes byte by byte."""
    strace = needs.program("strace")
    noise = "\n".join(f"x{n} = {os.urandom(32).hex()!r}" for n in range(20000))
    log = tmp_path / "log"
    argv = [strace, "-f", "-e", "trace=read", "-o", str(log), *first_stage.command([python], "web1")]
    payload = packing.build("source", [("ramet.kernel.noise", noise), *booting.PARTS])
    done = booting.run(argv, payload + b"!", env=booting.environment(PYTHONUNBUFFERED="1"))
    if b"ptrace" in done.stderr:
        needs.lacking("ptrace")
    assert b"RAMET2" in done.stdout, done.stderr
    reads = [line for line in log.read_text().splitlines() if "read(9," in line]
    assert len(payload) > 500_000 and len(reads) < 400, len(reads)


@each_python
def test_started_once_on_a_socket(python: str) -> None:
    """Without a command line: as the local connector does it."""
    import socket
    near, far = socket.socketpair()
    with near, far:
        read, write = os.pipe()
        os.write(write, first_stage.stub(1))
        os.close(write)
        with subprocess.Popen([python + "(ramet:local)", "-B"], executable=python, stdin=read, stdout=far.fileno(),
                              env=booting.environment()) as process:  # fmt: skip
            os.close(read)
            far.close()
            near.sendall(packing.build("source", booting.PARTS) + booting.BEHIND)
            said = b""
            while chunk := near.recv(65536):
                said += chunk
        assert process.returncode == 0 and said.startswith(b"\nRAMET2\n{"), said[:200]
