"""Package data, looked up for nodes by package and name.

A node names data by a package and a name below the package's folder, never by a path. Each part of it must stand in a
folder's list exactly as the node wrote it, what that is behind symbolic links must still lie in the package's folder, and
it must be a regular file: so nothing else on this machine can be had by any name. Whether the node may have the package
was asked before (``policy``). Thread-safe: it reads only.

    records, reasons = PackageData(found, policy).answer(("sub", "file.txt"), False)
"""
from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from ramet.kernel.importer import ABSENT, ZIPPED
from ramet.modules.find import Found, Kind, lacks_descriptor
from ramet.modules.policy import Policy, module_of

INSIDE_CHARS_MAX = 1000
#: What is small comes along when one file of a folder is asked for, so that the next ones cost no round trip. Whoever asks
#: again for something of that package gets twice as much along, and from the third time on of the whole package.
ALONG_BYTES_MAX = 65536
ALONG_DOUBLINGS_MAX = 6
WHOLE_FROM = 2
# Nobody who takes what he gets asks so often; from then on nothing comes along.
ALONG_TIMES_MAX = 20
#: How many names the lists of one answer may hold; the lists of folders that are deeper are asked for one by one.
LISTED_MAX = 5000
#: What files end in that hold code.
CODE = (".py", ".pyc", ".pyo", ".so", ".pyd")
#: What is raised where something can't be read.
UNREADABLE = (OSError, ValueError, zipfile.BadZipFile, zlib.error)

Records = dict[str, list[Any]]
Reasons = dict[str, str]


class RefusedDataError(Exception):
    """Data that isn't sent; its text is the reason as it goes over the wire, behind ``refused:``."""


class DataFolder(Protocol):
    """A folder of a package, wherever that was imported from."""

    def names(self, parts: tuple[str, ...]) -> list[str] | None:
        """What a folder below holds, folders with a slash behind them. None if it isn't one."""

    def read(self, parts: tuple[str, ...], bytes_max: int) -> bytes | None:
        """A file's bytes; None if there is none."""


def too_large(size: int, bytes_max: int) -> RefusedDataError:
    """The error that says so."""
    return RefusedDataError(f"it has {size} bytes, over the limit of {bytes_max} for package data; raise "
                            "tree.modules.data_bytes_max, or give it to the call as an argument")  # fmt: skip


@dataclass(frozen=True)
class DiskFolder:
    """In the file system.

    Attributes:
        check: raises RefusedDataError for what a symbolic link mustn't lead to either, by its parts below the folder.
    """

    top: str
    check: Callable[[tuple[str, ...]], None]

    def names(self, parts: tuple[str, ...]) -> list[str] | None:
        """See ``DataFolder``. What leads out of the package's folder isn't listed."""
        path = self._path(parts)
        if path is None or not os.path.isdir(path):
            return None
        found = []
        with os.scandir(path) as entries:
            for entry in entries:
                with suppress(OSError):     # a link that leads to itself, say
                    if entry.is_symlink() and not self._leads_inside(entry.path):
                        continue
                    if entry.is_dir():
                        found.append(entry.name + "/")
                    elif entry.is_file():
                        found.append(entry.name)
        return found

    def read(self, parts: tuple[str, ...], bytes_max: int) -> bytes | None:
        """See ``DataFolder``. Only regular files are opened: opening a pipe would block."""
        path = self._path(parts)
        if path is None or not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > bytes_max:
                raise too_large(size, bytes_max)
            return file.read(bytes_max)

    def _path(self, parts: tuple[str, ...]) -> str | None:
        path = self.top
        for part in parts:
            try:
                if part not in os.listdir(path):    # exactly: not as the file system compares names
                    return None
            except OSError as error:
                if lacks_descriptor(error):
                    raise
                return None
            path = os.path.join(path, part)
            if not self._leads_inside(path):
                raise RefusedDataError("it is a symbolic link that leads out of its package's folder")
        return path if os.path.exists(path) else None

    def _leads_inside(self, path: str) -> bool:
        top, real = os.path.realpath(self.top), os.path.realpath(path)
        if not real.startswith(top.rstrip(os.sep) + os.sep):
            return False
        try:
            self.check(tuple(real[len(top):].strip(os.sep).split(os.sep)))
        except RefusedDataError:
            return False
        return True


