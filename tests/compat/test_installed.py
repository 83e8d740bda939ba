"""What a node tells of what is installed, on every Python: which names count, and when it tells."""
from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from support import kernel_shim, pythons

CODE = '''
import os, sys, zipfile
folder, other = sys.argv[1:]
for name in "plain.py byte.pyc package/ data.txt my_dist-1.0.dist-info/ old.egg-info two.dots.py wrong.cpython-20-x.so".split():
    path = os.path.join(folder, name)
    os.mkdir(path) if name[-1] == "/" else open(path, "w").close()
from ramet.kernel import compat_late, installed
open(os.path.join(folder, "fast" + [s for s in compat_late.module_suffixes() if s[:3] != ".py"][0]), "w").close()
archive = zipfile.ZipFile(os.path.join(other, "some.zip"), "w")
archive.writestr("zipped.py", "")
archive.writestr("zippedpackage/__init__.py", "")
archive.close()
'''


@pytest.fixture(params=[pytest.param(path, id=label) for label, path in pythons.interpreters()])
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(python: str, snippet: str, *args: Path) -> str:
    return kernel_shim.run(python, CODE + textwrap.dedent(snippet), list(map(str, args)))


def test_folders_and_zips_count_whatever_they_are_called(python: str, tmp_path: Path) -> None:
    folders = tmp_path / "added", tmp_path / "zips"
    for folder in folders:
        folder.mkdir()
    run(python, '''
        before = set(installed.names())
        assert not before & set(["os", "json", "encodings", "lib-dynload"]), before
        sys.path += [folder, os.path.join(other, "some.zip"), os.path.join(other, "none"), "", os.path.join(folder, "data.txt")]
        found = set(installed.names()) - before
        assert found == set("plain byte package fast zipped zippedpackage".split()), found
        assert installed.names() == sorted(installed.names())
    ''', *folders)


def test_a_list_is_one_frame_however_much_there_is(python: str, tmp_path: Path) -> None:
    run(python, '''
        for n in range(9000):
            open(os.path.join(folder, "a_name_of_some_length_%d.py" % n), "w").close()
        sys.path.append(folder)
        names = installed.names()
        assert len(names) <= installed.NAMES_MAX and sum(map(len, names)) <= installed.CHARS_MAX, len(names)
    ''', tmp_path, tmp_path)


def test_it_is_told_once_and_before_anything_is_asked_for(python: str, tmp_path: Path) -> None:
    run(python, '''
        import threading
        from ramet.kernel import compat, importer, start, core, unforeseen
        said = []

        class Told(object):
            config = {"installed": [b"x" * 16]}

            def tell(self, dst, handle, value):
                assert (dst, handle) == (0, core.INSTALLED)
                said.append("installed")
        node = start.node = Told()
        node.core = node
        cache = importer.ModuleCache()

        def fetch(name, form):
            said.append(name)
            if name == "several.parts":
                cache.add(form, [["several", 1, u"ramet:/several/__init__.py", b""],
                                 ["several.parts", 0, u"ramet:/several/parts.py", b"N = 1"]], {})
        importer.install(cache, fetch)

        def attempt():
            try:
                import one_that_is_nowhere
            except ImportError:
                pass
        threads = [threading.Thread(target=attempt) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        import several.parts
        assert said == ["installed", "one_that_is_nowhere", "several.parts"], said
        known = compat_late.sha256(b"a\\nb")[:16]
        assert installed.told(["a", "b"], [known]) == known
    ''', tmp_path, tmp_path)
