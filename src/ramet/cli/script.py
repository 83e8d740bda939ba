"""Finds the function that ``ramet run`` is to run: ``script.py:function``. Must not know of nodes."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


class ScriptError(Exception):
    """The script, or its function, can't be used. The text says why and what would do."""


def load(target: str, arguments: list[str]) -> Callable[..., Any]:
    """Import a script and find its function.

    Args:
        target: "script.py" (its function ``main``) or "script.py:function".
        arguments: what the function will be called with; checked against its parameters.

    Raises:
        ScriptError: no such file or function, or it doesn't take these arguments.
        Exception: whatever importing the script raises.
    """
    path, name = _split(target)
    if not path.is_file():
        raise ScriptError(f"there is no file {path}")
    module = _import(path)
    try:
        fn = module
        for part in name.split("."):
            fn = getattr(fn, part)
    except AttributeError:
        raise ScriptError(f"{path} has no function {name!r}{_others(module, path)}") from None
    if not callable(fn):
        raise ScriptError(f"{name} of {path} is no function but {type(fn).__name__}{_others(module, path)}")
    try:
        inspect.signature(fn).bind(*arguments)
    except TypeError as error:
        raise ScriptError(f"{name}{inspect.signature(fn)} of {path} can't be called so: {error}") from None
    except ValueError:
        pass    # a builtin that doesn't tell its parameters
    return fn


def _split(target: str) -> tuple[Path, str]:
    path, colon, name = target.rpartition(":")
    if colon and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name) and not Path(target).is_file():
        return Path(path), name
    return Path(target), "main"


def _import(path: Path) -> ModuleType:
    """Import the file like a module of the user's own, under its own name where that name is free."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)      # as `python script.py` does: the modules beside it can be imported
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ScriptError(f"{path} isn't a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _module_name(path: Path) -> str:
    """The file's own name, unless another module is called so (over there the standard library would win)."""
    stem = path.stem
    if stem.isidentifier() and stem not in sys.stdlib_module_names and stem not in sys.modules:
        importlib.invalidate_caches()
        found = importlib.util.find_spec(stem)
        if found is not None and found.origin and Path(found.origin).resolve() == path.resolve():
            return stem
    return "script_" + re.sub(r"\W", "_", stem)


def _others(module: ModuleType, path: Path) -> str:
    """What else is there, for an error's end."""
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    if not names:
        return ", and no other public function"
    return "; it has: " + ", ".join(f"{path}:{name}" for name in names)
