"""What the Makefile's goals run to set themselves up: what it says and does where something is missing."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import needs
from support.source import TOP

NEEDED = ("bash", "dirname", "sed", "cat", "mkdir", "touch")


@pytest.fixture
def poor_machine(tmp_path: Path) -> dict[str, str]:
    """An environment with hardly a program, of an ordinary user."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        (folder / name).symlink_to(needs.program(name))
    script(folder / "id", "echo 1000")
    return {"PATH": str(folder), "HOME": str(tmp_path), "VENV": str(tmp_path / "venv")}


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def setup(environment: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    whole = [needs.program("bash"), str(TOP / "tools/setup.sh"), *argv]
    return subprocess.run(whole, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_an_ordinary_user_is_told_by_name_what_is_skipped(poor_machine: dict[str, str]) -> None:
    done = setup(poor_machine, "targets")
    assert done.returncode == 0
    assert "not root: tests that need root are skipped" in done.stderr
    skipped = done.stderr.splitlines()[-1]
    for program in ("ssh", "tcsh", "fish", "ksh", "zsh"):
        assert f" {program} " in skipped, skipped
    assert "openssh-client" in skipped


def test_one_package_that_cannot_be_had_keeps_no_other_from_being_installed(poor_machine: dict[str, str]) -> None:
    folder = Path(poor_machine["PATH"])
    for name in ("rm", "chmod"):
        (folder / name).symlink_to(needs.program(name))
    script(folder / "id", "echo 0")
    script(folder / "apt-get", f"""
case "$*" in *" install "*) ;; *) exit 0;; esac
case "$*" in *fish*) echo "Unable to locate package fish" >&2; exit 100;; esac
case "$*" in *zsh) echo '#!/bin/sh' > {folder}/zsh; chmod 755 {folder}/zsh;; esac""")
    done = setup(poor_machine, "targets")
    assert done.returncode == 0, done.stderr
    assert "Unable to locate package fish" in done.stderr
    skipped = done.stderr.splitlines()[-1]
    assert "not on this machine:" in skipped and " fish " in skipped and " zsh " not in skipped, skipped


def test_no_python_at_all(poor_machine: dict[str, str]) -> None:
    if os.path.exists("/usr/bin/python3"):
        poor_machine["PYTHON"] = "python-of-nowhere"
    done = setup(poor_machine, "venv", "test")
    assert done.returncode == 1
    assert "Python 3.10 or newer" in done.stderr


@pytest.mark.parametrize("fails", ["ensurepip", "version_info"])
def test_a_python_that_will_not_do(poor_machine: dict[str, str], tmp_path: Path, fails: str) -> None:
    """One that can't make virtual environments (Debian's, without python3-venv), and one that is too old."""
    script(tmp_path / "bin/bad-python", f'case "$*" in *{fails}*) exit 1;; *) exec {sys.executable} "$@";; esac')
    done = setup({**poor_machine, "PYTHON": "bad-python"}, "venv", "test")
    assert done.returncode == 1
    assert "PYTHON=bad-python isn't a Python 3.10 or newer with the modules venv and ensurepip" in done.stderr


def test_the_throwaway_sshd_lets_us_in_and_goes(tmp_path: Path) -> None:
    for name in ("sshd", "ssh", "ssh-keygen"):
        needs.program(name)
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("RAMET_DEMO")}, "TMPDIR": str(tmp_path)}
    argv = ["bash", str(TOP / "tools/with_sshd.sh"), "sh", "-c", "ssh $RAMET_DEMO_SSH_ARGS $RAMET_DEMO_SSH id -u; exit 7"]
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (f"{os.getuid()}\n", 7), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_ssh_it_says_so_and_goes_on(poor_machine: dict[str, str]) -> None:
    argv = [needs.program("bash"), str(TOP / "tools/with_sshd.sh"), needs.program("sh"), "-c", "echo here; exit 7"]
    done = subprocess.run(argv, env=poor_machine, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("here\n", 7)
    assert re.fullmatch(r"going on without an sshd: not on this machine: sshd? \(Debian package: openssh-\w+\)\n", done.stderr)


def test_an_sshd_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    needs.program("sshd")
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin/ssh", "exit 1")
    script(tmp_path / "bin/ssh-keygen", "echo no more keys >&2; exit 1")
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    argv = [needs.program("bash"), str(TOP / "tools/with_sshd.sh"), "sh", "-c", "exit 7"]
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("going on without an sshd: it did not start: no more keys\n", 7)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_a_given_ssh_host_is_left_as_it_is() -> None:
    environment = {**os.environ, "RAMET_DEMO_SSH": "web1"}
    argv = ["bash", str(TOP / "tools/with_sshd.sh"), "sh", "-c", "echo $RAMET_DEMO_SSH$RAMET_DEMO_SSH_ARGS"]
    assert subprocess.run(argv, env=environment, capture_output=True, text=True).stdout == "web1\n"
