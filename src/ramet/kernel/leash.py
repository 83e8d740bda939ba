"""The leash: a tiny process beside a kept node (``held``) that ends it when its time to wait for a program is over. Late part.

The node does that itself, if it can. It may be stopped then, or in C code that holds the GIL; and the guardian, which is for
such cases, looks after a kept node's link no longer. So for each link there is one leash, that watches for its end without
reading from it, and gives the node ``wait_s`` from then on. The node ends it when it has the next link. Without a ``wait_s``
there is none.
"""
import gc
import os
import select

from ramet.kernel import compat, limits
from ramet.kernel.guardian import HALF

MYPY = False
if MYPY:
    from typing import Any, List, Optional

# More than a process has descriptors.
descriptors_max = 65536


class Leash(object):
    """What a node keeps of its leash, and of the link that this watches. Main thread."""

    def __init__(self, wait_s):
        # type: (Optional[float]) -> None
        self.wait_s = wait_s
        self.pid = 0
        self.life_fd = -1       # its other end is the leash's, which sees by it that the node has ended
        self.line = None  # type: Any       # the link's socket, once more

    def tie(self, link_fd):
        # type: (int) -> None
        """Have a leash for this link, and none for the one before. Without a time there is none.

        Raises:
            OSError, IOError: there is no room for it. All is as before.
        """
        import socket
        line = socket.fromfd(link_fd, socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            compat.set_cloexec(line.fileno())
            if self.wait_s is not None:
                self.fork(link_fd, self.wait_s + limits.guardian_grace_s)
        except BaseException:
            line.close()
            raise
        self.let_go()
        self.line = line

    def fork(self, link_fd, seconds):
        # type: (int, float) -> None
        """Begin a leash in place of the one before."""
        node, fds = os.getpid(), []  # type: int, List[int]
        try:
            fds.append(os.dup(link_fd))     # before 3.7 nothing closes the link in forked children; since then it is closed
            fds += compat.pipe()
            pid = os.fork()
        except OSError:     # there is no room for it
            for fd in fds:
                os.close(fd)
            raise
        watched, read_end, life_fd = fds
        if not pid:
            try:
                watch_over(node, watched, read_end, seconds)
            finally:
                os._exit(0)
        os.close(watched)
        os.close(read_end)
        self.loose()        # not before: where there is no room for this one, that one stays
        self.life_fd, self.pid = life_fd, pid       # another thread may fork in between: see ``forget``

    def loose(self):
        # type: () -> None
        """Have no leash any more."""
        pid, self.pid = self.pid, 0
        if pid:
            try:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
            except OSError:
                pass    # a function has waited for all children
            os.close(self.life_fd)

    def let_go(self):
        # type: () -> None
        """Have no part in the link any more."""
        if self.line:
            self.line.close()

    def forget(self):
        # type: () -> None
        """In a forked child: neither link nor leash is its own. A child that outlives the node would keep both."""
        self.let_go()
        if self.pid:
            self.pid = 0
            os.close(self.life_fd)

    def hang_up(self):
        # type: () -> None
        """Let the program, if it is there, hear that its link is given up: nothing is heard when the node alone closes what it
        has of that, since guardian and leash have it, too. On the keeper.
        """
        try:
            self.line.shutdown(2)
        except (OSError, IOError):
            pass    # it is gone
        self.let_go()


def watch_over(node, link_fd, life_fd, wait_s):
    # type: (int, int, int, float) -> None
    """Be the leash, until the node ends or has to."""
    gc.disable()    # a collection would touch, and so copy, all memory
    os.setsid()
    for number in 1, 2, 3, 15:      # SIGHUP, SIGINT, SIGQUIT, SIGTERM
        compat.signal.signal(number, compat.signal.SIG_IGN)
    low = 0
    for fd in sorted([link_fd, life_fd]) + [descriptors_max]:
        os.closerange(low, fd)
        low = fd + 1
    end = 0.0
    while os.getppid() == node:
        poller = select.poll()
        poller.register(life_fd, 0)
        if not end:
            poller.register(link_fd, HALF)
        elif compat.monotonic() >= end:
            os.kill(-node, 9)
            return
        try:
            ready = [fd for fd, _ in poller.poll(max(0, end - compat.monotonic()) * 1000 + 1 if end else None)]
        except select.error:    # 2.7, when it was stopped and goes on
            continue
        if life_fd in ready:
            return
        if link_fd in ready:
            end = compat.monotonic() + wait_s
