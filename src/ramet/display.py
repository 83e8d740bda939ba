"""What nodes print and log, shown here, by a thread of its own: ``on_output`` and log handlers may take their time.

Nodes are told what of theirs was shown, and have no more than ``limits.output_bytes_max`` of each kind under way. So where it
is shown slowly, those who write wait, over there, and nothing else does. Must not know how messages travel.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ramet import codec
from ramet.kernel import limits
from ramet.kernel.core import LOG, OUTPUT, Message
from ramet.kernel.errors import Error, ProtocolError
from ramet.kernel.refusing import overran

if TYPE_CHECKING:
    from ramet.node import Node

# A line that has no end is shown in parts of this size, so that it needn't be kept whole; or less by part of a character.
LINE_BYTES_MAX = 65536

# For what a message counts besides its bytes: as in ``kernel.output``.
MESSAGE_BYTES = 100

# What was shown is told in steps of this size.
TOLD_BYTES = limits.output_bytes_max // 4

# What of one node waits here at most. One that does as it is told has its window under way, and one large record.
HELD_BYTES_MAX = 24 << 20

# Who has more waiting here doesn't do as it is told: its window and a record of each of its threads are less. That isn't
# refused yet, but counted as if it were: in the end its link is read slowly.
OVERRUN_BYTES = 2 << 20

# When it is tried again to tell what was shown, where no descriptor was to be had for what that takes.
AGAIN_S = 0.1

# When a tree is closed, what has come is shown. It is given up when not one line is shown within so long.
STALLED_S = 10.0

# What a log record's fields are usually. Those of ``_NO_FIELDS`` don't travel: the message is formatted over there.
_USUAL = {key: type(value) for key, value in vars(logging.makeLogRecord({"msecs": 0.0})).items() if value is not None}
_USUAL |= {**dict.fromkeys(["exc_text", "stack_info", "processName", "threadName", "name"], str), "process": int, "thread": int}
_NO_FIELDS = {"args", "exc_info"}
TIME_MAX_S = 1e11       # what is later than the year 5138 can't be formatted
_PLAIN = str, float, bool, type(None)


class Display:
    """Cuts output into lines, and gives each to ``on_output`` with its node: one at a time, in the order in which they came.

    Args:
        nodes: by id; owned by the tree.
        on_error: told what the program's own functions raise.
        tell: called with (node, bytes of output, bytes of log records) that were shown.

    ``take`` and ``flush`` run on whichever thread reads a link, ``finish`` on the one that closes the tree, all else on the
    thread "ramet-display".
    """

    def __init__(self, nodes: dict[int, Node], on_output: Callable[[Node, int, str], None] | None,
                 on_error: Callable[[BaseException], object], tell: Callable[[Node, int, int], None]) -> None:
        self.nodes = nodes
        self.on_error = on_error
        self.show = on_output or show
        self.tell = tell
        self.some = threading.Condition()       # guards what follows
        self.waiting: collections.deque[tuple[Node, int, Any]] = collections.deque()
        self.held: dict[int, int] = {}          # by node: bytes that wait
        self.thread: threading.Thread | None = None
        self.closing = False
        self.partial: dict[tuple[int, int], bytes] = {}
        self.shown: dict[int, list[int]] = {}   # by node: bytes of output and of log records that it wasn't told of
        self.untold: dict[int, Node] = {}       # who couldn't be told, and is to be
        self.again_at = 0.0
        self.lines = 0                          # that were shown, records included

    # ------------------------------------------------------------------ from the reader of a link

    def take(self, message: Message) -> None:
        """Take OUTPUT, [stream, bytes], or LOG, a record's fields. Raises ProtocolError, ValueNotPortableError."""
        node = self.nodes.get(message.src)
        try:
            said = _read(message)
        except Error:
            if node is not None and message.handle == LOG:      # or who logs there would wait for ever for these bytes
                self._put(node, len(message.body), {})
            raise
        if node is not None:
            self._put(node, len(message.body), said)
            if self.held.get(node.id, 0) > OVERRUN_BYTES:
                overran(message)

    def flush(self, node: Node) -> None:
        """A node has ended: show what it wrote last, which doesn't end in a newline."""
        self._put(node, 0, None)

    def _put(self, node: Node, size: int, said: Any) -> None:
        with self.some:
            if said is not None:
                held = self.held.get(node.id, 0) + size + MESSAGE_BYTES
                if held > HELD_BYTES_MAX:
                    raise ProtocolError("it sends more than it was told that it may")
                self.held[node.id] = held
            elif self.thread is None and not self.waiting:
                return      # nothing of any node is left
            self.waiting.append((node, size, said))
            if self.thread is None:
                thread = threading.Thread(target=self._run, name="ramet-display", daemon=True)
                with contextlib.suppress(RuntimeError):     # the next one tries it again, or the end shows it
                    thread.start()
                    self.thread = thread
            self.some.notify()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while True:
            with self.some:
                if not self.waiting and not self.closing:
                    self.some.wait(AGAIN_S if self.untold else None)
                found = self.waiting.popleft() if self.waiting else None
                if found is None and self.closing:
                    return
            if found is not None:
                self._handle(*found)
            if self.untold and time.monotonic() >= self.again_at:
                for node in list(self.untold.values()):
                    self._tell(node)

    def _handle(self, node: Node, size: int, said: Any) -> None:
        if said is None:
            self._end(node)
        elif isinstance(said, list):
            self._output(node, *said)
            self._was_shown(node, size, len(said[1]) + MESSAGE_BYTES, 0)
        else:
            try:
                if said:
                    self._record(node, said)
            except BaseException as error:      # a filter of the program's
                self.on_error(error)
            self._was_shown(node, size, 0, size)

    def _was_shown(self, node: Node, size: int, output: int, records: int) -> None:
        with self.some:
            self.held[node.id] -= size + MESSAGE_BYTES
            if not self.held[node.id]:
                del self.held[node.id]
        if node.id in self.nodes:
            shown = self.shown.setdefault(node.id, [0, 0])
            shown[0] += output
            shown[1] += records
            if max(shown) >= TOLD_BYTES:
                self._tell(node)

    def _tell(self, node: Node) -> None:
        """Tell a node what was shown. If that can't be, it is tried again: it may have no more to send until it knows."""
        try:
            self.tell(node, *self.shown[node.id])
        except (OSError, ImportError, MemoryError):     # no descriptor for what it takes
            self.untold[node.id] = node
            self.again_at = time.monotonic() + AGAIN_S
        else:
            del self.shown[node.id]
            self.untold.pop(node.id, None)

    def _output(self, node: Node, stream: int, data: bytes) -> None:
        lines = (self.partial.pop((node.id, stream), b"") + data).split(b"\n")
        parts, rest = in_parts(lines.pop())
        if rest:
            self.partial[node.id, stream] = rest
        for line in lines + parts:
            self._line(node, stream, line)

    def _line(self, node: Node, stream: int, line: bytes) -> None:
        try:
            self.show(node, stream, line.decode("utf-8", "backslashreplace"))
        except BaseException as error:
            self.on_error(error)    # the program's own, whatever the node sent
        self.lines += 1

    def _end(self, node: Node) -> None:
        for stream in (1, 2):
            rest = self.partial.pop((node.id, stream), b"")
            if rest:
                self._line(node, stream, rest)
        self.shown.pop(node.id, None)
        self.untold.pop(node.id, None)

    def _record(self, node: Node, fields: dict[Any, Any]) -> None:
        """It goes to the logger ``ramet.node.NAME``; its own logger's name is in ``record.remote_name``.

        Not a logger for each of those: loggers are never freed, and a node could name any number.
        """
        self.lines += 1
        logger = logging.getLogger(f"ramet.node.{node.name}")
        # Not isEnabledFor: a logger keeps what it says of each number that it was ever asked for.
        if not logger.disabled and fields["levelno"] >= max(logger.getEffectiveLevel(), logger.manager.disable + 1):
            record = logging.makeLogRecord({key: value for key, value in map(_fit, fields.items()) if key})
            record.remote_name, record.name, record.node = record.name, logger.name, node.name
            logger.handle(record)

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """Show all that has come, and end the thread. If it is stuck in ``on_output``, what it hasn't shown is dropped."""
        with self.some:
            self.closing = True
            self.some.notify()
            thread = self.thread
        if thread is None:      # or none could be started: from Python 3.12.0 to 3.12.2 so at a program's end
            self._run()
        if thread is None or thread is threading.current_thread():
            return
        lines = -1
        while thread.is_alive() and lines != self.lines:
            lines = self.lines
            thread.join(STALLED_S)
        if thread.is_alive():
            with self.some:
                left = sum(self.held.values())
                self.waiting.clear()
            logging.getLogger("ramet").warning(
                "%d bytes of output weren't shown: on_output, or a log handler, hasn't returned for %g s", left, STALLED_S)


