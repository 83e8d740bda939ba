"""Functions for nodes that write and log much, and look at what became of it. For every Python."""
import logging
import os
import sys
import threading


def nothing():
    """Nothing."""


def line(n):
    """One of many lines."""
    return "%08d" % n + "o" * 91


def say(text):
    """Write to stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_lines(count):
    """Write to descriptor 1, in blocks of lines; another thread's calls go on meanwhile."""
    for first in range(0, count, 100):
        data = "".join(line(n) + "\n" for n in range(first, min(first + 100, count))).encode()
        while data:
            data = data[os.write(1, data):]
    return count


def print_lines(count):
    """Print one by one."""
    for n in range(count):
        print(line(n))
    return count


def print_without_end(how):
    """Print until it is interrupted."""
    n = 0
    while True:
        if how == "raw":
            os.write(1, (line(n) + "\n").encode())
        elif how == "stderr":
            sys.stderr.write(line(n) + "\n")
        else:
            print(line(n))
        n += 1


def is_held_up():
    """Whether this node's output waits for its reader, and the pipes between are full, too, so that a writer waits."""
    import select
    poller = select.poll()
    for fd in 1, 2:
        poller.register(fd, select.POLLOUT)
    return waits() and len(poller.poll(0)) < 2


def log_lines(count):
    """Log one by one."""
    log = logging.getLogger("many")
    for n in range(count):
        log.info(line(n))
    return count


def log_at(level, name, text):
    """Log one record."""
    logging.getLogger(name).log(level, text)


def level_of(name):
    """A logger's own level."""
    return logging.getLogger(name).level


HOLDS = threading.Event()
LEAVES = threading.Event()


def say_in_two():
    """The second half when it may."""
    sys.stdout.write("one ")
    HOLDS.set()
    LEAVES.wait()
    sys.stdout.write("line\n")


def leave_a_part():
    """In a thread that ends."""
    thread = threading.Thread(target=sys.stdout.write, args=("no end",))
    thread.start()
    thread.join()


def leave_it(text):
    """Write what isn't a line yet."""
    sys.stdout.write(text)
    HOLDS.set()


def calls_wait():
    """Whether calls wait for the main lane."""
    return bool(_node().calls.waiting)


def is_main_lane_at_an_end():
    """Whether a call's function has come to its end there, and nothing waits."""
    calls = _node().calls
    return bool(not calls.running and not calls.waiting and HOLDS.is_set())


class Own(logging.Logger):
    """What the program makes loggers of: its code may take as long as it likes."""

    def __init__(self, *args):
        HOLDS.set()
        LEAVES.wait()
        logging.Logger.__init__(self, *args)


def make_loggers_of_our_own():
    """From now on."""
    logging.setLoggerClass(Own)


def hold_the_lock():
    """That of ``logging``, until ``leave`` is called."""
    with logging._lock:
        HOLDS.set()
        LEAVES.wait()


def holds():
    """Whether somebody does."""
    return HOLDS.is_set()


def leave():
    """See above."""
    LEAVES.set()


def _node():
    return sys.modules["ramet.kernel.start"].node


def waits():
    """Whether the node doesn't read what is written in it."""
    from ramet.kernel import limits
    return _node().output.sent - _node().output.shown > limits.output_bytes_max


def output_counts():
    """Bytes sent and shown."""
    return [_node().output.sent, _node().output.shown]


def log_waits():
    """Whether a thread waits to log."""
    return bool(_node().log_hook.waiters)


def log_counts():
    """Bytes of records sent and shown."""
    return [_node().log_hook.sent, _node().log_hook.shown]


def refused():
    """How many frames this node has refused."""
    return _node().core.refused


def claim_shown(id):
    """Tell another node that all of its output was shown."""
    from ramet.kernel import core, frames, longs, values  # noqa: F401
    return bool(_node().core.send(id, core.OUTPUT, values.encode([1000000, 0]), 0, frames.CONTROL | frames.COUNTED))
