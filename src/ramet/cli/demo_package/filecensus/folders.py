"""Walks a folder. Runs anywhere; knows nothing of nodes.

Paths are bytes: that is what they are on disk, and an old Python under LANG=C opens no others that aren't ASCII.
"""
import os


def batches(folder, skip=(), files_max=50, bytes_max=1 << 20):
    # type: (bytes, tuple[bytes, ...], int, int) -> list[list[bytes]]
    """All regular files below a folder, by path relative to it, in batches of about equal work.

    Args:
        skip: names of folders that are left out, wherever they are.
    """
    found = []  # type: list[list[bytes]]
    size = bytes_max
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if name not in skip)
        for name in sorted(names):
            path = os.path.join(place, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            if size >= bytes_max or len(found[-1]) >= files_max:
                found.append([])
                size = 0
            found[-1].append(os.path.relpath(path, folder))
            try:
                size += os.path.getsize(path)
            except OSError:
                pass    # gone, or not ours to read: the census will say so
    return found


def identity(folder):
    # type: (bytes) -> list[int]
    """What tells a folder from another of the same name on another machine."""
    status = os.stat(folder)
    return [status.st_ino, int(status.st_mtime)]


def sees(folder, expected):
    # type: (bytes, list[int]) -> bool
    """Whether this machine sees that very folder."""
    try:
        return identity(folder) == expected
    except OSError:
        return False
