"""For Python 3.9 alone, whose ``importlib.resources.files`` knows folders and zip files only: a package as a zip file.

Late part of the kernel, and of ``packages``. What isn't defined here is never reached: ``zipfile.Path`` asks for names,
and for one file at a time. Any thread that may fetch modules; not one that reads a link.
"""
import io
import zipfile

from ramet.kernel import packages
from ramet.kernel.importer import _path

MYPY = False
if MYPY:
    from typing import Any, List


class Archive(zipfile.CompleteDirs):
    """The folder of one package, as the zip file that holds the folder."""

    def __init__(self, finder, package):
        # type: (Any, str) -> None
        self.finder = finder
        self.package = package
        self.above, _, folder = _path(finder._get(package))[0].rpartition("/")
        self.filename = self.above
        self.at = folder + "/"

    def __fspath__(self):
        # type: () -> str
        return self.above

    def __del__(self):
        # type: () -> None
        """There is nothing to close."""

    def namelist(self):
        # type: () -> List[str]
        """All names, those of folders with a slash behind them."""
        names = [""]
        for folder in names:     # which grows
            if folder[-1:] in ("", "/"):
                names += [folder + name for name in packages.listing(self.finder, self.package, folder.rstrip("/")) or ()]
        return [self.at + name for name in names]

    def open(self, name, mode="r", pwd=None):  # type: ignore[override]
        # type: (str, str, Any) -> Any
        """A file to read bytes from."""
        return io.BytesIO(packages.read(self.finder, self.package, name[len(self.at):]))
