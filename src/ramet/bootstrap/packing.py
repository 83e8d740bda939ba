"""Packs the kernel to be sent: as minified source, or as bytecode where the other interpreter's is the same as ours.

A payload is what goes over a fresh link before the first frame:

    HEAD (kernel/stub.py)   zlib(form NUL modules NUL loader)

The modules are name, code, name, code ... in the order in which they are made; a package has no code. As source they are
separated by NUL; as bytecode they are one marshalled list.

What was packed once is kept in the user's cache directory (``cache``). Thread-safe: two threads may pack the same twice.
Which form is sent when is told in docs/decisions/0001-kernel-forms.md.
"""
from __future__ import annotations

import functools
import hashlib
import importlib.util
import marshal
import pkgutil
import sys
import zlib
from collections.abc import Iterable, Sequence
from importlib.abc import InspectLoader
from types import CodeType
from typing import cast

from ramet import kernel
from ramet.bootstrap import cache, slim
from ramet.bootstrap.minify import minify
from ramet.kernel import compat, stub
from ramet.kernel.importer import BYTECODE, ZIPPED

#: The kernel's core, in the order in which the loader makes the modules: each after what it imports at its top. Of the
#: orders that do, the one that compresses best (by trying some hundred: 44 bytes less than the worst).
CORE = tuple("ramet.kernel." + name for name in (
    "compat", "limits", "faults", "frames", "values", "flow", "loop", "guardian", "links", "output", "routing", "core",
    "importer", "calls", "start",
))  # fmt: skip

#: The forms that this interpreter can make.
FORMS = tuple(dict.fromkeys(("source", compat.form_tag())))

# Version of all this, as far as it shows in the bytes: a part of what names a file in the cache.
_FORMAT = 6

_LOADER = "ramet.bootstrap.loader"


@functools.cache
def payload(form: str) -> bytes:
    """What to send over a fresh link before the first frame.

    Args:
        form: one of ``FORMS``.

    Raises:
        ValueError: this interpreter can't make that form.
    """
    loader, parts = _source(_LOADER), [(name, _source(name)) for name in CORE]
    key = cache.name_of("core", _FORMAT, form, sys.version, stub.HEAD, loader, parts)
    kept = cache.get(key)
    if kept is None:
        kept = build(form, parts)
        cache.put(key, kept)
    return kept


@functools.cache
def version() -> str:
    """What names this kernel: nodes of another one can't be talked to for long, though they may understand the first words."""
    texts = [_source(module.name) for module in pkgutil.iter_modules(kernel.__path__, "ramet.kernel.")]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


def build(form: str, parts: Iterable[tuple[str, str]]) -> bytes:
    """A payload of any modules: (name, source) in the order in which they are made.

    Raises:
        ValueError: this interpreter can't make that form.
    """
    modules: list[bytes | CodeType] = [b"ramet", b"", b"ramet.kernel", b""]
    for name, text in parts:
        modules += [name.encode(), _code(name, text, form)]
    # For text alone, this is 160 bytes less than marshal.
    kernel = b"\0".join(map(bytes, modules)) if form == "source" else marshal.dumps(modules)  # type: ignore[arg-type]
    return stub.HEAD + _zip(b"\0".join([form.encode(), kernel, _loader()]), 9 if form == "source" else 7)


def late_records(names: Sequence[str], form: str) -> list[list[object]]:
    """Other modules of the kernel, as records of a MODULES message: [name, flags, filename, data].

    Args:
        names: with dots.
        form: of the node. Where this interpreter can't make that, they come as source, which every node takes.
    """
    form = form if form in FORMS else "source"
    flag = ZIPPED if form == "source" else BYTECODE | ZIPPED
    return [[name, flag, _filename(name), packed(name, form)] for name in names]


class Payloads(dict[str, bytes]):
    """Loader and kernel by form, each made when it is first needed."""

    def __missing__(self, form: str) -> bytes:
        if form not in FORMS:
            raise KeyError(form)
        self[form] = payload(form)
        return self[form]


@functools.cache
def packed(name: str, form: str) -> bytes:
    """One module of the kernel in a form, compressed, as ``importer.content`` takes it."""
    text = _source(name)
    key = cache.name_of("late", _FORMAT, form, sys.version, name, text)
    kept = cache.get(key)
    if kept is None:
        code = _code(name, text, form)
        kept = zlib.compress(code if isinstance(code, bytes) else marshal.dumps(code), 9)
        cache.put(key, kept)
    return kept


def _code(name: str, text: str, form: str) -> bytes | CodeType:
    if form == "source":
        return minify(text, name in CORE).rstrip("\n").encode()
    if form not in FORMS:
        raise ValueError(f"{form!r} can't be made here, only {' and '.join(FORMS)}")
    loader = _inspect_loader(name)
    if loader and loader.get_source(name) == text:
        code = cast(CodeType, loader.get_code(name))    # the import system has compiled it before, and kept that
    else:
        code = compile(text, name, "exec", dont_inherit=True)
    return slim.slim(code, _filename(name))


def _loader() -> bytes:
    return f"{minify(_source(_LOADER), True)}load(s,d.unused_data,h,p)".encode()


def _filename(name: str) -> str:
    """What a module's tracebacks say: without a path of this machine."""
    return name.replace(".", "/") + ".py"


def _source(name: str) -> str:
    """A module's source, from wherever it was imported: a folder, a zip file."""
    loader = _inspect_loader(name)
    text = loader.get_source(name) if loader else None
    if text is None:
        raise ImportError(f"the source of {name} is missing, and from its own source ramet makes what it sends: keep ramet's "
                          ".py files in the program's archive or bundle (for PyInstaller: module_collection_mode)")
    return text


def _inspect_loader(name: str) -> InspectLoader | None:
    """A module's loader. Not by its class: what imports from zip files isn't registered as an InspectLoader."""
    spec = importlib.util.find_spec(name)
    return cast(InspectLoader, spec.loader) if spec and hasattr(spec.loader, "get_source") else None


def _zip(data: bytes, level: int) -> bytes:
    """Compress. Of bytecode, level 7 is done in a fifth of the time of level 9, and 2 % larger."""
    squeezer = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9)
    return squeezer.compress(data) + squeezer.flush()
