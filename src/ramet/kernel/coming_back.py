"""Attaching: a child that isn't started but was there before, kept under a name on this machine (``held``, ``meeting``).

``Attachment`` takes the place of a ``grow.Growth`` in its parent's nursery, and ``Kept`` that of the child's process. Late part
of the kernel, for the parent. All of it runs on the keeper.
"""
import errno
import os

from ramet.kernel import compat, limits, meeting, spawn
from ramet.kernel.diagnosis import connect_error
from ramet.kernel.faults import Error
from ramet.kernel.grow import Beginning

MYPY = False
if MYPY:
    from typing import Any, Callable

REMEDY = "see the text; node.detach() and node.keep() return where a node listens, and ps shows nodes as (ramet:NAME)"

# How soon it is asked again whether it can be attached now.
again_s = 0.02

# How long what a kept node says before its link is open may be.
line_bytes_max = 1000


class Attachment(Beginning):
    """Attaches one kept node. Its plan's argv is [name or path, what names the kernel]."""

    over = False
    said = sending = first = b""    # what came and isn't taken yet; what is to be written, of all that goes first
    asked = False           # it was told what we want
    welcome = ""            # how it said that it is ours. It may say so before all is written that follows what it was told
    refused = ""            # why it couldn't be attached when we last asked
    timer = None  # type: Any

    def start(self):
        # type: () -> None
        """Begin."""
        self.timer = self.loop.call_later(self.plan["timeout_s"], self._too_late)
        self._guarded(self._begin)

    def abort(self, reason):
        # type: (Any) -> None
        """Give it up. Any thread."""
        self.loop.call_soon(self._fail, reason)

    def _too_late(self):
        # type: () -> None
        self._fail(self.refused or "it doesn't answer within %g s: it hangs, or is stopped" % self.plan["timeout_s"])

    def _guarded(self, step):
        # type: (Callable[[], Any]) -> None
        if self.over:
            return
        try:
            step()
        except (Error, OSError, IOError) as error:
            if self.over:
                raise       # it is the callee's
            self._fail(str(error))

    def _begin(self):
        # type: () -> None
        with spawn.starting:
            self.fd_in, self.pid, self.path = meeting.connect(self.plan["argv"][0])
        self.loop.watch(self.fd_in, lambda: self._guarded(self._read))

    def _read(self):
        # type: () -> None
        try:
            data = os.read(self.fd_in, 65536)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                return
            data = b""
        if not data:
            raise Error("the node at %s has closed the connection: it has just ended, or too many knock" % self.path)
        self.said += data
        while not (self.over or self.welcome) and b"\n" in self.said:
            line, _, self.said = self.said.partition(b"\n")
            self._take(line.decode("ascii", "replace"))
        if not (self.over or self.welcome) and len(self.said) > line_bytes_max:
            raise Error("what answers at %s is no node" % self.path)

    def _take(self, line):
        # type: (str) -> None
        words = line.split(" ")
        if self.asked and line in ("ok", "ok guest"):
            self.welcome = line
            if not self.sending:
                self._up()
        elif self.asked and words[0] == "no:":
            self.refused = "the node at %s can't be attached now: %s" % (self.path, line[4:])
            if line[4:] != meeting.SETTLING:
                raise Error(self.refused)
            self._again()
        elif self.asked or len(words) != 4 or words[0] != "RAMET-KEPT":
            raise Error("what answers at %s is no node" % self.path)
        elif words[1] != self.plan["argv"][1]:
            raise Error("the node at %s was grown by another version of ramet, and its kernel can't be replaced: attach to it "
                        "with that version" % self.path)
        else:
            self.asked = True
            if not self.refused:
                self._reached("answer")
                self.first = self.on_started(compat.form_of(int(words[2], 16), words[3]))
            self.sending = self.first
            self._write()

    def _again(self):
        # type: () -> None
        """Knock once more, soon: what the last program has begun over there is about to end."""
        self.loop.forget(self.fd_in)
        os.close(self.fd_in)
        self.fd_in, self.asked, self.said, self.sending = -1, False, b"", b""
        self.loop.call_later(again_s, self._guarded, self._begin)

    def _write(self):
        # type: () -> None
        try:
            while self.sending:
                self.sending = self.sending[os.write(self.fd_in, self.sending[:limits.write_bytes_max]):]
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                self.sending = b""      # why is in what can be read
        self.loop.watch_write(self.fd_in, (lambda: self._guarded(self._write)) if self.sending else None)
        if self.welcome and not self.sending:
            self._up()

    def _up(self):
        # type: () -> None
        self.over = True
        self.timer.cancel()
        self.loop.forget(self.fd_in)
        self.process = Kept(self.pid if self.welcome == "ok" else 0)    # a guest ends nobody
        self._reached("kernel")
        fd, self.fd_in = self.fd_in, -1
        self.on_up(self.process, fd, fd, self.said)

    def _fail(self, reason):
        # type: (Any) -> None
        if self.over:
            return
        self.over = True
        if self.timer:
            self.timer.cancel()
        if self.fd_in >= 0:
            self.loop.forget(self.fd_in)
            os.close(self.fd_in)
        if not isinstance(reason, BaseException):
            reason = connect_error(self.plan, {"text": reason, "remedy": REMEDY})
        self.on_failed(reason)


class Kept(object):
    """The process of a node that is attached: nobody's child here. What ``nursery`` asks of a ``spawn.Process``."""

    lent = True

    def __init__(self, pid):
        # type: (int) -> None
        self.pid = pid
        self.began = began(pid)

    def poll(self):
        # type: () -> None
        """How it ended is never known here."""

    def on_exit(self, callback):
        # type: (Any) -> None
        """Never called back."""

    def kill(self):
        # type: () -> None
        """SIGKILL to its process group, if it is still that process."""
        if self.began and began(self.pid) == self.began:
            try:
                os.kill(-self.pid, 9)
            except OSError:
                pass    # it has just ended

    def stderr_tail(self):
        # type: () -> str
        """Nothing: its stderr is its own."""
        return ""


def began(pid):
    # type: (int) -> Any
    """When a process began, as the system counts: tells it from a later one with its number. None if there is none."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stat:     # its name may be no text
            return pid > 0 and stat.read().rpartition(b")")[2].split()[19]
    except (OSError, IOError):
        return None
