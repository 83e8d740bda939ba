"""Spawning: the program of a plan, started and looked after until it has ended and been waited for.

Must not know what is said over the link; ``grow`` does. A ``Process`` is made on the keeper and calls back there; ``poll``,
``kill``, ``on_exit`` and ``stderr_tail`` may be called by any thread. Nothing here waits for the program.

The shapes: "socket": a socketpair is the program's stdout, in both directions, and its stdin is a pipe that already holds
the stub program, so an interpreter is started once and needs no other inherited descriptor than 0 to 2. "pipes": stdin and
stdout are the link. "pipes+tty": the same with a terminal that controls the session, for questions.

Every program leads a session of its own: Ctrl-C at the user's terminal doesn't reach it, and one signal reaches all of it.
"""
import errno
import os
import sys

from ramet.kernel import compat, compat_late, dialogue, limits, limits_late
from ramet.kernel.diagnosis import connect_error, open_files_max, open_files_spared, start_error
from ramet.kernel.settling import find_program

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

    from ramet.kernel.loop import Loop, Timer  # noqa: F401  (in type comments)
    Plan = Dict[str, Any]

# Held while one is started, so that the program doesn't fork meanwhile.
starting = compat.new_lock()  # type: Any

# How often an end is looked for while somebody waits for it. SIGCHLD would be taken from the user's program.
reap_first_s = 0.01
reap_last_s = 1.0

# How long what it says besides isn't read after each time: a pipe then gives 6 MB/s. Who floods it, as a hostile host may,
# takes little of the keeper's time; and a question is one only after a longer silence.
rest_s = 0.01

# Linux gives a session's leader the first terminal that it opens; elsewhere it must be asked for.
OPENING_TAKES_IT = sys.platform.startswith("linux")
TIOCSCTTY = 0x20007461      # of the BSDs and macOS


