"""A program that runs a package's own test suite: here, or in a bare node. Prints what came of it as JSON.

    suite_controller.py PACKAGE FOLDER here|PYTHON[,FLAG...] MODULE...

The modules, and the package, may be sent: the suite's files aren't modules of the program, so nobody foresees their imports.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

import suite_there  # type: ignore[import-not-found]

import ramet

SUITE_TIMEOUT_S = 150


def files(folder: Path) -> dict[str, bytes]:
    """The suite's files, below ``tests/``."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {f"tests/{path.relative_to(folder)}": path.read_bytes() for path in found}


def main(package: str, folder: str, where: str, *needed: str) -> None:
    """Run it."""
    suite = files(Path(folder))
    if where == "here":
        told = suite_there.run(package, suite)
    else:
        with ramet.Tree(on_output=lambda *_: None) as tree:
            tree.modules.ship(package, *needed)
            told = tree.local(python=where.split(",")).options(timeout=SUITE_TIMEOUT_S).call(suite_there.run, package, suite)
    print("\n" + json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
