"""Whole lines of each thread: what lanes and other threads print at the same time isn't mixed. Late part of the kernel.

``print`` writes its words and the end of the line one by one. What isn't the end of a line stays with the thread that wrote it,
until the rest comes, that thread flushes, or the node ends. Any thread; who waits for a reader of the output waits in
``write``, where a call of the main lane may be interrupted. Must not know what lanes are.
"""
import io
import sys

from ramet.kernel import compat, limits_late

MYPY = False
if MYPY:
    from typing import Any, Dict


class LineStream(io.TextIOWrapper):
    """In place of ``output``'s stream, for the same descriptor: UTF-8, and bytes are taken as well.

    Attributes:
        before: that stream. It is kept, since it would close what both write to.
        parts: thread -> what it has written since its last line's end.
    """

    def __init__(self, before):
        # type: (Any) -> None
        io.TextIOWrapper.__init__(self, before.buffer, "utf-8", "backslashreplace", "\n")
        self.before = before
        self.parts = {}  # type: Dict[int, bytes]

    @property
    def partial(self):
        # type: () -> bool
        """Whether the thread that asks has written something that is still here."""
        return compat.thread_id() in self.parts or bool(self.before.partial)

    def write(self, data, whole=False):
        # type: (Any, bool) -> int
        """Take text; ``whole``: give away also what isn't a line yet."""
        if isinstance(data, compat.text):
            data = data.encode("utf-8", "backslashreplace")
        me, size = compat.thread_id(), len(data)
        data = self.parts.pop(me, b"") + data
        cut = len(data) if whole or len(data) > limits_late.line_bytes_max else data.rfind(b"\n") + 1
        if cut < len(data):
            self.parts[me] = data[cut:]
        if cut or whole:
            self.before.partial = 0
            self.buffer.write(data[:cut])
            self.buffer.flush()
        return size

    def flush(self):
        # type: () -> None
        """Give away what the calling thread has written."""
        if self.partial:
            self.write(b"", True)

    def end(self):
        # type: () -> None
        """Give away what any thread has written, for the node ends."""
        for me in list(self.parts):
            self.buffer.write(self.parts.pop(me, b""))


def flush():
    # type: () -> None
    """Give away what the calling thread has written: its call ends, and the thread may. What a function has put in place of
    ours, or closed, may say whatever it likes.
    """
    for stream in sys.stdout, sys.stderr:
        try:
            getattr(stream, "partial", 1) and stream.flush()
        except Exception:
            pass


def keep_apart():
    # type: () -> None
    """Have each thread's lines kept whole from now on, unless that is so, or this is no node."""
    for name in "stdout", "stderr":
        stream = getattr(sys, "__%s__" % name)
        if getattr(stream, "partial", None) is None or isinstance(stream, LineStream):
            continue
        lines = LineStream(stream)
        if getattr(sys, name) is stream:
            setattr(sys, name, lines)
        setattr(sys, "__%s__" % name, lines)
