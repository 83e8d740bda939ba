"""Runs a program in a node, for ``Node.popen`` and ``run``: its output comes as it is written. Late part of the kernel.

The program is the leader of a session of its own. So all that it starts can be ended with it: when nobody wants its output any
more, when the call is cancelled, and, by the guardian, with the node. What it has left running in the background when it ends
goes with the node. A thread of its own runs each, and sleeps in ``poll``.
"""
import errno
import os
import select
import subprocess
import sys
import time
import weakref

from ramet.kernel import compat, compat_late, ending, jobs
from ramet.kernel.loop import IN, Poll, interrupted

MYPY = False
if MYPY:
    from typing import Any, Dict, List, MutableMapping, Optional, Set

READ_BYTES = 65536
KILL_AFTER_S = 2.0      # how long a program has to end after SIGTERM, before it gets SIGKILL
LOOK_S = 0.05           # how often one is looked at that has closed its output and runs on, or couldn't be handed out

LEFT_S = 1.0            # how often those are looked at that have left something running

# By the number that the controller has given. Who drops one ends it: this mustn't hold it.
RUNS = weakref.WeakValueDictionary()    # type: MutableMapping[int, Run]
ENDED = compat.deque(maxlen=1000)  # type: Any     # numbers of those that have ended, or could not be started
LOCK = compat.new_lock()    # of these
BEGINS_S = 10.0     # how long a signal waits for its program: the call that starts it may come later

LEFT = set()    # type: Set[int]        # process groups whose leader has ended, and that something of is left
LOOKS = []      # type: List[Any]       # what cancels the next look at these


class Ended(StopIteration):
    """The end of the output, with the status. 2.7's StopIteration has no value."""

    def __init__(self, value):
        # type: (Optional[int]) -> None
        StopIteration.__init__(self, value)
        self.value = value


def start(number, argv, input, options):
    # type: (int, Any, Any, Dict[str, Any]) -> Run
    """Start a program. What a stream of ``Node.popen`` calls: items are [1 or 2, bytes], its value is the status.

    Args:
        number: for ``send_signal``.
        argv: a list; or, where ``options["shell"]`` is true, a command line for sh.
        input: for its stdin: None, bytes, or an iterator over some.
        options: shell, env, add_env, cwd, merged: see ``Node.popen``.

    Raises:
        EnvironmentError: it can't be started.
    """
    def make():
        # type: () -> Run
        return Run(number, argv, input, **options)
    try:
        # An interrupt within Popen would leave a program that nobody knows of.
        return jobs.apart(_node().core, make)  # type: ignore[no-any-return]
    except BaseException:
        _ended(number)
        raise


def send_signal(number, signal):
    # type: (int, int) -> bool
    """Send a signal to a program and all that it has started. False if it has ended. Waits for one that is being started."""
    end = compat.monotonic() + BEGINS_S
    while not (number in RUNS or _has_ended(number)) and compat.monotonic() < end:
        time.sleep(0.01)
    run = RUNS.get(number)
    return bool(run) and run.signal(signal)  # type: ignore[union-attr]


def _node():
    # type: () -> Any
    """The node that this runs in; None in tests."""
    return getattr(sys.modules.get("ramet.kernel.start"), "node", None)


def _ended(number):
    # type: (int) -> None
    with LOCK:
        ENDED.append(number)


def _has_ended(number):
    # type: (int) -> bool
    with LOCK:
        return number in ENDED


def _argument(text):
    # type: (Any) -> Any
    """What Popen takes: bytes on 2.7, where it wouldn't take all texts; else it knows best."""
    return text.encode("utf-8") if isinstance(text, compat.text) and compat.text is not str else text


