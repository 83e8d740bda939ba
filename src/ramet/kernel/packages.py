"""What a package holds besides code, and the rarer questions about modules: late part of the kernel, and of ``importer``.

The public functions are methods of ``importer.Finder`` and ``importer.Nowhere`` (see ``importer._late``): they take that
object first. Data is asked for by a package and a name below its folder, ``pkg:sub/file.txt``, a folder's list of names by
``pkg:sub/``; it comes as a record of the form "data" and is kept like a module. Any thread that may fetch modules; not one
that reads a link.
"""
import sys

from ramet.kernel import compat, compat_late
from ramet.kernel.importer import ABSENT, BYTECODE, NAMESPACE, PACKAGE, SCHEME, Finder, _path, content

MYPY = False
if MYPY:
    from typing import Any, Iterator, List, Optional, Tuple

    from ramet.kernel.importer import Nowhere

DATA = "data"       # (wire) the form of package data

# ---------------------------------------------------------------------- modules


def is_package(finder, name):
    # type: (Finder, str) -> bool
    """Whether a module is a package."""
    record = finder._get(name)
    return bool(record and record[1] & PACKAGE)


def get_filename(finder, name):
    # type: (Finder, str) -> str
    """A module's ``__file__``."""
    record = finder._get(name)
    if not record or record[1] & NAMESPACE:
        raise ImportError("%s has no file that came over the wire" % name)
    return compat.native(record[2])


def get_source(finder, name):
    # type: (Finder, str) -> Any
    """A module's source as text, for tracebacks, ``inspect`` and ``pdb``.

    It is asked for, once, when the module came as bytecode; None if it can't be had.
    """
    record = _source(finder, name)
    return record and compat_late.decode_source(content(record))


def _source(finder, name):
    # type: (Finder, str) -> Any
    name = compat.MAIN if name == "__main__" else name      # as its spec says, see ``Finder.exec_module``
    record = finder._get(name)
    if record and record[1] & BYTECODE:
        try:
            record = finder.obtain(name, "source")
        except Exception:
            return None     # who prints a traceback isn't helped by another one
    return record


# ---------------------------------------------------------------------- package data


def get_data(finder, path):
    # type: (Finder, str) -> bytes
    """A file's bytes, by its path below the folder of a package that came over the wire: ``pkgutil.get_data`` asks.

    Raises:
        IOError: it isn't there, or may not be had; the kind tells which.
    """
    path = normal(path)
    for _, record in list(finder.cache.records.items()):
        if normal(record[2]) == path:
            source = _source(finder, record[0])
            if source:
                return content(source)
    package, inside = below(finder, path) or ("", "")
    if not inside:
        raise IOError(2, "No such file in a package that came over the wire", path)
    return read(finder, package, inside)


def read(finder, package, inside):
    # type: (Finder, str, str) -> bytes
    """A data file's bytes, by its package and its name below that.

    Raises:
        IOError: see ``get_data``.
    """
    name = "%s:%s" % (package, inside)
    record = inside[-1:] not in ("", "/") and finder.obtain(name, DATA)
    if not record:
        raise _error(finder, name)
    return content(record)


def listing(finder, package, inside):
    # type: (Finder, str, str) -> Optional[List[str]]
    """The names in a package's folder, those of folders with a slash behind them. None if it isn't a folder.

    Args:
        inside: the folder below the package's; "" for that itself.

    Raises:
        IOError: it may not be had.
    """
    name = "%s:%s" % (package, inside and inside + "/")
    record = finder.obtain(name, DATA)
    if record:
        return [compat.native(part) for part in content(record).decode("utf-8").split(u"\0") if part]
    error = _error(finder, name)
    if error.errno != 2:
        raise error
    return None


def _error(finder, name):
    # type: (Finder, str) -> IOError
    """Why data can't be had. Its number makes it a FileNotFoundError, PermissionError or plain OSError in Python 3."""
    reason = finder.cache.reasons.get(name + "/" + DATA, ABSENT)
    if reason[:6] == ABSENT:
        return IOError(2, "No such file or folder in the package", SCHEME + name)
    return IOError(27 if "over the limit" in reason else 13, reason, SCHEME + name)


def normal(path):
    # type: (Any) -> str
    """A path of ours without dots and doubled slashes."""
    path = compat.native(path) if isinstance(path, compat.text) else str(path)
    parts = []  # type: List[str]
    for part in path.split("/"):
        if part == "..":
            parts = parts[:1] + parts[1:-1]     # not above the first: that is the scheme
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def below(finder, path):
    # type: (Finder, str) -> Optional[Tuple[str, str]]
    """In which package a path lies, the nearest one, and its name below that package's folder."""
    found = None  # type: Any
    for (form, name), record in list(finder.cache.records.items()):
        if record[1] & PACKAGE and form != DATA:
            folder = normal(_path(record)[0])
            if (path + "/").startswith(folder + "/") and (not found or len(folder) > len(found[0])):
                found = folder, name
    return found and (found[1], path[len(found[0]) + 1:])


def get_resource_reader(finder, name):
    # type: (Finder, str) -> Any
    """What ``importlib.resources`` asks for: the reader of a package, or of the package that a module is in."""
    from ramet.kernel import resources
    while name and not is_package(finder, name):
        name = name.rpartition(".")[0]
    return resources.Reader(finder, name) if name else None


def archive(finder):
    # type: (Finder) -> Any
    """What ``importlib.resources.files`` of Python 3.9 asks a loader for; no other Python has it."""
    spec = compat_late.whose_archive()
    if not isinstance(finder, Finder) or spec is None or not is_package(finder, spec.name):
        raise AttributeError("archive")
    from ramet.kernel import archive39
    return archive39.Archive(finder, spec.name)


def find_distributions(finder, *context):
    # type: (Finder, *Any) -> Any
    """What ``importlib.metadata`` asks each finder: the distributions that it knows of."""
    from ramet.kernel import distributions
    return distributions.find(finder, *context)


# ---------------------------------------------------------------------- what looks into folders


def _finder():
    # type: () -> Any
    return [finder for finder in sys.meta_path if isinstance(finder, Finder)][-1]


def iter_modules(nowhere, prefix=""):
    # type: (Nowhere, str) -> Iterator[Tuple[str, bool]]
    """What ``pkgutil.iter_modules`` asks: the modules in a folder, and whether each is a package."""
    finder = _finder()
    package, inside = below(finder, normal(nowhere.path)) or ("", "")
    names = set()
    for name in sorted(package and listing(finder, package, inside) or ()):
        module, _, suffix = name.partition(".")
        folder = name[:-1]
        if name[-1:] == "/":
            held = listing(finder, package, inside and inside + "/" + folder or folder) or ()
            if "." in name or not ("__init__.py" in held or "__init__.pyc" in held):
                continue
            module = folder
        elif suffix not in ("py", "pyc") or module == "__init__":
            continue
        if module not in names:
            names.add(module)
            yield prefix + module, name[-1:] == "/"
