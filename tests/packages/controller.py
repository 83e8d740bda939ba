"""A program that uses one package in several nodes, and prints what came of it as JSON: see ``test_matrix.py``.

    controller.py MODULE NATIVE,NATIVE LABEL=PYTHON[,FLAG...] ...

It is a program of its own, so that nothing is imported in it but what a user's program would import. The
variable STAGED names packages that are staged.
"""
from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import over_there  # type: ignore[import-not-found]

import ramet

# The longest that one use may take over there.
USE_TIMEOUT_S = 150


def outcome(node: ramet.Node, use: Any, natives: list[str]) -> dict[str, Any]:
    """Use the package in a node: the value or the error, and where its modules came from."""
    try:
        value, error = node.options(timeout=USE_TIMEOUT_S).call(use), ""
    except ramet.Error as raised:
        causes = [raised, raised.__cause__, raised.__context__]
        value, error = None, "\n".join(f"{type(one).__name__}: {one}" for one in causes if one is not None)
    came, natives_there = node.call(over_there.modules, natives)
    stats = node._tree.stats()
    return {"value": repr(value), "error": error, "came": came, "natives": natives_there, "requests": stats["module_requests"],
            "bytes": stats["bytes_out"]}


def main(module: str, natives: str, *pythons: str) -> None:
    """Use it in a node of each Python; then here, to compare."""
    use = importlib.import_module(module).use
    names = [name for name in natives.split(",") if name]
    outcomes = {}
    for label, _, python in (text.partition("=") for text in pythons):
        with ramet.Tree() as tree:
            tree.modules.stage(*os.environ.get("STAGED", "").split())
            outcomes[label] = outcome(tree.local(python=python.split(",")), use, names)
    print(json.dumps({"here": repr(use()), "outcomes": outcomes}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)     # some packages start threads that never end