class Run(object):
    """A program that runs: an iterator over [1 or 2, bytes].

    Attributes:
        closers: what closes its input, once.
        written: nothing more will be written to that.
        over: ``close`` has ended it.
        error: what its input failed with, until that was raised.
    """

    def __init__(self, number, argv, input, shell=False, env=None, add_env=None, cwd=None, merged=False):
        # type: (int, Any, Any, bool, Any, Any, Any, bool) -> None
        self.number = number
        self.fds = {}  # type: Dict[int, int]       # what is open of its output -> 1 or 2
        self.bell = ()  # type: Any
        self.process = None  # type: Any
        self.stopped, self.reaped = False, True
        self.written = self.over = False
        self.closers = []   # type: List[Any]
        self.error = None   # type: Optional[BaseException]
        if env is not None or add_env:
            env = dict(os.environ if env is None else env, **{str(key): value for key, value in (add_env or {}).items()})
            env = dict((_argument(key), _argument(value)) for key, value in env.items() if value is not None)
        argv = ["/bin/sh", "-c", argv] if shell else argv
        with open(os.devnull, "rb") as null:
            self.process = subprocess.Popen(
                [_argument(word) for word in argv], bufsize=0, stdin=null if input is None else subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merged else subprocess.PIPE, env=env, cwd=_argument(cwd),
                close_fds=True, **compat_late.own_session())
        self.reaped = False
        ending.tell_guardian(self.process.pid)
        RUNS[number] = self
        self.bell = compat.pipe()
        for n, file in (1, self.process.stdout), (2, self.process.stderr):
            if file:
                compat.set_blocking(file.fileno(), False)
                self.fds[file.fileno()] = n
        if input is not None:
            import threading
            self.closers.append(self.process.stdin.close)
            thread = threading.Thread(target=_write, args=(weakref.ref(self), self.process.stdin, input))
            thread.daemon = True
            thread.start()

    def __iter__(self):
        # type: () -> Run
        return self

    def __next__(self):
        # type: () -> List[Any]
        """What it has written. Blocks; ``_ramet_stop`` ends that.

        Raises:
            Ended: it has ended, and all is read.
            BaseException: what its input failed with.
        """
        wait = 0.001
        while not self.stopped:
            poller = Poll()
            for fd in list(self.fds) + [self.bell[0]]:
                poller.register(fd, IN)
            if not self.fds:
                status = self.process.poll()
                if status is not None:
                    self._forget()
                    raise self._end(status)
            try:
                ready = [fd for fd, _ in poller.poll(None if self.fds else wait * 1000)]
            except (OSError, select.error) as error:
                if not interrupted(error):
                    raise
                continue
            wait = min(wait * 2, LOOK_S)
            for fd in ready:
                if fd in self.fds:
                    data = self._read(fd)
                    if data:
                        return [self.fds[fd], compat.Bytes(data)]
        raise self._end(None)

    next = __next__     # 2.7's name

    def _end(self, status):
        # type: (Optional[int]) -> BaseException
        error, self.error = self.error, None    # no circle: its traceback will hold who raises it
        return Ended(status) if error is None else error

    def _read(self, fd):
        # type: (int) -> bytes
        try:
            data = os.read(fd, READ_BYTES)
        except OSError as error:
            if interrupted(error):
                return b""
            raise
        if not data:
            del self.fds[fd]
        return data

    def _ramet_stop(self):
        # type: () -> None
        """End it, and let ``next`` return: nobody wants what comes. On whichever thread reads the link.

        Whatever becomes of the thread that looks after it, which may be interrupted at any place, SIGKILL follows.
        """
        self.stopped = True
        self.signal(15)
        node = _node()
        if node:
            node.loop.call_later(KILL_AFTER_S, self.signal, 9)
        try:
            os.write(self.bell[1], b"!")
        except (OSError, IndexError):
            pass    # it is over

    def fail(self, error):
        # type: (BaseException) -> None
        """End it, for its input can't go on; ``next`` raises that error. By the thread that has written the input."""
        self.error = error
        if not self.over:
            self._ramet_stop()

    def end_input(self):
        # type: () -> None
        """Nothing more will be written. If it is being ended, it is told so when it has ended: it would take that for all."""
        self.written = True
        if self.over or not self.stopped:
            compat_late.call_each(self.closers)

    def signal(self, number):
        # type: (int) -> bool
        """Send a signal to the whole session. False if nothing is left of it."""
        if self.reaped:
            return False
        try:
            os.killpg(self.process.pid, number)
        except OSError:
            return False
        return True

    def close(self):
        # type: () -> None
        """End what still runs: SIGTERM, and after a while SIGKILL."""
        if not self.reaped:
            self.signal(15)
            end = compat.monotonic() + KILL_AFTER_S
            poller = Poll()
            try:
                while (self.process.poll() is None or is_there(self.process.pid)) and compat.monotonic() < end:
                    poller.poll(10)     # not time.sleep, which an interrupt of the main lane leaves
            finally:    # an interrupt may come here, too
                self.signal(9)
            self.process.wait()
            self._forget()
        self.over = True
        if self.written:
            compat_late.call_each(self.closers)
        for file in (self.process.stdout, self.process.stderr) if self.process else ():
            if file:
                file.close()
        fds, self.bell = self.bell, ()
        for fd in fds:
            os.close(fd)

    def _forget(self):
        # type: () -> None
        """It has ended. If nothing else of its session is left, the guardian needn't know of it any more."""
        self.reaped = True
        _ended(self.number)
        RUNS.pop(self.number, None)
        LEFT.add(self.process.pid)
        look_after()

    def __del__(self):
        # type: () -> None
        """Who has it ends it; this is for one that couldn't be handed out. On any thread, at any place: what waits, or takes a
        lock, is for the keeper.
        """
        node = _node()
        if self.reaped or not node:
            self.close()
        else:
            self.signal(9)
            node.loop.call_soon(self._when_ended)

    def _when_ended(self):
        # type: () -> None
        """Close it when SIGKILL has ended it; one that hangs in the system goes on. On the keeper, which mustn't wait."""
        if self.process.poll() is None:
            _node().loop.call_later(LOOK_S, self._when_ended)
        else:
            self._forget()
            self.close()