def _read(message: Message) -> Any:
    """What an OUTPUT or LOG says. Raises ProtocolError, ValueNotPortableError."""
    said: Any = codec.decode(message.body)
    if message.handle == OUTPUT:
        if not isinstance(said, list) or len(said) != 2 or said[0] not in (1, 2) or not isinstance(said[1], bytes):
            raise ProtocolError("malformed OUTPUT")
    elif not isinstance(said, dict) or not _is_int(said.get("levelno")):
        raise ProtocolError("malformed LOG")
    return said


def in_parts(line: bytes) -> tuple[list[bytes], bytes]:
    """Of a line whose end hasn't come: what is given away now, each part at most ``LINE_BYTES_MAX``, and what is kept.

    Each part is decoded by itself. So none ends within a character of UTF-8: its other bytes are 10xxxxxx, at most three. Where
    it isn't UTF-8, it doesn't matter.
    """
    parts = []
    while len(line) > LINE_BYTES_MAX:
        cut = LINE_BYTES_MAX
        while cut > LINE_BYTES_MAX - 3 and line[cut] & 0xC0 == 0x80:
            cut -= 1
        parts.append(line[:cut])
        line = line[cut:]
    return parts, line


def show(node: Node, stream: int, line: str) -> None:
    """The default: one line on our own stdout or stderr, with what could steer a terminal made harmless."""
    line = f"[{harmless(node.name)}] {harmless(line)}\n"
    target = sys.stdout if stream == 1 else sys.stderr
    if target is None:
        return      # this program was started without
    try:
        try:
            target.write(line)
        except UnicodeEncodeError:      # the C locale
            encoding = target.encoding or "ascii"
            target.write(line.encode(encoding, "backslashreplace").decode(encoding))
        target.flush()
    except (OSError, ValueError):
        pass    # our own stdout is closed: nobody reads it


