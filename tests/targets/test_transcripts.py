"""Programs that can't run here, replayed: their own words, and what we make of them.

``transcripts/NAME.json`` names for each case the exact arguments up to the interpreter, what the program said, in its own
encoding and on which stream, its exit status, and where that was found. ``how`` is one of two words: "recorded", somebody ran
the program and kept what it said; "documented", its source or manual says that it says so, and no recording was found. A
stand-in checks the arguments and says the same, or starts the interpreter, as the program would.
"""
from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet import Tree
from ramet.testing import check_connector
from support import remote

PROGRAMS = {"kubectl": "kubectl", "jail": "jexec", "wsl": "wsl.exe"}
FOLDER = Path(__file__).parent / "transcripts"
CASES = [(name, case) for name in PROGRAMS for case in json.loads((FOLDER / f"{name}.json").read_text())]

OPTIONS = {"kubectl": "kubectl_path", "jail": "jexec_path", "wsl": "wsl_path"}

#: Says what it was told to, if it was started as it should be; without a status it becomes what its arguments start.
STAND_IN = """#!{python} -I
import os, sys
expected, out, err, status, waits = {what!r}
given = sys.argv[1:]
if given[:len(expected)] != expected or given[len(expected)] not in ("sh", "python3"):
    sys.exit("unexpected arguments: %r" % given[:len(expected) + 1])
if status is None:
    os.execvp(given[len(expected)], given[len(expected):])
os.write(1, out)
os.write(2, err)
if waits:
    os.read(0, 1)
os._exit(status)
"""


def stand_in(folder: Path, name: str, case: dict[str, Any]) -> dict[str, Any]:
    """The option for a program that replays a case."""
    coding = case.get("encoding", "utf-8")
    out, err = case.get("stdout", "").encode(coding), case.get("stderr", "").encode(coding)
    path = folder / PROGRAMS[name]
    what = (case["argv"], out, err, case.get("status"), case.get("waits"))
    path.write_text(STAND_IN.format(python=sys.executable, what=what))
    path.chmod(0o755)
    return {OPTIONS[name]: path}


@pytest.mark.parametrize(("connector", "case"), CASES, ids=[f"{name}: {case['case']}" for name, case in CASES])
def test_what_it_says(tree: Tree, tmp_path: Path, connector: str, case: dict[str, Any]) -> None:
    path = stand_in(tmp_path, connector, case)
    for python in ("python3", None):
        with pytest.raises(getattr(ramet, case["error"]), match=case["cause"]) as caught:
            tree.grow(connector, **case["options"], **path, python=python).wait(60)
        assert type(caught.value).__name__ == case["error"]
        assert caught.value.stage == case["stage"], caught.value
        assert "remedy: " in str(caught.value)
        assert case.get("seen", "") in caught.value.seen
        assert "\0" not in str(caught.value)


#: What a source that is no recording looks like: a file of the program's own, or a guess from another case.
NO_RECORDING = re.compile(r"-src, |/[\w.]+\.(c|go|resw)\b|the same")


def test_what_was_recorded_and_what_only_documented() -> None:
    """No text counts as recorded that was put together from sources, and the docs name how many of each there are."""
    page = (FOLDER.parents[2] / "docs/how-to/containers.md").read_text()
    for name in PROGRAMS:
        how = [case["how"] for connector, case in CASES if connector == name]
        assert f"{how.count('recorded')} texts recorded, {how.count('documented')} as documented" in page, name
        assert how.count("recorded") + how.count("documented") == len(how)
    for _, case in CASES:
        assert bool(NO_RECORDING.search(case["source"])) == (case["how"] == "documented"), case


#: Connector, options, and what its program is to get.
STARTS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("kubectl", {"pod": "app", "container": "c", "namespace": "n", "context": "x", "kubeconfig": "/k", "kubectl_args": ["-q"]},
     ["--kubeconfig", "/k", "--context", "x", "--namespace", "n", "exec", "-i", "app", "--container", "c", "-q", "--"]),
    ("jail", {"container": "j", "username": "www", "login": True}, ["-l", "-U", "www", "j"]),
    ("wsl", {"distribution": "Debian", "username": "me", "workdir": "~"},
     ["--distribution", "Debian", "--user", "me", "--cd", "~", "--exec"]),
]  # fmt: skip


@pytest.mark.parametrize(("connector", "options", "argv"), STARTS, ids=[case[0] for case in STARTS])
def test_what_it_is_given(tree: Tree, tmp_path: Path, connector: str, options: dict[str, Any], argv: list[str]) -> None:
    path = stand_in(tmp_path, connector, {"argv": argv})
    check_connector(lambda own: own.grow(connector, **options, **path, python="python3"))
    assert tree.grow(connector, **options, **path).local().call(remote.add, 2, 3) == 5
    if connector != "wsl":      # which has an option of its own
        path = stand_in(tmp_path, connector, {"argv": argv})
        node = tree.grow(connector, **options, **path, workdir="/tmp", env={"RMT": "yes and no"})
        assert (node.call(os.getcwd), node.call(os.getenv, "RMT")) == ("/tmp", "yes and no")
