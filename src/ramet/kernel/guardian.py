"""The guardian: a tiny process beside each node that ends it when nothing inside it can, and that drains its output.

A node forks it before its first thread. It lives in a session of its own, so what stops or interrupts the node's process
group doesn't reach it, and has no thread, lock or garbage collection. It waits in ``poll`` and wakes up only when

- the link hangs up: it gives the node ``grace_s`` to go by itself, then SIGKILLs its process group. That ends a stopped
  node, and one that holds the GIL in C code;
- the node dies, seen by a pipe whose other end only the node holds: it SIGKILLs the group, so the node's subprocesses go,
  too;
- the node says a word, a number in that pipe: a process group that goes when the node dies, and said again, one that doesn't;
  the node's own is one of these from the beginning (late part ``ending``). One that there can't be says no more
  than that the node runs, and doesn't read its output since the controller hasn't shown what was sent: so writers wait. One
  of these, 100,000,000, says once and for all that the node shall outlive its link (late part ``held``);
- it is time to look after the node, if there is a keepalive. One that is stopped for too long is ended. For one that runs, but
  doesn't read its link from one look to the next, it *vouches*, by a zero byte on the stderr that the node had at its start,
  which the parent reads: it may be in C code that holds the GIL;
- there is output. Descriptors 1 and 2 of the node are pipes that the guardian reads, so C code that prints while it holds
  the GIL never waits for a thread that needs it. It passes on what it reads through a second pipe each. When that is full
  it stops reading, so a writer waits; but when the node has neither read nor said a word for ``stall_s``, output is dropped,
  counted, and the count told in the stream when it flows again.

Should the guardian itself be killed, the node's group is, too: see ``later.end_with_guardian``.

``start`` is for the node's main thread. Must not know what the bytes on the link mean.
"""
import errno
import gc
import os
import select
import sys

from ramet.kernel import compat
from ramet.kernel.loop import IN, OUT, Poll

MYPY = False
if MYPY:
    from typing import Any, List, Tuple

# For a socket, of which only one direction is shut. Python knows it since 3.7, where the system has it.
HALF = getattr(select, "POLLRDHUP", 0x2000 if sys.platform[:5] == "linux" else 0)

# How long output waits for a node that doesn't read it.
stall_s = 5

# Without os.register_at_fork (before 3.7) a forked child of the node keeps the life pipe open; so there the guardian looks
# after its parent's pid once in a while.
look_s = -1 if hasattr(os, "register_at_fork") else 2

# In a node: the write ends of a pipe by which ``later`` sees the guardian's death, and of that for words; the guardian's pid;
# and what ``later`` put behind, to be called before it quits.
life = []  # type: List[Any]


def start(link_fd, grace_s, keepalive=None):
    # type: (int, float, Any) -> Tuple[int, int]
    """Fork the guardian and turn descriptors 0, 1 and 2 of this process into /dev/null and its pipes.

    Args:
        link_fd: what is read from the parent. The write end must not be descriptor 1.
        grace_s: how long the node has to end by itself when the link is lost, in seconds.
        keepalive: how often to look after the node, and how long it may be silent, in seconds; or None.

    Returns:
        what to read the node's own stdout and stderr from: non-blocking.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    while null < 3:
        null = os.dup(null)
    node = os.getpid()
    if os.getpgrp() != node:
        os.setpgid(0, 0)
    pipes = [compat.pipe() for _ in range(6)]
    getattr(gc, "freeze", int)()    # a collection here would unshare 1.5 MB. Since 3.7
    pid = os.fork()
    if not pid:
        try:
            guard(node, grace_s, link_fd, pipes, keepalive)
        finally:
            os._exit(0)
    for n in 1, 2:
        compat.set_blocking(pipes[n][1], True)
        os.dup2(pipes[n][1], n)
    os.dup2(null, 0)
    for fd in [null, pipes[0][0], pipes[3][1], pipes[4][1], pipes[5][0]] + list(pipes[1] + pipes[2]):
        os.close(fd)
    life[:] = pipes[0][1], pipes[5][1], pid
    if look_s < 0:
        os.register_at_fork(after_in_child=forget)
    return pipes[3][0], pipes[4][0]


def forget():
    # type: () -> None
    """In a forked child of the node: let go of the pipes."""
    for fd in life[:2]:
        os.close(fd)
    del life[:]


# ---------------------------------------------------------------------- in the guardian

class Relay(object):
    """One of the node's output streams, on its way from the node to the node."""

    def __init__(self, fd_in, fd_out):
        # type: (int, int) -> None
        self.fd_in = fd_in
        self.fd_out = fd_out
        self.data = b""         # read, not written yet
        self.dropped = 0
        self.since = 0.0        # when some of the data was last read or written
        self.reads = True

    def wants(self, poller, now):
        # type: (Any, float) -> float
        """Register what it waits for. Returns after how many seconds it must be looked at anyway, if that is positive."""
        left = 0.0
        if self.data:
            left = self.since + stall_s - now
            poller.register(self.fd_out, OUT)
        self.reads = left <= 0 <= self.fd_in
        if self.reads:
            poller.register(self.fd_in, IN)
        return left

    def move(self, now, heard):
        # type: (float, bool) -> bool
        """Pass on what can be passed on now. Returns False at the end: the writers are gone and all is read, or the reader.

        Args:
            heard: the node has said something, so what doesn't read isn't behind the GIL.
        """
        if heard and self.data:
            self.since = now
            self.reads = False
        try:
            if self.reads:
                data = os.read(self.fd_in, 65536)
                if not data:
                    self.fd_in = -1
                if self.data:
                    self.dropped += len(data)
                else:
                    self.data = data
                    self.since = now
        except OSError:
            pass    # there is nothing to read
        try:
            if self.data:
                self.data = self.data[os.write(self.fd_out, self.data):]
                self.since = now
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self.data = b""
                self.fd_in = -1
        if self.dropped and not self.data:
            self.data = ("\n[ramet: %d bytes of output dropped]\n" % self.dropped).encode()
            self.dropped = 0
        if self.data or self.fd_in >= 0:
            return True
        os.close(self.fd_out)
        return False


