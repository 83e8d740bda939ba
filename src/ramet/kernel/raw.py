"""``RawRun``: one command run over a connector's program where there may be no Python. Late part of the kernel, on the keeper.

The plan's command line ends in ``sh`` with a short program (``ramet.raw`` makes it) that says the marker ``\\nRAMET0\\n`` on
stdout and on stderr, and then executes the command. What comes before is the connecting: questions, banners, errors by the
plan's rules. What comes behind is the command's own.

=============  =======================================  ====================================================
phase          ends with                                meanwhile
=============  =======================================  ====================================================
CONNECTING     the marker on stdout                     questions are answered; other output is a banner
RUNNING        the program's end                        input is written, the ends of both outputs are kept
OVER           ``done``, once                           killed if need be, waited for, descriptors closed
=============  =======================================  ====================================================
"""
import errno
import os
import sys

from ramet.kernel import dialogue, limits, limits_late, settling, spawn
from ramet.kernel.diagnosis import EXITS, connect_error
from ramet.kernel.errors import CallTimeout, ConnectError
from ramet.kernel.questions import Questions

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Optional

    from ramet.kernel.loop import Loop, Timer  # noqa: F401  (in type comments)

CONNECTING, RUNNING, OVER = range(3)

MARKER = b"\nRAMET0\n"

# How long a killed program is waited for before its end is told anyway.
kill_grace_s = 3.0


