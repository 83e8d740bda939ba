"""Package data and metadata at the real thing: libraries, policy, limits, and a node that asks for what it may not have."""
from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from support import sources

#: Functions that ask as a hostile node would: past everything that the kernel checks.
ASKS = '''
from ramet.kernel import start

def ask(form, name):
    """What the controller sends for a name: the kind of answer, and the data or the reason."""
    node = start.node
    finder = [finder for finder in __import__("sys").meta_path if hasattr(finder, "obtain")][-1]
    record = finder.obtain(name, form)
    if record:
        from ramet.kernel.importer import content
        return "sent", content(record)
    return "not sent", node.cache.reasons[name + "/" + form]

def ask_all(form, names):
    return [ask(form, name) for name in names]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "site-packages").mkdir()
    with sources.on_path(tmp_path, tmp_path / "site-packages"):
        yield tmp_path


def bare(tree: ramet.Tree) -> ramet.Node:
    """A node without site-packages."""
    return tree.local(python=[sys.executable, "-S"])


def use(folder: Path, text: str, name: str = "uses", **files: str) -> Any:
    sources.write(folder, {f"{name}.py": text, **files})
    return importlib.import_module(name)


METADATA = '''
import importlib.metadata as m

def ask():
    from importlib.metadata import PackageNotFoundError, distribution, entry_points, files, metadata, requires, version
    here = distribution("rich")
    found = [version("rich"), metadata("rich")["Name"], sorted(requires("typer"))[:1], here.read_text("no.txt")]
    found.append(len([file for file in files("rich") if str(file).endswith(".py")]))
    located = [file for file in files("rich") if str(file) == "rich/markup.py"][0]
    found.append("class Tag" in located.read_text())
    try:
        version("no-such-distribution")
    except PackageNotFoundError as error:
        found.append(str(error))
    return found

def scripts():
    return sorted(point.name for point in m.entry_points(group="console_scripts")), sorted(
        d.metadata["Name"] for d in m.distributions())

def tops():
    return {name: found for name, found in m.packages_distributions().items() if name in ("rich", "typer")}
