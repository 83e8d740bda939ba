"""What is installed for each goal of the Makefile is locked: requirements/*.txt, which ``make lock`` writes."""
from __future__ import annotations

import re
import sys
from functools import cache

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.source import TOP

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest has it there

LINE = re.compile(r"([a-z0-9-]+)==([0-9a-z.+]+)(?: ; (.+?))?(?: \\)?")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
SHARED = ("demo", "test", "docs", "bench", "dev")       # what is installed into .venv, one after the other
FILES = sorted(path.stem for path in (TOP / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())


def machines() -> list[dict[str, str]]:
    """What markers are evaluated with: all Pythons that may make .venv, on common machines."""
    here = dict(default_environment())
    return [{**here, "python_version": version, "python_full_version": f"{version}.5", "platform_machine": machine}
            for version in ("3.10", "3.11", "3.12", "3.13", "3.14") for machine in ("x86_64", "aarch64", "riscv64")]


@cache
def lines(file: str) -> list[tuple[str, str, str | None, int]]:
    """(name, version, marker, how many hashes) of each release that a file pins."""
    found: list[tuple[str, str, str | None, int]] = []
    for line in (TOP / "requirements" / f"{file}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match:
            found.append((match[1], match[2], match[3], 0))
        else:
            assert HASH.fullmatch(line), f"{file}.txt holds something else than pins and hashes: {line!r}"
            found[-1] = (*found[-1][:3], found[-1][3] + 1)
    return found


def pinned(file: str, machine: dict[str, str]) -> dict[str, str]:
    """name -> version of what is installed there."""
    versions: dict[str, str] = {}
    for name, version, marker, _ in lines(file):
        if not marker or Marker(marker).evaluate(machine):
            assert name not in versions, f"{file}.txt has two versions of {name} for Python {machine['python_version']}"
            versions[name] = version
    return versions


def wanted(extra: str) -> list[Requirement]:
    """What pyproject.toml asks for; "demo" is the name of no extra."""
    project = PROJECT["project"]
    found = [*map(Requirement, project["dependencies"])]
    if extra != "demo":
        found += map(Requirement, project["optional-dependencies"][extra])
    return [one for one in found if one.name != "ramet"] + [
        more for one in found if one.name == "ramet" for other in one.extras for more in wanted(other)]


@pytest.mark.parametrize("file", FILES)
def test_all_that_is_asked_for_is_pinned_by_hash(file: str) -> None:
    assert all(hashes for *_, hashes in lines(file))
    if file == "build":
        return
    for machine in machines():
        if file == "packages" and machine["python_version"] == "3.10":
            continue        # what it pins needs a newer one
        versions = pinned(file, machine)
        for want in wanted(file):
            if not want.marker or want.marker.evaluate({**machine, "extra": ""}):
                version = versions.get(canonicalize_name(want.name))
                assert version and want.specifier.contains(version, prereleases=True), (
                    f"{file}.txt has {version} where pyproject.toml asks for {want}: make lock")


def test_each_extra_has_its_lock() -> None:
    assert sorted([*PROJECT["project"]["optional-dependencies"], "demo", "build"]) == FILES


def test_what_builds_ramet_is_pinned() -> None:
    asked = [line for line in (TOP / "requirements" / "build.in").read_text().splitlines() if not line.startswith("#")]
    assert PROJECT["build-system"]["requires"] == asked[:1]
    for machine in machines():
        versions = pinned("build", machine)
        for want in map(Requirement, asked):
            assert want.specifier.contains(versions[want.name])


def test_what_shares_an_environment_agrees() -> None:
    for machine in machines():
        shared: dict[str, str] = {}
        for file in SHARED:
            for name, version in pinned(file, machine).items():
                assert shared.setdefault(name, version) == version, f"{file}.txt would replace {name} {shared[name]}"