class Process(object):
    """The running program of a plan.

    Args:
        plan: as ``settling.settled`` gives it.

    Raises:
        ConnectError: it can't be started; nothing is left behind.

    Attributes:
        pid: its process id, which is also its session's.
        fd_in, fd_out: this end of the link (the same descriptor for "socket"), non-blocking. Who has the process closes
            them.
        tty: the terminal's near end, or -1.
        on_stderr, on_tty: called with (bytes) for what comes there, if set.
        lent: it was let go: it outlives its link, and isn't ended with it.
        vouched: how many zero bytes came on stderr: signs of life, of a node's guardian.
    """

    def __init__(self, loop, plan):
        # type: (Loop, Plan) -> None
        self.loop = loop
        self.status = None  # type: Optional[int]
        self.on_stderr = None  # type: Optional[Callable[[bytes], Any]]
        self.on_tty = None  # type: Optional[Callable[[bytes], Any]]
        self.fd_in = self.fd_out = self.tty = self._tty_far = self._stderr = -1
        self._tail = dialogue.Tail(limits.tail_bytes_max)
        self._secrets = plan.get("secrets") or {}
        self._lock = compat.new_lock()
        self._waiting = []  # type: List[Callable[[int], Any]]
        self._reaped = self._killed = False
        self._timer = None  # type: Optional[Timer]
        self._pause_s, self.vouched, self.lent = reap_first_s, 0, False
        far = []  # type: List[int]
        try:
            self._popen = self._start(plan, far)
        except BaseException:
            error = sys.exc_info()[1]
            for fd in set((self.fd_in, self.fd_out, self.tty, self._tty_far, self._stderr)) - set((-1,)):
                loop.forget(fd)
                os.close(fd)
            if isinstance(error, (EnvironmentError, ValueError, TypeError)):
                compat.reraise(start_error(plan, error))
            raise
        finally:
            for fd in far:
                os.close(fd)
        self.pid = self._popen.pid

    def _start(self, plan, far):
        # type: (Plan, List[int]) -> Any
        compat_late.settle_collections()
        import subprocess
        program, argv = plan["executable"], plan["argv"]
        environment = _environment(plan.get("env"))
        if not program:
            raise _missing()
        if plan["shape"] == "pipes+tty":
            first = self._terminal(plan)
            program, argv = first[0] if first else program, first + argv
        self._link(plan["shape"], plan.get("stub"), far)
        self._stderr, end = compat.pipe()
        far.append(end)
        if 0 < open_files_max() - open_files_spared() <= max(far):     # the lowest that are free were taken
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        for fd in far:
            compat.set_blocking(fd, True)
        self._listen(self._stderr, self._read_stderr)
        if self.tty >= 0:
            self._listen(self.tty, self._read_tty)
        more = {"start_new_session": True}  # type: Dict[str, Any]
        if not hasattr(subprocess, "DEVNULL") or self.tty >= 0 and not OPENING_TAKES_IT:    # 2.7 has neither
            more = {"preexec_fn": self._own_session}
        return subprocess.Popen([dialogue.to_bytes(word) for word in argv], close_fds=True, env=environment, bufsize=0,
                                executable=dialogue.to_bytes(program),
                                cwd=plan.get("cwd") and dialogue.to_bytes(plan["cwd"]),
                                stdin=far[0], stdout=far[1], stderr=far[2], **more)

    def _link(self, shape, stub, far):
        # type: (str, Any, List[int]) -> None
        """Make stdin and stdout of the program, with this side's ends in ``fd_in`` and ``fd_out``."""
        end, self.fd_out = compat.pipe()
        far.append(end)
        if shape != "socket":
            self.fd_in, end = compat.pipe()
            far.append(end)
            return
        os.write(self.fd_out, dialogue.to_bytes(stub))      # some hundred bytes: any pipe takes 4,096
        os.close(self.fd_out)
        self.fd_out = -1
        near, there = link_pair()
        try:
            self.fd_in = self.fd_out = os.dup(near.fileno())    # 2.7's sockets can't give their descriptor away
            far.append(os.dup(there.fileno()))
        finally:
            near.close()
            there.close()
        for fd in (self.fd_in, far[-1]):
            compat.set_cloexec(fd)
        compat.set_blocking(self.fd_in, False)

    def _terminal(self, plan):
        # type: (Plan) -> List[str]
        """Make a terminal. Returns the words before the program's own that make it the one of its session."""
        try:
            self.tty, self._tty_far = os.openpty()    # `pty` is missing in small Pythons
            name = os.ttyname(self._tty_far)
        except OSError:
            compat.reraise(connect_error(plan, {
                "text": "there is no pseudo-terminal for its questions: %s" % sys.exc_info()[1],
                "remedy": "see that /dev/pts is mounted and /proc/sys/kernel/pty/max isn't reached, or connect without "
                          "a password"}))
        for fd in (self.tty, self._tty_far):
            compat.set_cloexec(fd)
        compat.set_blocking(self.tty, False)
        _no_echo(self._tty_far)
        if not OPENING_TAKES_IT:
            return []
        program = dialogue.to_bytes(plan["argv"][0])
        folder = dialogue.to_bytes(plan.get("cwd") or "") if b"/" in program else b""
        if not find_program(os.path.join(folder, program), plan):
            raise _missing()
        # A shell that opens it, because a function run after a fork of this process, which has threads, needs locks that
        # others may hold: `logging` and 2.7's import system take theirs around every fork.
        return ["/bin/sh", "-c", ': <"$0"; exec "$@"', name]

    def _own_session(self):
        # type: () -> None
        import signal
        os.setsid()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)   # 2.7 hands on that Python ignores it
        if self.tty >= 0 and not OPENING_TAKES_IT:
            import fcntl
            fcntl.ioctl(self._tty_far, TIOCSCTTY, 0)

    # ------------------------------------------------------------------ its end

    def poll(self):
        # type: () -> Optional[int]
        """Its exit status (negative: the signal that ended it), or None as long as it isn't known to have ended."""
        return self.status

    def stderr_tail(self):
        # type: () -> str
        """The last of what it said on stderr, as text, without secrets."""
        return dialogue.mask(self._tail.text(), self._secrets.values())

    def on_exit(self, callback):
        # type: (Callable[[int], Any]) -> None
        """Look for its end from now on; call back on the keeper with its status when all that it said was read."""
        with self._lock:
            self._waiting.append(callback)
        self.look()

    def let_go(self):
        # type: () -> None
        """The growth is over: nobody waits for its end or listens any more, and nothing is typed any more."""
        if self._secrets:
            self._tail.data = dialogue.to_bytes(self.stderr_tail())
            self._secrets = {}
        self._waiting = []
        self.on_stderr = self.on_tty = None

    def lend(self):
        # type: () -> None
        """Let the running program go, for good. It is still waited for, so that it is no zombie here. On the keeper."""
        self.lent = True
        self._close_stderr()
        self.on_exit(bool)

    def kill(self):
        # type: () -> None
        """SIGKILL to its whole process group; a program of another user's gets SIGHUP with its terminal, if it has one.

        Who has the link closes it, too: that is what ends what runs on other machines.
        """
        with self._lock:
            self._killed = True
            if not self._reaped:
                try:
                    os.killpg(self.pid, 9)
                except OSError:
                    self.loop.call_soon(self._hang_up)
        self.look()

    def look(self):
        # type: () -> None
        """Look now whether it has ended: its link was closed, say. Any thread."""
        self.loop.call_soon(self._look, True)

    def _look(self, anew=False):
        # type: (bool) -> None
        if self._timer:
            self._timer.cancel()
        if self.status is None:
            with self._lock:
                status = self._popen.poll()
                self._reaped = status is not None
            if status is not None:
                self._read_rest()
                self.status = status
            elif self._waiting or self._killed:
                self._pause_s = reap_first_s if anew else min(self._pause_s * 1.5, reap_last_s)
                self._timer = self.loop.call_later(self._pause_s, self._look)
        if self.status is not None:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            for callback in waiting:
                self.loop.call_soon(callback, self.status)

    # ------------------------------------------------------------------ what it says besides

    def answer(self, data):
        # type: (Any) -> bool
        """Type something on the terminal. Returns False if that can't be done."""
        try:
            return os.write(self.tty, data) == len(data)
        except OSError:
            return False

    def _read_stderr(self):
        # type: () -> bool
        data = read_now(self._stderr)
        if data:
            said = data.translate(None, b"\0")      # in a tenth of the time that ``replace`` takes
            self.vouched += len(data) - len(said)
            self._tail.add(said)
            self._rest(self._stderr, self._read_stderr)
            if self.on_stderr:
                self.on_stderr(data)
        elif data is not None:
            self._close_stderr()
        return bool(data)

    def _read_tty(self):
        # type: () -> bool
        data = read_now(self.tty)
        if data:
            self._rest(self.tty, self._read_tty)
            if self.on_tty:
                self.on_tty(data)
        elif data == b"":
            self.loop.forget(self.tty)
        return bool(data)

    def _rest(self, fd, read):
        # type: (int, Callable[[], bool]) -> None
        self.loop.forget(fd)
        self.loop.call_later(rest_s, self._listen, fd, read)

    def _listen(self, fd, read):
        # type: (int, Callable[[], bool]) -> None
        if fd in (self._stderr, self.tty):      # else it was closed meanwhile
            self.loop.watch(fd, read)

    def _read_rest(self):
        # type: () -> None
        """Read what the ended program has left, but not what others may go on writing, and close."""
        for read in (self._read_stderr, self._read_tty):
            for _ in range(4):
                if not read():
                    break
        self._close_stderr()
        self._hang_up()

    def _close_stderr(self):
        # type: () -> None
        if self._stderr >= 0:
            self.loop.forget(self._stderr)
            os.close(self._stderr)
            self._stderr = -1

    def _hang_up(self):
        # type: () -> None
        """Close the terminal: who has it open gets SIGHUP."""
        if self.tty >= 0:
            self.loop.forget(self.tty)
            os.close(self.tty)
            os.close(self._tty_far)     # held open until now: without it each read of the near end would fail
            self.tty = self._tty_far = -1


