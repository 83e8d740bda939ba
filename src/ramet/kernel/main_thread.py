"""``threading`` takes the main thread for the main thread, whichever thread imports it first. Late part of the kernel.

Up to 3.12 it takes the thread that first imports it: ``main_thread()`` is wrong then, and the interpreter's end can hang. A
node doesn't import it before something needs it, since that takes 3 to 4 ms, half of what the kernel takes in all; and what
needs it may be a lane, while the main thread is in C code and can't be asked. So it is put right behind the import, under
the module's own lock, so that nobody sees it as it was. In 2.7 it is imported at the start (``compat``).
"""
import os
import sys

from ramet.kernel import compat

MYPY = False
if MYPY:
    from typing import Any


def look_out():
    # type: () -> None
    """See to it, unless it was imported already. Any thread."""
    if "threading" not in sys.modules and not any(isinstance(finder, MainThreadFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MainThreadFinder())  # type: ignore[arg-type,unused-ignore]


class MainThreadFinder(object):
    """Asked for ``threading``, it gives what the others find, with a loader that puts it right; else it finds nothing."""

    def __init__(self):
        # type: () -> None
        self.pid = os.getpid()

    def find_spec(self, name, path=None, target=None):
        # type: (str, Any, Any) -> Any
        """A spec, where another thread than the main one imports it. A process that was forked has a main thread of its own."""
        if name == "threading" and compat.thread_id() != compat.main_thread_id and os.getpid() == self.pid:
            for other in sys.meta_path:
                find = getattr(other, "find_spec", None)    # up to 3.11 a finder may have but find_module
                spec = find(name, path, target) if find and other is not self else None
                if spec:
                    spec.loader = MainThreadLoader(spec.loader)  # type: ignore[assignment,unused-ignore]
                    return spec
        return None

    def find_module(self, name, path=None):
        # type: (str, Any) -> Any
        """For 2.7, where it is imported at the start; but its smallest has none."""


class MainThreadLoader(object):
    """Loads a module as another one does, and puts it right."""

    def __init__(self, loader):
        # type: (Any) -> None
        self.loader = loader

    def create_module(self, spec):
        # type: (Any) -> Any
        """As the other one does."""
        return self.loader.create_module(spec)

    def exec_module(self, module):
        # type: (Any) -> None
        """As the other one does; what the module says of itself names that one."""
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        put_right(module)


def put_right(threading):
    # type: (Any) -> None
    """Make its main thread this process's. For the module's names see CPython's ``Lib/threading.py``, 3.6 to 3.15."""
    main = threading._main_thread
    with threading._active_limbo_lock:
        threading._active.pop(main._ident, None)
        main._ident = compat.main_thread_id
        threading._active[main._ident] = main
    if hasattr(main, "_native_id"):     # since 3.8. On Linux it is the process's
        main._native_id = os.getpid() if sys.platform[:5] == "linux" else None
    ends = getattr(main, "_tstate_lock", None)
    if ends:    # up to 3.12: released when that thread ends, which is waited for at the interpreter's end
        main._tstate_lock = compat.new_lock()
        main._tstate_lock.acquire()
        locks = getattr(threading, "_shutdown_locks", set())  # type: Any   # since 3.7
        if ends in locks:
            locks.remove(ends)
            locks.add(main._tstate_lock)
