"""Packages made for a test: written below its tmp_path, importable, and forgotten when it ends."""
from __future__ import annotations

import contextlib
import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write source files, by their paths below a folder; their texts are dedented."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


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
        for name in set(sys.modules) - modules:
            facts = getattr(sys.modules[name], "__dict__", {})      # not by getattr: some have one of their own
            places = [facts.get("__file__"), *(facts.get("__path__") or ())]      # a namespace package has no file
            if any(str(place).startswith(str(folder)) for place in places for folder in folders):
                del sys.modules[name]
        for entry in [entry for entry in sys.path_importer_cache if entry.startswith(tuple(map(str, folders)))]:
            del sys.path_importer_cache[entry]
