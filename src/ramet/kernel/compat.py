"""Every branch on the Python version that the kernel needs, in one place.

Must not know of frames, links or nodes. Any thread may call it.
"""
import sys
import time
from _collections import deque as deque  # type: ignore[import-not-found]  # noqa: PLC0414  (without what `collections` imports)

MYPY = False
if MYPY:
    from typing import Any

PY2 = sys.version_info[0] == 2
PYPY = hasattr(sys, "pypy_version_info")
IMPLEMENTATION = "PyPy" if PYPY else "CPython"

if PY2:
    import pkgutil  # noqa: F401  (for `compat_late`: our finders, which are asked first there, can't work without it)

    import thread as _thread
    text = unicode  # type: ignore[name-defined]  # noqa: F821
    integers = (int, long)  # type: ignore[name-defined]  # noqa: F821
    monotonic = time.time    # the best that 2.7 has without ctypes; a clock jump moves timers there
    indexed = (bytearray,)

    class Bytes(str):
        """bytes on 2.7, where ``str`` travels as text: what arrived as bytes, and what is to."""

    def view(data):
        # type: (Any) -> Any
        """Something that can be sliced, and its slices be given to ``Bytes``."""
        return data

    def flat(data):
        # type: (Any) -> Any
        """A memoryview as bytes-like with a length in bytes, not copied if that can be avoided."""
        return data.tobytes()

    def native_utf8(data):
        # type: (Any) -> Any
        """A ``str`` of 2.7 as UTF-8; no byte that isn't of that is lost."""
        try:
            data.decode("utf-8")
            if "\xed" not in data:
                return data
        except UnicodeDecodeError:
            pass
        from ramet.kernel import text27
        return text27.utf8(data)

    def native_text(data):
        # type: (Any) -> Any
        """UTF-8 as 2.7's programs expect it: ``str`` if it is ASCII or held other bytes than UTF-8 before, else unicode."""
        data = str(data)
        try:
            data.decode("ascii")
            return data
        except UnicodeDecodeError:
            value = data.decode("utf-8")
        if "\xed" in data:
            from ramet.kernel import text27
            return text27.native(data) or value
        return value
else:
    import _thread
    text = str
    integers = (int,)
    monotonic = time.monotonic
    indexed = (bytes, bytearray)
    Bytes = bytes
    view = memoryview
    native_utf8 = native_text = None  # type: Any

    def flat(data):
        # type: (Any) -> Any
        """A memoryview as bytes-like with a length in bytes, not copied if that can be avoided."""
        return data.cast("B") if data.c_contiguous and data.nbytes else data.tobytes()

weak = __import__("_weakref").ref
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


def form_tag(optimize=sys.flags.optimize):
    # type: (int) -> str
    """This interpreter's form: what ``form_of`` says of it, "source" also when it runs with -O."""
    if optimize:
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


def pipe():
    # type: () -> Any
    """A non-blocking pipe that started programs don't inherit: (read end, write end)."""
    import os
    ends = os.pipe()
    for fd in ends:
        set_cloexec(fd)
        set_blocking(fd, False)
    return ends


thread_local = _thread._local

# What `import signal` offers, without the enum module that it needs since 3.4 (5 ms).
signal = __import__("signal" if PY2 else "_signal")

MAIN = "__ramet_main__"   # the name under which the program's main module is imported in a node
# What another interpreter's modules are called here: the main module's alias, and what 3 has renamed.
renamed = {"__main__": MAIN, "builtins" if PY2 else "__builtin__": "__builtin__" if PY2 else "builtins"}
main_thread_id = thread_id()


def signal_main(number):
    # type: (int) -> None
    """Send this process's main thread a signal."""
    if PY2:
        import os
        os.kill(os.getpid(), number)
    else:
        signal.pthread_kill(main_thread_id, number)


# What the main thread does at SIGURG before it interrupts a function: see ``swallowed``.
urgent = bool  # type: Any

if PY2:
    try:    # not later: who asks for it may hold 2.7's only import lock, and what the signal interrupts wait for that
        __import__("threading")
    except ImportError:
        pass    # 2.7's smallest has none


def local_module(name):
    # type: (str) -> str
    """The name here of a module that another interpreter named."""
    return renamed.get(name, name)


def native(text):
    # type: (Any) -> str
    """Text as the ``str`` of this Python."""
    return text.encode("utf-8") if PY2 else text  # type: ignore[no-any-return]


# ---------------------------------------------------------------------- the import system: for importer.py

if PY2:
    ModuleMissing = ImportError
    ModuleSpec = None  # type: Any
else:
    from _frozen_importlib import ModuleSpec as ModuleSpec  # what importlib.machinery offers, without what that imports
    ModuleMissing = ModuleNotFoundError


def unlocked(fn):
    # type: (Any) -> Any
    """Make a function that finds modules give up, while it does, the one lock that the import system of 3.x asks finders with.

    Otherwise no other thread could import anything meanwhile; and one that imports a module which ``fn`` imports, too, would
    wait for that lock, and ``fn`` for the module. The lock of the module that is looked for is kept, so this is safe. Not for
    2.7, where the one lock is all there is: it stays held there.
    """
    def unlocked(*args, **named):
        # type: (*Any, **Any) -> Any
        import _imp
        held = 0
        try:
            while True:
                _imp.release_lock()
                held += 1
        except RuntimeError:
            pass    # it isn't held any longer
        try:
            return fn(*args, **named)
        finally:
            for _ in range(held):
                _imp.acquire_lock()
    return unlocked
