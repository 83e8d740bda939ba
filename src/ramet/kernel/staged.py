"""Packages that must have files: written to a private folder, imported from there, removed at the node's end.

Late part of the kernel, and of ``native``, whose records lead here. The folder is made with 0700 in a temporary folder of the
system. What removes it is a process of its own, in a session of its own, which waits for the end of a pipe: so it is removed
also when the node is killed. Any thread that may fetch modules.
"""
import os
import subprocess
import sys

from ramet.kernel import compat, compat_late, native, values
from ramet.kernel.errors import ModuleNotShippedError
from ramet.kernel.importer import Finder, content

MYPY = False
if MYPY:
    from typing import Any, Dict, List

STAGED = "stage/"       # (wire) before the name of a package, which is no module's
NO_EXEC = 8             # of statvfs: nothing can be run from there, nor loaded as native code
CLEANER = 'trap "" 1 2 3 15; read x; rm -rf -- "$1"'

_folders = {}  # type: Dict[str, str]       # of packages: where they are
_home = []  # type: List[str]               # the folder that they are all in
_lock = compat.new_lock()


def put(name, wins, bytes_max):
    # type: (str, bool, int) -> Any
    """Write a package's files, unless that is done, and let it be found there.

    Args:
        wins: it comes before what is installed here.
        bytes_max: what its files take at most.

    Returns:
        The module's spec; None in Python 2.7, where it is imported here.

    Raises:
        ModuleNotShippedError: it can't be had, or there is no place for it.
    """
    record = None  # type: Any
    if name not in _folders:
        finder = [finder for finder in sys.meta_path if isinstance(finder, Finder)][-1]
        record = finder.obtain(STAGED + name, native.NATIVE_FORM)
        if not record:
            raise ModuleNotShippedError("%s is to be written to a folder here, but the controller sends no files of it: %s" % (
                name, finder.cache.reasons.get(STAGED + name + "/" + native.NATIVE_FORM)))
    with _lock:
        if name not in _folders:
            files = values.decode(content(record))
            folder = os.path.join(_home[0] if _home else _make_home(name, bytes_max, files), _random())
            os.mkdir(folder, 0o700)     # a fresh one: writing to the last one may have failed
            for file in files:
                _write(folder, *file)
            at = [at for at, entry in enumerate(sys.path) if wins and entry.endswith("-packages")] + [len(sys.path)]
            sys.path.insert(at[0], folder)
            _folders[name] = folder
    return compat_late.spec_in(_folders[name], name)


def _write(folder, path, data, needs, module):
    # type: (str, str, Any, Any, str) -> None
    """Write one file. What is native code for another interpreter becomes a module that says so when it is imported."""
    parts = [compat.native(part) for part in path.split("/")]
    if not all(parts) or ".." in parts:
        raise ModuleNotShippedError("a file of a package can't be written here: %r" % path)
    for depth in range(1, len(parts)):
        try:
            os.mkdir(os.path.join(folder, *parts[:depth]), 0o700)
        except OSError:
            pass    # it is there; if not, the file can't be made, which says why
    if needs and list(native.differences(needs)):
        parts[-1] = parts[-1].partition(".")[0] + ".py"
        data = ("from ramet.kernel import native\nnative.check(%r, %r)\n" % (compat.native(module), needs)).encode("ascii")
        if os.path.exists(os.path.join(folder, *parts)):
            return      # what it was made of, or what does instead
    try:
        fd = os.open(os.path.join(folder, *parts), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            left = memoryview(data)
            while len(left):
                left = left[os.write(fd, left):]
        finally:
            os.close(fd)
    except (OSError, IOError):
        raise ModuleNotShippedError("a package's file can't be written here: %s" % sys.exc_info()[1])


# ---------------------------------------------------------------------- the folder


def _make_home(name, bytes_max, files):
    # type: (str, int, Any) -> str
    """Make the private folder, and start what removes it."""
    executes = any(needs and not list(native.differences(needs)) for _, _, needs, _ in files)
    objections = []
    for place in [os.environ.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm"]:
        why = _objection(place, bytes_max, executes) if place else None
        if place and not why:
            home = os.path.join(place, "ramet-" + _random())
            try:
                os.mkdir(home, 0o700)       # fails if anything is there, a link, too
            except OSError:
                why = str(sys.exc_info()[1])
            else:
                _begin_cleaner(name, home)
                _home.append(home)
                return home
        if why:
            objections.append("%s: %s" % (place, why))
    raise ModuleNotShippedError("%s needs a temporary folder here, and there is none: %s. Set TMPDIR, or install it here" % (
        name, "; ".join(objections)))


def _random():
    # type: () -> str
    return "".join("%02x" % byte for byte in bytearray(os.urandom(8)))


def _objection(place, bytes_max, executes):
    # type: (str, int, bool) -> Any
    """Why a folder won't do, or None."""
    try:
        about = os.statvfs(place)
    except OSError:
        return "there is no such folder"
    if not os.access(place, os.W_OK | os.X_OK):
        return "it can't be written to"
    if about.f_bavail * about.f_frsize < bytes_max:
        return "%d bytes are free, and %d are needed" % (about.f_bavail * about.f_frsize, bytes_max)
    if executes and about.f_flag & NO_EXEC:
        return "it is mounted noexec, so native code can't be loaded from it"
    return None


def _begin_cleaner(name, home):
    # type: (str, str) -> None
    """Start what removes the folder when this process has ended. In no way does it depend on this process's doing anything."""
    null = open(os.devnull, "r+b")
    try:
        cleaner = subprocess.Popen(["sh", "-c", CLEANER, "ramet-cleaner", home], stdin=subprocess.PIPE, stdout=null,
                                   stderr=null, close_fds=True, cwd="/", env={"PATH": os.defpath}, **compat_late.own_session())
    except BaseException as error:      # the call that imports it may be cancelled just now
        try:
            os.rmdir(home)
        except OSError:
            pass    # the cleaner runs, and was quicker
        if not isinstance(error, (OSError, ValueError)):
            compat.reraise(error)
        raise ModuleNotShippedError("%s needs a temporary folder here, and sh, which is to remove that, can't be started: "
                                    "%s. Install it here" % (name, error))
    finally:
        null.close()
    compat.set_cloexec(cleaner.stdin.fileno())  # type: ignore[union-attr]
    node = os.getpid()

    def remove():
        # type: () -> None
        if os.getpid() == node:
            cleaner.communicate(b"\n")
            if os.path.exists(home):    # somebody has ended it
                import shutil
                shutil.rmtree(home, True)
    compat_late.at_exit(remove)
    compat_late.after_fork(cleaner.stdin)
