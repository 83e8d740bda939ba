"""``ramet run`` and ``ramet demo`` as a user runs them: processes, exit statuses, what is printed where."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from support import needs, pythons
from support.source import TOP

SCRIPT = '''
import os, sys
from tools.adding import add_up

def main():
    return os.getpid()

def add(*numbers):
    print("adding %d numbers" % len(numbers))
    return add_up([int(n) for n in numbers])

def version():
    return list(sys.version_info[:2])

def fail(path):
    if os.environ.get("FAIL_HERE", "1") == "1":
        open(path)

def keys():
    return {("web", 80): [{b"x": 1}], "n": 3, 1: None}

def digits():
    return [1 << 20000]

def sleep():
    import time
    time.sleep(50)

if __name__ == "__main__":
    raise SystemExit("the guard doesn't hold")
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A script with a package beside it."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/__init__.py").write_text("")
    (tmp_path / "tools/adding.py").write_text("from .numbers import ZERO\ndef add_up(them): return sum(them, ZERO)\n")
    (tmp_path / "tools/numbers.py").write_text("ZERO = 0\n")
    path = tmp_path / "check_hosts.py"
    path.write_text(SCRIPT)
    return path


def ramet(*argv: object, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, "PYTHONPATH": str(TOP / "src"), "COLUMNS": "200", **environment}
    command = [sys.executable, "-c", "from ramet.cli import main; main()", *map(str, argv)]
    return subprocess.run(command, env=whole, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=170)


def local(path: str) -> str:
    return "local:" + quote(path, safe="")


def test_main_runs_in_a_fresh_interpreter(program: Path) -> None:
    done = ramet("run", program)
    assert done.returncode == 0, done.stderr
    name, _, pid = done.stdout.partition(": ")
    assert name.startswith("local") and pid.strip().isdigit()


def test_arguments_results_and_output(program: Path) -> None:
    done = ramet("run", "-H", "local:,local:", f"{program}:add", "3", "-4")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sorted(line.partition(": ")[2] for line in lines if line.endswith(": -1")) == ["-1", "-1"]
    assert len([line for line in lines if line.startswith("[") and line.endswith("adding 2 numbers")]) == 2


@pytest.mark.parametrize("label", [label for label, _ in pythons.interpreters()])
def test_old_and_new_interpreters(program: Path, label: str) -> None:
    done = ramet("run", "--json", "-H", local(needs.python(label)), f"{program}:version")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["ok"] and said["value"] == [int(part) for part in label.removeprefix("pypy").split(".")]


def test_one_failure_spoils_nothing_but_the_status(program: Path) -> None:
    done = ramet("run", "-H", "local:", "-H", local("/no/such/python"), f"{program}:add", "1")
    assert done.returncode == 1
    assert ": 1\n" in done.stdout
    assert "PythonNotFoundError" in done.stderr and "/no/such/python" in done.stderr


def test_a_remote_exception_says_its_type_and_with_v_where(program: Path) -> None:
    done = ramet("run", f"{program}:fail", "/no/such/file")
    assert (done.returncode, done.stdout) == (1, "")
    assert "FileNotFoundError" in done.stderr and "/no/such/file" in done.stderr
    assert "check_hosts.py" not in done.stderr
    done = ramet("run", "-v", f"{program}:fail", "/no/such/file")
    assert "check_hosts.py" in done.stderr and "in fail" in done.stderr


def test_json_holds_what_has_other_keys_than_text(program: Path) -> None:
    done = ramet("run", "--json", f"{program}:keys")
    assert json.loads(done.stdout)["value"] == {"('web', 80)": [{"b'x'": 1}], "n": 3, "1": None}


@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="not on this machine: a Python that limits digits")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_cannot_be_shown_is_that_hosts_failure(program: Path, options: list[str]) -> None:
    done = ramet("run", *options, "-H", "local:,local:", f"{program}:digits")
    said = done.stdout + done.stderr
    assert done.returncode == 1 and said.count("ValueError") == 2 and "Traceback" not in said


def test_json_holds_failures_too_and_nothing_else_is_on_stdout(program: Path) -> None:
    done = ramet("run", "--json", "-H", "local:", f"{program}:fail", "/no/such/file")
    said = json.loads(done.stdout)
    assert done.returncode == 1 and not said["ok"] and said["host"] == "local:"
    assert said["type"].endswith("FileNotFoundError")
    done = ramet("run", "--json", f"{program}:add", "1")
    assert json.loads(done.stdout)["value"] == 1 and "adding" in done.stderr


def test_timeout_ends_the_work(program: Path) -> None:
    done = ramet("run", "--timeout", "0.5", f"{program}:sleep")
    assert done.returncode == 1 and "CallTimeout" in done.stderr


@pytest.mark.timeout(400)       # all interpreters, twice
def test_demo(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for number in range(30):
        (tmp_path / "below" / f"file{number}").write_text("same" if number % 2 else str(number))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"x" * 100_000)
    done = ramet("demo", tmp_path, RAMET_DEMO_SSH="host.invalid")
    assert done.stderr == ""    # no node has complained
    assert done.returncode == 0, done.stdout + done.stderr
    for label, _ in pythons.interpreters():
        assert f"py{label}" in done.stdout
    assert "grandchild" in done.stdout and "ssh host.invalid: " in done.stdout
    assert "31, 0.1 MB, 17 different" in done.stdout
    assert "left behind" in done.stdout and "nothing" in done.stdout
    again = ramet("demo", tmp_path, RAMET_DEMO_SSH="host.invalid")
    assert fingerprint(again.stdout) == fingerprint(done.stdout)


def fingerprint(text: str) -> str:
    return next(line.strip() for line in text.splitlines() if line.startswith("sha256"))
