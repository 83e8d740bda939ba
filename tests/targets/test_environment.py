"""Nodes in all kinds of surroundings: small Pythons, read-only systems, odd environments, limits; through the public API."""
from __future__ import annotations

import ast
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import booting, needs, pythons, remote, remote_small
from support.eventually import HANGS_S
from support.source import TOP

each_python = pytest.mark.parametrize("python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])
old_and_new = pytest.mark.parametrize("label", ["2.7", "3.6", "3.13"])

#: What python3-minimal or python2.7-minimal lacks in any release (recipes/README.md of the design has the table).
LACKING = ["asyncio", "bz2", "concurrent", "ctypes", "lzma", "multiprocessing", "pty", "queue", "resource", "tarfile",
           "termios", "uuid", "dataclasses", "json", "shutil", "zipfile", "Queue", "ssl"]  # fmt: skip

MINIMAL = """
import sys
LACKING = set(%r)
if sys.version_info[0] == 2:
    LACKING.add("threading")
if sys.version_info >= (3, 14):
    LACKING.remove("dataclasses")       # traceback needs it
class Lacking(object):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LACKING:
            raise ImportError("this Python is minimal: No module named " + name)
    def find_module(self, name, path=None):
        return self if name.partition(".")[0] in LACKING else None
    def load_module(self, name):
        self.find_spec(name)
sys.meta_path.insert(0, Lacking())
for name in LACKING.intersection(sys.modules):
    del sys.modules[name]
""" % (LACKING,)


Works = Callable[[ramet.Node], None]


class Heard:
    """What nodes print."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.changed = threading.Condition()

    def __call__(self, node: ramet.Node, stream: int, text: str) -> None:
        with self.changed:
            self.lines.append(text)
            self.changed.notify_all()

    def wait_for(self, text: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.lines, HANGS_S), self.lines


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def tree(heard: Heard) -> Iterator[ramet.Tree]:
    with ramet.Tree(on_output=heard) as tree:
        yield tree


@pytest.fixture
def works(heard: Heard, caplog: pytest.LogCaptureFixture) -> Works:
    """All that a plain node does: calls, modules, failures, text of any kind, output, logs, subprocesses, children."""
    def works(node: ramet.Node, deep: bool = True) -> None:
        assert node.call(remote_small.work) == 42
        with pytest.raises(KeyError, match="missing") as caught:
            node.call(remote_small.fail)
        assert isinstance(caught.value, ramet.RemoteError) and "remote_small.py" in caught.value.traceback_text
        text = "h\xe9 \u20ac \U0001f600"
        assert node.call(remote_small.echo, text) == text
        assert node.call(remote_small.say, "printed " + text) == "printed " + text
        heard.wait_for("printed " + text)
        caplog.clear()
        node.call(remote_small.log, "logged " + text)
        assert node.call(remote_small.run, ["sh", "-c", f"echo below {node.name}; echo err {node.name} >&2"]) == 0
        heard.wait_for(f"below {node.name}")
        heard.wait_for(f"err {node.name}")
        assert [record.getMessage() for record in caplog.records] == ["logged " + text]
        lane = node.options(lane="lane")
        if node.call(remote_small.has, ["threading"]):
            assert [lane.start(remote_small.echo, n).result() for n in range(3)] == [0, 1, 2]
        else:
            with pytest.raises(ImportError, match="threading"):
                lane.call(remote_small.echo, 1)
        if deep:
            with pytest.raises(ramet.CallTimeout):
                node.options(timeout=0.1).call(remote_small.run, ["sleep", "30"])
            assert node.call(remote_small.echo, 1) == 1
            works(node.local(), False)
    return works


# ---------------------------------------------------------------------- small Pythons


@each_python
def test_a_minimal_python(python: str, tree: ramet.Tree, works: Works, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(MINIMAL)
    node = tree.local(python=python, env={"PYTHONPATH": str(tmp_path)})
    version = node.facts["hexversion"]
    lacking = [*LACKING, "threading"] if version < 0x3000000 else LACKING
    lacking = [name for name in lacking if name != "dataclasses" or version < 0x30e0000]
    assert node.call(remote_small.has, lacking) == []
    works(node)
    with pytest.raises(ramet.Error, match="UUID|uuid"):
        node.call(remote_small.echo, uuid.uuid4())
    assert node.call(remote_small.echo, 1) == 1


NO_ROOT = pytest.param("", None, "", id="none")


def in_a_root(root: Path | None) -> Path:
    """Skips the test where that can't be."""
    needs.root()
    if root is None:
        needs.lacking(f"{pythons.ROOTS} (roots of other Debian releases, made by the recipe pythons.sh)")
    assert root is not None
    return root


@pytest.mark.parametrize(("label", "root", "python"), [
    pytest.param(*found, id=f"{found[1].name}-{found[0]}") for found in pythons.in_roots()] or [NO_ROOT])
def test_a_debian_root(label: str, root: Path | None, python: str, tree: ramet.Tree, works: Works) -> None:
    """Bare: without /proc. Its Python is another and minimal, except PyPy, and so is its system."""
    node = tree.command(["chroot", str(in_a_root(root))], python=python)
    works(node)
    assert node.facts["version"].startswith(label.removeprefix("pypy") + ".")
    assert node.facts["implementation"] == ("PyPy" if label.startswith("pypy") else "CPython")
    for one in (node, node.local(), node.local(python=python)):
        assert (one.call(remote_small.inside)["executable"], one.facts["prefix"]) == (python, "/usr")
        with open(f"/proc/{one.facts['pid']}/cmdline", "rb") as file:
            words = file.read().decode().split("\0")[:-1]
        mark = f"(ramet:{one.name})"
        assert words == ([python, "-B", "-", mark] if label.startswith("pypy") else [python + mark, "-B"])
        below = "import sys; assert sys.executable == %r and sys.prefix == '/usr'" % python
        assert one.call(remote_small.run, [python, "-c", below]) == 0
    flagged = [python, "-O", "-s", "-W", "ignore"]
    for one in (tree.command(["chroot", str(root)], python=flagged), node.local(python=flagged)):
        found = one.call(remote_small.inside)
        assert (found["asserts"], found["flags"]["optimize"], found["flags"]["no_user_site"]) == (False, 1, 1)
        assert found["warnings"] == ["ignore"] and found["executable"] == python


@pytest.mark.parametrize("root", sorted({root for _, root, _ in pythons.in_roots()}) or [None],
                         ids=lambda root: root and root.name)
def test_a_debian_root_is_searched(root: Path | None, tree: ramet.Tree, works: Works) -> None:
    works(tree.command(["chroot", str(in_a_root(root))]))


@pytest.mark.parametrize("root", [path.parents[2] for path in pythons.ROOTS.glob("*/usr/bin/micropython")] or [None],
                         ids=lambda root: root and root.name)
def test_micropython_is_no_python(root: Path | None, tree: ramet.Tree) -> None:
    node = tree.command(["chroot", str(in_a_root(root))], python="micropython")
    inner = tree.command(["chroot", str(root)], python="python3").local(python="micropython")
    for one in (node, inner):
        with pytest.raises(ramet.PythonNotFoundError, match="MicroPython, which can't be a node") as caught:
            one.wait(20)
        assert caught.value.stage == "find-python" and "remedy: install Python" in str(caught.value)
        assert "Invalid command line" in caught.value.seen


# ---------------------------------------------------------------------- where nothing can be written


READ_ONLY = """
mount --make-rprivate / || exit 90
for place in / /tmp /var/tmp /dev/shm "$HOME" "$PWD" "$1"; do
    [ ! -d "$place" ] || mount --bind "$place" "$place" && mount -o remount,bind,ro "$place" || exit 91
done
shift; exec "$@"
"""


@old_and_new
def test_a_read_only_system(label: str, tree: ramet.Tree, works: Works, tmp_path: Path) -> None:
    needs.root()
    unshare = [needs.program("unshare"), "-m"]
    if subprocess.run([*unshare, "mount", "--make-rprivate", "/"], capture_output=True).returncode:
        needs.lacking("mount namespaces")
    node = tree.command([*unshare, "sh", "-c", READ_ONLY, "sh", str(tmp_path)], python=needs.python(label))
    places = ["/", "/tmp", "/var/tmp", "/usr", os.environ.get("HOME", "/root"), os.getcwd(), str(tmp_path)]
    assert [node.call(remote_small.can_write, place) for place in places] == [30] * len(places)     # EROFS
    works(node)


def test_a_full_disk_and_no_home(tree: ramet.Tree, works: Works) -> None:
    """/dev/full stands for the disk: the standard streams of the command lead there."""
    node = tree.command(["sh", "-c", 'exec "$@" 2>/dev/full', "sh"], env={"HOME": None, "TMPDIR": "/nowhere"})
    works(node)


# ---------------------------------------------------------------------- environments

ENVIRONMENTS: list[dict[str, str | None]] = [
    {"PYTHONUNBUFFERED": "1"}, {"PYTHONDONTWRITEBYTECODE": "1"}, {"LANG": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"LC_ALL": "xx_YY.nonsense"}, {"HOME": None},
    {"PATH": "/bin"}, {"PYTHONIOENCODING": "ascii:strict"}, {"PYTHONWARNINGS": "error"}, {"PYTHONOPTIMIZE": "2"},
    {"PYTHONINSPECT": "1"}, {"PYTHONSTARTUP": "/nowhere"}, {"PYTHONHASHSEED": "0"}, {"PYTHONDEVMODE": "1"},
    {"PYTHONSAFEPATH": "1"}, {"PYTHONPATH": "/nowhere:"}, {"PYTHONFAULTHANDLER": "1"},
    {"PYTHONNOUSERSITE": "1", "PYTHONCASEOK": "1"},
]  # fmt: skip


@pytest.mark.parametrize("label", ["2.7", "3.13"])
@pytest.mark.parametrize("env", ENVIRONMENTS, ids=lambda env: "-".join(f"{key}={value}" for key, value in env.items()))
def test_environments(env: dict[str, str | None], label: str, tree: ramet.Tree, works: Works) -> None:
    node = tree.local(python=needs.python(label), env=env)
    for key, value in env.items():
        assert node.call(remote.environment, key) == value
    works(node)


CONTROLLER = """
import os, sys
import ramet
from support import remote_small
if __name__ == "__main__":
    with ramet.Tree() as tree:
        nodes = [tree.local() for _ in range({count})]
        deep = nodes[0].local()
        answers = [node.call(remote_small.work) for node in [*nodes, deep]]
        nodes[0].call(remote_small.say, "h\\xe9 \\u20ac")
    fds = sorted(map(int, os.listdir("/proc/self/fd")))
    with open({result!r}, "w") as file:
        file.write(repr([answers, fds]))
"""


def controller(tmp_path: Path, before: str, count: int = 2, **env: str) -> tuple[list[Any], str]:
    """Run a controller behind some words of shell; what it found, and what it said."""
    result = tmp_path / "result"
    script = tmp_path / "controller.py"
    script.write_text(CONTROLLER.format(count=count, result=str(result)))
    environment = booting.environment(**env)
    environment["PYTHONPATH"] = os.pathsep.join([str(TOP / "src"), str(TOP / "tests")])
    line = before.replace("PROGRAM", f"{sys.executable} {script}")
    done = subprocess.run(["sh", "-c", line], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=150)
    assert done.returncode == 0, done
    return ast.literal_eval(result.read_text()), (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_controller_with_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    found, said = controller(tmp_path, f"exec PROGRAM {closed}")
    assert found[0] == [42, 42, 42]
    assert said == ("" if ">&-" in closed.split() else "[local] h\xe9 \u20ac\n")


def test_a_controller_whose_output_is_full_or_gone(tmp_path: Path) -> None:
    assert controller(tmp_path, "PROGRAM >/dev/full || [ $? = 120 ]")[0][0] == [42, 42, 42]     # Python's own flush at its end
    assert controller(tmp_path, "{ PROGRAM; echo $? >&2; } | exec true")[1].split()[-1] in ("0", "120")


@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
                                 {"PYTHONIOENCODING": "ascii:strict"}], ids=str)
