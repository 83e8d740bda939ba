"""The spare: a fork that waits in its template until somebody asks for one, who so needn't wait until it is forked.

There is one at most, and none before a first fork was asked for. One that was taken is replaced when things have calmed down,
and so is one that is stale: the template has got modules since it was forked. A call in the template may change anything, so
before one begins the spare is given back. Late part of the kernel, for templates only; all of it runs on the main thread.
"""
import os
import time

from ramet.kernel import compat, forked, limits
from ramet.kernel.core import MODULES

MYPY = False
if MYPY:
    from typing import Any, Callable, List, Optional, Tuple

# How long nobody may have asked for a fork before another spare is forked. In that time the one that was taken has answered its
# first call, through the template.
calm_s = 0.004


class Spare(object):
    """The spare of one template.

    Args:
        node: the template.
        alone: tells whether it has but one thread now: else it can't be forked cleanly.

    Attributes:
        waiting: the spare's process, this end of its link, and what the template had when it was forked; or None.
        going: processes of spares that were given back and haven't ended yet.
    """

    def __init__(self, node, alone):
        # type: (Any, Callable[[], bool]) -> None
        self.node = node
        self.alone = alone
        self.loop = node.loop
        self.waiting = None  # type: Optional[Tuple[Any, int, Any]]
        self.going = []  # type: List[Any]
        self.timer = None  # type: Optional[Any]
        node.core.handlers[MODULES] = self._on_modules

    def take(self):
        # type: () -> Tuple[Any, int]
        """A fork that waits for its CONFIG: its process, and this end of its link. The spare if there is one, else a new one.

        Raises:
            EnvironmentError: as of ``forked.fork``.
        """
        self._give_back_stale()
        if self.waiting:
            process, fd, _ = self.waiting
            self.waiting = None
            self.loop.forget(fd)
        else:
            process, fd = forked.fork(self.node)
        self.renew()
        return process, fd

    def renew(self):
        # type: () -> None
        """Have one that isn't stale when things have calmed down."""
        if self.timer:
            self.timer.cancel()
        self.timer = self.loop.call_later(calm_s, self._fill)

    def give_back(self):
        # type: () -> bool
        """Let it go, and don't fork another one, until ``renew``. Returns whether there was one or was to be one."""
        wanted = bool(self.waiting or self.timer)
        if self.timer:
            self.timer.cancel()
            self.timer = None
        if self.waiting:
            process, fd, _ = self.waiting
            self.waiting = None
            self.loop.forget(fd)
            os.close(fd)        # by which it goes
            self.going.append(process)
            process.on_exit(lambda _: self.going.remove(process))
            self.loop.call_later(limits.close_grace_s, process.kill)
        return wanted

    def end(self):
        # type: () -> None
        """Wait until all that were given back have ended."""
        end = compat.monotonic() + limits.guardian_grace_s
        for process in list(self.going):
            while process.poll() is None and compat.monotonic() < end:
                time.sleep(0.001)
            process.kill()      # if it was stopped

    def _has(self):
        # type: () -> Tuple[int, int]
        """Something else when the template has got modules, or reasons why it doesn't get them: forks begin with these."""
        cache = self.node.cache
        return len(cache.records), len(cache.reasons)

    def _on_modules(self, message):
        # type: (Any) -> None
        had = self._has()
        self.node.on_modules(message)
        if self.waiting and had != self._has():
            self.renew()

    def _give_back_stale(self):
        # type: () -> None
        if self.waiting and (self.waiting[2] != self._has() or self.waiting[0].poll() is not None):
            self.give_back()

    def _fill(self):
        # type: () -> None
        self.timer = None
        self._give_back_stale()
        parent = self.node.core.routes.parent
        if parent.tail or parent.queue.size:
            self.renew()        # a long reply is on its way: a fork would hold what is left of it
        elif not self.waiting and self.alone() and "ends_at" not in self.node.config:
            try:
                process, fd = forked.fork(self.node)
            except EnvironmentError:
                return      # who asks for a fork is told why
            self.waiting = process, fd, self._has()
            self.loop.watch(fd, self.give_back)     # somebody has killed it. There is another one after the next fork