class RawRun(object):
    """Runs one command.

    Args:
        plan: with the command in place of an interpreter.
        data: its input, then comes its end.
        timeout_s: how long the command itself may run; None: for ever.
        keep_bytes: of each output, how much of its end is kept.
        done: called once with (error, None), or (None, [status, stdout, stderr, whether something was dropped]).
        on_question: as ``questions.Questions`` takes it.
    """

    def __init__(self, loop, plan, data, timeout_s, keep_bytes, done, on_question):
        # type: (Loop, Dict[str, Any], bytes, Optional[float], int, Callable[[Any, Any], Any], Any) -> None
        self.loop = loop
        self.plan = plan
        self.data = data
        self.sent_bytes = 0
        self.timeout_s = timeout_s
        self.done = done
        self.on_question = on_question
        self.phase = CONNECTING
        self.process = None  # type: Optional[spawn.Process]
        self.questions = None  # type: Optional[Questions]
        self.timer = None  # type: Optional[Timer]
        self.fd_in = self.fd_out = -1
        self.said = dialogue.Tail(limits.tail_bytes_max)     # before the marker
        self.asked = dialogue.Tail(limits.tail_bytes_max)
        self.received = b""
        self.heard = b""            # on stderr, before its marker
        self.marked = False         # it has come there, too
        self.out, self.err = dialogue.Tail(keep_bytes), dialogue.Tail(keep_bytes)
        self.result = None  # type: Any

    def start(self):
        # type: () -> None
        """Begin, unless it was given up meanwhile. On the keeper."""
        if self.phase == OVER:
            return
        try:
            self.plan = plan = settling.settled(self.plan)
            self.questions = Questions(self.loop, plan, self._type, self._fail_for, self._too_late, self.on_question)
            with spawn.starting:
                self.process = process = spawn.Process(self.loop, plan)
                self.fd_in, self.fd_out = process.fd_in, process.fd_out
        except ConnectError as error:
            self._end(error)
            return
        except Exception as error:      # a rule's pattern that this Python can't read: no timer runs yet
            self._fail_for({"text": "it failed in an unforeseen way: %r" % error})
            return
        process.on_stderr = self._stderr
        process.on_tty = self._tty
        process.on_exit(self._ended)
        self.loop.watch(self.fd_in, self._readable)

    def abort(self, reason):
        # type: (str) -> None
        """Give it up. Any thread; harmless when it is over."""
        self.loop.call_soon(self._fail_for, {"text": reason})

    # ------------------------------------------------------------------ what comes

    def _tty(self, data):
        # type: (bytes) -> None
        self.asked.add(data)
        if self.phase == CONNECTING and self.fd_in >= 0:
            self._readable()        # the marker may be there by now: then it is the command that asks
        self.questions.heard("tty", data)  # type: ignore[union-attr]

    def _stderr(self, data):
        # type: (bytes) -> None
        if self.marked:
            self.err.add(data)
            return
        self.heard = self.heard[-limits.tail_bytes_max:] + data
        at = self.heard.find(MARKER)
        if at >= 0:
            self.marked = True
            self.err.add(self.heard[at + len(MARKER):])
        else:
            self.questions.heard("stderr", data)  # type: ignore[union-attr]

    def _readable(self):
        # type: () -> bool
        """Read once; whether there was something."""
        data = spawn.read_now(self.fd_in)
        if data == b"":
            self.loop.forget(self.fd_in)
            self.process.look()  # type: ignore[union-attr]
        elif data and self.phase == RUNNING:
            self.out.add(data)
        elif data:
            self._banner(data)
        return bool(data)

    def _banner(self, data):
        # type: (bytes) -> None
        self.received += data
        at = self.received.find(MARKER)
        if at >= 0:
            self.said.add(self.received[:at])
            self._runs(self.received[at + len(MARKER):])
        else:
            self.said.add(self.received[:-len(MARKER)])
            self.received = self.received[-len(MARKER):]
            self.questions.heard("output", data)  # type: ignore[union-attr]

    def _runs(self, data):
        # type: (bytes) -> None
        self.phase = RUNNING
        self.questions.close()  # type: ignore[union-attr]
        if data[:len(MARKER)] == MARKER:    # stderr goes there, too
            data, self.marked = data[len(MARKER):], True
        self.out.add(data)
        if self.timeout_s is not None:
            self._wait(self.timeout_s)
        self._write()

    def _wait(self, left):
        # type: (float) -> None
        if left > 0:
            now = min(left, limits_late.wait_s_max)
            self.timer = self.loop.call_later(now, self._wait, left - now)
        else:
            self._took_too_long()

    # ------------------------------------------------------------------ what goes

    def _type(self, data):
        # type: (bytearray) -> bool
        if self.process.tty >= 0:  # type: ignore[union-attr]
            return self.process.answer(data)  # type: ignore[union-attr,no-any-return,unused-ignore]
        try:
            return os.write(self.fd_out, data) == len(data)     # the first bytes in a pipe: there is room
        except OSError:
            return False

    def _write(self):
        # type: () -> None
        """Write what the pipe takes; then close it."""
        try:
            while self.sent_bytes < len(self.data):
                self.sent_bytes += os.write(self.fd_out, self.data[self.sent_bytes:self.sent_bytes + limits.write_bytes_max])
        except OSError:
            if sys.exc_info()[1].errno in (errno.EAGAIN, errno.EINTR):  # type: ignore[union-attr]
                self.loop.watch(self.fd_out, None, self._write)
                return
        self.data = b""
        self._close("fd_out")

    # ------------------------------------------------------------------ the end

    def _ended(self, status):
        # type: (int) -> None
        for _ in range(64):     # what is left in the pipe, but not what others may go on writing
            if self.phase == OVER or not self._readable():
                break
        if self.phase == RUNNING:
            self.result = [status, self.out.data, self.err.data, self.out.cut or self.err.cut]
            self._end(None)
        elif self.phase == CONNECTING:
            self.questions.hear_out()  # type: ignore[union-attr]
        if self.phase == CONNECTING:
            rule = dialogue.verdict(list(self.plan.get("rules") or ()) + EXITS, status, self._seen()) or {
                "text": "it ended before the command was started"}
            if rule.get("error") == "PythonNotFoundError":      # of all that is there, sh alone is needed
                rule = {"stage": "start", "text": "there is no sh over there, which starts the command",
                        "remedy": "see the last lines"}
            self._fail_for(rule, status)

    def _took_too_long(self):
        # type: () -> None
        said = dialogue.to_text((self.out.data + self.err.data)[-2000:]).strip()
        self._end(CallTimeout("%s: the command took longer than %g s%s" % (
            self.plan.get("what"), self.timeout_s or 0, "; it said last: " + said if said else "")))

    def _too_late(self):
        # type: () -> None
        self.questions.hear_out()  # type: ignore[union-attr]
        self._fail_for({"text": "the command wasn't started within %g s" % self.plan["timeout_s"], "again": True,
                        "remedy": "see the last lines, if there are any; or allow more time: connect_timeout_s="})

    def _seen(self):
        # type: () -> str
        said = [self.asked.text(), self.said.text() + dialogue.to_text(self.received)]
        said.append(dialogue.to_text(b"" if self.marked else self.heard))
        return "\n".join([text.strip("\n") for text in said if text.strip()])

    def _fail_for(self, rule, status=None):
        # type: (Dict[str, Any], Optional[int]) -> None
        if self.phase != OVER:
            self._end(connect_error(self.plan, rule, status, self._seen()))

    def _close(self, which):
        # type: (str) -> None
        fd = getattr(self, which)
        if fd >= 0:
            setattr(self, which, -1)
            self.loop.forget(fd)
            os.close(fd)

    def _end(self, error):
        # type: (Any) -> None
        if self.phase == OVER:
            return
        self.phase = OVER
        self._close("fd_in")
        self._close("fd_out")
        if self.timer:
            self.timer.cancel()
        process = self.process
        if process:
            process.let_go()
        if self.questions:
            self.questions.close()
        if process is None or process.poll() is not None:
            self._report(error)
        else:
            process.on_exit(lambda status: self._report(error))
            process.kill()
            self.loop.call_later(kill_grace_s, self._report, error)

    def _report(self, error):
        # type: (Any) -> None
        done, self.done = self.done, lambda *_: None
        done(error, self.result)