def test_a_controller_in_the_c_locale(env: dict[str, str], tmp_path: Path) -> None:
    found, said = controller(tmp_path, "exec PROGRAM", **env)
    assert found[0] == [42, 42, 42]
    assert said in ("[local] h\xe9 \u20ac\n", "[local] h\\xe9 \\u20ac\n")


def test_a_controller_with_64_descriptors(tmp_path: Path) -> None:
    found, _ = controller(tmp_path, "ulimit -n 64; exec PROGRAM", count=4)
    assert found[0] == [42] * 5


def test_more_nodes_than_descriptors(tmp_path: Path) -> None:
    """Those that can't be grown say why; the others work."""
    script = tmp_path / "controller.py"
    script.write_text("""
import ramet
from support import remote_small
if __name__ == "__main__":
    with ramet.Tree() as tree:
        first = tree.local()
        first.wait()
        outcomes = dict(tree.each([tree.local() for _ in range(60)], remote_small.work))
        errors = [outcome.error for outcome in outcomes.values() if not outcome.ok]
        assert errors and all(type(error) is ramet.ConnectError for error in errors), errors
        assert all(error.stage == "start" and "too many open files" in str(error) for error in errors), errors
        assert first.call(remote_small.work) == 42
        print(len(errors))
""")
    env = booting.environment(PYTHONPATH=os.pathsep.join([str(TOP / "src"), str(TOP / "tests")]))
    done = subprocess.run(["sh", "-c", f"ulimit -n 64; exec {sys.executable} {script}"], env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=150)  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert 0 < int(done.stdout) < 60


