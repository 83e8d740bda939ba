"""A few files in the user's cache directory: what is costly to make and can be made again.

What is kept is code that will run on other machines, so a file counts only if nobody but its owner could have written it,
and only whole. Without a usable directory (no HOME, a read-only or full disk, somebody else's folder) nothing is kept and
nothing is said. Thread- and process-safe: a file appears by being renamed.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile

FILES_MAX = 32
FILE_BYTES_MAX = 1 << 20


def folder() -> str | None:
    """Where the files are: below XDG_CACHE_HOME, else where the system's programs keep such things. None: nowhere."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.environ.get("HOME", "")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, "Library/Caches" if sys.platform == "darwin" else ".cache")
    return os.path.join(base, "ramet")


def get(key: str) -> bytes | None:
    """What was put there under that name (letters and digits), or None."""
    place = folder()
    if place is None:
        return None
    try:
        fd = os.open(os.path.join(place, key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not _is_ours(os.fstat(fd), stat.S_IFREG):
                return None
            with open(fd, "rb", closefd=False) as file:
                text = file.read(FILE_BYTES_MAX + 1)
        finally:
            os.close(fd)
    except OSError:
        return None
    digest, data = text[:32], text[32:]
    return data if hashlib.sha256(data).digest() == digest else None


def put(key: str, data: bytes) -> None:
    """Keep something. The oldest files go when there are too many."""
    place = folder()
    if place is None or len(data) + 32 > FILE_BYTES_MAX:
        return
    new = None
    try:
        if not _make(place):
            return
        fd, new = tempfile.mkstemp(prefix=".new-", dir=place)   # 0600
        with open(fd, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.rename(new, os.path.join(place, key))
        new = None
        _prune(place)
    except OSError:
        pass
    finally:
        if new:
            with contextlib.suppress(OSError):
                os.unlink(new)


def _make(place: str) -> bool:
    """Make the directory if it isn't there. Returns whether it is ours alone."""
    base = os.path.dirname(place)
    if not os.path.isdir(place):
        # With sudo, HOME may still be the user's: files of root's there would be in the way.
        known = base if os.path.isdir(base) else os.path.dirname(base)
        if os.stat(known).st_uid != os.geteuid():
            return False
        os.makedirs(base, 0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o700)
    return _is_ours(os.lstat(place), stat.S_IFDIR)


def _is_ours(found: os.stat_result, kind: int) -> bool:
    return stat.S_IFMT(found.st_mode) == kind and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _prune(place: str) -> None:
    with os.scandir(place) as entries:
        files = sorted((entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in entries)
    for _, path in files[:-FILES_MAX]:
        with contextlib.suppress(OSError):
            os.unlink(path)
