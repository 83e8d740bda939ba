"""Log records of a node, on their way to the controller. Late part of the kernel: needed when ``logging`` is imported.

Must not know how messages travel: ``output.LogHook`` holds the function to send with. Records are made in any thread.
"""
import sys

from ramet.kernel import compat

MYPY = False
if MYPY:
    from typing import Any, Dict

    from ramet.kernel.output import LogHook

# What of a record can travel: text and numbers. ``args`` can't always, so the message is sent as it reads.
PLAIN = (compat.text, str, float) + compat.integers


class HookedLoader(object):
    """Loads ``logging`` as 2.7 does it, then hooks it."""

    def __init__(self, log):
        # type: (LogHook) -> None
        self.log = log

    def load_module(self, name):
        # type: (str) -> Any
        """Import it once more, without the finder that gave this loader."""
        __import__(name)
        hook(self.log)
        return sys.modules[name]


def find(log, name, path):
    # type: (LogHook, str, Any) -> Any
    """What an import of ``logging`` is answered with: a spec, on 2.7 a loader. If it was imported before, hook it now."""
    if name in sys.modules:
        hook(log)
        return None
    if compat.ModuleSpec is None:
        return HookedLoader(log)
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec and spec.loader:
            run = spec.loader.exec_module

            def exec_module(module, run=run):
                # type: (Any, Any) -> None
                run(module)
                hook(log)
            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
            return spec
    return None


def hook(log):
    # type: (LogHook) -> None
    """Put a handler on the root logger, and leave it to that level to say what is made at all."""
    import logging

    class RecordSender(logging.Handler):
        """Sends each record to the controller."""

        def emit(self, record):
            # type: (logging.LogRecord) -> None
            try:
                log.send(fields(record))
            except Exception:
                self.handleError(record)
    logging.root.addHandler(RecordSender())
    logging.root.setLevel(log.level)


def fields(record):
    # type: (Any) -> Dict[str, Any]
    """A record as plain values, for ``logging.makeLogRecord``: with its message formatted and its traceback as text."""
    import logging
    found = dict((str(key), value) for key, value in record.__dict__.items() if isinstance(value, PLAIN))
    found["msg"] = record.getMessage()
    if record.exc_info:
        found["exc_text"] = logging.Formatter().formatException(record.exc_info)
    return found
