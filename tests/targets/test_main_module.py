"""The program's main module over there, however the program was started: as a file, or typed in."""
from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import zipapp
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

import ramet
from support import needs, sources
from support.eventually import HANGS_S
from support.source import TOP

ENV = {**os.environ, "PYTHONPATH": str(TOP / "src"), "PYTHON_BASIC_REPL": "1", "TERM": "dumb"}

PROGRAM = '''
import collections, enum, sys
{imports}
import ramet

Pair = collections.namedtuple("Pair", "a b")

class Colour(enum.Enum):
    RED = 1

class OwnError(Exception):
    pass

def who():
    return __name__, sys.modules["__main__"].who is who

def made():
    return Pair(1, Colour.RED), OwnError("x")

def main():
    with ramet.Tree() as tree:
        node = tree.local()
        assert node.call(who) == ("__ramet_main__", True)
        pair, error = node.call(made)
        assert type(pair) is Pair and pair.b is Colour.RED and type(error) is OwnError, (pair, error)
        assert node.call(lambda one: (type(one) is Pair, type(made()[0]) is Pair), pair) == (True, True)
        assert type(node.call(lambda: Pair(1, 2))) is Pair
        print("main is fine")

if __name__ == "__main__":
    main()
'''


def run(*argv: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], cwd=cwd, env=ENV, text=True, capture_output=True, timeout=120, **options)


def check(*argv: str, cwd: Path, **options: Any) -> None:
    done = run(*argv, cwd=cwd, **options)
    assert (done.stdout, done.stderr) == ("main is fine\n", ""), (done.stdout, done.stderr)


POOLS = '''
import multiprocessing, sys
import ramet

def pooled(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(abs, [-1, -2])

def source():
    spec = sys.modules["__main__"].__spec__
    return spec.loader.get_source(spec.name).splitlines()[1]

if __name__ == "__main__":
    with ramet.Tree() as tree:
        for python in sys.argv[1:]:
            node = tree.local(python=python)
            for method in multiprocessing.get_all_start_methods():
                assert node.call(pooled, method) == [1, 2], (python, method)
            assert node.call(source) == "import multiprocessing, sys"
    print("main is fine")
'''


def test_processes_that_multiprocessing_starts_in_a_node(tmp_path: Path) -> None:
    """They looked for the program's main module by the name that it has in the node, died of it, and were started anew."""
    sources.write(tmp_path, {"program.py": POOLS})
    interpreters = {needs.python("3.6"), needs.python("3.13"), sys.executable}
    check("program.py", *sorted(interpreters), cwd=tmp_path)


def test_a_script_under_any_name(tmp_path: Path) -> None:
    sources.write(tmp_path, {"bin/program": PROGRAM.format(imports="import helper"), "bin/helper.py": "",
                             "other.txt": PROGRAM.format(imports="")})
    (tmp_path / "link").symlink_to(tmp_path / "bin/program")
    check("bin/program", cwd=tmp_path)
    check(str(tmp_path / "link"), cwd=Path("/"))
    check("other.txt", cwd=tmp_path)


def test_a_package_a_folder_and_a_zip_file(tmp_path: Path) -> None:
    sources.write(tmp_path, {"pkg/__init__.py": "", "pkg/__main__.py": PROGRAM.format(imports="from . import near"),
                             "pkg/near.py": "", "pkg/tool.py": PROGRAM.format(imports="from .near import __name__ as n"),
                             "folder/__main__.py": PROGRAM.format(imports="import helper"), "folder/helper.py": ""})
    check("-m", "pkg", cwd=tmp_path)
    check("-m", "pkg.tool", cwd=tmp_path)
    check("folder", cwd=tmp_path)
    zipapp.create_archive(tmp_path / "folder", tmp_path / "app.pyz")
    check("app.pyz", cwd=tmp_path)


UNGUARDED = '''
import ramet

def work():
    return 1

with ramet.Tree() as tree:
    print(tree.local(python={python!r}).call(work))
'''


@pytest.mark.parametrize("compiled", [False, True])
def test_a_zipapp_that_holds_ramet_and_all_it_needs(tmp_path: Path, compiled: bool) -> None:
    """Also for an interpreter of another version. Where ramet's own source was left out, the error says so."""
    program = tmp_path / "program"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(TOP / "src" / "ramet", program / "ramet", ignore=ignored)
    shutil.copytree(Path(msgpack.__file__).parent, program / "msgpack", ignore=ignored)
    sources.write(program, {"app/__init__.py": "", "__main__.py": """
        import sys
        import ramet
        from app import work
        if __name__ == "__main__":
            with ramet.Tree() as tree:
                for python in ([sys.executable, "-I", "-S"], sys.argv[1]):
                    print(tree.local(python=python).call(work.here).split()[1])
        """, "app/work.py": """
        import inspect
        def here():
            return inspect.getsource(here)
        """})  # fmt: skip
    if compiled:
        subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", program], check=True)
        for file in program.rglob("*.py"):
            file.unlink()
        archive = Path(shutil.make_archive(str(tmp_path / "program"), "zip", program))
    else:
        archive = tmp_path / "program.pyz"
        zipapp.create_archive(program, archive)
    done = subprocess.run([sys.executable, "-I", "-S", archive, needs.python("3.8")], cwd=tmp_path, text=True,
                          capture_output=True, timeout=120)  # fmt: skip
    if compiled:
        assert "the source of ramet." in done.stderr and "keep ramet's .py files" in done.stderr
    else:
        assert done.stdout.split() == ["here():"] * 2, done.stderr


