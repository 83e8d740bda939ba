"""What nodes print and log, shown here. Runs on whichever thread reads the link, and must not block it for long."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ramet import codec
from ramet.kernel.core import Message
from ramet.kernel.errors import ProtocolError

if TYPE_CHECKING:
    from ramet.node import Node

# A line that has no end is shown in parts of this size, so that it needn't be kept whole.
LINE_BYTES_MAX = 65536

# What a log record's fields are usually. Those of ``_NO_FIELDS`` don't travel: the message is formatted over there.
_USUAL = {key: type(value) for key, value in vars(logging.makeLogRecord({"msecs": 0.0})).items() if value is not None}
_USUAL |= {**dict.fromkeys(["exc_text", "stack_info", "processName", "threadName", "name"], str), "process": int, "thread": int}
_NO_FIELDS = {"args", "exc_info"}
TIME_MAX_S = 1e11       # what is later than the year 5138 can't be formatted
_PLAIN = str, int, float, bool, type(None)


class Display:
    """Cuts output into lines, and gives each to ``on_output`` with its node.

    Args:
        nodes: by id; owned by the tree.
        on_error: told what the program's own functions raise.
    """

    def __init__(self, nodes: dict[int, Node], on_output: Callable[[Node, int, str], None] | None,
                 on_error: Callable[[BaseException], object]) -> None:
        self.nodes = nodes
        self.on_error = on_error
        self.show = on_output or show
        self.partial: dict[tuple[int, int], bytes] = {}

    def on_output(self, message: Message) -> None:
        """Take an OUTPUT message: [stream, bytes]."""
        said: Any = codec.decode(message.body)
        if not isinstance(said, list) or len(said) != 2 or said[0] not in (1, 2) or not isinstance(said[1], bytes):
            raise ProtocolError("malformed OUTPUT")
        stream, data = said
        if message.src in self.nodes:
            key = message.src, stream
            lines = (self.partial.pop(key, b"") + data).split(b"\n")
            rest = lines.pop()
            while len(rest) > LINE_BYTES_MAX:
                lines.append(rest[:LINE_BYTES_MAX])
                rest = rest[LINE_BYTES_MAX:]
            if rest:
                self.partial[key] = rest
            for line in lines:
                self._show(message.src, stream, line)

    def flush(self, id: int) -> None:
        """A node ends: show what it wrote last, which doesn't end in a newline."""
        for stream in (1, 2):
            rest = self.partial.pop((id, stream), b"")
            if rest:
                self._show(id, stream, rest)

    def _show(self, id: int, stream: int, line: bytes) -> None:
        try:
            self.show(self.nodes[id], stream, line.decode("utf-8", "backslashreplace"))
        except Exception as error:
            self.on_error(error)    # the program's own, whatever the node sent

    def on_log(self, message: Message) -> None:
        """Take a LOG message: a record's fields.

        It goes to the logger ``ramet.node.NAME``; its own logger's name is in ``record.remote_name``. Not a logger for each
        of those: loggers are never freed, and a node could name any number.
        """
        fields: Any = codec.decode(message.body)
        node = self.nodes.get(message.src)
        if node is None or not isinstance(fields, dict) or type(fields.get("levelno")) is not int:
            raise ProtocolError("malformed LOG")
        logger = logging.getLogger(f"ramet.node.{node.name}")
        if logger.isEnabledFor(fields["levelno"]):
            record = logging.makeLogRecord({key: value for key, value in map(_fit, fields.items()) if key})
            record.remote_name, record.name, record.node = record.name, logger.name, node.name
            try:
                logger.handle(record)
            except Exception as error:
                self.on_error(error)    # a filter of the program's


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


def _fit(field: tuple[Any, Any]) -> tuple[str, Any]:
    """A field of a log record, if it is what ``logging`` and its formatters take it for; else ("", None).

    Texts are made harmless: most handlers write them to a terminal, sooner or later.
    """
    key, value = field
    if not isinstance(key, str) or key in _NO_FIELDS or hasattr(logging.LogRecord, key):
        return "", None
    usual = _USUAL.get(key)
    if key == "msg":
        value = str(value)
    if type(value) is str and usual in (None, str):
        return key, harmless(value, "\t\n")
    if usual is None:
        fits = type(value) in _PLAIN
    elif usual is float:
        fits = type(value) in (int, float) and 0 <= value < TIME_MAX_S
    else:
        fits = usual is int and type(value) is int
    return (key, value) if fits else ("", None)
