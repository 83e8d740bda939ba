"""Hashes files. Runs anywhere; knows nothing of nodes."""
import hashlib
import os

BLOCK_BYTES = 1 << 18


def sha256(path):
    # type: (bytes) -> tuple[int, str]
    """Size and SHA-256 of one file."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "rb") as file:
        while True:
            block = file.read(BLOCK_BYTES)
            if not block:
                return size, digest.hexdigest()
            size += len(block)
            digest.update(block)


def census(folder, paths):
    # type: (bytes, list[bytes]) -> dict[str, object]
    """Hash a batch of files below a folder.

    Returns:
        {"pid": who did it, "files": [(path, size, sha256)], "unreadable": [paths]}
    """
    files, unreadable = [], []
    for path in paths:
        try:
            size, digest = sha256(os.path.join(folder, path))
        except (IOError, OSError):
            unreadable.append(path)
        else:
            files.append((path, size, digest))
    return {"pid": os.getpid(), "files": files, "unreadable": unreadable}