def test_a_frozen_program_has_to_name_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyInstaller and others mark them: there ``sys.executable`` is the program."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with ramet.Tree() as tree:
        with pytest.raises(ValueError, match="frozen.*name another one"):
            tree.local()
        assert tree.nodes == [] and tree.local(python=os.path.realpath(sys.executable)).call(os.getpid)


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.13", "same"])
def test_a_script_without_a_guard_is_told_what_to_add(tmp_path: Path, label: str) -> None:
    python = None if label == "same" else needs.python(label)
    (tmp_path / "script.py").write_text(UNGUARDED.format(python=python))
    done = run("script.py", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert 'Put what starts the program behind this line:\nif __name__ == "__main__":' in done.stderr, done.stderr


# ---------------------------------------------------------------------- typed in

TYPED = '''\
import dataclasses, ramet
@dataclasses.dataclass
class Point:
    x: int

def plus(point, n):
    return Point(point.x + n + offset)

offset = 100
tree = ramet.Tree()
node = tree.local()
point = node.call(plus, Point(1), 2)
again = node.call(lambda p: type(p).__name__, point)
print("typed:", type(point) is Point, point.x, again, [node.call(lambda: n) for n in (1, 2)])
print("requests:", tree.stats()["module_requests"])
old = tree.local(python={old!r})
try:
    print("source:", old.call(lambda x: x + offset, 1))
    there = old.call(plus, Point(1), 2)
    print("class by source:", type(there) is Point, there.x)
except ramet.Error as error:
    print("error:", error)

tree.close()
'''
EXPECTED = ["typed: True 103 Point [1, 2]", "requests: 0"]
BY_SOURCE = ["source: 101", "class by source: True 103"]


def cant_go(line: str) -> bool:
    """Whether it says that what was typed has no source: by this program, or by the node if that wasn't connected yet."""
    return re.match(r"error: (the function: )?<lambda> can't go to another Python", line) is not None


def typed() -> str:
    return TYPED.format(old=needs.python("3.8"))


def test_given_by_an_option(tmp_path: Path) -> None:
    done = run("-c", typed(), cwd=tmp_path)
    assert done.stdout.splitlines() == [*EXPECTED, *BY_SOURCE] and not done.stderr, (done.stdout, done.stderr)


def test_given_on_stdin(tmp_path: Path) -> None:
    done = run("-", cwd=tmp_path, input=typed())
    assert done.stdout.splitlines()[:2] == EXPECTED and not done.stderr, (done.stdout, done.stderr)
    rest = done.stdout.splitlines()[2:]
    assert rest == BY_SOURCE or cant_go(rest[0]), rest


@pytest.mark.parametrize("script", [False, True], ids=["prompt", "behind a script"])
def test_typed_at_the_prompt(tmp_path: Path, script: bool) -> None:
    """On a terminal, as a person does. Behind a script (``python -i script.py``) some Pythons forget the script's file."""
    (tmp_path / "before.py").write_text("def of_the_script():\n    return __name__\n")
    argv = [sys.executable, "-i", *(["before.py"] if script else [])]
    text = typed()
    pid, fd = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        os.execve(sys.executable, argv, ENV)
    try:
        if script:
            text = text.replace("tree.close()", "print('script:', node.call(of_the_script))\ntree.close()")
        seen = ""
        for line in [*text.splitlines(), "print('the', 'end')"]:
            seen += prompted(fd, ">>> " if seen == "" else ("> ", ". "))
            os.write(fd, line.encode() + b"\n")
        seen += prompted(fd, "the end")
        os.write(fd, b"\nexit()\n")
        lines = [line.strip("\r") for line in seen.splitlines()]
        assert all(line in lines for line in EXPECTED), seen
        assert set(BY_SOURCE) <= set(lines) or any(map(cant_go, lines)), seen
        assert not script or {"script: __main__", "script: __ramet_main__"} & set(lines), seen
        while prompted(fd, None):
            pass
    finally:
        os.close(fd)
        assert os.waitpid(pid, 0)[1] == 0


def prompted(fd: int, end: Any) -> str:
    """What a terminal shows until it ends so; "" at its end."""
    seen = b""
    deadline = time.monotonic() + HANGS_S
    while time.monotonic() < deadline:
        if not select.select([fd], [], [], 1)[0]:
            continue
        try:
            got = os.read(fd, 4096)
        except OSError:
            return ""
        seen += got
        text = seen.decode("utf-8", "replace")
        if end is None or text.endswith(end) or (isinstance(end, str) and end in text and end != ">>> "):
            return text
    raise AssertionError(f"the prompt didn't come: {seen!r}")


CELLS = '''\
import linecache, sys, types
main = sys.modules["__main__"] = types.ModuleType("__main__")
def cell(number, text):     # what IPython does: a file name of its own for each, its lines in linecache
    name = f"/tmp/ipykernel_1/{{number}}.py"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), main.__dict__)
cell(1, {first!r})
cell(2, {second!r})
'''


def test_cells_of_a_notebook(tmp_path: Path) -> None:
    first, second = typed().split("offset = 100\n")
    (tmp_path / "kernel.py").write_text(CELLS.format(first=first, second="offset = 100\n" + second))
    done = run("kernel.py", cwd=tmp_path)
    assert done.stdout.splitlines() == [*EXPECTED, *BY_SOURCE] and not done.stderr, (done.stdout, done.stderr)
