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


class Display:
    """Cuts output into lines, and gives each to ``on_output`` with its node.

    Args:
        nodes: by id; owned by the tree.
    """

    def __init__(self, nodes: dict[int, Node], on_output: Callable[[Node, int, str], None] | None) -> None:
        self.nodes = nodes
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
                self.show(self.nodes[message.src], stream, line.decode("utf-8", "backslashreplace"))

    def flush(self, id: int) -> None:
        """A node ends: show what it wrote last, which doesn't end in a newline."""
        for stream in (1, 2):
            rest = self.partial.pop((id, stream), b"")
            if rest:
                self.show(self.nodes[id], stream, rest.decode("utf-8", "backslashreplace"))

    def on_log(self, message: Message) -> None:
        """Take a LOG message: a record's fields.

        It goes to the logger ``ramet.node.NAME``; its own logger's name is in ``record.remote_name``. Not a logger for each
        of those: loggers are never freed, and a node could name any number.
        """
        fields: Any = codec.decode(message.body)
        node = self.nodes.get(message.src)
        if node is None or not isinstance(fields, dict) or not isinstance(fields.get("levelno"), int):
            return
        logger = logging.getLogger(f"ramet.node.{node.name}")
        if logger.isEnabledFor(fields["levelno"]):
            record = logging.makeLogRecord({key: value for key, value in fields.items() if isinstance(key, str)})
            record.remote_name, record.name, record.node = record.name, logger.name, node.name
            logger.handle(record)


def show(node: Node, stream: int, line: str) -> None:
    """The default: one line on our own stdout or stderr, with what could steer a terminal made harmless."""
    line = f"[{node.name}] {harmless(line)}\n"
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


def harmless(line: str) -> str:
    """A line from elsewhere, fit for a terminal: what could steer it is made visible instead."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line)