@old_and_new
def test_a_node_with_64_descriptors(label: str, tree: ramet.Tree, works: Works) -> None:
    limited = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"]
    works(tree.command(limited, python=needs.python(label)))


@old_and_new
def test_a_node_that_inherits_odd_signals(label: str, tree: ramet.Tree, works: Works) -> None:
    """As under nohup, or where a careless parent ignores or blocks what it was sent."""
    odd = ["sh", "-c", "trap '' HUP INT QUIT TERM CHLD PIPE URG; exec \"$@\"", "sh"]
    works(tree.command(odd, python=needs.python(label)))


# ---------------------------------------------------------------------- hostile folders

HOSTILE = ("os", "zlib", "json", "struct", "marshal", "posix", "posixpath", "stat", "types", "select", "signal", "io", "abc",
           "codecs", "subprocess", "threading", "logging", "traceback", "ramet", "remote_small", "sitecustomize", "errno",
           "time", "tempfile", "re", "encodings", "collections")  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    text = "open(%r, 'a').write('x')\nraise SystemExit('hostile')\n" % str(tmp_path / "was-imported")
    for name in HOSTILE:
        (tmp_path / f"{name}.py").write_text(text)
    for package in ("support", "ramet"):
        (tmp_path / package).mkdir()
        for name in ("__init__", "remote_part", "remote_small", "kernel"):
            (tmp_path / package / f"{name}.py").write_text(text)
    return tmp_path


