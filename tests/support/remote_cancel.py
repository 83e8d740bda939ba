"""Functions that tests cancel in nodes, on every Python from 2.7 on."""
import os
import subprocess
import sys
import threading
import time

import ramet

LOG = []
PIPES = []
TOLD = []
STOPS = []
MUCH = 1 << 20     # bytes: more than a pipe holds


def note(word):
    LOG.append(word)
    return word


def noted():
    return list(LOG)


def forget():
    del LOG[:], TOLD[:]


def tell():
    """Let what can't be interrupted come to its end."""
    TOLD.append(True)
    if STOPS:
        left = MUCH - 1
        while left:
            left -= len(os.read(STOPS[0], left))
    while STOPS:
        os.close(STOPS.pop())


def begin():
    """Let the test know that the function runs. Within its ``try``: the test may end it at once."""
    LOG.append("begun")


def written_to():
    """The end of a pipe into which subprocesses write their ids, for ``ids``."""
    if not PIPES:
        PIPES.extend(os.pipe())
        if hasattr(os, "set_inheritable"):
            os.set_inheritable(PIPES[1], True)
    return PIPES[1]


def ids(count):
    """So many numbers that subprocesses have written."""
    written_to()
    data = b""
    while data.count(b"\n") < count:
        data += os.read(PIPES[0], 1000)
    return [int(word) for word in data.split()]


def sleep():
    try:
        begin()
        time.sleep(1000)
    finally:
        LOG.append("ended")


class Slow(object):
    def __del__(self):
        begin()
        end = time.time() + 0.3
        while time.time() < end:
            pass


def destroy(seconds):
    """Be in a destructor first."""
    try:
        Slow()
        time.sleep(seconds)
    finally:
        LOG.append("ended")


def wait_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    try:
        begin()
        lock.acquire()
    finally:
        LOG.append("ended")


def read_a_pipe():
    ends = os.pipe()
    try:
        begin()
        os.read(ends[0], 1)
    finally:
        for end in ends:
            os.close(end)
        LOG.append("ended")


def spin():
    try:
        begin()
        while True:
            pass
    finally:
        LOG.append("ended")


SHELL = "echo $$ >/proc/self/fd/%d; sleep 1000 & echo $! >/proc/self/fd/%d; wait"


def run_subprocess():
    """A shell with a child of its own. It may be ended once it is there: within ``Popen`` nobody would wait for it."""
    fd = written_to()
    process = subprocess.Popen(["sh", "-c", SHELL % (fd, fd)], close_fds=False)
    try:
        begin()
        process.wait()
    finally:
        process.wait()
        LOG.append("ended")


def run_system():
    """What the C library does; no object of Python stands for it."""
    begin()
    fd = written_to()
    os.system(SHELL % (fd, fd))
    LOG.append("not reached")


def read_what_a_program_writes():
    """The first thing that it does, so that the times in /proc don't tell whose the program is; nor is it in a variable."""
    begin()
    os.popen("echo $$ >/proc/%d/fd/%d; exec sleep 1000" % (os.getpid(), written_to())).read()


def is_told_of_system_calls():
    """Whether this system tells what a thread waits for."""
    from ramet.kernel import offspring  # here: else who imports this module asks for that, too
    return os.uname()[4] in offspring.READS and os.path.exists("/proc/self/task/%d/syscall" % os.getpid())


def waits_to_read():
    """Whether a thread of this process is in a ``read`` that waits."""
    from ramet.kernel import offspring
    said = []
    for task in os.listdir("/proc/self/task"):
        with open("/proc/self/task/%s/syscall" % task) as file:
            said.append(file.read().split()[0])
    return str(offspring.READS[os.uname()[4]][0]) in said


STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setsid()
os.write(%d, ("%%d\\n" %% os.getpid()).encode())
time.sleep(1000)
"""


def run_stubborn():
    """A subprocess that SIGTERM doesn't end, in a session of its own, for which nobody waits."""
    process = subprocess.Popen([sys.executable, "-S", "-c", STUBBORN % written_to()], close_fds=False)
    try:
        begin()
        time.sleep(1000)
    finally:
        del process


POLITE = """
import os, signal, time
def leave(*_):
    os.write(%d, b"0\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
os.write(%d, ("%%d\\n" %% os.getpid()).encode())
while True:
    time.sleep(0.01)    # not one long sleep: a signal just before it would be heard only after it
"""


def run_polite(grace_s):
    """A subprocess that says good-bye on SIGTERM. Returns nothing: it is waited for."""
    from ramet.kernel import cancelling
    before, cancelling.kill_grace_s = cancelling.kill_grace_s, grace_s
    fd = written_to()
    process = subprocess.Popen([sys.executable, "-S", "-c", POLITE % (fd, fd)], close_fds=False)
    try:
        begin()
        process.wait()
    finally:
        process.wait()
        cancelling.kill_grace_s = before
        LOG.append("ended")


def swallow():
    """Catch whatever comes, and go on."""
    while not TOLD:
        try:
            if not LOG:
                begin()
            while not TOLD:
                time.sleep(0.001)
        except:  # noqa: E722
            LOG.append("swallowed")


def take_the_signal():
    import signal
    before = signal.signal(signal.SIGURG, lambda *_: None)
    begin()
    try:
        while not TOLD:
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGURG, before)


def wait_in_one_piece():
    """In one system call, in which a thread can't be interrupted: it has begun when something has come of it.

    ``tell`` closes the pipe: an interrupt may come right behind that call, in a ``finally``, too.
    """
    ends = os.pipe()
    STOPS[:] = ends

    def see():
        os.read(ends[0], 1)
        begin()
    threading.Thread(target=see).start()
    os.write(ends[1], b"x" * MUCH)


def reap(pid):
    """Wait for a subprocess that nobody waits for: ended, or killed now. The signal that ended it; 0 if it was waited for."""
    try:
        os.kill(pid, 9)
        return os.waitpid(pid, 0)[1] & 0x7f
    except OSError:
        return 0    # it was waited for


def leave_a_subprocess():
    return subprocess.Popen(["sleep", "1000"]).pid


def call_below(depth, lane=None):
    """Grow a child, and so on; the last one's function runs a subprocess, and all wait."""
    child = ramet.here().local()
    begin()
    if lane:
        child = child.options(lane=lane)
    try:
        return child.call(call_below, depth - 1, lane) if depth > 1 else child.call(run_subprocess)
    finally:
        LOG.append("ended")


def quick(count):
    """A short piece of Python, so that a cancel may come at any of its steps."""
    total = 0
    for n in range(count):
        total += n
    return total


def can_interrupt_threads():
    try:
        import ctypes
    except ImportError:
        return False
    return hasattr(getattr(ctypes, "pythonapi", None), "PyThreadState_SetAsyncExc")


def has_asyncio():
    try:
        import asyncio  # noqa: F401
    except (ImportError, SyntaxError):
        return False
    return True


def make_channel():
    import ramet
    return ramet.here().channel(1)


def receive(channel):
    try:
        note("begun")
        channel.receive()
    finally:
        note("ended")


def iterate(channel):
    try:
        note("begun")
        for _ in channel:
            note("not reached")
    finally:
        note("ended")


def send(channel):
    """Sends until there is no room, and on."""
    try:
        note("begun")
        while True:
            channel.send(b"x" * 100000)
    finally:
        note("ended")


def receive_one(channel):
    return channel.receive(timeout=60)
