"""Files in the user's cache directory: what is costly to make and can be made again.

What is kept is code that will run on other machines, so a file counts only if nobody but its owner could have written it,
and only whole. Without a usable directory (no HOME, a read-only or full disk, somebody else's folder) nothing is kept and
nothing is said. Thread- and process-safe: a file appears by being renamed.

``RAMET_CACHE`` says how many megabytes may be kept, or ``off``. What wasn't used for the longest time goes first.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator

SETTING = "RAMET_CACHE"
MEGABYTES = 64          # that may be kept where the setting doesn't say
FILE_BYTES_MAX = 16 << 20
# A file that is used gets a new date if its own is older than this.
_USED_AGAIN_S = 3600
# A half-written file of a program that was killed is old enough to be removed.
_ABANDONED_S = 3600

_NAME = re.compile(r"[0-9a-z]+|\.new-\w+")   # of ours; nothing else in the directory is counted or removed


def is_setting(said: str) -> bool:
    """Whether ``RAMET_CACHE`` may be set to that."""
    said = said.strip().lower()
    return said == "off" or (said.isdecimal() and len(said) < 10)


def bytes_max() -> int:
    """How much may be kept; 0: nothing. A setting that is neither a number of megabytes nor ``off`` is ignored."""
    said = os.environ.get(SETTING, "")
    if not is_setting(said):
        return MEGABYTES << 20
    return 0 if said.strip().lower() == "off" else int(said) << 20


def folder() -> str | None:
    """Where the files are: below XDG_CACHE_HOME, else where the system's programs keep such things. None: nowhere."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.environ.get("HOME", "")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, "Library/Caches" if sys.platform == "darwin" else ".cache")
    return os.path.join(base, "ramet")


def name_of(*parts: object) -> str:
    """The name of a file by all that its content is made of."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def get(name: str) -> bytes | None:
    """What was put there under that name (see ``name_of``), or None."""
    place = folder()
    if place is None or not bytes_max():
        return None
    try:
        fd = os.open(os.path.join(place, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
            if not _is_ours(found, stat.S_IFREG):
                return None
            if abs(time.time() - found.st_mtime) > _USED_AGAIN_S:
                with contextlib.suppress(OSError):      # a read-only file system
                    os.utime(fd)
            with open(fd, "rb", closefd=False) as file:
                text = file.read(FILE_BYTES_MAX + 33)
        finally:
            os.close(fd)
    except OSError:
        return None
    data = memoryview(text)[32:]
    return bytes(data) if hashlib.sha256(data).digest() == text[:32] else None


def put(name: str, data: bytes) -> None:
    """Keep something. What wasn't used for the longest time goes when there is too much."""
    place = folder()
    if place is None or not len(data) <= min(FILE_BYTES_MAX, bytes_max() // 2):
        return
    new = None
    try:
        if not _make(place):
            return
        fd, new = tempfile.mkstemp(prefix=".new-", dir=place)   # 0600
        with open(fd, "wb") as file:
            file.write(hashlib.sha256(data).digest())
            file.write(data)
        os.rename(new, os.path.join(place, name))
        new = None
        _prune()
    except OSError:
        pass
    finally:
        if new:
            with contextlib.suppress(OSError):
                os.unlink(new)


def files() -> list[tuple[float, int, str]]:
    """All that is kept, the longest unused first: (when it was used, bytes, path)."""
    with contextlib.suppress(OSError):
        return sorted(_files())
    return []


def clear() -> int:
    """Remove all that is kept. Returns how many files that were."""
    return sum(map(_remove, [path for _, _, path in files()]))


def _files() -> Iterator[tuple[float, int, str]]:
    place = folder()
    if place is None or not _is_ours(os.lstat(place), stat.S_IFDIR):
        return
    with os.scandir(place) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with contextlib.suppress(OSError):      # another program has removed it
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        yield found.st_mtime, found.st_size, entry.path


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


def _prune() -> None:
    kept = files()
    left = sum(size for _, size, _ in kept)
    most = bytes_max()
    abandoned = time.time() - _ABANDONED_S
    for used, size, path in kept:
        unfinished = os.path.basename(path).startswith(".")
        if used < abandoned if unfinished else left > most:
            _remove(path)
            left -= size


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
