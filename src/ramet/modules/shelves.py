"""What was found out about modules and packed of them, kept on disk: a second run of a program scans and packs nothing.

A *shelf* is one file of the user's cache (``bootstrap.cache``): for each file of one package, or of the program's own
folder, its import statements and its packed forms. A module's file is known by its path, times, size and inode, so an
edit is seen; a file that was changed within the last seconds could be changed again within one tick of its file system's
clock, so it isn't kept yet. Shelves are read when first needed and written by ``save``. Programs that write the same
shelf at once lose nothing but time: the last one wins, and has what it read before.

It must not know what the forms are, nor who needs them. Not thread-safe: the module server has a lock.
"""
from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from typing import Any

import msgpack  # type: ignore[import-untyped]

from ramet.bootstrap import cache
from ramet.modules.find import Found, Kind
from ramet.modules.scan import ImportStatement

# Version of what is kept, as far as scan and pack decide it: a part of the shelves' names.
_FORMAT = 1
# File systems count time in steps of up to two seconds. The time of a file's last change of any kind (``ctime``) can't
# be set by ``cp -p`` and the like.
_SETTLED_NS = 2_500_000_000

Stamp = tuple[int, ...]


@dataclass(slots=True)
class Entry:
    """What is known of one file as it is now. Whoever finds out more puts it in and says ``learnt``.

    Attributes:
        stamp: what tells this state of the file from others.
        imports: its import statements; None: not scanned yet.
        packed: by form: (flags, data) of a record.
        shelf: where it will be kept; None: nowhere.
    """

    stamp: Stamp = ()
    imports: list[ImportStatement] | None = None
    packed: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    shelf: Shelf | None = None

    def learnt(self) -> None:
        """There is something in it that isn't on disk yet."""
        if self.shelf is not None:
            self.shelf.changed = True


@dataclass(slots=True)
class Shelf:
    """The entries of one file of the cache, by path: those that were looked at and are true now, and as they were read."""

    name: str
    entries: dict[str, Entry] = field(default_factory=dict)
    read: dict[str, Any] = field(default_factory=dict)
    changed: bool = False


class Shelves:
    """All that one tree has read from the disk, and will write there."""

    def __init__(self) -> None:
        self._shelves: dict[str, Shelf] = {}
        self._entries: dict[str, Entry] = {}    # by path

    def entry(self, found: Found) -> Entry:
        """What is known of a module that can be sent; an empty entry, if nothing is."""
        entry = self._entries.get(found.path)
        if entry is not None:
            return entry
        if not os.path.isabs(found.path) or found.namespace or type(found.loader) not in (SourceFileLoader, type(None)):
            return Entry()      # made by something that may decide otherwise the next time
        shelf = self._shelf(found)
        entry = self._entries[found.path] = shelf.entries[found.path] = self._now(shelf, found.path)
        return entry

    def save(self) -> None:
        """Write what was learnt."""
        for shelf in self._shelves.values():
            if shelf.changed:
                shelf.changed = False
                others = _read(shelf.name)      # anew: another program may have written meanwhile
                kept = {path: _row(entry) for path, entry in shelf.entries.items() if entry.shelf}
                for path, row in others.items():
                    if path not in kept and tuple(row[0]) == _stamp(path):
                        kept[path] = row
                data = _pack(kept)
                if len(data) > cache.FILE_BYTES_MAX:
                    data = _pack({path: kept[path] for path in shelf.entries if path in kept})
                cache.put(shelf.name, data)

    def _shelf(self, found: Found) -> Shelf:
        """One for each package of an installed library, one for each folder from which the program imports its own."""
        depth = found.name.count(".") + (found.folders is not None) + 1
        folder = found.path.rsplit(os.sep, depth)[0]
        top = found.name.partition(".")[0] if found.kind is Kind.LIBRARY else ""
        where = f"{folder}\0{top}"
        shelf = self._shelves.get(where)
        if shelf is None:
            name = cache.name_of("shelf", _FORMAT, sys.version, where)
            shelf = self._shelves[where] = Shelf(name, read=_read(name))
        return shelf

    def _now(self, shelf: Shelf, path: str) -> Entry:
        stamp = _stamp(path)
        row = shelf.read.pop(path, None)
        if row is not None and tuple(row[0]) == stamp:
            imports = None if row[1] is None else [ImportStatement(*one) for one in row[1]]
            return Entry(stamp, imports, {form: (flags, data) for form, (flags, data) in row[2].items()}, shelf)
        return Entry(stamp, shelf=shelf if stamp and time.time_ns() - stamp[1] > _SETTLED_NS else None)


def _stamp(path: str) -> Stamp:
    """() if there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _row(entry: Entry) -> Any:
    return entry.stamp, entry.imports, entry.packed


def _pack(rows: dict[str, Any]) -> bytes:
    data: bytes = msgpack.packb(rows, unicode_errors="surrogatepass")
    return data


def _read(name: str) -> dict[str, Any]:
    data = cache.get(name)
    rows: dict[str, Any] = {} if data is None else msgpack.unpackb(data, use_list=False, unicode_errors="surrogatepass")
    return rows
