"""Package data as ``importlib.resources`` and its backport want it: late part of the kernel, and of ``packages``.

A ``Reader`` is both what Python 3.7 and 3.8 ask for (``importlib.abc.ResourceReader``) and what newer ones do (one with
``files()``). Any thread that may fetch modules; not one that reads a link.
"""
import io

from ramet.kernel import packages
from ramet.kernel.importer import SCHEME

MYPY = False
if MYPY:
    from typing import Any, Iterator, List

    from ramet.kernel.importer import Finder


class Item(object):
    """A file or folder of a package: what ``importlib.resources`` calls a Traversable.

    Args:
        inside: its name below the package's folder, with slashes; "" for that folder.
    """

    def __init__(self, finder, package, inside=""):
        # type: (Finder, str, str) -> None
        self.finder = finder
        self.package = package
        self.inside = inside

    @property
    def name(self):
        # type: () -> str
        """The last part of its name."""
        return (self.inside or self.package.replace(".", "/")).rpartition("/")[2]

    def _in_folder(self):
        # type: () -> Any
        """What the folder that it is in holds."""
        return packages.listing(self.finder, self.package, self.inside.rpartition("/")[0]) or ()

    def is_dir(self):
        # type: () -> bool
        """Whether it is a folder."""
        return not self.inside or self.name + "/" in self._in_folder()

    def is_file(self):
        # type: () -> bool
        """Whether it is a file."""
        return bool(self.inside) and self.name in self._in_folder()

    def exists(self):
        # type: () -> bool
        """Whether it is there."""
        return self.is_dir() or self.is_file()

    def iterdir(self):
        # type: () -> Iterator[Item]
        """What a folder holds."""
        names = packages.listing(self.finder, self.package, self.inside)
        if names is None:
            raise IOError(20 if self.is_file() else 2, "Not a folder of the package", str(self))
        return iter([self.joinpath(name.rstrip("/")) for name in names])

    def joinpath(self, *names):
        # type: (*Any) -> Item
        """Something below a folder."""
        parts = self.inside.split("/")  # type: List[str]
        for name in names:
            parts += str(name).split("/")
        parts = [part for part in parts if part not in ("", ".")]
        while ".." in parts[1:]:
            at = parts.index("..", 1)
            del parts[at - 1:at + 1]
        return type(self)(self.finder, self.package, "/".join(parts))

    __truediv__ = joinpath

    def read_bytes(self):
        # type: () -> bytes
        """A file's bytes."""
        if self.inside and self.name + "/" in self._in_folder():
            raise IOError(21, "Is a folder", str(self))
        return packages.read(self.finder, self.package, self.inside)

    def read_text(self, encoding="utf-8", errors="strict"):
        # type: (Any, Any) -> Any
        """A file's text."""
        with self.open("r", encoding=encoding, errors=errors) as file:
            return file.read()

    def open(self, mode="r", *args, **kwargs):
        # type: (str, *Any, **Any) -> Any
        """A file to read from."""
        if mode.replace("b", "").replace("t", "") != "r":
            raise IOError(30, "Package data can only be read", str(self))
        file = io.BytesIO(self.read_bytes())
        return file if "b" in mode else io.TextIOWrapper(file, *args, **kwargs)

    def __eq__(self, other):
        # type: (object) -> bool
        return isinstance(other, Item) and str(self) == str(other)

    def __hash__(self):
        # type: () -> int
        return hash(str(self))

    def __str__(self):
        # type: () -> str
        return "%s%s:%s" % (SCHEME, self.package, self.inside)

    __repr__ = __str__


class Reader(object):
    """Reads the data of one package.

    Args:
        name: of the package.
    """

    def __init__(self, finder, name):
        # type: (Finder, str) -> None
        self.top = Item(finder, name)

    def files(self):
        # type: () -> Item
        """The package's folder."""
        return self.top

    def open_resource(self, resource):
        # type: (str) -> Any
        """A file to read bytes from."""
        return self.top.joinpath(resource).open("rb")

    def resource_path(self, resource):
        # type: (str) -> str
        """It has no path here: who needs one then makes a temporary file."""
        raise IOError(2, "It is in memory only", resource)

    def is_resource(self, resource):
        # type: (str) -> bool
        """Whether there is a file of that name."""
        return self.top.joinpath(resource).is_file()

    def contents(self):
        # type: () -> Iterator[str]
        """The names of files and folders."""
        return iter([item.name for item in self.top.iterdir()])
