"""What a CALL message says of the function: its name, where another interpreter finds it by that, else itself. Any thread."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from ramet.kernel.errors import ValueNotPortableError
from ramet.modules.named import CODE, by_name, is_by_value


def describe(fn: Callable[..., Any]) -> tuple[Any, str]:
    """The target of a CALL message, and remember that for plain functions: it takes as long as sending them.

    Returns:
        The target (see docs/protocol.md), and the module that must be there; "" if the target holds code by value, which
        knows that itself.

    Raises:
        ValueNotPortableError: it is nothing that could be called elsewhere.
    """
    if type(fn) is FunctionType:
        if "<" in fn.__qualname__:
            return fn, ""
        try:
            return _describe_function(fn)
        except LookupError:
            return fn, ""
    return _describe(fn)


@functools.lru_cache(maxsize=1024)
def _describe_function(fn: FunctionType) -> tuple[Any, str]:
    named = by_name(fn)
    if named is None:
        raise LookupError   # which isn't remembered: nothing keeps what the function holds
    return named


def _describe(fn: Callable[..., Any]) -> tuple[Any, str]:
    if isinstance(fn, functools.partial):
        inner, where = describe(fn.func)
        return [inner, list(fn.args), dict(fn.keywords)], where
    owner = getattr(fn, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType | type):
        return [owner, fn.__name__], "" if is_by_value(type(owner)) else type(owner).__module__
    named = by_name(fn)
    if named is not None:
        return named
    if isinstance(owner, type):
        return [owner, fn.__name__], ""
    if isinstance(fn, CODE) or hasattr(fn, "__wrapped__") or (callable(fn) and is_by_value(type(fn))):
        return fn, ""
    raise ValueNotPortableError(f"{fn!r} has no name by which another interpreter could find it: give a function, a "
                                "class or a method of a module")


def short_name(fn: Callable[..., Any]) -> str:
    """A callable's name for messages."""
    if isinstance(fn, functools.partial):
        return short_name(fn.func)
    return str(getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None) or type(fn).__name__)
