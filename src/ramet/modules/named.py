"""Functions and classes by name: whether another interpreter can import them, and how it finds them then.

What can't be found by name travels by value (``by_value``): what is defined inside a function, replaced by something else
under its name, or of a main module that was typed in. Reads ``sys.modules`` only, and the main script once. Any thread.
"""
from __future__ import annotations

import functools
import sys
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType, ModuleType, WrapperDescriptorType
from typing import Any

from ramet.kernel.instances import HEAP
from ramet.modules import pack
from ramet.modules.find import SHIPPED, Kind, find, main_file, namespace_of

#: What may be code in a value. Other callables are instances.
CODE = (FunctionType, BuiltinFunctionType, type, MethodType, MethodDescriptorType, WrapperDescriptorType)


def by_name(thing: Any) -> tuple[str, str] | None:
    """How another interpreter finds a function or class, and in which module. None if it can't."""
    owner = getattr(thing, "__self__", None)
    name: Any = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    module = getattr(thing, "__module__", None)
    if module is None and hasattr(thing, "__objclass__"):
        module = thing.__objclass__.__module__
    if isinstance(owner, type):
        module, name = owner.__module__, f"{owner.__qualname__}.{thing.__name__}"
    elif owner is not None and not isinstance(owner, ModuleType):
        return None
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    found: Any = sys.modules.get(module)
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        found = None
    if found is None or (found is not thing and found != thing):
        if not isinstance(thing, type):
            return None
        # such as what shutil.disk_usage gives, a "usage" that has another name there
        others = [other for other, value in list((namespace_of(module) or {}).items()) if value is thing]
        if not others:
            return None
        name = others[0]
    return None if _is_made_here(module, name, thing) else (f"{module}:{name}", module)


def _is_made_here(module: str, name: str, thing: Any) -> bool:
    """Whether importing its module elsewhere wouldn't make it: it was typed in, or the module has no code of its own."""
    if module == "__main__":
        code = getattr(thing, "__code__", None)
        top = name.partition(".")[0]
        return typed_in() or (code is not None and _is_typed(code.co_filename)) or top not in _names_in_main(main_file())
    spec = (namespace_of(module) or {}).get("__spec__")
    return spec is None and module not in sys.builtin_module_names and find(module).kind is Kind.DYNAMIC


def is_by_value(cls: type) -> bool:
    """Whether instances of a class can't be made elsewhere by importing it: it was made by a class statement here."""
    return bool(cls.__flags__ & HEAP) and by_name(cls) is None


def typed_in() -> bool:
    """Whether the main module has no file that could be sent: a prompt, a notebook, ``-c``, stdin."""
    return not _is_file(main_file())


@functools.lru_cache(maxsize=8)
def _is_file(path: str | None) -> bool:
    return path is not None and find("__main__").kind in SHIPPED


def _is_typed(filename: str) -> bool:
    """Typed behind the main module's own code: ``python -i script.py``, or a debugger's prompt."""
    return filename.startswith(("<stdin", "<python-input", "<ipython-input", "<console"))


@functools.lru_cache(maxsize=8)
def _names_in_main(path: str | None) -> frozenset[str]:
    """The names that the main script's code uses at its top, those that it defines among them."""
    code = pack.code_of(find("__main__"))
    return frozenset(code.co_names if code is not None else ())
