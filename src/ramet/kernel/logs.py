"""Log records of a node, on their way to the controller. Late part of the kernel: needed when ``logging`` is imported.

Must not know how messages travel: ``output.LogHook`` holds the core, which sends them. Records are made in any thread. One that
makes more than the controller shows waits: nothing is lost, and nothing grows.
"""
import sys

from ramet.kernel import compat, limits, values
from ramet.kernel.core import LOG

MYPY = False
if MYPY:
    from typing import Any, Dict

# What of a record can travel: text and numbers. ``args`` can't always, so the message is sent as it reads.
PLAIN = (bool, compat.text, str, float) + compat.integers
OWN = ("msg", "args", "exc_info")

# What is larger the controller wouldn't take (``limits_late.news_bytes_max``), and so never tell that it was shown. So texts
# are cut: so many characters of all of a record are less, in four bytes each.
RECORD_BYTES_MAX = 1 << 20
RECORD_CHARS_MAX = 200000


class HookedLoader(object):
    """Loads ``logging`` as 2.7 does it, then hooks it."""

    def __init__(self, log):
        # type: (Any) -> None
        self.log = log

    def load_module(self, name):
        # type: (str) -> Any
        """Import it once more, without the finder that gave this loader."""
        try:
            __import__(name)
            hook(self.log)
            return sys.modules[name]
        except BaseException:   # it is cancelled, maybe. The next import is the first one again, and is hooked
            sys.modules.pop(name, None)
            sys.meta_path.insert(0, self.log)
            raise


def find(log, name, path):
    # type: (Any, str, Any) -> Any
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
                try:
                    run(module)
                    hook(log)
                except BaseException:   # as above
                    sys.meta_path.insert(0, log)
                    raise
            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
            return spec
    return None


SETTING = compat.new_lock()     # of levels


def hook(log):
    # type: (Any) -> None
    """Put a handler on the root logger, and leave it to that level to say what is made at all."""
    import logging

    class RecordSender(logging.Handler):
        """Sends each record to the controller."""

        def handle(self, record):
            # type: (logging.LogRecord) -> Any
            """Without the handler's lock: who waits here would hold up who mustn't wait."""
            kept = self.filter(record)
            if kept:
                self.emit(kept if isinstance(kept, logging.LogRecord) else record)  # type: ignore[unused-ignore]
            return kept

        def emit(self, record):
            # type: (logging.LogRecord) -> None
            try:
                send(log, values.encode(fields(record)))
            except Exception:
                self.handleError(record)
    begin(log)
    logging.root.addHandler(RecordSender())


def begin(log):
    # type: (Any) -> None
    """Count from now on the bytes of records that are ``sent``, and ``shown`` by the controller. ``waiters`` are of threads."""
    log.sent = log.shown = 0
    log.waiters = []
    apply(log)


def apply(log):
    # type: (Any) -> None
    """Set the loggers' levels to what the controller wants. It may take ``logging``'s lock."""
    with SETTING:
        _set(log, sys.modules["logging"])


def apply_at_once(log):
    # type: (Any) -> bool
    """As ``apply``, on a thread that reads a link, before the calls behind that: only if it needn't wait for a lock, imports
    nothing, and runs no code of the program's.

    Returns:
        False: it was not done.
    """
    logging = sys.modules["logging"]
    if not hasattr(log, "waiters") or not logging._lock.acquire(False):
        return False
    try:
        manager, made = logging.root.manager, (logging.Logger, logging.RootLogger)
        makes = (manager.loggerClass or logging.getLoggerClass()) is logging.Logger
        loggers = [logging.root] + [manager.loggerDict.get(name) for name in getattr(log, "levels", ())]
        if not all([type(one) in made or makes and type(one) in (type(None), logging.PlaceHolder) for one in loggers]):
            return False
        if not SETTING.acquire(False):
            return False
        try:
            _set(log, logging)
        finally:
            SETTING.release()
        return True
    finally:
        logging._lock.release()


def _set(log, logging):
    # type: (Any, Any) -> None
    logging.root.setLevel(log.level)
    for name, level in list(getattr(log, "levels", {}).items()):
        logging.getLogger(name).setLevel(level)


def send(log, chunks):
    # type: (Any, Any) -> None
    """Send a record. Before, wait until the controller has shown enough, or the call of this thread is to end.

    Raises:
        ValueError: it is too large.
    """
    size = sum(map(len, chunks))
    if size > RECORD_BYTES_MAX:
        raise ValueError("a log record of %d bytes: the program takes at most %d" % (size, RECORD_BYTES_MAX))
    cancelling = sys.modules.get("ramet.kernel.cancelling")
    job = cancelling and cancelling.current_job(sys.modules["ramet.kernel.start"].node.calls)
    left = job.leave() if job else False    # no interrupt in what follows
    try:
        if log.sent - log.shown > limits.output_bytes_max:
            wait(log, job)
        if log.core.send(0, LOG, chunks, 0, 0, 2):
            with SETTING:
                log.sent += size
    finally:
        if job:
            job.back(left)


def wait(log, job):
    # type: (Any, Any) -> None
    """Block until there is room. Who reads the link can't wait for that."""
    core, link = log.core, log.core.routes.parent
    if compat.thread_id() in (link.parsing, core.loop.thread):
        return
    waiter = core.waiter()
    log.waiters.append(waiter)
    try:
        if job:
            job.waiter = waiter
        core.wait(lambda: log.sent - log.shown <= limits.output_bytes_max or link.dead or job and job.cancelled, link)
        if job and job.cancelled:
            job.raise_now()
    finally:
        log.waiters.remove(waiter)


def fields(record):
    # type: (Any) -> Dict[str, Any]
    """A record as plain values, for ``logging.makeLogRecord``: with its message formatted and its traceback as text.

    What else the program has put in it (``extra=``) travels as its text.
    """
    import logging
    found = {}
    for key, value in record.__dict__.items():
        if isinstance(value, PLAIN):
            found[str(key)] = plain(value)
        elif value is not None and key not in OWN:
            found[str(key)] = plain(repr(value))
    found["msg"] = plain(record.getMessage())
    if record.exc_info:
        found["exc_text"] = logging.Formatter().formatException(record.exc_info)
    return shortened(found)


def shortened(found):
    # type: (Dict[str, Any]) -> Dict[str, Any]
    """A record, its longest texts cut if all of them together are too long."""
    texts = sorted([key for key in found if isinstance(found[key], (compat.text, str))], key=lambda key: len(found[key]))
    left = RECORD_CHARS_MAX
    for n, key in enumerate(texts):
        found[key] = found[key][:left // (len(texts) - n)]
        left -= len(found[key])
    return found


def plain(value):
    # type: (Any) -> Any
    """A text or number, of a class of its own maybe (an enum's member, say), as one that needs no class to be read."""
    kind = [kind for kind in PLAIN if isinstance(value, kind)][0]  # type: Any
    return value if type(value) is kind else kind.__add__(value, kind())    # kind(value) would ask that class
