"""A module as a record that a node can load: bytecode where the node's interpreter takes ours, else source.

It must not know which node asks or why. Records are plain lists, ``[name, flags, filename, data]``; the kernel's
``importer`` loads them. Thread-safe.
"""
from __future__ import annotations

import functools
import io
import marshal
import os
import sys
import tokenize
import zlib
from types import CodeType
from typing import Any

from ramet.bootstrap import slim
from ramet.kernel import compat
from ramet.kernel.errors import ModuleNotShippedError
from ramet.kernel.importer import BYTECODE, NAMESPACE, OWN, PACKAGE, SCHEME, ZIPPED
from ramet.modules import native
from ramet.modules.find import Found, Kind, lacks_descriptor, main_package

Record = list[Any]

#: The bytecode that this interpreter makes; "source" if no other interpreter is known to take it.
BYTECODE_FORM = compat.form_of(sys.hexversion, "p" if compat.PYPY else "c")


# Of zlib. Level 6 makes 3 % less of it and takes half as long again, level 1 8 % more in two thirds of the time:
# docs/decisions/0009-compressed-modules.md.
_LEVEL = 4


def filename(found: Found) -> str:
    """The module's file as a node names it, in ``__file__`` and in tracebacks."""
    path = found.path or found.name.replace(".", "/") + ("/__init__.py" if found.folders is not None else ".py")
    if path == "frozen":
        path = f"frozen/{found.name.replace('.', '/')}.py"
    return SCHEME + path.replace(os.sep, "/")


def record(found: Found, flags: int, data: bytes, wins: bool) -> Record:
    """A module's record.

    Args:
        flags, data: as ``packed`` gives them.
        wins: it wins over a module of that name that is installed over there.
    """
    if wins:
        flags |= OWN
    if found.folders is not None:
        flags |= PACKAGE
    if found.namespace:
        flags |= NAMESPACE
    made = [found.name, flags, filename(found), data]
    if found.kind is Kind.OWN and found.name == "__main__" and main_package():
        made.append(main_package())
    return made


def packed(found: Found, form: str, code: CodeType | None = None) -> tuple[int, bytes]:
    """Pack a module's code.

    Args:
        form: "source", or the bytecode form that the node takes.
        code: as ``code_of`` gave it, if the caller has it; it may be changed by this.

    Returns:
        Flags that say what the data is, of BYTECODE, NATIVE and ZIPPED; and the data.

    Raises:
        ModuleNotShippedError: it can't be had in this form.
    """
    if found.native:
        return native.packed(found)
    if found.namespace:
        return 0, b""
    if form != "source" and form == BYTECODE_FORM:
        code = code or code_of(found)
        if code is not None:
            code = renamed(code, filename(found))
            return zipped(BYTECODE, marshal.dumps(slim.without_columns(code) if found.kind is Kind.LIBRARY else code))
    data = source_of(found)
    if data is None:
        raise ModuleNotShippedError(_why_no_source(found, form))
    return zipped(0, data)


def zipped(flags: int, data: bytes) -> tuple[int, bytes]:
    """Flags and data of a record, compressed if that makes it smaller."""
    small = zlib.compress(data, _LEVEL)
    return (flags | ZIPPED, small) if len(small) < len(data) else (flags, data)


def _why_no_source(found: Found, form: str) -> str:
    wanted = "source" if form == "source" else form
    frozen = " (PyInstaller: module_collection_mode, or --add-data with its folder)" if getattr(sys, "frozen", False) else ""
    return (f"{found.name} has no source here, only bytecode for Python {sys.version_info[0]}.{sys.version_info[1]} "
            f"({BYTECODE_FORM}), and the node takes {wanted}; use the same version over there, or install its "
            f"source here{frozen}")  # fmt: skip


# ---------------------------------------------------------------------- source


def source_of(found: Found) -> bytes | None:
    """A module's source as it is in its file, with its coding cookie. None if there is none.

    Raises:
        OSError: too many files are open to read it. That isn't to be remembered.
    """
    loader, path = found.loader, found.path
    if path.endswith((".pyc", ".pyo")):
        path = path[:-1] if hasattr(loader, "archive") else ""      # a zip may hold both
    if path and path != "frozen":
        try:
            if hasattr(loader, "get_data"):
                return bytes(loader.get_data(path))
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            if lacks_descriptor(error):
                raise
            # else deleted since, or never on this file system: the loader may still have it
    if hasattr(loader, "get_source"):
        try:
            text = loader.get_source(found.real_name or found.name)
        except (ImportError, OSError, SyntaxError, UnicodeDecodeError):
            return None
        return None if text is None else _encoded(text)
    return None


def _encoded(text: str) -> bytes:
    """Text as source bytes that say its encoding rightly: it may begin with a cookie that names another one."""
    data = text.encode("utf-8", "surrogatepass")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return text.encode(encoding)
    except (SyntaxError, UnicodeEncodeError, LookupError):
        return data


# ---------------------------------------------------------------------- bytecode


def code_of(found: Found) -> CodeType | None:
    """A module's code object, from the import system's own cache where there is one. None if it doesn't compile here."""
    loader = found.loader
    if found.name != "__main__" and not sys.flags.optimize and hasattr(loader, "get_code"):
        try:
            code = loader.get_code(found.real_name or found.name)
        except (ImportError, OSError, SyntaxError, ValueError, EOFError):
            code = None
        if isinstance(code, CodeType):
            return code
    source = source_of(found)
    if source is None:
        return None
    try:
        # optimize=0: this interpreter may run with -O, which must not strip the node's asserts
        compiled: CodeType = compile(source, filename(found), "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return None
    return compiled


def renamed(code: CodeType, filename: str) -> CodeType:
    """A code object, and all that are in it, with another file name; the given one may be changed by it.

    What a loader gives was just made from its cache or source, so changing it harms nobody. The import system's own
    function, which it uses when a .pyc was moved, takes a hundredth of the time that ``code.replace`` takes.
    """
    fix = _fix_co_filename()
    if fix is None:
        return _replaced(code, filename)
    fix(code, filename)
    return code


@functools.cache
def _fix_co_filename() -> Any:
    """It is private, so it is tried first: None if it is gone or does something else."""
    try:
        import _imp

        fix = _imp._fix_co_filename  # type: ignore[attr-defined]
        sample = compile("def f(): return lambda: 0", "a", "exec")
        fix(sample, "b")
        inner = [constant for constant in sample.co_consts if isinstance(constant, CodeType)]
        innermost = [constant for constant in inner[0].co_consts if isinstance(constant, CodeType)]
        return fix if {sample.co_filename, inner[0].co_filename, innermost[0].co_filename} == {"b"} else None
    except Exception:
        return None


def _replaced(code: CodeType, filename: str) -> CodeType:
    constants = (_replaced(c, filename) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_filename=filename, co_consts=tuple(constants))