'''


def test_metadata_of_shipped_distributions(tree: ramet.Tree, folder: Path) -> None:
    import importlib.metadata

    app = use(folder, METADATA + "\nimport rich.markup, typer\n")
    node = bare(tree)
    here, there = app.ask(), node.call(app.ask)
    assert there[:4] == here[:4] and there[4:6] == [here[4], True] and "no-such-distribution" in there[6]
    names, distributions = node.call(app.scripts)
    assert "typer" in names and {"rich", "typer"} <= set(distributions) and "pytest" not in distributions
    assert len(distributions) == len(set(distributions))
    assert node.call(app.tops) == {"rich": ["rich"], "typer": ["typer"]}
    assert importlib.metadata.version("rich") == there[0]


def test_a_version_that_is_asked_for_while_importing_costs_no_round_trip(tree: ramet.Tree, folder: Path) -> None:
    # a library whose __init__ asks for its own version, as many do
    info = "site-packages/lib_a-1.5.dist-info/"
    sources.write(folder, {
        "site-packages/lib_a/__init__.py": "from importlib import metadata\n__version__ = metadata.version('lib-a')\n",
        info + "METADATA": "Metadata-Version: 2.1\nName: lib_a\nVersion: 1.5\n\nText.\n",
        info + "RECORD": "lib_a/__init__.py,,\n",
        info + "entry_points.txt": "[group.a]\nname = lib_a:thing\n",
        "asks.py": "import lib_a\ndef version(): return lib_a.__version__\n"
                   "def points():\n    import importlib.metadata as m\n"
                   "    return [(p.name, p.value) for p in m.entry_points(group='group.a')]\n",
    })  # fmt: skip
    asks = importlib.import_module("asks")
    node = bare(tree)
    assert node.call(asks.version) == "1.5"
    assert tree.stats()["module_requests"] == 0
    assert node.call(asks.points) == [("name", "lib_a:thing")]
    assert tree.stats()["module_requests"] == 1, "which there are is asked for"
    assert node.call(asks.points) == [("name", "lib_a:thing")]
    assert tree.stats()["module_requests"] == 1
    child = node.local(python=[sys.executable, "-S"])
    assert child.call(asks.version) == "1.5" and tree.stats()["module_requests"] == 1


def test_an_installed_distribution_wins_unless_ours_is_preferred(tree: ramet.Tree, folder: Path) -> None:
    def dist(where: str, version: str) -> dict[str, str]:
        info = f"{where}/lib_b-{version}.dist-info/"
        return {f"{where}/lib_b.py": f"V = {version!r}\n", info + "RECORD": "lib_b.py,,\n",
                info + "METADATA": f"Metadata-Version: 2.1\nName: lib_b\nVersion: {version}\n"}  # fmt: skip
    sources.write(folder, dist("site-packages", "1.0") | dist("theirs/site-packages", "2.0") | {
        "asks.py": "import sys\ndef add(folder):\n    sys.path.append(folder)\n"
                   "def ask():\n    import importlib.metadata as m, lib_b\n"
                   "    return m.version('lib_b'), lib_b.V, [d.version for d in m.distributions() if d.name == 'lib_b']\n",
    })  # fmt: skip
    asks = importlib.import_module("asks")
    node = bare(tree)
    node.call(asks.add, str(folder / "theirs/site-packages"))
    assert node.call(asks.ask) == ("2.0", "2.0", ["2.0"])
    with ramet.Tree() as other:
        other.modules.prefer("lib_b")
        node = bare(other)
        node.call(asks.add, str(folder / "theirs/site-packages"))
        version, module, listed = node.call(asks.ask)
        assert (version, module, listed[0]) == ("1.0", "1.0", "1.0")


# ---------------------------------------------------------------------- what is refused


def test_nothing_but_data_of_what_was_sent_can_be_had(
        tree: ramet.Tree, folder: Path, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    sources.write(folder, {
        "app/__init__.py": "", "app/data.txt": "data", "app/.env": "PASSWORD=1",
        "app/secrets.py": "KEY = 1", "app/sub/.hidden/x": "", "app/__pycache__/x.pyc": "x", "private/key.txt": "secret",
        "other/__init__.py": "", "other/key.txt": "secret", "below.txt": "below", "ns/part.py": "", "ns/data.txt": "in ns",
        "uses.py": "import app, ns.part\n" + ASKS,
    })  # fmt: skip
    (folder / "app" / "out.txt").symlink_to(folder / "below.txt")
    (folder / "app" / "up").symlink_to(folder)
    (folder / "app" / "alias.txt").symlink_to("secrets.py")
    (folder / "app" / "in.txt").symlink_to("data.txt")
    os.mkfifo(folder / "app" / "pipe")
    tree.modules.forbid("app.secrets")
    importlib.import_module("uses")
    asks = importlib.import_module("uses")
    node = bare(tree)
    with caplog.at_level(logging.WARNING, "ramet.modules"):
        assert node.call(asks.ask, "data", "app:data.txt") == ("sent", b"data")
        assert node.call(asks.ask, "data", "app:in.txt") == ("sent", b"data")
        assert node.call(asks.ask, "data", "ns:data.txt") == ("sent", b"in ns"), "a namespace package that a call needs"
        assert node.call(asks.ask, "data", "app:") == ("sent", b"__init__.py\0data.txt\0in.txt\0sub/")
        assert node.call(asks.ask, "data", "app:sub/") == ("sent", b"")
        assert caplog.records == []
        odd = [
            "/etc/passwd", ":/etc/passwd", "app:/etc/passwd", "app:../below.txt", "app:sub/../../below.txt", "app:./data.txt",
            "app:data.txt/", "app://data.txt", "app:\0", "app:data.txt\0", "..:etc/passwd", "app/..:below.txt", "", ":",
            "app", "app:up/below.txt", "app:up/", "app:out.txt", "app:.env", "app:secrets.py", "app:alias.txt", "app:secrets",
            "app:__pycache__/x.pyc", "app:sub/.hidden/", "app:pipe", "app:DATA.TXT", "app:sub\\x", "app:" + "a/" * 5000,
            "__main__:asks.py", "os:os.py", "sys:x", "ramet:tree.py", "other:key.txt", "private:key.txt", "private:",
            "uses:below.txt", "app.data:x", "app.nothing:", "xn--\udcff:x", "app:\ud800",
        ]
        for name, (said, why) in zip(odd, node.call(asks.ask_all, "data", odd), strict=True):
            assert said == "not sent", (name, why)
            assert why.startswith(("absent", "refused: ")), (name, why)
        lines = [record.getMessage() for record in caplog.records]
        assert 3 <= len(lines) <= 6 and "node 1 asked for" in lines[0] and "refusal 1 of" in lines[0], lines
        second = bare(tree)     # asking for the modules first doesn't help: no call needs them
        assert [said for said, _ in second.call(asks.ask_all, node.facts["form"], ["private", "other"])] == ["sent", "sent"]
        assert [said for said, _ in second.call(asks.ask_all, "data", ["private:key.txt", "other:key.txt"])] == ["not sent"] * 2
        dists = ["pytest:", "../x:", "*", ":", "rich", "rich:../METADATA", "rich:/etc/passwd", "PyTest:", "a" * 5000 + ":"]
        assert {said for said, _ in node.call(asks.ask_all, "dist", dists)} == {"not sent"}
        assert node.call(asks.ask, "dist", "*:x") == ("sent", b"")
    assert node.call(asks.ask, "data", "app:data.txt") == ("sent", b"data"), "and the node goes on"


def test_ship_allows_and_strict_narrows(folder: Path) -> None:
    from ramet.modules.policy import Policy

    sources.write(folder, {"asks.py": ASKS, "app/__init__.py": "import asks\n", "app/.env": "x", "app/data.txt": "data",
                           "other/__init__.py": "", "other/key.txt": "key"})  # fmt: skip
    app = importlib.import_module("app")
    with ramet.Tree() as tree:
        tree.modules.ship("app", "other")
        node = bare(tree)
        assert node.call(app.asks.ask, "data", "app:.env") == ("sent", b"x")
        assert node.call(app.asks.ask, "data", "other:key.txt") == ("sent", b"key")
    with ramet.Tree() as tree:
        tree.modules.policy.strict = True
        node = bare(tree)
        said, why = node.call(app.asks.ask, "data", "app:data.txt")
        assert said == "not sent" and "strict" in why and "tree.modules.ship('app')" in why
    assert isinstance(tree.modules.policy, Policy)


def test_a_data_file_of_50_megabytes(tree: ramet.Tree, folder: Path) -> None:
    sources.write(folder, {"app/__init__.py": "", "app/work.py": '''
        import pkgutil
        def size():
            return len(pkgutil.get_data("app", "big.bin"))
        '''})  # fmt: skip
    with open(folder / "app" / "big.bin", "wb") as file:
        file.truncate(50 << 20)
    app = importlib.import_module("app.work")
    node = bare(tree)
    with pytest.raises(OSError) as caught:
        node.call(app.size)
    text = str(caught.value)
    assert "52428800 bytes" in text and "limit of 16777216" in text and "tree.modules.data_bytes_max" in text
    tree.modules.data_bytes_max = 100 << 20
    child = bare(tree).local(python=[sys.executable, "-S"])
    assert child.call(app.size) == 50 << 20


def test_data_that_is_read_where_it_was_foreseen_costs_one_round_trip_a_folder(tree: ramet.Tree, folder: Path) -> None:
    files = {"app/a.txt": "a", "app/b.txt": "b", "app/sub/c.txt": "c", "app/sub/d.txt": "d"}
    sources.write(folder, files | {"app/__init__.py": "", "app/work.py": '''
        import pkgutil
        from importlib import resources
        def by_name():
            return [pkgutil.get_data("app", name) for name in ("a.txt", "b.txt", "sub/c.txt", "sub/d.txt")]
        def walk():
            return sorted(item.name for item in resources.files("app").joinpath("sub").iterdir() if item.is_file())
        '''})  # fmt: skip
    app = importlib.import_module("app.work")
    node = bare(tree)
    assert node.call(app.walk) == ["c.txt", "d.txt"] and tree.stats()["module_requests"] == 1
    assert node.call(app.by_name) == [b"a", b"b", b"c", b"d"] and tree.stats()["module_requests"] == 2
