"""What the controller says of a node's output and log records: what it has shown, and which records it wants.

Late part of the kernel. Nobody imports it but the reader of a link, which finds it here: it is sent before what it takes.
"""
import sys

from ramet.kernel import compat, values
from ramet.kernel.core import OUTPUT
from ramet.kernel.faults import ProtocolError

MYPY = False
if MYPY:
    from typing import Any

    from ramet.kernel.core import Message
    from ramet.kernel.start import Self


def told(message):
    # type: (Message) -> None
    """Take OUTPUT, [bytes of output, bytes of log records], or LOG, [level, logger]. On whichever thread reads the link."""
    node = sys.modules["ramet.kernel.start"].node   # type: Self
    if message.src != 0:
        raise ProtocolError("only the controller shows output")
    log = node.log_hook     # type: Any
    try:
        if message.handle == OUTPUT:
            output, records = values.decode(message.body)
            node.output.shown += output
            if records:
                log.shown += records
                for waiter in list(log.waiters):
                    waiter.wake()
        else:
            level, name = values.decode(message.body)
            if type(level) not in compat.integers or type(name) not in (str, compat.text):
                raise TypeError
            if name:
                log.__dict__.setdefault("levels", {})[compat.native(name)] = level
            else:
                log.level = level
    except (AttributeError, TypeError, ValueError):
        raise ProtocolError("malformed: what of output was shown")
    if message.handle == OUTPUT:
        node.loop.call_soon(node.output.watch)
    elif "logging" in sys.modules:      # who imports it sets the levels that are known then
        logs = sys.modules.get("ramet.kernel.logs")
        if not logs or not logs.apply_at_once(log):
            compat.start_thread(apply, (node,))


def apply(node):
    # type: (Self) -> None
    """Set the loggers' levels. In a thread of its own: ``logging`` has a lock that may be held by who waits for this link."""
    from ramet.kernel import logs
    logs.apply(node.log_hook)
