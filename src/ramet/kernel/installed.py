"""What can be imported here besides the standard library: told to the controller once, before anything is asked for.

Late part of the kernel. Any thread. It looks at folders, and into none of their files but zips.
"""
import os
import sys
import time

from ramet.kernel import compat, compat_late, core

MYPY = False
if MYPY:
    from typing import Any, Iterator, List

# Bounds of what is told: a list is one frame, however full the folders are. What isn't told may be sent though it is here.
NAMES_MAX = 8192
NAME_CHARS_MAX = 64
CHARS_MAX = 100000
FOLDERS_MAX = 100

DIGEST_BYTES = 16
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")

_telling = []  # type: List[List[Any]]     # [thread, whether it has told]: the first tells for all


def tell():
    # type: () -> None
    """See to it that the controller knows. Who comes while another thread tells waits for that, for a second at most."""
    telling = _telling      # the same one till the end, see ``forget``
    if not telling or not telling[0][1]:
        mine = [compat.thread_id(), False]
        telling.append(mine)
        first = telling[0]
        if first is mine:
            try:
                node = sys.modules["ramet.kernel.start"].node  # type: Any
                node.core.tell(0, core.INSTALLED, told(names(), node.config.get("installed", ())))
            except Exception:   # it saves bytes and time, no more
                pass
            except BaseException:   # its call was cancelled: who comes next tells
                forget()
                raise
            finally:
                mine[1] = True
        end = compat.monotonic() + 1
        # The same thread again: an import that telling itself needs. In 2.7 who waits here may hold the import lock.
        while not first[1] and first[0] != mine[0] and compat.monotonic() < end:
            time.sleep(0.001)


def forget():
    # type: () -> None
    """The next controller doesn't know: it is told anew. A thread that tells the one before may be just at it."""
    global _telling
    _telling = []


def told(names, known):
    # type: (List[str], Any) -> Any
    """What the controller is told: a list of names, or its digest if it is known there."""
    if known:
        digest = compat_late.sha256("\n".join(names).encode("ascii"))[:DIGEST_BYTES]
        if digest in known:
            return compat.Bytes(digest)
    return names


def names():
    # type: () -> List[str]
    """The top-level names, sorted."""
    standard = os.path.dirname(os.__file__)
    suffixes = compat_late.module_suffixes()
    found = set()
    folders = [folder for folder in sys.path if folder and not (
        folder == standard or os.path.dirname(folder) == standard and folder[-9:] != "-packages")]
    for folder in folders[:FOLDERS_MAX]:
        for name in _entries(folder):
            top, dot, _ = name.partition(".")
            if (not dot or name[len(top):] in suffixes) and len(top) <= NAME_CHARS_MAX and _LETTERS.issuperset(top):
                found.add(top)
    found.discard("")
    chosen, chars = [], 0
    for name in sorted(found)[:NAMES_MAX]:
        chars += len(name) + 1
        if chars > CHARS_MAX:
            break
        chosen.append(name)
    return chosen


def _entries(folder):
    # type: (str) -> Iterator[str]
    """The names in a folder or, without their suffixes, of the modules in a zip."""
    try:
        for name in os.listdir(folder):
            yield name
    except OSError:
        if os.path.isfile(folder):
            import pkgutil
            for found in pkgutil.iter_modules([folder]):
                yield found[1]
