"""Raising an exception in another thread, and where that would do harm: in the import system. Late part of the kernel.

Its own module, since whoever interrupts a thread needs both. Any thread may call it.
"""
import sys

from ramet.kernel import compat, importer

MYPY = False
if MYPY:
    from typing import Any


def is_importing(frame, anywhere=False):
    # type: (Any, bool) -> bool
    """Whether a frame is the import system's own, or of our part of that: not the code of a module that is being imported, nor
    where that is unpacked and begun, unless it is one of the kernel's.

    Args:
        anywhere: that, too. Python 2.7 doesn't tell it.
    """
    code = frame.f_code
    ours = frame.f_globals is importer.__dict__ and code.co_name not in ("content", "get_code", "exec_module")
    # Of `compat`, what gives up the import lock and takes it back; all else there is over at once.
    return ours or frame.f_globals is compat.__dict__ or _is_system(code) or is_inside(frame, anywhere)


def is_inside(frame, anywhere=False):
    # type: (Any, bool) -> bool
    """Whether a part of the kernel, or ``anywhere`` any module, is being imported, at whatever its code calls or imports. A
    thread that waits for it, for another call, would be given half a module.
    """
    while frame is not None:
        code = frame.f_code
        ours = code.co_name == "exec_module" and frame.f_globals is importer.__dict__
        if anywhere and _is_system(code) or ours and str(frame.f_locals[code.co_varnames[1]].__name__)[:6] == "ramet.":
            return True
        frame = frame.f_back
    return False


def _is_system(code):
    # type: (Any) -> bool
    return bool(code.co_filename[:13] == "<frozen impor")


_raiser = []  # type: Any


def raiser():
    # type: () -> Any
    """What raises exceptions in threads, made when it is first asked for. None if that can't be done: there is no ``ctypes``
    (the smallest Pythons), or no such function (PyPy).

    It is a function of a thread, an exception and a frame. The exception is raised at the thread's next bytecode; with None,
    what hasn't been raised yet is taken back. It is sent only while that frame is the thread's innermost one: C code looks and
    sends in one piece, in which no other thread runs; and the thread, when it runs, first takes what was sent. Without a frame
    it is sent in any case. Returns whether it was.
    """
    if not _raiser:
        try:
            import ctypes
            import itertools
            import operator
            send = ctypes.pythonapi.PyThreadState_SetAsyncExc
        except (ImportError, AttributeError):
            _raiser.append(None)
            return None
        each = getattr(itertools, "imap", map)      # what `map` is since 3

        def raise_in_thread(thread, kind, frame=None):
            # type: (int, Any, Any) -> bool
            whom, what = (ctypes.c_ulong(-1), ctypes.c_ulong(thread)), [kind and ctypes.py_object(kind)]    # -1 is no thread
            if frame is None:
                return bool(send(whom[1], what[0]))
            found = each(operator.itemgetter(thread), iter(sys._current_frames, None))
            try:
                return bool(next(each(send, each(whom.__getitem__, each(operator.is_, found, [frame])), what)))
            except KeyError:
                return False    # it has ended
        _raiser.append(raise_in_thread)
    return _raiser[0]
