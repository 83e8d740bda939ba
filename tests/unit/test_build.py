"""The same source gives the same bytes: sdist and wheel are built twice and compared."""
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]


def built(folder: Path, epoch: int) -> dict[str, str]:
    """Names and digests of what is built of a copy of the source, whose files are all of another time."""
    copy = folder / "source"
    shutil.copytree(TOP / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(TOP / name, copy / name)
    for path in copy.rglob("*"):
        os.utime(path, (epoch, epoch))
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder / "dist")], cwd=copy, env=env, check=True,
                   stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "dist").iterdir()}


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (built(tmp_path / str(epoch), epoch) for epoch in (1_500_000_000, 1_600_000_001))
    assert len(first) == 2 and first == second
