"""What ``python=`` may wish for: versions and environments, as a search over there that any shell can be given."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ramet.bootstrap import first_stage, wishes
from ramet.connectors import docker, local, ssh, sudo
from support import needs, pythons


def names(text: str) -> list[str]:
    wish = wishes.find([text])
    assert wish is not None and wish.check
    return [name for name in wish.candidates if name.startswith("python") and "." in name]


@pytest.mark.parametrize(("text", "newest", "oldest"), [
    (">=3.8", "python3.19", "python3.8"), (">=3.8,<3.12", "python3.11", "python3.8"), ("3.11", "python3.11", "python3.11"),
    ("==3.11.*", "python3.11", "python3.11"), ("~=3.9", "python3.19", "python3.9"), ("~=3.9.1", "python3.9", "python3.9"),
    (">3.9", "python3.19", "python3.10"), ("<=3.7", "python3.7", "python2.7"), ("2.7", "python2.7", "python2.7"),
    ("2", "python2.7", "python2.7"), ("!=3.9,>=3.9", "python3.19", "python3.10"), ("3.11.4", "python3.11", "python3.11"),
    (">=3.11.4", "python3.19", "python3.11"), ("<3.8.2,>=3", "python3.8", "python3.6"),
    ("!=3.9.1,3.9", "python3.9", "python3.9"),
])  # fmt: skip
def test_versions_and_the_names_that_are_tried(text: str, newest: str, oldest: str) -> None:
    assert (names(text)[0], names(text)[-1]) == (newest, oldest)


@pytest.mark.parametrize("text", [">=", ">=x", "3.8 or so", ">=3.8,", "=3.8", "~3", ">=4", "<2.7", "3.3", "==3.5.2"])
def test_what_is_no_wish_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="no wish for a version|no Python that a node runs on"):
        ssh.plan("web1", python=text)


@pytest.mark.parametrize("python", [
    "python3", "/usr/bin/python3", "pypy3", ["nice", "-n", "5", "python3"], ["/usr/bin/nice", "python3"], "python3.11-minimal",
    ["scl", "enable", "rh-python38", "--", "python"], "./python", "interp",
])  # fmt: skip
def test_what_is_a_program(python: str | list[str]) -> None:
    assert wishes.find([python] if isinstance(python, str) else python) is None


@pytest.mark.parametrize(("python", "words"), [
    (None, 514), (">=3.8", 1100), (">=2.7,<3.20", 1100), ("/srv/app/venv", 600), (["nice", "-n", "5", ">=3.8", "-O"], 1200),
])  # fmt: skip
def test_a_search_is_short_and_fit_for_every_shell(python: str | list[str] | None, words: int) -> None:
    line = first_stage.shell_command([python] if isinstance(python, str) else python, "web1", brief=True)
    assert len(line) <= words and "\n" not in line


def search(python: str, path: str, home: str = "/nonexistent") -> subprocess.CompletedProcess[str]:
    """Carry out a search here, with what it has found saying what it is in place of the first stage."""
    argv = first_stage.command([python], "n")
    argv = [word.replace("-uSBc", "-SBc") if "for p in" in word else word for word in argv]
    argv[argv.index(first_stage._FIRST)] = "import sys;sys.stdout.write('%d.%d' % sys.version_info[:2])"
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env={"PATH": path, "HOME": home})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a PATH: `python3` is an old one, newer ones have their versions' names."""
    place = tmp_path_factory.mktemp("bin")
    for label, path in pythons.interpreters():
        if not label.startswith("pypy"):
            (place / f"python{label}").symlink_to(path)
    if (place / "python3.6").exists():
        (place / "python3").symlink_to(place / "python3.6")
    return place


def test_the_first_that_fits_is_taken(folder: Path) -> None:
    if not (folder / "python3").exists():
        needs.lacking("python 3.6")
    path = f"{folder}:/bin:/usr/bin"
    assert search(">=3.6", path).stdout == "3.6"
    found = search(">=3.8,<3.13", path)
    minors = [int(label[2:]) for label, _ in pythons.interpreters() if label[:2] == "3." and 8 <= int(label[2:]) < 13]
    assert found.stdout == f"3.{max(minors)}"
    assert "is Python 3.6." in found.stderr, "what was seen on the way is told"


def test_none_that_fits_ends_with_97_and_tells_the_versions(folder: Path) -> None:
    done = search(">=3.19", f"{folder}:/bin:/usr/bin")
    assert done.returncode == 97 and done.stdout == ""
    assert "ramet: " in done.stderr and "is Python 3." in done.stderr


def test_an_environment_is_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "with a blank's" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
    assert search(str(place), "/bin:/usr/bin").stdout == "%d.%d" % sys.version_info[:2]
    assert search(str(place / "bin" / "python"), "/bin:/usr/bin").returncode in (0, 127)
    gone = search(str(tmp_path / "gone"), "/bin:/usr/bin")
    assert gone.returncode == 97


def test_below_the_home_folder(tmp_path: Path) -> None:
    bin_ = tmp_path / ".local" / "bin"
    bin_.mkdir(parents=True)
    label = "%d.%d" % sys.version_info[:2]
    (bin_ / f"python{label}").symlink_to(sys.executable)
    (bin_ / f"python{label}-config").write_text("#!/bin/sh\nexit 1\n")
    assert search(label, "/nonexistent:/bin", str(tmp_path)).stdout == label


def test_what_each_connector_makes_of_it() -> None:
    argv = docker.plan(image="debian", python=">=3.8")["argv"]
    assert argv[argv.index("--entrypoint") + 1] == "sh" and argv[argv.index("debian") + 1:][2:5] == ["sh", "sh", "-c"]
    assert local.plan(python=">=3.8")["argv"][0] == "sh" and local.plan(python="/srv/venv")["stub"]
    with pytest.raises(ValueError, match="login=True can't look for"):
        sudo.plan(login=True, python=">=3.8")
    rule, = (rule for rule in ssh.plan("h", python="3.11")["rules"] if rule.get("status") == 97)
    assert rule["text"] == ("no Python 3.11 was found over there; tried: python3, python3.11, /usr/libexec/platform-python, "
                            "~/.local/bin/python3.*[0-9], ~/.pyenv/versions/*/bin/python, python")