@each_python
@pytest.mark.parametrize("way", ["local", "command", "search"])
def test_a_hostile_folder(way: str, python: str, hostile: Path, tree: ramet.Tree, works: Works) -> None:
    if way == "local":
        node = tree.local(python=python, cwd=hostile)
    elif way == "command":
        node = tree.command(["env", "A=b"], python=python, cwd=hostile)
    else:
        node = tree.command(["env", f"PATH={os.path.dirname(python)}:{os.environ['PATH']}"], cwd=hostile)
    works(node)
    assert node.call(os.getcwd) == str(hostile)
    assert node.call(remote_small.where, "support.remote_part").startswith("ramet:")
    assert not str(node.call(remote_small.where, "json")).startswith(str(hostile))
    assert not [path for path in node.call(remote_small.inside)["path"] if path.startswith((str(hostile), "."))]
    assert not (hostile / "was-imported").exists()


def test_a_copy_that_is_installed_there_does_not_win(tmp_path: Path, tree: ramet.Tree) -> None:
    """The program's own modules are always its own; and so is ramet."""
    for name in ("support/__init__.py", "support/remote_part.py", "support/remote_small.py", "ramet/__init__.py",
                 "ramet/kernel.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('hostile')\n")
    node = tree.local(env={"PYTHONPATH": str(tmp_path)})
    assert node.call(remote_small.work) == 42
    assert node.call(remote.where)[0] == node.id
    assert node.local().call(remote.where)[2] == node.id


def test_a_folder_that_is_gone(tmp_path: Path, tree: ramet.Tree, works: Works) -> None:
    gone = ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"]
    works(tree.command(gone, python=sys.executable, cwd=tmp_path))


