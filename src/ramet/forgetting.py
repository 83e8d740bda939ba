"""What a process does that was forked from one with trees: it forgets them. They stay with that one.

Runs right behind the fork, in its only thread. Other threads of the old process may have held any lock: none may be taken here.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from ramet import call, terminal
from ramet.kernel import channels, compat, native, services, spawn, staged, streams

if TYPE_CHECKING:
    from ramet.tree import Tree


# While a program is started there are descriptors that nobody here knows of yet.
spawn.starting = threading.RLock()


def let_go(tree: Tree) -> None:
    """Close all descriptors by which this copy could keep a node alive, or disturb the tree that goes on in the other process.

    What stands for them is made harmless, too: their numbers will stand for others.
    """
    loop = tree._core.loop
    fds = {loop.wake_r, loop.wake_w}
    loop.wake_r = loop.wake_w = -1
    loop.running = False
    with contextlib.suppress(AttributeError, OSError):
        loop.poller.close()     # this copy of its descriptor. To change what it waits for would change it over there, too
    for child in list(tree._nursery.children.values()):
        link = child.link
        fds |= _taken(link, "fd_in", "fd_out")
        link.dead = True
        link.writing = compat.new_lock()
        if child.growth is not None:
            fds |= _all_of(child.growth)
        elif child.process is not None:
            fds |= _taken(child.process, "_stderr", "tty", "_tty_far")
    for run in list(tree._nursery.runs.values()):
        fds |= _all_of(run)
    for fd in fds - {-1}:
        with contextlib.suppress(OSError):
            os.close(fd)


def _taken(thing: Any, *names: str) -> set[int]:
    """These descriptors of a thing, which doesn't have them any longer. A kept node's process never had them."""
    found = {int(getattr(thing, name, -1)) for name in names}
    for name in names:
        setattr(thing, name, -1)
    return found


def _all_of(growth: Any) -> set[int]:
    """Those of what is being started."""
    found = _taken(growth, "fd_in", "fd_out")
    return found | _taken(growth.process, "_stderr", "tty", "_tty_far") if growth.process else found


def renew_locks() -> None:
    """Locks that aren't any tree's: one may have been held by a thread that isn't here."""
    for module in (channels, services, streams):
        setattr(module, "_making", compat.new_lock())  # noqa: B010
    for other in (native, staged):
        setattr(other, "_lock", compat.new_lock())  # noqa: B010
    call._MAKING = threading.RLock()
    terminal._ONE = threading.Lock()
    spawn.starting = threading.RLock()


def _wait_for_starts() -> None:
    spawn.starting.acquire()


def _go_on() -> None:
    spawn.starting.release()


os.register_at_fork(before=_wait_for_starts, after_in_parent=_go_on)
