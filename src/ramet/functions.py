"""How a function is named so that another interpreter finds it. Pure; any thread."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from ramet.kernel.errors import ValueNotPortableError


def describe(fn: Callable[..., Any]) -> tuple[Any, str]:
    """Name a callable for a CALL message, and remember that for plain functions: it takes as long as sending them.

    Returns:
        The target (see docs/protocol.md), and the module that must be there.

    Raises:
        ValueNotPortableError: it can't be found by name: a lambda, a closure, something redefined.
    """
    if type(fn) is FunctionType:
        return _describe_function(fn)
    return _describe(fn)


@functools.lru_cache(maxsize=1024)
def _describe_function(fn: FunctionType) -> tuple[Any, str]:
    return _describe(fn)


def _describe(fn: Callable[..., Any]) -> tuple[Any, str]:
    if isinstance(fn, functools.partial):
        inner, where = describe(fn.func)
        return [inner, list(fn.args), dict(fn.keywords)], where
    owner = getattr(fn, "__self__", None)
    name: Any = getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None)
    if owner is not None and not isinstance(owner, ModuleType | type):
        return [owner, fn.__name__], type(owner).__module__
    module = getattr(fn, "__module__", None)
    if module is None and hasattr(fn, "__objclass__"):
        module = fn.__objclass__.__module__
    if isinstance(owner, type):
        module, name = owner.__module__, f"{owner.__qualname__}.{fn.__name__}"
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueNotPortableError(f"{fn!r} has no name by which another interpreter could find it: give a function, a "
                                    "class or a method of a module")
    if "<" in name:
        raise ValueNotPortableError(f"{module}.{name} is defined inside a function and can't be found by name: "
                                    "move it to the top level of its module")
    found: Any = sys.modules.get(module)
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        found = None
    if found is None or (found is not fn and found != fn):
        raise ValueNotPortableError(f"{module}.{name} isn't {fn!r} any more: another interpreter would find something else")
    return f"{module}:{name}", module


def short_name(fn: Callable[..., Any]) -> str:
    """A callable's name for messages."""
    if isinstance(fn, functools.partial):
        return short_name(fn.func)
    return str(getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None) or type(fn).__name__)
