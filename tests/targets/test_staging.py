"""Packages that open files by paths: written to a private folder over there, and gone at the node's end, however that comes."""
from __future__ import annotations

import importlib
import importlib.metadata
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ramet
from ramet.kernel import staged
from support import needs, remote, remote_requests, remote_staged, sources
from support.eventually import stop, until

READS = """
import os
HERE = os.path.dirname(__file__)

def read():
    from shelf_on_disk import deeper
    with open(os.path.join(HERE, "data", "words.txt")) as file:
        return [file.read(), deeper.NAME, deeper.__file__[:len(HERE)] == HERE]
"""
PACKAGE = {"shelf_on_disk/__init__.py": READS, "shelf_on_disk/deeper.py": "NAME = __name__\n",
           "shelf_on_disk/data/words.txt": "words\n", "shelf_on_disk/.hidden": "no"}


@pytest.fixture
def package(tmp_path: Path) -> Iterator[str]:
    """A package of the program's own."""
    sources.write(tmp_path, PACKAGE)
    with sources.on_path(tmp_path):
        yield "shelf_on_disk"


def gone(folder: str) -> bool:
    """Wait until a folder has gone: a process of its own removes it. Fails when it stays."""
    until(lambda: not os.path.exists(folder), "the folder stays")
    return True


def home_of(file: str) -> str:
    return "/".join(file.split("/")[:-3])


@pytest.mark.parametrize("label", ["same", "3.13", "3.9", "2.7"])
def test_a_package_that_reads_files_beside_itself(package: str, label: str) -> None:
    with ramet.Tree() as tree:
        tree.modules.stage(package)
        node = tree.local(**({} if label == "same" else {"python": needs.python(label)}))
        file, read, names = node.call(remote_staged.about, package)
        assert read == ["words\n", "shelf_on_disk.deeper", True] and names == ["__init__.py", "data", "deeper.py"]
        home = home_of(file)
        assert os.path.basename(home).startswith("ramet-") and os.path.isdir(home)
        assert node.call(remote_staged.modes, os.path.dirname(file)) == [["700", True]] * 3
        assert node.call(remote_staged.modes, file)[0] == ["600", True]
        assert node.call(remote_staged.about, package)[0] == file, "it is written once"
    assert gone(home)