# ---------------------------------------------------------------------- interpreters


def usual(python: list[str], **env: str) -> dict[str, Any]:
    """What an interpreter is like when it is started in the usual way."""
    program = Path(remote_small.__file__).read_text().replace("from support import remote_part", "")
    done = subprocess.run(python, input=program + "\nprint_inside()\n", capture_output=True, text=True,
                          env=booting.environment(**env))
    assert not done.returncode, done.stderr
    found: dict[str, Any] = ast.literal_eval(done.stdout)
    return found


def same(node: ramet.Node, python: list[str]) -> dict[str, Any]:
    """A node is like its interpreter in all but ``sys.argv``; so is its child."""
    expected = usual(python)
    for one in (node, node.local()):
        found = one.call(remote_small.inside)
        assert os.path.exists(found["executable"]) and os.path.samefile(found["executable"], expected["executable"])
        assert found["argv"] == [""]
        keys = ["prefix", "exec_prefix", "base_prefix", "cwd", "home"]
        if one is node:
            keys += ["flags", "asserts", "path"]
        assert {key: found[key] for key in keys} == {key: expected[key] for key in keys}
        facts = one.facts
        assert (facts["executable"], facts["prefix"]) == (found["executable"], found["prefix"])
    return expected


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PYTHON"):
            monkeypatch.delenv(name)


@each_python
@pytest.mark.parametrize("way", ["local", "command"])
def test_interpreters(way: str, python: str, tree: ramet.Tree, tmp_path: Path, plain_environment: None) -> None:
    """Plain, behind a link from elsewhere, in a virtual environment, relocated as uv does it, behind a shim."""
    def grow(words: list[str]) -> ramet.Node:
        return tree.local(python=words) if way == "local" else tree.command(["env", "A=b"], python=words)
    plain = same(grow([python]), [python])
    link = tmp_path / "bin" / "mypython"
    link.parent.mkdir()
    link.symlink_to(python)
    same(grow([str(link)]), [str(link)])
    if not python.endswith("2.7"):
        place = tmp_path / "venv"
        subprocess.run([python, "-m", "venv", "--without-pip", place], check=True, env=booting.environment())
        found = same(grow([str(place / "bin/python")]), [str(place / "bin/python")])
        assert found["prefix"] == str(place)
    library = Path(plain["prefix"]) / "lib" / ("python" + ".".join(python.rpartition("python")[2].split(".")[:2]))
    if library.exists() and not plain["prefix"].startswith("/usr"):
        moved = tmp_path / "share" / "python"
        for folder in ("bin", "lib"):
            (moved / folder).mkdir(parents=True)
        shutil.copy(python, moved / "bin")
        (moved / "lib" / library.name).symlink_to(library)
        behind = tmp_path / "python3"
        behind.symlink_to(moved / "bin" / Path(python).name)
        assert same(grow([str(behind)]), [str(behind)])["prefix"] == str(moved)
    shim = tmp_path / "shim"
    shim.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    shim.chmod(0o755)
    same(grow([str(shim)]), [str(shim)])


Uv = Callable[..., None]


