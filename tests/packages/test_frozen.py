"""A program that PyInstaller has made a bundle of, as a folder and as one file: what it sends to nodes comes out of the bundle.

``make packages`` runs it; nothing is said to PyInstaller about ramet, whose hook is found by its entry point.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import needs, sources

PROGRAM = {
    "program.py": """
        import dataclasses, json, sys
        import ramet
        from app import work

        @dataclasses.dataclass
        class Mine:
            x: int

        factor = 3

        def of_the_main_module(n):
            return n * factor

        def outcome(fn, *args):
            try:
                return fn(*args)
            except ramet.Error as error:
                return f"{type(error).__name__}: {error}"

        if __name__ == "__main__":
            with ramet.Tree() as tree:
                try:
                    tree.local()
                except ValueError as error:
                    told = [str(error)]
                for python in sys.argv[1:]:
                    node = tree.local(python=[python, "-I", "-S"])
                    told.append({
                        "main": outcome(node.call, of_the_main_module, 2), "class": outcome(node.call, Mine, 3) == Mine(3),
                        "third": outcome(node.call, work.third), "data": outcome(node.call, work.data),
                        "chosen": outcome(node.call, work.chosen_at_run_time, "late"), "file": outcome(node.call, work.where),
                        "below": outcome(node.local(python=[python, "-I", "-S"]).call, work.data)})
            print(json.dumps(told))
        """,
    "app/__init__.py": "",
    "app/work.py": """
        import importlib.resources, pkgutil

        def data():
            return [(importlib.resources.files("app") / "words.txt").read_text(), len(pkgutil.get_data("app", "words.txt"))]

        def where():
            return __file__

        def third():
            import toml
            return toml.loads("a = 1")

        def chosen_at_run_time(name):
            return __import__("app." + name, fromlist=["VALUE"]).VALUE
        """,
    "app/late.py": "VALUE = 'late'\n",
    "app/words.txt": "some words\n",
}


@pytest.fixture(scope="module", params=["onedir", "onefile"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle's program."""
    needs.distribution("pyinstaller")
    folder = tmp_path_factory.mktemp(request.param)
    sources.write(folder, PROGRAM)
    argv = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN", f"--{request.param}",
            "--name", "bundled", "--hidden-import", "app.late", "--add-data", "app:app", "program.py"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder, timeout=400,
                          env={**os.environ, "PYINSTALLER_CONFIG_DIR": str(folder / "config")})
    if "Python library not found" in done.stderr or "built without a shared library" in done.stderr:
        needs.lacking("a Python with a shared library, which PyInstaller needs")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / ("dist/bundled/bundled" if request.param == "onedir" else "dist/bundled")


def run(bundle: Path, *pythons: str) -> list[Any]:
    done = subprocess.run([bundle, *pythons], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=bundle.parent,
                          timeout=120, env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")})
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    told: list[Any] = json.loads(done.stdout)
    return told


@pytest.mark.packages
@pytest.mark.timeout(600)
def test_a_bundle_sends_what_it_holds(bundle: Path) -> None:
    said, same, other = run(bundle, os.path.realpath(sys.executable), needs.python("3.9"))
    assert "frozen" in said and "python=" in said
    data = ["some words\n", 11]
    assert same["file"].startswith("ramet:") and same["file"].endswith("app/work.py")
    del same["file"]
    assert same == {"main": 6, "class": True, "third": {"a": 1}, "data": data, "chosen": "late", "below": data}
    # What the bundle holds as bytecode only doesn't go there; what was added to it as source does.
    assert other["data"] == other["below"] == data and other["chosen"] == "late"
    assert "of_the_main_module can't go to another Python" in other["main"] and "its source isn't known" in other["main"]
    assert "toml has no source here, only bytecode" in other["third"] and "PyInstaller" in other["third"]
