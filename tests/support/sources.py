"""Packages made for a test: written below its tmp_path, importable, and forgotten when it ends."""
from __future__ import annotations

import contextlib
import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write source files, by their paths below a folder; their texts are dedented. They can be imported at once.

    The import system remembers what is in a folder, and looks again when the folder's time has changed: not when it did so
    within the same tick of the clock.
    """
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    return folder


def _lies_in(name: str, folders: tuple[Path, ...]) -> bool:
    """Whether a module came from there: namespace packages have no file, and some put another object in their own place."""
    file = str(getattr(sys.modules[name], "__dict__", {}).get("__file__"))     # not by getattr: some have one of their own
    place = name.replace(".", "/")
    return any(file.startswith(str(folder)) or (folder / place).exists() or (folder / f"{place}.py").exists()
               for folder in folders)


@contextlib.contextmanager
def on_path(*folders: Path) -> Iterator[None]:
    """Make modules importable from folders or zips, for as long as this lasts."""
    before, modules = list(sys.path), set(sys.modules)
    sys.path[:0] = map(str, folders)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
        for name in [name for name in set(sys.modules) - modules if _lies_in(name, folders)]:
            del sys.modules[name]
        for entry in [entry for entry in sys.path_importer_cache if entry.startswith(tuple(map(str, folders)))]:
            del sys.path_importer_cache[entry]
