"""The template: a node that forks others from itself, which so have its modules loaded from the first. Late part of the kernel.

``become`` is called in an ordinary node. It imports what is wanted, gives its only other thread, the keeper, up, and is its own
keeper from then on, in the main thread: a process with one thread can be forked cleanly. ``Fork`` takes the place of a
``grow.Growth`` in its nursery. All of it runs on the main thread. ``forked`` and ``spare`` have the rest.
"""
import os
import sys
import time

from ramet.kernel import compat, compat_late, spare, start
from ramet.kernel.diagnosis import connect_error
from ramet.kernel.grow import Beginning

MYPY = False
if MYPY:
    from typing import Any, List

# Parts of the kernel that nodes need sooner or later: loaded once, for all forks.
PARTS = ("failures", "compat_late", "unforeseen", "later", "facade", "logs", "nursery", "cancelling", "portable", "instances")

serving = []  # type: List[Any]      # the spare of the node, once it is a template
held = []  # type: List[Any]         # forks that are asked for before

# How long the threads of others, and the keeper's last steps, may take to end, before forks are refused.
alone_within_s = 10.0
look_s = 0.05       # how often that is looked for


def become(names):
    # type: (List[str]) -> bool
    """Import modules, and be a template when this call has been answered."""
    node = start.node  # type: Any
    for name in PARTS:
        __import__("ramet.kernel." + name)
    try:
        __import__("threading")
    except ImportError:
        pass    # 2.7's smallest has none
    for name in names:
        __import__(name)
    node.on_idle(node.core.routes.parent)
    node.calls.on_idle = lambda _: serve(node)
    return True


def threads():
    # type: () -> int
    """How many threads this process has."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1 + compat_late.count_threads()


def serve(node):
    # type: (Any) -> None
    """Be keeper and main lane in one thread, until the node ends."""
    node.calls.on_idle = bool
    loop, calls, parent = node.loop, node.calls, node.core.routes.parent
    parent.give_back(calls.waiter)
    gone = []  # type: List[bool]

    def leave():
        # type: () -> None
        gone.append(True)
        raise SystemExit        # out of ``loop.run``, for good: it isn't to come back when that runs again

    loop.call_soon(leave)
    while not gone:
        time.sleep(0.0002)
    end = compat.monotonic() + alone_within_s
    while threads() > 1 and compat.monotonic() < end:
        time.sleep(0.0002)
    loop.thread = 0
    import gc
    gc.collect()
    getattr(gc, "freeze", int)()    # what was loaded stays shared with the forks
    mine = spare.Spare(node, lambda: threads() == 1)
    serving.append(mine)
    for fork in held:
        loop.call_soon(fork.start)
    while not calls.closing:
        if not calls.waiting:
            loop.once()
        if calls.waiting and not calls.closing:
            wanted = mine.give_back()
            calls.current = message = calls.waiting.popleft()
            calls.began = compat.monotonic()
            reply = calls.run(message)
            calls.current = None
            if reply:
                calls.finish(message, reply)
            del message, reply      # what they hold may be large; a fork isn't to have it, either
            if wanted:
                mine.renew()
    mine.give_back()
    compat.start_thread(loop.run, ())   # the end is as in any node, which needs a keeper
    mine.end()


class Fork(Beginning):
    """Forks one node."""

    over = False
    alone_by = 0.0      # until when it waits for other threads to end
    aborted = False     # and will fail for that, at the loop's next turn

    def start(self):
        # type: () -> None
        """Begin, as soon as the node is a template."""
        if serving:
            self._begin()
        else:
            held.append(self)

    def abort(self, reason):
        # type: (Any) -> None
        """Give it up."""
        self.aborted = True
        self.loop.call_soon(self._fail, reason if isinstance(reason, BaseException) else str(reason))

    def _fail(self, reason):
        # type: (Any) -> None
        if not self.over:
            self.over = True
            if not isinstance(reason, BaseException):
                reason = connect_error(self.plan, {"text": reason, "remedy": "see the text"})
            self.on_failed(reason)

    def _begin(self):
        # type: () -> None
        if self.over or self.aborted:
            return
        if threads() > 1:
            self.alone_by = self.alone_by or self.loop.now() + alone_within_s
            if self.loop.now() < self.alone_by:     # one of ramet's own may be just ending: that which takes KEEPALIVE
                self.loop.call_later(look_s, self._begin)
                return
            self._fail("its template has %d threads, so it can't be forked cleanly: one of the preloaded modules starts them, "
                       "or a call in it" % threads())
            return
        try:
            process, fd = serving[0].take()
        except EnvironmentError:
            self._fail(str(sys.exc_info()[1]))
            return
        self.over = True
        self.process = process
        self._reached("process")
        self.on_up(process, fd, fd, b"", self.on_started(compat.form_tag()))