def read_now(fd):
    # type: (int) -> Optional[bytes]
    """What is there; b"" at the end, also where it can't be read; None if there is nothing now."""
    try:
        return os.read(fd, 65536) if fd >= 0 else None
    except OSError:
        return None if sys.exc_info()[1].errno in (errno.EAGAIN, errno.EINTR) else b""  # type: ignore[union-attr]


def _missing():
    # type: () -> OSError
    return OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _no_echo(fd):
    # type: (int) -> None
    """What is typed isn't shown, and line ends stay as they are. Programs switch the echo off before they ask; this is
    for those that don't."""
    try:
        import termios
        mode = termios.tcgetattr(fd)
        mode[1] &= ~termios.OPOST
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(fd, termios.TCSANOW, mode)
    except ImportError:
        pass    # python3-minimal


def _environment(changes):
    # type: (Optional[Dict[str, Optional[str]]]) -> Optional[Dict[bytes, bytes]]
    """This process's environment with changes (None takes a variable away), or None if there are none."""
    if not changes:
        return None
    result = dict(getattr(os, "environb", os.environ))
    result.update([(dialogue.to_bytes(key), value and dialogue.to_bytes(value)) for key, value in changes.items()])
    return dict([(key, value) for key, value in result.items() if value is not None])


def link_pair():
    # type: () -> Any
    """Two sockets for the ends of a link."""
    import _socket  # not `socket`: that imports `selectors` and `enum`
    pair = _socket.socketpair()  # type: ignore[attr-defined,unused-ignore]
    for end in pair:
        end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, limits_late.socket_bytes)
    return pair