def is_there(group):
    # type: (int) -> bool
    """Whether anything of a process group is left."""
    try:
        os.killpg(group, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def look_after():
    # type: () -> None
    """Let the guardian forget the groups of which nothing is left: their numbers will be given to others. Then look again."""
    compat_late.call_each(LOOKS)    # each program that ends comes here, too
    for group in list(LEFT):
        if not is_there(group):
            try:
                LEFT.remove(group)
            except KeyError:
                continue    # another thread has told: said once more, the guardian would end who has that number by then
            ending.tell_guardian(group)
    node = _node()
    if LEFT and node:
        LOOKS.append(node.loop.call_later(LEFT_S, look_after).cancel)


def _write(run, file, source):
    # type: (Any, Any, Any) -> None
    """Give a program its input: bytes, or an iterator over some. In a thread of its own.

    Args:
        run: a weak reference to its ``Run``: who drops that one ends the program, also while this waits for more.
    """
    try:
        for data in [source] if isinstance(source, (bytes, bytearray)) else source:
            if not _put(file.fileno(), memoryview(data)):
                break
    except BaseException:
        _tell(run(), Run.fail, sys.exc_info()[1])
    finally:
        close = getattr(source, "close", None)
        if close:
            close()
        if not _tell(run(), Run.end_input):
            file.close()


def _put(fd, view):
    # type: (int, Any) -> bool
    """Write all of it. False: the program has ended, or closed its input, so it didn't want more."""
    while len(view):
        try:
            view = view[os.write(fd, view[:READ_BYTES]):]
        except OSError as error:
            if error.errno != errno.EINTR:
                return False
    return True


def _tell(run, method, *args):
    # type: (Optional[Run], Any, Any) -> bool
    """Call a method of a run, in a frame that no traceback holds. False: it was dropped."""
    if run:
        method(run, *args)
    return bool(run)