def guard(node, grace_s, link_fd, pipes, keepalive):
    # type: (int, float, int, Any, Any) -> None
    """Be the guardian of a process, until one of the two ends."""
    gc.disable()    # a collection would touch, and so copy, all memory
    os.setsid()
    for number in 1, 2, 3, 15:      # SIGHUP, SIGINT, SIGQUIT, SIGTERM
        compat.signal.signal(number, compat.signal.SIG_IGN)
    words, groups = pipes[5][0], {node}
    relays = [Relay(pipes[n][0], pipes[n + 2][1]) for n in (1, 2)]
    low = unread = stopped = 0      # the latter two: at how many looks in a row
    keepalive = os.fstat(1) != os.fstat(2) and keepalive    # else the link is there, too
    for fd in sorted([2, pipes[0][0], words, link_fd] + [fd for one in relays for fd in (one.fd_in, one.fd_out)]) + [1024]:
        os.closerange(low, fd)
        low = fd + 1
    end, look = 0.0, keepalive and compat.monotonic() + keepalive[0]    # when the grace is over; when to look after the node
    while True:
        now = compat.monotonic()
        poller = Poll()
        poller.register(words, IN)
        if not end:
            poller.register(link_fd, HALF)
        waits = [wait for wait in [look_s] + [relay.wants(poller, now) for relay in relays] if wait > 0]
        waits += [max(0, when - now) for when in (end, look) if when]
        try:
            ready = [fd for fd, _ in poller.poll(min(waits) * 1000 + 1 if waits else None)]
        except select.error:    # 2.7, when it was stopped and goes on
            continue
        now = compat.monotonic()
        if words in ready:
            said = os.read(words, 65536).split()
            if not said:
                break
            for word in map(int, said):     # whole ones: each was written at once
                groups ^= {word}
            if 1e8 in groups:   # it is kept: this one doesn't hang up
                link_fd, end = pipes[0][0], 0
        if link_fd in ready:
            end = now + grace_s
        if look and now >= look:
            look = now + keepalive[0]
            poller = Poll()
            poller.register(link_fd, IN)
            poller.register(2, OUT)
            unread = len(poller.poll(0)) > 1 and unread + 1
            try:
                with open("/proc/%d/stat" % node) as stat:
                    stopped = ") T " in stat.read() and stopped + 1
                if stopped * keepalive[0] > 2 * keepalive[1]:   # its parent, who can say why, comes first
                    break
                if unread > 1 and not stopped:
                    os.write(2, b"\0")
            except Exception:
                pass    # no /proc; nobody reads that
        if end and now >= end or os.getppid() != node:
            break
        relays = [relay for relay in relays if relay.move(now, words in ready)]
    for group in groups:
        try:
            os.kill(-group, 9)
        except OSError:
            pass    # it has ended
