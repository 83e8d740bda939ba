"""Interpreters that are looked for: by version, in environments, behind wrappers, through hosts and nodes; what is remembered;
and what is said where there is none."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet import ConnectError, PythonNotFoundError, Tree
from support import needs, pythons, remote
from targets.sshd import HOST, Sshd


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a PATH with `python3` an old one, and newer ones under their versions' names. What is started is noted."""
    place = tmp_path / "bin"
    place.mkdir()
    have = {label: path for label, path in pythons.interpreters() if label in ("3.6", "3.9", "3.13")}
    if len(have) < 3:
        needs.lacking("python 3.6, 3.9 and 3.13")
    for name, label in (("python3", "3.6"), ("python3.9", "3.9"), ("python3.13", "3.13")):
        program = place / name
        program.write_text(f'#!/bin/sh\necho {name} >>{tmp_path}/started\nexec {have[label]} "$@"\n')
        program.chmod(0o755)
    return place


def options(folder: Path) -> dict[str, Any]:
    return {"env": {"PATH": f"{folder}:/bin:/usr/bin"}}


def started(tmp_path: Path) -> list[str]:
    """Which of the folder's were started since the last time."""
    file = tmp_path / "started"
    lines = file.read_text().split() if file.exists() else []
    file.write_text("")
    return lines


def test_a_version_is_found_in_the_same_command_and_remembered(tree: Tree, folder: Path, tmp_path: Path) -> None:
    """The second program tries the one that is known; when that is gone, the search goes on and finds another."""
    def grow(own: Tree) -> str:
        node = own.local(python=">=3.9,<3.20", **options(folder))
        label: str = node.call(remote.python)
        node.start(remote.add, 1).result()
        node.close()
        return label
    with Tree() as first:
        assert grow(first) == "3.13"
        assert set(started(tmp_path)) == {"python3", "python3.13"}, "python3 came first, and was too old"
        assert grow(first) == "3.13"
        assert started(tmp_path) == [], "what is known is tried first, by its true path"
        found = first._gardener.hosts
        (key, path), = found._found.items()
    assert Path(path).exists() and os.path.realpath(path) == path
    with Tree() as second:
        second._gardener.hosts._load()
        second._gardener.hosts._found[key] = "/gone/bin/python3.13"
        assert grow(second) == "3.13", "it heals"
        assert second._gardener.hosts._found[key] == path


def test_none_that_fits_tells_what_was_tried_and_seen(tree: Tree, folder: Path) -> None:
    with pytest.raises(PythonNotFoundError) as caught:
        tree.local(python=">=3.14,<3.16", **options(folder)).wait(30)
    error = caught.value
    assert error.stage == "find-python" and error.status == 97
    assert error.cause.startswith("no Python >=3.14,<3.16 was found over there; tried: python3, python3.15, python3.14, ")
    assert "is Python 3.6." in error.seen and "python=" in error.remedy
    with pytest.raises(PythonNotFoundError, match="tried: python3, python, /usr/libexec/platform-python, python2.7"):
        tree.command(["/bin/sh", "-c", 'shift; PATH=/nowhere; export PATH; exec /bin/sh "$@"', "x"]).wait(30)


def test_an_environment_by_its_folder(tree: Tree, tmp_path: Path) -> None:
    place = tmp_path / "venv of mine"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=150)
    for node in (tree.local(python=place), tree.command(["env"], python=str(place)), tree.local().local(python=str(place))):
        assert node.facts["prefix"] == str(place)
    with pytest.raises(PythonNotFoundError, match="interpreter .*gone was found over there; tried: .*gone/bin/python"):
        tree.command(["env"], python=tmp_path / "gone").wait(30)
    with pytest.raises(PythonNotFoundError):
        tree.local(python=tmp_path / "gone").wait(30)


def test_behind_a_wrapper(tree: Tree, folder: Path, tmp_path: Path) -> None:
    """As scl does it: the words behind "--" are the command."""
    scl = tmp_path / "scl"
    scl.write_text('#!/bin/sh\n[ "$1" = enable ] && [ "$3" = -- ] || exit 2\nX_SCLS=$2; export X_SCLS; shift 3; exec "$@"\n')
    scl.chmod(0o755)
    for python in ("python3.9", ">=3.9,<3.10"):
        node = tree.local(python=[str(scl), "enable", "rh-python39", "--", python], **options(folder))
        assert node.call(remote.python) == "3.9" and node.call(remote.environment, "X_SCLS") == "rh-python39"
    assert tree.local(python=["nice", "-n", "3", "3.9", "-O"]).what, "without an operator it is a wrapper's word"


def test_behind_a_wrapper_that_is_real(tree: Tree, tmp_path: Path) -> None:
    """uv, which looks for an interpreter, sets variables and starts a command with both, as scl does."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""
    if not uv:
        needs.lacking("uv (the extra test installs it)")
    words = [uv, "run", "--offline", "--no-project", "--no-config", "--no-python-downloads",
             "--cache-dir", str(tmp_path / "uv"), "--python", needs.python("3.12"), "--", "python"]  # fmt: skip
    for parent in (tree, tree.local(python=needs.python("2.7"))):
        for node in (parent.local(python=words), parent.command(["env", "-u", "UV"], python=[*words, "-O"])):
            assert node.call(remote.python) == "3.12" and node.call(remote.environment, "UV")
            assert node.call(remote.from_own_module) == remote.from_own_module()
            assert node.local().call(remote.python) == "3.12", "a child is of the interpreter, without the wrapper"
    with pytest.raises(ConnectError, match="[Nn]o interpreter found|python="):
        tree.local(python=[*words[:-3], "3.17", "--", "python"]).wait(60)


@pytest.mark.parametrize("label", ["2.7", "3.13"])
def test_from_nodes_of_other_pythons(tree: Tree, folder: Path, label: str) -> None:
    middle = tree.local(python=needs.python(label))
    assert middle.local(python="3.9", **options(folder)).call(remote.python) == "3.9"


def test_over_ssh_through_odd_shells(tree: Tree) -> None:
    with Sshd() as sshd:
        for shell in ("sh", "bash", "tcsh", "fish"):
            if shell != "sh":
                try:
                    sshd.set_shell(shell)
                except pytest.skip.Exception:
                    continue
            node = tree.ssh(HOST, **sshd.by_key(python=">=3.6"))
            assert node.call(remote.add, 2, 3) == 5, shell
            with pytest.raises(PythonNotFoundError, match="no Python 3.18 was found"):
                tree.ssh(HOST, **sshd.by_key(python="3.18")).wait(60)
            node.close()


def test_errors_say_all_of_it_in_attributes_too(tree: Tree) -> None:
    """Here and from a node: the same fields, through pickle as well."""
    import pickle
    for parent in (tree, tree.local(python=sys.executable)):
        with pytest.raises(ramet.ConnectError) as caught:
            parent.command(["sh", "-c", "echo last words >&2; exit 3"]).wait(30)
        for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
            assert (error.stage, error.status, error.seen, error.again) == ("bootstrap", 3, "last words", False)
            assert error.command == "sh -c 'echo last words >&2; exit 3' python …"
            assert error.cause == "it ended before a kernel ran there" and "by hand" in error.remedy
            for part in (error.cause, error.command, error.remedy, "exit status: 3"):
                assert part in str(error)
