"""Growth: from a plan to a running kernel on the other end of a link, or to an error that says why not.

One ``Growth`` grows one child: it starts the plan's program, plays its dialogue, waits for the first stage's marker, sends
the kernel in the form that the interpreter over there takes, and waits for the kernel's marker. It must not know what a
node does, or of any connector. All of it runs on the keeper and never waits; hundreds go on at once.

=============  ===================================  ======================================================
phase          ends with                            meanwhile
=============  ===================================  ======================================================
ANSWERING      marker 1: an interpreter runs        questions are answered; other output is a banner
STARTING       marker 2: the kernel runs            the kernel is written; the answers are over
OVER           ``on_up`` or ``on_failed``, once     a failed one: killed, waited for, descriptors closed
=============  ===================================  ======================================================

Where the form of code is known from the beginning (the same interpreter as this one), it begins with STARTING.
"""
import errno
import os
import re
import sys

from ramet.kernel import compat, dialogue, limits, settling, spawn
from ramet.kernel.diagnosis import EXITS, connect_error
from ramet.kernel.errors import ConnectError
from ramet.kernel.questions import Questions

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Optional, Union

    from ramet.kernel.loop import Loop

ANSWERING, STARTING, OVER = range(3)

MARKERS = (re.compile(b"\nRAMET1 ([0-9a-f]{1,8}) ([a-z])\r?\n"), re.compile(b"\nRAMET2\r?\n"))

# The remedy where nothing better is known.
_LOOK = "see the last lines; then run the command there by hand: it must start a Python, and hand on its input and output"

# Longer than any marker: what is kept of a read's end, where one may have begun.
marker_bytes_max = 32

# How long a program may go on running when it has closed its side of the link, before it is taken for what it is.
end_grace_s = 2.0

# How long a failed growth waits for its killed program before it reports anyway. A program in the middle of a system
# call that can't be interrupted (a dead NFS) stays longer; it is waited for in the background.
kill_grace_s = 3.0


class Beginning(object):
    """Begins one child, in whatever way. What a nursery knows of it, and what all kinds have in common.

    Args:
        plan: from a connector.
        payload: form -> loader and kernel, ready to send.
        on_started: called with (form) when that is known, before the payload is written; returns what to send behind it.
        on_up: called with (process, fd_in, fd_out, data): it runs. The descriptors (non-blocking; the same one for a
            socket) are the callee's from then on, ``data`` was read behind the marker.
        on_failed: called with (error) when nothing is left of it. One of the two is called, once, on the keeper.
        on_question: who is asked for secrets that the plan doesn't have, as ``questions.Questions`` takes it.

    Attributes:
        process: once there is one.
        fd_in, fd_out: the link's, as long as they are this one's to close; -1: none.
        steps: what was reached, and when: seconds since it began.
    """

    process = None  # type: Any
    fd_in = fd_out = -1

    def __init__(self, loop, plan, payload, on_started, on_up, on_failed, on_question=None):
        # type: (Loop, Dict[str, Any], Callable[[str], bytes], Callable[[str], bytes], Callable[..., Any], Callable[[Any], Any], Any) -> None  # noqa: E501
        self.loop = loop
        self.plan = plan
        self.payload = payload
        self.on_started = on_started
        self.on_up = on_up
        self.on_failed = on_failed
        self.on_question = on_question
        self.steps = {}  # type: Dict[str, float]
        self.began = loop.now()

    def _reached(self, step):
        # type: (str) -> None
        self.steps[step] = round(self.loop.now() - self.began, 4)


