"""Packages of every kind at the controller, whole in a bare node: namespaces, zips, only bytecode, editable, made by hooks."""
from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import py_compile
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import needs, sources

BARE = [sys.executable, "-S"]

#: A package with data, that can lie anywhere.
BOX = {
    "box/__init__.py": "",
    "box/sub/data.txt": "in the box",
    "box/tools.py": "TOOL = 1\n",
    "box/work.py": '''
        import importlib.resources, inspect, pkgutil
        from box import tools

        def look():
            top = importlib.resources.files("box")
            return [pkgutil.get_data("box", "sub/data.txt"), (top / "sub" / "data.txt").read_text(),
                    sorted(item.name for item in top.iterdir()),
                    sorted(name for _, name, _ in pkgutil.iter_modules(__import__("box").__path__))]

        def source():
            return inspect.getsource(tools), __file__
        ''',
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with sources.on_path(tmp_path):
        yield tmp_path


def looks_whole(said: Any, *more: str) -> None:
    data, text, names, modules = said
    assert (data, text) == (b"in the box", "in the box")
    assert set(names) - {"__pycache__"} == {"__init__.py", "sub", "tools.py", "work.py", *more} and modules == ["tools", "work"]


# ---------------------------------------------------------------------- namespaces


def test_a_namespace_package_with_parts_here_and_there(tree: ramet.Tree, folder: Path) -> None:
    sources.write(folder, {
        "shared/ours/__init__.py": "WORD = 'ours'\n", "shared/ours/data.txt": "of ours",
        "shared/deep/ours.py": "WORD = 'deep'\n",
        "shared/top.txt": "of the namespace", "shared/both.py": "WORD = 'our both'\n",
        "there/shared/theirs/__init__.py": "WORD = 'theirs'\n", "there/shared/deep/theirs.py": "WORD = 'deep theirs'\n",
        "there/shared/both.py": "WORD = 'their both'\n",
        "uses.py": """
            import shared.ours, shared.deep.ours, shared.both
            def add(folder):
                import sys
                sys.path.append(folder)
            def look():
                import importlib, importlib.resources as r, pkgutil
                theirs = importlib.import_module("shared.theirs"), importlib.import_module("shared.deep.theirs")
                return [shared.ours.WORD, shared.deep.ours.WORD, shared.both.WORD, theirs[0].WORD, theirs[1].WORD,
                        pkgutil.get_data("shared.ours", "data.txt"), (r.files("shared") / "top.txt").read_text(),
                        theirs[0].__file__, len(shared.__path__)]
            def absent():
                try:
                    import shared.nobody
                except ImportError as error:
                    return str(error)
            """,
    })  # fmt: skip
    uses = importlib.import_module("uses")
    node = tree.local(python=BARE)
    node.call(uses.add, str(folder / "there"))
    assert node.call(uses.look) == [
        "ours", "deep", "our both", "theirs", "deep theirs", b"of ours", "of the namespace",
        f"{folder}/there/shared/theirs/__init__.py", 2]  # fmt: skip
    assert "shared.nobody" in node.call(uses.absent)


@pytest.mark.parametrize("style", ["pkgutil", "pkg_resources"])
def test_the_older_kinds_of_namespace_packages(tree: ramet.Tree, folder: Path, style: str) -> None:
    text = {
        "pkgutil": "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n",
        "pkg_resources": "try:\n    __import__('pkg_resources').declare_namespace(__name__)\nexcept ImportError:\n"
                         "    __path__ = __import__('pkgutil').extend_path(__path__, __name__)\n",
    }[style]  # fmt: skip
    sources.write(folder, {
        "one/old/__init__.py": text, "one/old/first.py": "WORD = 'first'\n", "one/old/first.txt": "1",
        "two/old/__init__.py": text, "two/old/second/__init__.py": "WORD = 'second'\n", "two/old/second/data.txt": "2",
        "two/old/second.txt": "3", "three/old/__init__.py": text, "three/old/third.py": "WORD = 'third'\n",
        "adds.py": "import sys\ndef add(folder):\n    sys.path.append(folder)\n",
        "uses.py": """
            import old.first, old.second
            def look():
                import importlib, pkgutil
                return [old.first.WORD, old.second.WORD, importlib.import_module("old.third").WORD,
                        pkgutil.get_data("old", "first.txt"), pkgutil.get_data("old", "second.txt"),
                        pkgutil.get_data("old.second", "data.txt")]
            """,
    })  # fmt: skip
    with sources.on_path(folder / "one", folder / "two"):
        uses = importlib.import_module("uses")
        node = tree.local(python=BARE)
        node.call(importlib.import_module("adds").add, str(folder / "three"))
        assert node.call(uses.look) == ["first", "second", "third", b"1", b"3", b"2"]


# ---------------------------------------------------------------------- where it comes from


@pytest.mark.parametrize("compressed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_package_in_a_zip(tree: ramet.Tree, folder: Path, compressed: int) -> None:
    sources.write(folder / "src", BOX)
    with zipfile.ZipFile(folder / "box.zip", "w", compressed) as archive:
        for name in BOX:
            archive.write(folder / "src" / name, "lib/" + name)
    with sources.on_path(folder / "box.zip" / "lib"):
        work = importlib.import_module("box.work")
        node = tree.local(python=BARE)
        looks_whole(node.call(work.look))
        assert node.call(work.source) == ("TOOL = 1\n", f"ramet:{folder}/box.zip/lib/box/work.py")
        for label in ("3.8", "3.13"):
            assert tree.local(python=needs.python(label)).call(work.source)[0] == "TOOL = 1\n"


def test_a_package_of_bytecode_only(tree: ramet.Tree, folder: Path) -> None:
    sources.write(folder, BOX)
    for name in ("__init__", "work", "tools"):
        py_compile.compile(str(folder / f"box/{name}.py"), str(folder / f"box/{name}.pyc"), doraise=True)
        (folder / f"box/{name}.py").unlink()
    work = importlib.import_module("box.work")
    node = tree.local(python=BARE)
    data, text, names, modules = node.call(work.look)
    assert (data, text, modules) == (b"in the box", "in the box", ["tools", "work"])
    assert names == ["__init__.pyc", "sub", "tools.pyc", "work.pyc"]
    with pytest.raises(ImportError, match="has no source here, only bytecode for Python 3"):
        tree.local(python=needs.python("3.8")).call(work.look)


def test_an_editable_install_by_a_finder(tree: ramet.Tree, folder: Path) -> None:
    """What setuptools writes: a module with a mapping and a finder, and metadata in site-packages."""
    sources.write(folder / "project" / "src", BOX)
    sources.write(folder / "site-packages", {
        "__editable___box_1_0_finder.py": f"""
            import sys
            from importlib.machinery import ModuleSpec
            from importlib.util import spec_from_file_location
            MAPPING = {{"box": {str(folder / "project/src/box")!r}}}
            class _EditableFinder:
                @classmethod
                def find_spec(cls, fullname, path=None, target=None):
                    if fullname in MAPPING:
                        return spec_from_file_location(fullname, MAPPING[fullname] + "/__init__.py")
            def install():
                sys.meta_path.append(_EditableFinder)
            """,
        "box_dist-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: box-dist\nVersion: 1.0\n",
        "box_dist-1.0.dist-info/RECORD": "__editable___box_1_0_finder.py,,\nbox_dist-1.0.dist-info/METADATA,,\n",
        "box_dist-1.0.dist-info/top_level.txt": "__editable___box_1_0_finder\nbox\n",
        "../uses.py": """
            import box.work
            def version():
                import importlib.metadata
                return importlib.metadata.version("box-dist"), importlib.metadata.packages_distributions()["box"]
            """,
    })  # fmt: skip
    with sources.on_path(folder, folder / "site-packages"):
        importlib.import_module("__editable___box_1_0_finder").install()
        try:
            uses = importlib.import_module("uses")
            node = tree.local(python=BARE)
            looks_whole(node.call(uses.box.work.look))
            assert node.call(uses.version) == ("1.0", ["box-dist"])
        finally:
            del sys.meta_path[-1]


class InMemory(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """A finder and loader that has sources and data in a dict, as an obfuscator or a frozen program does."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        is_package = name == "box"
        if name not in ("box", "box.work", "box.tools"):
            return None
        return importlib.util.spec_from_loader(name, self, origin=f"memory://{name}", is_package=is_package)

    def get_source(self, name: str) -> str:
        return BOX[name.replace(".", "/") + ("/__init__.py" if name == "box" else ".py")].replace("\n        ", "\n")


def test_a_package_that_an_import_hook_made(tree: ramet.Tree, folder: Path) -> None:
    hook = InMemory()
    sys.meta_path.insert(0, hook)
    try:
        work = importlib.import_module("box.work")
        node = tree.local(python=BARE)
        assert node.call(work.source)[0] == "TOOL = 1\n"
        with pytest.raises(FileNotFoundError):
            node.call(work.look)
    finally:
        sys.meta_path.remove(hook)
        for name in ("box", "box.work", "box.tools"):
            sys.modules.pop(name, None)


def test_a_zipapp_with_data(folder: Path) -> None:
    """The program is a zip: its main module, its package and the package's data are in it."""
    sources.write(folder / "app", BOX | {"__main__.py": """
        import sys
        import ramet
        from box import work
        def main_data():
            return work.look()[1]
        if __name__ == "__main__":
            with ramet.Tree() as tree:
                node = tree.local(python=[sys.executable, "-S"])
                print(node.call(work.look)[2], node.call(main_data))
        """})  # fmt: skip
    archive = shutil.make_archive(str(folder / "program"), "zip", folder / "app")
    path = os.pathsep.join([str(Path(ramet.__file__).parents[1]), *(p for p in sys.path if p.endswith("-packages"))])
    done = subprocess.run([sys.executable, archive], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['__init__.py', 'sub', 'tools.py', 'work.py'] in the box"


def test_data_is_kept_for_descendants(tree: ramet.Tree, folder: Path) -> None:
    sources.write(folder, BOX)
    work = importlib.import_module("box.work")
    node = tree.local(python=BARE)
    looks_whole(node.call(work.look))
    first, second = node.local(python=BARE), node.local(python=BARE)
    first.call(work.source)     # which brings what of the kernel nodes with children need
    sent = tree.stats()["modules_sent"]
    looks_whole(first.call(work.look))
    asked = tree.stats()["module_requests"]
    looks_whole(second.call(work.look))
    assert tree.stats()["modules_sent"] == sent, "its parent has it all"
    assert tree.stats()["module_requests"] == asked, "and has given it to another child"


def test_data_of_a_loader_of_its_own_kind(tree: ramet.Tree, folder: Path) -> None:
    """All that is known of the data is what the loader's resource reader gives."""
    sources.write(folder, {"store/sub/data.txt": "in the box", "store/__init__.py": ""})

    class Reader(importlib.abc.TraversableResources):  # type: ignore[name-defined,misc]
        def files(self) -> Any:
            return folder / "store"

    class WithData(InMemory):
        def get_resource_reader(self, name: str) -> Any:
            return Reader()

    hook = WithData()
    sys.meta_path.insert(0, hook)
    try:
        look = importlib.import_module("box.work").look
        assert tree.local(python=BARE).call(look)[:3] == [b"in the box", "in the box", ["__init__.py", "sub"]]
    finally:
        sys.meta_path.remove(hook)
        for name in ("box", "box.work", "box.tools"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize("label", ["2.7", "3.6", "3.8"])
def test_older_pythons_extend_their_packages_paths(tree: ramet.Tree, folder: Path, label: str) -> None:
    text = "from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"
    sources.write(folder, {
        "one/old/__init__.py": text, "one/old/first.py": "WORD = 'first'\n", "one/old/first.txt": "1",
        "three/old/__init__.py": text, "three/old/third.py": "WORD = 'third'\n",
        "adds.py": "import sys\ndef add(folder):\n    sys.path.append(folder)\n",
        "uses.py": "import old.first, pkgutil\n"
                   "def look():\n    import old.third\n"
                   "    return [old.first.WORD, old.third.WORD, pkgutil.get_data('old', 'first.txt').decode('ascii')]\n",
    })  # fmt: skip
    with sources.on_path(folder / "one"):
        uses = importlib.import_module("uses")
        node = tree.local(python=needs.python(label))
        node.call(importlib.import_module("adds").add, str(folder / "three"))
        assert node.call(uses.look) == ["first", "third", "1"]