def test_without_it_the_error_says_what_to_do(package: str, tree: ramet.Tree) -> None:
    node = tree.local()
    with pytest.raises(FileNotFoundError) as caught:
        node.call(remote_staged.about, package)
    assert any("tree.modules.stage(NAME)" in note for note in caught.value.__notes__)
    with pytest.raises(FileNotFoundError) as caught:
        node.call(open, "/nowhere/at/all")
    assert not any("stage" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("how", ["killed", "its group", "cut", "stopped"])
def test_it_goes_with_a_node_that_is_killed(package: str, how: str) -> None:
    with ramet.Tree() as tree:
        tree.modules.stage(package)
        node = tree.local()
        home = home_of(node.call(remote_staged.about, package)[0])
        pid = node.facts["pid"]
        if how == "killed":
            os.kill(pid, signal.SIGKILL)
        elif how == "its group":
            os.killpg(pid, signal.SIGKILL)
        elif how == "stopped":
            stop(pid)
            node.kill()
        else:
            node.kill()
        assert gone(home)


def test_a_grandchild_gets_it_from_its_parent(package: str, tree: ramet.Tree, tmp_path: Path) -> None:
    with sources.on_path(tmp_path):
        module = importlib.import_module(package)
        Path(str(module.__file__)).with_name("large.bin").write_bytes(os.urandom(1 << 20))
        tree.modules.stage(package)
        node = tree.local()
        first = node.call(remote_staged.about, package)[0]
        sent = tree.stats()["bytes_out"]
        assert sent > 1 << 20
        seconds = [node.local().call(remote_staged.about, package)[0] for _ in range(2)]
        assert len({home_of(file) for file in (first, *seconds)}) == 3 and all(map(os.path.exists, seconds))
        assert tree.stats()["bytes_out"] - sent < 1 << 17


def test_native_parts_that_do_not_fit_are_done_without(tree: ramet.Tree) -> None:
    version = needs.distribution("PyYAML")
    tree.modules.stage("yaml")
    same = tree.local(python=[os.path.realpath(sys.executable), "-I", "-S"])
    native, value, file = same.call(remote_staged.use_yaml)
    assert native is True and value == {"a": [1, 2]} and not file.startswith("ramet:")
    assert same.call(remote_staged.version_of, "PyYAML") == version == importlib.metadata.version("PyYAML")
    other = tree.local(python=[needs.python("3.9"), "-I", "-S"])
    native, value, file = other.call(remote_staged.use_yaml)
    assert native is False and value == {"a": [1, 2]} and "/ramet-" in file


def test_no_place_for_it_is_an_error_that_says_so(package: str, tree: ramet.Tree, tmp_path: Path) -> None:
    tree.modules.stage(package)
    node = tree.local()
    node.call(remote_staged.set_temporary, str(tmp_path / "nowhere"))
    with pytest.raises(ImportError, match="shelf_on_disk needs a temporary folder here, and there is none: .*nowhere: there is "
                                          "no such folder; /tmp: it can't be written to.*Set TMPDIR"):
        node.call(remote_staged.about, package)
    assert node.call(remote.add, 1) == 1


@pytest.mark.parametrize("pattern", ["shelf_on_disk.keys", "shelf_on_disk.k*", "*.keys"])
def test_what_is_forbidden_stays_here(package: str, tree: ramet.Tree, tmp_path: Path, pattern: str) -> None:
    sources.write(tmp_path, {"shelf_on_disk/keys/__init__.py": "", "shelf_on_disk/keys/deep/x.pem": "secret",
                             "shelf_on_disk/keys.txt": "secret", "shelf_on_disk/keyless.py": ""})  # fmt: skip
    tree.modules.stage(package)
    tree.local().call(remote_staged.about, package)     # who comes later gets less
    tree.modules.forbid(pattern)
    node = tree.local()
    read, names = node.call(remote_staged.about, package)[1:]
    assert read[0] == "words\n"
    assert names == ["__init__.py", "data", "deeper.py", *(["keyless.py"] if pattern[-2:] != "k*" else [])]
    with pytest.raises(ImportError, match=r"No module named .shelf_on_disk\.keys"):
        node.call(importlib.import_module, "shelf_on_disk.keys")


def test_all_below_a_staged_package_may_be_forbidden(package: str, tree: ramet.Tree) -> None:
    tree.modules.stage(package)
    tree.modules.forbid(f"{package}.*")
    assert tree.local().call(remote_staged.files_of, package) == ["__init__.py"]


def test_more_than_the_limit_is_refused(package: str, tree: ramet.Tree) -> None:
    tree.modules.stage(package)
    tree.modules.staged_bytes_max = 10
    with pytest.raises(ImportError, match="its files take .* over the limit of 10: raise tree.modules.staged_bytes_max"):
        tree.local().call(remote_staged.about, package)


def test_what_is_asked_of_it(package: str, tree: ramet.Tree) -> None:
    for bad in ("docutils.core", ""):
        with pytest.raises(ValueError, match="isn't a top-level package's name"):
            tree.modules.stage(bad)
    tree.modules.stage("shelf_*")
    assert "It is staged: all of its package is written to a private temporary folder" in tree.modules.explain(package)
    assert "staged" not in tree.modules.explain("support.remote")


def test_strict_nodes_get_no_files_that_no_call_sends(package: str, tree: ramet.Tree) -> None:
    tree.modules.strict = True
    tree.modules.stage(package)
    with pytest.raises(ImportError, match="the policy is strict"):
        tree.local().call(remote_staged.about, package)


def test_a_child_of_the_node_does_not_keep_it(package: str, tree: ramet.Tree) -> None:
    """A process that a function has forked, and that outlives the node."""
    tree.modules.stage(package)
    node = tree.local()
    home = home_of(node.call(remote_staged.about, package)[0])
    pid = node.call(remote_staged.fork_that_stays, 1000)
    try:
        os.kill(node.facts["pid"], signal.SIGKILL)
        assert gone(home)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_hostile_node_gets_no_files_by_asking(tree: ramet.Tree, caplog: pytest.LogCaptureFixture) -> None:
    needs.distribution("PyYAML")
    tree.modules.stage("yaml")
    python = [os.path.realpath(sys.executable), "-I", "-S"]
    hostile, other = tree.local(python=python), tree.local(python=python)
    names = ["stage/yaml", "stage/", "stage/../../etc/passwd", "stage//etc/passwd", "stage/yaml/../../x", "stage/os"]
    bodies = [["native", [name], hostile.id] for name in names]
    with caplog.at_level("INFO", "ramet"):
        assert hostile.call(remote_requests.send, bodies) == [len(bodies), []]
    told = [record.getMessage() for record in caplog.records if record.name == "ramet.modules"]
    assert "'stage/yaml'" in told[0] and "isn't native code that was offered" in told[0] and len(told) < len(bodies)
    assert other.call(remote_staged.use_yaml)[0] is True
    assert hostile.call(remote_requests.send, bodies) == [len(bodies), []], "it is another's"
    assert hostile.call(remote.add, 1) == 1


def test_no_folder_stays_when_the_call_ends_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(staged.subprocess, "Popen", interrupted)
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(KeyboardInterrupt):
        staged._begin_cleaner("package", str(home))
    assert not home.exists()