@dataclass(frozen=True)
class ZipFolder:
    """In a zip file.

    Attributes:
        prefix: of the names in it that belong to the package's folder.
    """

    file: str
    prefix: str

    def names(self, parts: tuple[str, ...]) -> list[str] | None:
        """See ``DataFolder``."""
        start = self.prefix + "".join(part + "/" for part in parts)
        with zipfile.ZipFile(self.file) as archive:
            below = [name[len(start):] for name in archive.namelist() if name.startswith(start)]
        found = {name.partition("/")[0] + ("/" if "/" in name else "") for name in below if name}
        return sorted(found) if below else None

    def read(self, parts: tuple[str, ...], bytes_max: int) -> bytes | None:
        """See ``DataFolder``."""
        with zipfile.ZipFile(self.file) as archive:
            try:
                member = archive.getinfo(self.prefix + "/".join(parts))
            except KeyError:
                return None
            if member.file_size > bytes_max:
                raise too_large(member.file_size, bytes_max)
            with archive.open(member) as file:
                return file.read(bytes_max)


@dataclass(frozen=True)
class LoaderFolder:
    """Known to a package's loader only, whatever that is: ours, where the controller's code is itself in a node."""

    loader: Any
    name: str

    def names(self, parts: tuple[str, ...]) -> list[str] | None:
        """See ``DataFolder``."""
        folder = self._item(parts)
        if folder is None or not folder.is_dir():
            return None
        return [item.name + ("/" if item.is_dir() else "") for item in folder.iterdir()]

    def read(self, parts: tuple[str, ...], bytes_max: int) -> bytes | None:
        """See ``DataFolder``."""
        item = self._item(parts)
        if item is None or not item.is_file():
            return None
        data: bytes = item.read_bytes()
        if len(data) > bytes_max:
            raise too_large(len(data), bytes_max)
        return data

    def _item(self, parts: tuple[str, ...]) -> Any:
        item = self.loader.get_resource_reader(self.name).files()
        for part in parts:
            held = {child.name: child for child in item.iterdir()} if item.is_dir() else {}
            item = held.get(part)
            if item is None:
                return None
        return item


def folders_of(found: Found, check: Callable[[tuple[str, ...]], None]) -> list[DataFolder]:
    """Where a package's data may lie: beside its own file first, then in what else its search path names."""
    paths = [] if found.namespace else [os.path.dirname(found.path)]
    paths += [folder.rstrip("/") for folder in found.folders or ()]
    known: list[DataFolder] = []
    for path in dict.fromkeys(path for path in paths if path):
        if os.path.isdir(path):
            known.append(DiskFolder(path, check))
        else:
            zipped = _zip_folder(path)
            if zipped:
                known.append(zipped)
    if not known and hasattr(found.loader, "get_resource_reader"):
        known.append(LoaderFolder(found.loader, found.name))
    return known


def _zip_folder(path: str) -> ZipFolder | None:
    """The folder within a zip file that a path names, if it does."""
    file = path
    while file and not os.path.exists(file):
        file, _, _ = file.rpartition(os.sep)
    if not file or not os.path.isfile(file):
        return None
    try:
        with open(file, "rb") as opened:    # by its name, ``is_zipfile`` would hide why it can't be
            if not zipfile.is_zipfile(opened):
                return None
    except OSError as error:
        if lacks_descriptor(error):
            raise
        return None
    return ZipFolder(file, path[len(file) + 1:].replace(os.sep, "/") + "/")


# ---------------------------------------------------------------------- package data


def split(name: object) -> tuple[str, tuple[str, ...], bool] | None:
    """What a node asks for, of any value at all: package, the parts of a name below it, and whether it is a folder's list."""
    if not isinstance(name, str) or len(name) > INSIDE_CHARS_MAX:
        return None
    package, colon, inside = name.partition(":")
    listed = inside[-1:] in ("", "/")
    parts = tuple(inside.rstrip("/").split("/")) if inside else ()
    odd = any(part in ("", ".", "..") or "\0" in part or os.sep in part for part in parts)
    return None if not colon or odd or inside[:1] == "/" or inside[-2:] == "//" else (package, parts, listed)


