"""A node's output and log records, on their way to the controller, which tells what of them it has shown (late part ``shown``).

Whatever the node or a subprocess writes to descriptors 1 and 2 comes out of two pipes (``guardian``), which are read on the
keeper. Log records travel as records (``logs``); ``logging`` isn't imported for that, but hooked when somebody does. Must not
know how messages travel: it is given functions to send with.
"""
import os
import sys

from ramet.kernel import compat, guardian, limits

MYPY = False
if MYPY:
    from typing import Any, Callable, Sequence

    from ramet.kernel.loop import Loop


class Forwarder(object):
    """Reads the two streams and sends what comes.

    Args:
        fds: of stdout and stderr, non-blocking; closed at their ends.
        send: called on the keeper with (1 or 2, bytes).

    Attributes:
        sent, shown: bytes that were sent, and of those that the controller has shown; each message counts for 100 more. While
            these are fewer by ``limits.output_bytes_max``, nothing is read, so that writers wait.
    """

    def __init__(self, loop, fds, send):
        # type: (Loop, Sequence[int], Callable[[int, bytes], Any]) -> None
        self.loop = loop
        self.fds = list(fds)
        self.send = send
        self.sent = self.shown = 0
        self.watch()

    def watch(self):
        # type: () -> None
        """Read from now on. On the keeper, or before it runs."""
        for n, fd in enumerate(self.fds):
            if fd >= 0:
                self.loop.watch(fd, lambda n=n: self.read(n))  # type: ignore[misc]

    def read(self, n):
        # type: (int) -> None
        """Read one stream once, and send what there is."""
        fd = self.fds[n]
        if self.sent - self.shown > limits.output_bytes_max:
            self.loop.forget(fd)
            self.loop.call_later(1, self.watch)     # and say so again: while this thread runs, no writer holds the GIL
            os.write(guardian.life[1], b"99999999 ")
            return
        data = os.read(fd, 65536)
        if data:
            self.sent += len(data) + 100
            self.send(n + 1, data)
        else:
            self.loop.forget(fd)
            self.fds[n] = -1
            os.close(fd)


def replace_standard_streams():
    # type: () -> None
    """Make ``sys.stdout`` and ``sys.stderr`` write UTF-8, a line at a time, whatever the locale is; no text is refused."""
    import io

    class StandardStream(io.TextIOWrapper):
        """Text of descriptor 1 or 2. It takes bytes as well, which is what 2.7 prints.

        Attributes:
            partial: what was written last isn't the end of a line, so it is still here. Else a call needn't flush at its end,
                and so doesn't wait for another one, whose output waits.
        """

        partial = 0  # type: Any

        def write(self, data):
            # type: (Any) -> int
            if isinstance(data, compat.text):
                data = data.encode("utf-8", "backslashreplace")
            self.buffer.write(data)
            self.partial = b"\n" not in data
            self.partial or self.buffer.flush()
            return len(data)

    for fd, name in (1, "stdout"), (2, "stderr"):
        stream = StandardStream(io.open(fd, "wb", closefd=False), "utf-8", "backslashreplace", "\n")
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)


class LogHook(object):
    """A finder that finds nothing, but is asked when ``logging`` is imported: then the late part ``logs`` is needed.

    Args:
        core: sends them.
        level: records below it aren't made.
    """

    def __init__(self, core, level):
        # type: (Any, int) -> None
        self.core = core
        self.level = level
        sys.meta_path.insert(0, self)  # type: ignore[arg-type,unused-ignore]

    def find_module(self, name, path=None, target=None):
        # type: (str, Any, Any) -> Any
        """Give what hooks it, once; for other modules nothing. Python 2.7 asks for a loader, Python 3 for a spec."""
        if name == "logging":
            sys.meta_path.remove(self)  # type: ignore[arg-type,unused-ignore]
            from ramet.kernel import logs
            return logs.find(self, name, path)

    find_spec = find_module
