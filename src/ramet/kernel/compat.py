"""Every branch on the Python version that the kernel needs, in one place.

Must not know of frames, links or nodes. Any thread may call it.
"""
import sys
import time

MYPY = False
if MYPY:
    from typing import Any

PY2 = sys.version_info[0] == 2
PYPY = hasattr(sys, "pypy_version_info")

if PY2:
    import thread as _thread
    text = unicode  # type: ignore[name-defined]  # noqa: F821
    integers = (int, long)  # type: ignore[name-defined]  # noqa: F821
    monotonic = time.time    # the best that 2.7 has without ctypes; a clock jump moves timers there
else:
    import _thread
    text = str
    integers = (int,)
    monotonic = time.monotonic

new_lock = _thread.allocate_lock
thread_id = _thread.get_ident
start_thread = _thread.start_new_thread


def form_of(hexversion, implementation):
    # type: (int, str) -> str
    """The form in which code can be given to an interpreter: a bytecode tag such as "cp311", or "source".

    Only final releases of CPython 3 share their bytecode's magic number among all of one minor version.

    Args:
        hexversion: that interpreter's ``sys.hexversion``.
        implementation: "c" for CPython, else another letter.
    """
    if implementation != "c" or hexversion < 0x3060000 or hexversion & 0xf0 != 0xf0:
        return "source"
    return "cp%d%d" % (hexversion >> 24, hexversion >> 16 & 255)


def form_tag():
    # type: () -> str
    """This interpreter's form: what ``form_of`` says of it, "source" also when it runs with -O."""
    if sys.flags.optimize:
        return "source"
    return form_of(sys.hexversion, "p" if PYPY else "c")


def set_cloexec(fd):
    # type: (int) -> None
    """Keep a descriptor from the programs that this process starts. Needed for 2.7, and for inherited descriptors."""
    import fcntl
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def set_blocking(fd, blocking):
    # type: (int, bool) -> None
    """Switch O_NONBLOCK of the open file behind a descriptor (``os.set_blocking`` is missing in 2.7)."""
    import fcntl
    import os
    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK
    fcntl.fcntl(fd, fcntl.F_SETFL, flags if blocking else flags | os.O_NONBLOCK)


def reraise(error):
    # type: (BaseException) -> Any
    """Raise an exception without a mark of what was being handled (``raise ... from None``)."""
    error.__cause__ = None
    error.__suppress_context__ = True
    raise error