@pytest.fixture
def uv(tmp_path: Path, plain_environment: None) -> Uv:
    """Runs a real uv, which looks at nothing of this user's and reaches no network."""
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else needs.program("uv")
    environment = {name: value for name, value in booting.environment().items() if not name.startswith(("UV_", "VIRTUAL_ENV"))}
    environment |= {"UV_NO_CONFIG": "1", "UV_NO_CACHE": "1", "UV_PYTHON_INSTALL_DIR": str(tmp_path / "uv" / "python"),
                    "UV_PYTHON_BIN_DIR": str(tmp_path / "uv" / "bin")}

    def run(*words: str | Path) -> None:
        done = subprocess.run([program, *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return run


def in_its_environment(tree: ramet.Tree, place: Path) -> None:
    """A node in a virtual environment is in it, and has what is installed there."""
    python = str(place / "bin" / "python")
    (next(place.glob("lib/python*/site-packages")) / "within_uv.py").write_text("")
    for node in (tree.local(python=python), tree.command(["env", "A=b"], python=python)):
        found = same(node, [python])
        assert (found["prefix"], found["executable"]) == (str(place), python)
        assert node.call(remote_small.where, "within_uv").startswith(str(place))
        with open(f"/proc/{node.facts['pid']}/cmdline", "rb") as file:
            assert file.read() == f"{python}(ramet:{node.name})\0-B\0".encode()


@pytest.mark.parametrize("label", ["3.8", "3.13"])
def test_an_environment_that_uv_makes(label: str, tree: ramet.Tree, uv: Uv, tmp_path: Path) -> None:
    for place, more in ((tmp_path / "plain", []), (tmp_path / "movable", ["--relocatable"])):
        uv("venv", "--offline", "--python", needs.python(label), *more, place)
        in_its_environment(tree, place)


def test_an_interpreter_that_uv_keeps(tree: ramet.Tree, uv: Uv, tmp_path: Path) -> None:
    """uv installs it from an archive that is made of one of this machine: where its own lie, no test goes."""
    python = Path(needs.python("3.13"))
    library = python.parents[1] / "lib" / "python3.13"
    if not library.is_dir() or library.is_relative_to("/usr/lib") or platform.libc_ver()[0] != "glibc":
        needs.lacking("a Python 3.13 that can be relocated, and glibc")
    tell = [python, "-c", "import platform; print(platform.python_version())"]
    version = subprocess.run(tell, env=booting.environment(), capture_output=True, text=True).stdout.strip()
    archive = tmp_path / "python.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as file:
        file.add(python, "python/bin/python3.13")
        for path in (library / "os.py", *library.glob("_sysconfigdata_*.py")):     # what uv looks for; the rest follows
            file.add(path, f"python/lib/python3.13/{path.name}")
    key = f"cpython-{version}-linux-{platform.machine()}-gnu"
    major, minor, patch = map(int, version.split("."))
    known = {"name": "cpython", "arch": {"family": platform.machine(), "variant": None}, "os": "linux", "libc": "gnu",
             "major": major, "minor": minor, "patch": patch, "prerelease": "", "variant": None, "build": "20240101",
             "url": archive.as_uri(), "sha256": None}
    (tmp_path / "downloads.json").write_text(json.dumps({key: known}))
    uv("python", "install", "--python-downloads-json-url", (tmp_path / "downloads.json").as_uri(), version)
    kept = tmp_path / "uv" / "python" / key
    shutil.rmtree(kept / "lib" / "python3.13")
    (kept / "lib" / "python3.13").symlink_to(library)
    link = tmp_path / "uv" / "bin" / "python3.13"
    assert link.is_symlink()
    for node in (tree.local(python=str(link)), tree.command(["env", "A=b"], python=str(link))):
        assert same(node, [str(link)])["prefix"] == str(kept)
    place = tmp_path / "venv"
    uv("venv", "--offline", "--managed-python", "--python", "3.13", place)
    in_its_environment(tree, place)


FLAGS = [["-O"], ["-OO"], ["-X", "utf8"], ["-E"], ["-s"], ["-S"], ["-W", "error"], ["-I"], ["-X", "dev"], ["-u"], ["-b"],
         ["-O", "-W", "ignore", "-E"]]  # fmt: skip


@pytest.mark.parametrize("label", ["2.7", "3.13"])
@pytest.mark.parametrize(("flags", "way"), [(flags, "local") for flags in FLAGS] + [(["-O"], "command"), (["-I"], "command")])
def test_flags(flags: list[str], way: str, label: str, tree: ramet.Tree, works: Works,
               plain_environment: None) -> None:
    python = needs.python(label)
    if label == "2.7" and flags[0] in ("-X", "-I"):
        return      # it has none
    words = [python, *flags]
    node = tree.local(python=words) if way == "local" else tree.command(["env", "A=b"], python=words)
    found, expected = node.call(remote_small.inside), usual(words)
    for key in ("flags", "asserts", "warnings", "encodings", "prefix", "path"):
        assert found[key] == expected[key], key
    works(node)


def test_facts_are_true(tree: ramet.Tree) -> None:
    for label, python in pythons.interpreters():
        facts = tree.local(python=python).facts
        assert facts["version"].startswith(label.removeprefix("pypy") + ".")
        assert os.path.samefile(facts["executable"], python)
        assert facts["uid"] == os.getuid() and facts["host"] == os.uname().nodename
        assert json.dumps(facts)