class PackageData:
    """The data of one package that may be asked for.

    Args:
        found: the package.
    """

    def __init__(self, found: Found, policy: Policy) -> None:
        self.found = found
        self.policy = policy
        self.folders = folders_of(found, self._check)

    def answer(self, parts: tuple[str, ...], listed: bool, asked: int = 0) -> tuple[Records, Reasons]:
        """A folder's list or a file, by name; with what is small beside it.

        Args:
            asked: how often the same node has asked for something of this package before.

        Returns:
            The records by name; and the reason if it can't be had.
        """
        key = self._key(parts, listed)
        along = ALONG_BYTES_MAX << min(asked, ALONG_DOUBLINGS_MAX) if asked < ALONG_TIMES_MAX else 0
        try:
            self._check(parts)
            if listed:
                records = self._lists(parts)
                if not records:
                    return {}, {key: ABSENT}
                return records | self._along(parts, "", along, asked), {}
            data = self._read(parts, self.policy.data_bytes_max)
            if data is None:
                return {}, {key: ABSENT}
            return self._along(parts[:-1], parts[-1], along, asked) | {key: record(key, data)}, {}
        except RefusedDataError as error:
            return {}, {key: f"refused: {error}"}
        except UNREADABLE as error:
            if lacks_descriptor(error):
                raise   # nodes remember the reason
            return {}, {key: f"refused: it can't be read: {type(error).__name__}: {error}"}

    def _key(self, parts: tuple[str, ...], listed: bool) -> str:
        return f"{self.found.name}:{'/'.join(parts)}" + ("/" if listed and parts else "")

    def _check(self, parts: tuple[str, ...]) -> None:
        """Refuse what belongs to a module that is forbidden, and hidden files of the program's own packages."""
        if any(part == "__pycache__" for part in parts):
            raise RefusedDataError("caches aren't package data")
        if any(map(self._hidden, parts)):
            raise RefusedDataError(f"hidden files of the program's own packages aren't sent; allow it by tree.modules.ship("
                                   f"{self.found.name!r})")  # fmt: skip
        forbidden = self.policy.forbids(module_of((*self.found.name.split("."), *parts)))
        if forbidden:
            raise RefusedDataError(forbidden)

    def _hidden(self, part: str) -> bool:
        return part[:1] == "." and self.found.kind is Kind.OWN and not self.policy.ships(self.found.name)

    def _names(self, parts: tuple[str, ...]) -> list[str] | None:
        """A folder's list, of all that may be had."""
        found: set[str] = set()
        lists = [names for folder in self.folders if (names := folder.names(parts)) is not None]
        for name in (name for names in lists for name in names):
            try:
                name.encode()   # what isn't text can't be asked for
                self._check((*parts, name.rstrip("/")))
                found.add(name)
            except (RefusedDataError, UnicodeEncodeError):
                continue
        return sorted(found) if lists else None

    def _lists(self, parts: tuple[str, ...]) -> Records:
        """A folder's list, and those of folders below it, as far as these can be read."""
        records: Records = {}
        count = 0
        waiting = [parts]
        for folder in waiting:  # which grows
            try:
                names = self._names(folder)
            except UNREADABLE:
                if folder == parts:
                    raise
                names = None    # it may be asked for itself
            if names is not None:
                key = self._key(folder, True)
                records[key] = record(key, "\0".join(names).encode())
                count += len(names)
                if count > LISTED_MAX:
                    break
                waiting += [(*folder, name[:-1]) for name in names if name[-1:] == "/"]
        return records

    def _read(self, parts: tuple[str, ...], bytes_max: int) -> bytes | None:
        for folder in self.folders:
            data = folder.read(parts, bytes_max)
            if data is not None:
                return data
        return None

    def _along(self, parts: tuple[str, ...], but: str, bytes_max: int, asked: int) -> Records:
        """All files of a folder that hold no code, if they come to little; or of all folders. What can't be read stays out."""
        records: Records = {}
        try:
            folders = [parts] if asked < WHOLE_FROM else [data_parts(key) for key in self._lists(())]
            for folder in folders:
                for name in self._names(folder) or ():
                    if (folder, name) == (parts, but) or name.endswith(("/", *CODE)):
                        continue
                    with suppress(*UNREADABLE):
                        data = self._read((*folder, name), bytes_max)
                        if data is not None:
                            bytes_max -= len(data)
                            key = self._key((*folder, name), False)
                            records[key] = record(key, data)
        except RefusedDataError:
            return {}
        except UNREADABLE:
            pass    # one more of the package's folders, say
        return records


def data_parts(key: str) -> tuple[str, ...]:
    """The parts of a folder's name, of the key under which its list is known."""
    return tuple(filter(None, key.partition(":")[2].split("/")))


def record(key: str, data: bytes, flags: int = 0, filename: str = "") -> list[Any]:
    """A record of data, compressed if that pays. What is large and doesn't begin so isn't tried."""
    if len(data) > 200 and len(zlib.compress(data[:65536], 1)) < min(len(data), 65536) * 0.9:
        return [key, flags | ZIPPED, filename, zlib.compress(data, 1 if len(data) > 1 << 20 else 6)]
    return [key, flags, filename, data]
