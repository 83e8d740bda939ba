"""The command line without any node: how it reads what is typed, and what it says when that is wrong."""
from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ramet.bootstrap import cache
from ramet.cli import app, script
from ramet.cli.run import as_text, error_text, full_spec

SCRIPT = '''
import os
def main(): return os.getpid()
def add(a, b="2", *more): return int(a) + int(b)
def _hidden(): pass
class Tool:
    @staticmethod
    def use(): return "used"
number = 3
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder: Path, name: str = "cli_script_one.py", text: str = SCRIPT) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(("typed", "spec"), [
    ("web1", "ssh://web1"),
    ("root@web1:2222", "ssh://root@web1:2222"),
    ("ssh://web1", "ssh://web1"),
    ("ssh:gate/ssh:db1", "ssh:gate/ssh:db1"),
    ("web1/local:", "ssh://web1/local:"),
    ("local", "local:"),
    ("local:", "local:"),
    ("local/ssh:web1", "local:/ssh:web1"),
    ("local?python=python3.12", "local?python=python3.12"),
    ("localhost", "ssh://localhost"),
    ("web1:22/local:", "ssh://web1:22/local:"),
    ("user@web1:x", "ssh://user@web1:x"),
    ("web1:22:22", "ssh://web1:22:22"),
    ("fe80::1", "ssh://fe80::1"),
    ("[fe80::1]:22", "ssh://[fe80::1]:22"),
    ("dokcer:app/local:", "dokcer:app/local:"),     # so that it is said that there is no such connector
])  # fmt: skip
def test_a_bare_name_is_a_host_for_ssh(typed: str, spec: str) -> None:
    assert full_spec(typed) == spec


def test_functions_are_found(here: Path) -> None:
    path = write(here)
    assert script.load(str(path), []).__name__ == "main"
    assert script.load(f"{path}:add", ["1", "4"])("1", "4") == 5
    assert script.load(f"{path}:Tool.use", [])() == "used"


def test_a_name_that_the_library_has_is_not_taken(here: Path) -> None:
    fn = script.load(str(write(here, "platform.py")), [])
    assert fn.__module__ == "script_platform"
    fn = script.load(str(write(here, "with-dash.py")), [])
    assert fn.__module__ == "script_with_dash"
    fn = script.load(str(write(here, "cli_script_two.py")), [])
    assert fn.__module__ == "cli_script_two"


@pytest.mark.parametrize(("function", "arguments", "said"), [
    (":nothing", [], r"has no function 'nothing'; it has: .*:main, .*:add$"),
    (":number", [], "number of .* is no function but int"),
    (":main", ["1"], r"main\(\) of .* can't be called so: too many positional arguments"),
    (":add", [], "missing a required argument: 'a'"),
])  # fmt: skip
def test_what_cannot_be_called_is_said_before_anything_connects(
    here: Path, function: str, arguments: list[str], said: str
) -> None:
    path = write(here)
    with pytest.raises(script.ScriptError, match=said):
        script.load(f"{path}{function}", arguments)


def test_no_such_file(here: Path) -> None:
    with pytest.raises(script.ScriptError, match=r"there is no file .*absent\.py"):
        script.load(str(here / "absent.py"), [])
    with pytest.raises(script.ScriptError, match=r"must end in \.py"):
        script.load(str(write(here, "notes.txt")), [])


@pytest.mark.parametrize("argv", [
    ["run"],
    ["run", "absent.py"],
    ["run", "-H", "teleport:moon", "SCRIPT"],
    ["run", "-H", "", "SCRIPT"],
    ["run", "-H", "local?colour=red", "SCRIPT"],
    ["run", "BROKEN"],
    ["demo", "no/such/folder"],
    ["unknown"],
])  # fmt: skip
def test_a_wrong_command_line_ends_in_status_2(here: Path, argv: list[str]) -> None:
    files = {"SCRIPT": str(write(here)), "BROKEN": str(write(here, "cli_script_broken.py", "1/0\n"))}
    result = CliRunner().invoke(app, [files.get(word, word) for word in argv])
    assert result.exit_code == 2, result.output


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["demo", "-h"]])
def test_help_teaches_by_example(argv: list[str]) -> None:
    result = CliRunner().invoke(app, argv, env={"COLUMNS": "100"})
    assert result.exit_code == 0
    assert "ramet run" in result.output or "ramet demo" in result.output
    assert "130 interrupted" in result.output


def test_results_and_failures_for_people() -> None:
    assert as_text("text") == "text"
    assert as_text(None) == "done"
    assert as_text({"a": [1, 2]}) == "{'a': [1, 2]}"
    assert error_text(ValueError("bad"), with_traceback=True) == "ValueError: bad"


def test_cache_is_shown_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(cache.SETTING, "2")
    cache.put(cache.name_of("x"), b"data")

    def lines(*argv: str, status: int = 0) -> list[list[str]]:
        result = CliRunner().invoke(app, ["cache", *argv])
        assert result.exit_code == status, result.output
        return [line.split(maxsplit=1) for line in result.output.splitlines()]

    shown = [["folder", str(tmp_path / "ramet")], ["files", "1"], ["bytes", "36 of at most 2,097,152"]]
    assert lines() == shown
    assert lines("--clear") == [["1", "files removed"], shown[0], ["files", "0"], ["bytes", "0 of at most 2,097,152"]]
    monkeypatch.setenv(cache.SETTING, "many")
    assert "'many' is neither" in " ".join(lines(status=2)[-1])
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "")
    monkeypatch.setenv(cache.SETTING, "off")
    assert lines()[0][1].startswith("none") and lines()[2] == ["bytes", "0 of at most 0"]
