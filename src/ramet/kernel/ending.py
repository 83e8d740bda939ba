"""The end of a node's output and of its guardian. Late part of the kernel: ``later`` needs it. Main thread."""
import errno
import os
import sys
import time

from ramet.kernel import compat, guardian

MYPY = False
if MYPY:
    from typing import List

    from ramet.kernel.output import Forwarder

spared = []  # type: List[str]      # process ids in our group that we may not kill


def finish(forwarder, end):
    # type: (Forwarder, float) -> None
    """End the node's other processes, and return when all that was written is sent, or at a time by ``compat.monotonic``.

    Descriptors 1 and 2 can't be written to after this.
    """
    wake_guardian()

    def send_all():
        # type: () -> None
        forwarder.sent -= 1 << 60       # all that is left is sent, shown or not. Only the keeper writes this
        forwarder.watch()
    forwarder.loop.call_soon(send_all)
    for file in sys.stdout, sys.stderr:
        try:
            if hasattr(file, "end"):
                file.end()
            getattr(file, "buffer", file).flush()   # also what a print had left that was interrupted
        except Exception:
            pass    # it is somebody's own, and broken
    sweep_group()
    os.dup2(0, 1)
    os.dup2(0, 2)
    while max(forwarder.fds) >= 0 and compat.monotonic() < end:
        time.sleep(0.001)


def sweep_group():
    # type: () -> None
    """SIGKILL to all others of this process group. Where /proc is empty (a bare chroot), SIGTERM, which this one ignores.

    Those that may not be killed, of another user now, are left to the guardian.
    """
    node = os.getpid()
    spare = [node] + guardian.life[2:3]     # on a busy machine the guardian may not have left the group yet
    if not os.path.exists("/proc/self"):
        compat.signal.signal(15, compat.signal.SIG_IGN)
        os.kill(-node, 15)
        return
    for name in os.listdir("/proc"):
        try:
            pid = int(name)
            if pid not in spare and os.getpgid(pid) == node:
                os.kill(pid, 9)
        except OSError as error:
            if error.errno == errno.EPERM:
                spared.append(name)
        except ValueError:
            pass    # it isn't a process


def tell_guardian(word):
    # type: (int) -> None
    """Say a word to the guardian. Any thread. A process group is named twice: when it begins and, before its leader's id may be
    given to another, when it has ended."""
    try:
        os.write(guardian.life[1], b"%d " % word)
    except (OSError, IndexError):
        pass    # somebody has killed it; this is a forked child


def wake_guardian():
    # type: () -> None
    """Let the guardian go on if it was stopped: the last output goes through it, it ends what the node can't. Any thread."""
    try:
        os.kill(guardian.life[2], compat.signal.SIGCONT)
    except (OSError, IndexError):
        pass    # somebody has killed it; this is a forked child


def leave():
    # type: () -> None
    """End the guardian, since the node is about to end by itself, and wait for it and for children that have ended."""
    for disarm in guardian.life[3:]:
        disarm()
    if not spared:
        tell_guardian(os.getpid())
    try:
        os.close(guardian.life[1])      # which it takes for our end
        os.waitpid(guardian.life[2], 0)
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except (OSError, IndexError):
        pass    # there are no more
