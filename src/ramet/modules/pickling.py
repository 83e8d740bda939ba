"""Pickles of code and of instances of classes that only this program has, for nodes that take the same bytecode.

``cloudpickle`` does it; this adds what it doesn't tell: which modules must be over there, which classes went by value; and
who is to blame when something can't travel. What the main module defines in its file goes by name, so that its classes are
the same ones over there. Any thread.
"""
from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from cloudpickle import cloudpickle as internals

from ramet.kernel.errors import ValueNotPortableError
from ramet.kernel.importer import find_class
from ramet.kernel.instances import HEAP
from ramet.modules.find import Kind, find
from ramet.modules.named import CODE, by_name
from ramet.modules.snapshot import globals_of, imported_by

_DEPTH_MAX = 8      # of the search for who is to blame
_OURS = {"Tree": "a tree stays with the program that grew it", "Call": "wait for its result, and pass that",
         "Node": "a node stays with the program that grew it; over there, ramet.here() is the node"}  # fmt: skip
_WORDS = {"lock": "a lock", "RLock": "a lock", "socket": "a socket", "generator": "a generator", "coroutine": "a coroutine",
          "Condition": "a lock", "Event": "a lock", "Thread": "a thread", "frame": "a frame"}  # fmt: skip
_PROTOCOL = 4       # the highest that every Python 3 reads which may have our bytecode


def dump(value: Any, number_of: Callable[[type], str]) -> tuple[bytes, set[str]]:
    """Pickle a value.

    Args:
        number_of: gives the number by which a class that goes by value is known from then on.

    Returns:
        Both pickles (see ``kernel.by_value``), and the modules that must be over there.

    Raises:
        ValueNotPortableError: it can't travel; it names the variable that holds the culprit.
    """
    pickler = _Pickler(io.BytesIO())
    try:
        pickler.dump(value)
        pickler.dump([[cls, number_of(cls)] for cls in pickler.classes])
    except Exception as error:
        raise blame(value, error)
    return pickler.file.getvalue(), {"cloudpickle", "cloudpickle.cloudpickle", *pickler.modules}


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=_PROTOCOL)
        self.file = file
        self.modules: set[str] = set()
        self.classes: list[type] = []

    def reducer_override(self, obj: Any) -> Any:
        """Called for every object that isn't of a builtin type, for functions, classes and modules."""
        kind = type(obj)
        if isinstance(obj, ModuleType):
            self.modules.add(obj.__name__)
        elif isinstance(obj, CODE) and kind is not MethodType:
            named = by_name(obj)
            if named is not None:
                return self._by_name(obj, *named)
            if isinstance(obj, type) and obj.__flags__ & HEAP and obj not in self.classes:
                self.classes.append(obj)
            if isinstance(obj, FunctionType):
                package = obj.__globals__.get("__package__")
                self.modules.update(imported_by(obj.__code__, package if isinstance(package, str) else ""))
                return self._dynamic_function_reduce(obj)
            if isinstance(obj, type) and obj.__flags__ & HEAP and find(obj.__module__).kind is Kind.DYNAMIC:
                return internals._dynamic_class_reduce(obj)     # cloudpickle would name its module, which has no code
        elif kind is _CACHED:
            parameters = obj.cache_parameters()
            return kind, (obj.__wrapped__, parameters["maxsize"], parameters["typed"], _CACHE_INFO), vars(obj)
        elif kind.__module__.startswith("ramet.") and kind.__name__ in _OURS:
            raise ValueNotPortableError(f"a {kind.__name__} can't travel: {_OURS[kind.__name__]}")
        elif kind.__name__ in _FILES and kind.__module__ == "_io":      # cloudpickle would read what it holds
            raise ValueNotPortableError("an open file can't travel: open it over there")
        return super().reducer_override(obj)

    def _by_name(self, obj: Any, target: str, module: str) -> Any:
        self.modules.add(module)
        name = target.partition(":")[2]
        if module == "__main__" or name != obj.__qualname__:
            return find_class, (module, name)
        return NotImplemented


_CACHED: Any = type(functools.lru_cache(len))
_CACHE_INFO: Any = type(functools.lru_cache(len).cache_info())
_FILES = ("TextIOWrapper", "BufferedReader", "BufferedWriter", "BufferedRandom", "FileIO")


# ---------------------------------------------------------------------- who is to blame


def blame(value: Any, error: BaseException, path: str = "") -> ValueNotPortableError:
    """The error for a value that can't be pickled: it names the innermost part that can't."""
    for _ in range(_DEPTH_MAX):
        if isinstance(error, ValueNotPortableError) and type(value).__module__.startswith("ramet."):
            break
        for label, part in _parts(value):
            trouble = _trouble(part)
            if trouble is not None:
                value, error = part, trouble
                path = f"{label} in {path}" if path and not label.startswith(("closure", "global", "default")) else label
                break
        else:
            break
    name = type(value).__name__
    if isinstance(error, ValueNotPortableError):
        said = str(error)
    else:
        said = f"{_WORDS.get(name, f'a {name}')} can't travel" + ("" if name in _WORDS else f": {error}")
    return ValueNotPortableError(f"{path}: {said}" if path else said)


def _trouble(part: Any) -> BaseException | None:
    try:
        _Pickler(io.BytesIO()).dump(part)
    except Exception as error:
        return error
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, with a name for each."""
    if isinstance(value, functools.partial):
        yield from [("function", value.func), *_parts(list(value.args)), *_parts(value.keywords)]
    elif isinstance(value, MethodType):
        yield from [("instance", value.__self__), ("method", value.__func__)]
    elif isinstance(value, FunctionType):
        what = value.__qualname__.rpartition(".")[2]
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield f"closure variable {name!r} of {what}", cell.cell_contents
            except ValueError:
                pass    # empty yet
        for name in globals_of(value.__code__):
            if name in value.__globals__ and name != "__builtins__":
                yield f"global {name!r}, which {what} uses", value.__globals__[name]
        for position, default in enumerate(value.__defaults__ or ()):
            yield f"default {position} of {what}", default
    elif isinstance(value, dict):
        yield from ((f"item {key!r:.60}", item) for key, item in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"item {position}", item) for position, item in enumerate(value))
    elif isinstance(value, type):
        yield from ((f"attribute {name!r} of {value.__name__}", part) for name, part in list(vars(value).items())
                    if name not in ("__dict__", "__weakref__"))
    elif hasattr(value, "__dict__"):
        yield from ((f"attribute {name!r} of a {type(value).__name__}", part) for name, part in list(vars(value).items()))