class Growth(Beginning):
    """Grows one child."""

    process = None  # type: Optional[spawn.Process]
    phase = ANSWERING
    questions = None  # type: Optional[Questions]
    error = None  # type: Optional[BaseException]
    sending = received = b""
    sent_bytes = 0      # of ``sending``
    skipped_bytes = 0
    closed = False      # the program has closed its side of the link
    ready = False       # marker 2 was seen

    def __init__(self, *args, **more):
        # type: (*Any, **Any) -> None
        Beginning.__init__(self, *args, **more)
        self.said = dialogue.Tail(limits.tail_bytes_max)        # on stdout, before the markers
        self.asked = dialogue.Tail(limits.tail_bytes_max)       # on the terminal

    def start(self):
        # type: () -> None
        """Begin. Any thread."""
        self.loop.call_soon(self._guarded, self._begin)

    def abort(self, reason):
        # type: (Union[str, BaseException]) -> None
        """Give it up, whatever it is at; ``on_failed`` is called with the error, or with a ConnectError for a text. Any
        thread; harmless when it is over."""
        self.loop.call_soon(self._abort, reason)

    def _abort(self, reason):
        # type: (Union[str, BaseException]) -> None
        if isinstance(reason, BaseException):
            self._fail(reason)
        else:
            self._fail_for({"text": reason})

    def _guarded(self, step, *args):
        # type: (Callable[..., Any], Any) -> None
        """Do a step. Whatever it raises ends the growth: a broken rule, a payload that can't be made."""
        if self.phase == OVER:
            return
        try:
            step(*args)
        except ConnectError as error:
            self._fail(error)
        except Exception as error:
            if self.phase == OVER:
                raise       # it is the callee's
            self._fail_for({"text": "it failed in an unforeseen way: %r" % error})

    def _begin(self):
        # type: () -> None
        self.began = self.loop.now()
        self.plan = plan = settling.settled(self.plan)
        self.questions = Questions(self.loop, plan, self._type, self._fail_for, self._too_late, self.on_question)
        with spawn.starting:
            self.process = process = spawn.Process(self.loop, plan)
            self.fd_in, self.fd_out = process.fd_in, process.fd_out
        self._reached("start")
        process.on_stderr = self._heard_stderr
        process.on_tty = self._heard_tty
        process.on_exit(self._ended)
        if plan.get("form"):
            self._send_kernel(plan["form"])
        self._watch()

    # ------------------------------------------------------------------ questions

    def _heard_stderr(self, data):
        # type: (bytes) -> None
        self._guarded(self._answer, "stderr", data)

    def _heard_tty(self, data):
        # type: (bytes) -> None
        self.asked.add(data)
        self._guarded(self._answer, "tty", data)

    def _answer(self, source, data):
        # type: (str, bytes) -> None
        self.questions.heard(source, data)  # type: ignore[union-attr]

    def _type(self, data):
        # type: (bytearray) -> bool
        """Answer a question: on the terminal, or where there is none, on the link, on which nothing else is yet."""
        self._reached("answer")
        if self.process.tty >= 0:  # type: ignore[union-attr]
            return self.process.answer(data)  # type: ignore[union-attr,no-any-return,unused-ignore]
        self._send(bytes(data))
        return True

    # ------------------------------------------------------------------ the link

    def _watch(self):
        # type: () -> None
        """Tell the loop what is of interest now. When marker 2 was seen, what follows is the link's, not ours."""
        reading = None if self.ready or self.closed else self._readable
        writing = self._writable if self.sending and not self.closed else None
        if self.fd_in == self.fd_out:
            self.loop.watch(self.fd_in, reading, writing)
        else:
            self.loop.watch(self.fd_in, reading)
            self.loop.watch(self.fd_out, None, writing)

    def _send(self, data):
        # type: (bytes) -> None
        self.sending += data
        self._write()

    def _send_kernel(self, form):
        # type: (str) -> None
        self.phase = STARTING
        self.questions.stop()  # type: ignore[union-attr]
        kernel = self.payload(form)
        self._send(kernel + self.on_started(form))

    def _writable(self):
        # type: () -> None
        self._guarded(self._write)

    def _write(self):
        # type: () -> None
        """Write what the descriptor takes."""
        try:
            while self.sent_bytes < len(self.sending):
                end = self.sent_bytes + limits.write_bytes_max
                self.sent_bytes += os.write(self.fd_out, self.sending[self.sent_bytes:end])
        except OSError:
            if sys.exc_info()[1].errno not in (errno.EAGAIN, errno.EINTR):  # type: ignore[union-attr]
                self._no_more()
        else:
            self.sending, self.sent_bytes = b"", 0
        self._watch()
        self._up_if_done()

    def _no_more(self):
        # type: () -> None
        """The program has closed the link, or its half of it. What else it says, or how it ends, tells why."""
        self.closed = True
        self.process.look()  # type: ignore[union-attr]
        self.loop.call_later(end_grace_s, self._still_there)

    def _readable(self):
        # type: () -> None
        self._guarded(self._read)

    def _read(self):
        # type: () -> bool
        """Read once; whether there was something."""
        data = spawn.read_now(self.fd_in)
        if data:
            self._received(data)
        elif data is not None:
            self._no_more()
            self._watch()
        return bool(data)

    def _received(self, data):
        # type: (bytes) -> None
        self.received += data
        marker = MARKERS[0].search(self.received) if self.phase == ANSWERING else None
        if marker:
            self._skip(marker.start(), marker.end())
            self._interpreter_runs(int(marker.group(1), 16), marker.group(2).decode("ascii"))
        if self.phase == STARTING:
            marker = MARKERS[1].search(self.received)
            if marker:
                self._skip(marker.start(), marker.end())
                self.ready = True
                self._reached("kernel")
                self._watch()
                self._up_if_done()
        if self.phase != OVER and not self.ready:
            answered = self.phase == ANSWERING
            self._skip(max(0, len(self.received) - marker_bytes_max))
            if self.skipped_bytes > limits.banner_bytes_max:
                self._fail_for({"stage": "bootstrap", "remedy": _LOOK, "text":
                                "more than %d MB came that aren't an interpreter's answer" % (limits.banner_bytes_max >> 20)})
            elif answered:
                self._answer("output", data)

    def _skip(self, end, behind=None):
        # type: (int, Optional[int]) -> None
        """Drop the bytes up to ``end``, keeping the last of them for diagnosis, and what is between there and ``behind``."""
        self.said.add(self.received[:end])
        self.skipped_bytes += end
        self.received = self.received[end if behind is None else behind:]

    def _interpreter_runs(self, version, implementation):
        # type: (int, str) -> None
        self._reached("python")
        if version < 0x02070000 or 0x03000000 <= version < 0x03060000:
            self._fail_for({
                "error": "PythonNotFoundError", "stage": "find-python",
                "text": "the interpreter over there is Python %d.%d, which is too old" % (version >> 24, version >> 16 & 255),
                "remedy": "say where a Python 2.7, or 3.6 or newer, is: python="})
        else:
            self._send_kernel(compat.form_of(version, implementation))

    def _up_if_done(self):
        # type: () -> None
        if not self.ready or self.sending or self.closed or self.phase == OVER:
            return
        self._finish()
        self.process.let_go()  # type: ignore[union-attr]
        self.questions.close()  # type: ignore[union-attr]
        self.on_up(self.process, self.fd_in, self.fd_out, self.received)

    # ------------------------------------------------------------------ failing

    def _too_late(self):
        # type: () -> None
        self._guarded(self.questions.hear_out)  # type: ignore[union-attr]
        before = self.phase == ANSWERING
        what = "no interpreter answered" if before else "the kernel did not start over there"
        rule = {"text": "%s within %g s" % (what, self.plan["timeout_s"]), "again": True,
                "remedy": "see the last lines, if there are any; or allow more time: connect_timeout_s="}
        question = self.asked.text().rpartition("\n")[2].strip()
        if (self.said.data + self.received).strip():
            rule["stage"] = "bootstrap"
        rule.update(dialogue.verdict(self.plan.get("rules") or (), None, self._seen(), "late") or {})
        if before and question:
            rule.update({"text": "it asks what there is no answer to: " + question[-200:], "again": False})
        self._fail_for(rule)

    def _still_there(self):
        # type: () -> None
        text = "it closed its output before a kernel ran there, and runs on"
        self._fail_for({"stage": "bootstrap", "text": text, "remedy": _LOOK})

    def _ended(self, status):
        # type: (int) -> None
        """The program has ended. Its last words may hold both markers' worth of news: read them first."""
        try:
            while self.phase != OVER and not self.ready and self._read():
                pass
        except Exception:
            pass    # the end is reported below
        self._guarded(self.questions.hear_out)  # type: ignore[union-attr]
        before = self.phase == ANSWERING
        seen, rules = self._seen(), list(self.plan.get("rules") or ())
        rule = dialogue.verdict(rules + EXITS, status, seen) or dialogue.verdict(rules, status, seen, "else")
        if rule is None:
            text = "it ended before a kernel ran there"
            if before and self.said.data.strip():
                text = "something else than a Python interpreter answered"
            rule = {"stage": "bootstrap", "text": text, "remedy": _LOOK}
        self._fail_for(rule, status)

    def _seen(self):
        # type: () -> str
        """What it said everywhere, for people to read."""
        self.said.add(self.received)
        self.received = b""
        said = [self.asked.text(), self.said.text()]
        return "\n".join(text.strip("\n") for text in said + [self.process.stderr_tail()] if text.strip())  # type: ignore

    def _fail_for(self, rule, status=None):
        # type: (Dict[str, Any], Optional[int]) -> None
        if self.phase == STARTING:
            rule = dict(rule, stage="bootstrap")
        if self.phase != OVER:
            seen = self._seen() if self.process else ""
            self._fail(connect_error(self.plan, rule, status, seen))

    def _finish(self):
        # type: () -> None
        self.phase = OVER
        self.sending = b""
        for fd in set((self.fd_in, self.fd_out)) - set((-1,)):
            self.loop.forget(fd)

    def _fail(self, error):
        # type: (BaseException) -> None
        """End all that there is of it, then report."""
        if self.phase == OVER:
            return
        self._finish()
        self.error = error
        for fd in set((self.fd_in, self.fd_out)) - set((-1,)):
            os.close(fd)
        self.fd_in = self.fd_out = -1
        if self.process:
            self.process.let_go()
        if self.questions:
            self.questions.close()
        if self.process is None:
            self._report()
        else:
            self.process.on_exit(self._report)
            self.process.kill()
            self.loop.call_later(kill_grace_s, self._report)

    def _report(self, status=None):
        # type: (Optional[int]) -> None
        error, self.error = self.error, None
        if error is not None:
            self.on_failed(error)
