"""``RemoteProcess``: what the user holds of a program that runs in a node.

Must not know of links or frames: it is a ``Stream`` of what the program writes. One thread at a time takes its
output; all else is thread-safe.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ramet.display import in_parts
from ramet.kernel import running
from ramet.kernel.errors import ClosedError
from ramet.kernel.facade import ANY

if TYPE_CHECKING:
    from ramet.node import Node
    from ramet.stream import Stream

Text = TypeVar("Text", str, bytes)

_numbers = itertools.count(1)


class RemoteProcess(Generic[Text]):
    """A program that runs in a node. Made by ``Node.popen``.

    Iterate over it, with ``for`` or ``async for``, for (1 or 2, line) as they are written: 1 is its stdout, 2 its stderr, and
    lines come without their ends. Or wait for all with ``result()`` or ``await``. What isn't read stays over there: the program
    waits when a quarter of a megabyte is on its way. Leaving a ``with`` block, ``close()``, or dropping the last reference ends
    it, and all that it has started.

    Attributes:
        node: where it runs.
        args: what was given.
        returncode: its exit status, or minus the number of the signal that ended it; None until all its output was read.
    """

    def __init__(self, node: Node, args: Any, input: Any, text: bool, options: dict[str, Any]) -> None:
        self.node = node
        self.args = args
        self.returncode: int | None = None
        self._text = text
        self._number = next(_numbers)
        self._partial = {1: b"", 2: b""}
        self._lines: list[tuple[int, bytes, bytes]] = []    # of which stream, the line, its end if it has one
        stream: Stream[list[Any]] = node.stream(running.start, self._number, args, input, options)
        self._stream = stream

    # ------------------------------------------------------------------ its output

    def __iter__(self) -> Iterator[tuple[int, Text]]:
        return self

    def __next__(self) -> tuple[int, Text]:
        """The next line: blocks until there is one.

        Raises:
            StopIteration: the program has ended, and that was all.
            RemoteError: it could not be started, such as a FileNotFoundError; or the iterator that is its input has failed.
            NodeLostError, ClosedError, CallTimeout, CallCancelled: it can't go on.
        """
        while not self._lines:
            try:
                n, data = next(self._stream)
            except StopIteration:
                if not self._finish():
                    raise
            else:
                self._add(n, data)
        return self._first()

    def __aiter__(self) -> RemoteProcess[Text]:
        return self

    async def __anext__(self) -> tuple[int, Text]:
        """The next line. Raises what ``__next__`` does, with StopAsyncIteration at the end."""
        while not self._lines:
            try:
                n, data = await self._stream.__anext__()
            except StopAsyncIteration:
                if not self._finish():
                    raise
            else:
                self._add(n, data)
        return self._first()

    def result(self) -> subprocess.CompletedProcess[Text]:
        """Wait for the end: its ``stdout`` and ``stderr`` are what wasn't iterated over. Raises what ``__next__`` does.

        When it raises, as by Ctrl-C or because the task that awaits it is cancelled, the program is ended.
        """
        found = self._begun()
        try:
            for n, data in self._stream:
                found[n].append(data)
        except BaseException:
            self.close()    # what it has written is lost by now
            raise
        return self._completed(found)

    def __await__(self) -> Generator[Any, None, subprocess.CompletedProcess[Text]]:
        return self._collect().__await__()

    async def _collect(self) -> subprocess.CompletedProcess[Text]:
        found = self._begun()
        try:
            async for n, data in self._stream:
                found[n].append(data)
        except BaseException:
            self.close()
            raise
        return self._completed(found)

    # ------------------------------------------------------------------ its life

    def send_signal(self, number: int) -> bool:
        """Send a signal to the program and all that it has started and that stayed in its session.

        Returns:
            False if it has ended.
        """
        if self.returncode is not None:
            return False
        return self.node.options(lane=ANY).call(running.send_signal, self._number, int(number))

    def terminate(self) -> bool:
        """Send SIGTERM."""
        return self.send_signal(signal.SIGTERM)

    def kill(self) -> bool:
        """Send SIGKILL."""
        return self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """End it: SIGTERM, and SIGKILL two seconds later. What wasn't read is dropped. Returns at once; idempotent."""
        self._stream.close()

    def __enter__(self) -> RemoteProcess[Text]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> RemoteProcess[Text]:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"ended with {self.returncode}"
        return f"<RemoteProcess {self._number} in {self.node.name}: {state}>"

    # ------------------------------------------------------------------ inside

    def _add(self, n: int, data: bytes) -> None:
        """Cut what has come into lines."""
        *lines, rest = (self._partial[n] + data).split(b"\n")
        parts, self._partial[n] = in_parts(rest)
        self._lines += [(n, line, b"\n") for line in lines] + [(n, part, b"") for part in parts]
        self._lines.reverse()       # the first is popped from the end

    def _finish(self) -> bool:
        """All has come. Whether there is a last line without an end."""
        self.returncode = self._stream.value
        self._lines = [(n, rest, b"") for n, rest in self._partial.items() if rest][::-1]
        self._partial = {1: b"", 2: b""}
        return bool(self._lines)

    def _first(self) -> tuple[int, Text]:
        n, line, _ = self._lines.pop()
        return n, self._shown(line)

    def _shown(self, data: bytes) -> Any:
        return data.decode("utf-8", "surrogateescape") if self._text else data

    def _begun(self) -> dict[int, list[bytes]]:
        """What was taken from the stream and not given to who iterates."""
        found = {n: [line + end for m, line, end in self._lines[::-1] if m == n] for n in (1, 2)}
        for n, rest in self._partial.items():
            found[n].append(rest)
        self._lines, self._partial = [], {1: b"", 2: b""}
        return found

    def _completed(self, found: dict[int, list[bytes]]) -> subprocess.CompletedProcess[Text]:
        self.returncode = self._stream.value
        if self.returncode is None:
            raise ClosedError(f"program {self._number} in {self.node.name} was closed: how it ended isn't known here")
        stdout, stderr = (self._shown(b"".join(found[n])) for n in (1, 2))
        return subprocess.CompletedProcess(self.args, self.returncode, stdout, stderr)


def checked(args: Any, shell: bool, input: Any) -> tuple[Any, Any]:
    """What ``Node.popen`` was given, as ``running.start`` takes it.

    Raises:
        TypeError, ValueError: it isn't what a program can be started with.
    """
    if shell and not isinstance(args, str):
        raise TypeError(f"with shell=True the command must be a text, not {args!r}")
    if not shell:
        if isinstance(args, str | bytes) or not isinstance(args, Iterable):
            raise TypeError(f"the command must be a list of words, such as {str(args).split()!r}; shell=True takes a text")
        args = [str(word) if not isinstance(word, bytes) else word for word in args]
        if not args or not args[0]:
            raise ValueError("the command must have at least one word")
    if isinstance(input, str):
        input = input.encode("utf-8", "surrogateescape")
    elif input is not None and not isinstance(input, bytes | bytearray):
        input = (_data(part) for part in input)
    return args, input


def _data(part: Any) -> Any:
    if isinstance(part, str):
        return part.encode("utf-8", "surrogateescape")
    if not isinstance(part, bytes | bytearray | memoryview):
        raise TypeError(f"input must be text or bytes, or an iterator of such, not of {part!r}")
    return part