def harmless(text: str, keep: str = "\t") -> str:
    """A text from elsewhere, fit for a terminal: what could steer it is made visible instead.

    Args:
        keep: what is left as it is nevertheless: newlines, where there may be several lines.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _is_int(value: object) -> bool:
    """A whole number that formatters can write: Python refuses to make text of one of thousands of digits."""
    return type(value) is int and abs(value) < 1 << 63


def _fit(field: tuple[Any, Any]) -> tuple[str, Any]:
    """A field of a log record, if it is what ``logging`` and its formatters take it for; else ("", None).

    Texts are made harmless: most handlers write them to a terminal, sooner or later.
    """
    key, value = field
    if not isinstance(key, str) or key in _NO_FIELDS or hasattr(logging.LogRecord, key):
        return "", None
    usual = _USUAL.get(key)
    if key == "msg" and type(value) is not str:
        value = str(value) if _is_int(value) or type(value) is float else "(no text)"
    if type(value) is str and usual in (None, str):
        return key, harmless(value, "\t\n")
    if usual is None:
        fits = type(value) in _PLAIN or _is_int(value)
    elif usual is float:
        fits = type(value) in (int, float) and 0 <= value < TIME_MAX_S
    else:
        fits = usual is int and _is_int(value)
    return (key, value) if fits else ("", None)
