"""Generators that tests run in nodes; loads on 2.7."""
import threading
import time

LOG = []
GATE = threading.Event()


def count(to, size=0):
    for n in range(to):
        yield (n, b"x" * size) if size else n


def noted(to, fail_at=-1, size=0):
    """Notes what becomes of it."""
    try:
        for n in range(to):
            if n == fail_at:
                raise ValueError("at %d" % n)
            LOG.append(n)
            yield (n, b"x" * size) if size else n
    except GeneratorExit:
        LOG.append("exit")
        raise
    finally:
        LOG.append("end")


def some_at_once(count):
    """So many behind the gate, and then nothing until it is shut by ``clear``."""
    GATE.wait()
    for n in range(count):
        yield n
    while GATE.is_set():
        time.sleep(0.01)


KEPT = []


def kept(*args):
    """What ``noted`` gives, held here, too: it doesn't end by being dropped."""
    KEPT[:] = [noted(*args)]
    return KEPT[0]


def keep(items):
    """An iterator of the program's, of which one item is taken, and which is held."""
    KEPT[:] = [items]
    return next(items)


def clear():
    del LOG[:]
    GATE.clear()


def log():
    return list(LOG)


def wait_for(entry, seconds=60):
    """Wait until that is in the log."""
    end = time.time() + seconds
    while entry not in LOG:
        assert time.time() < end, LOG
        time.sleep(0.005)
    return list(LOG)


def grows_slowly(to):
    """Waits for the gate before each item but the first."""
    for n in range(to):
        if n:
            GATE.wait(20)
            GATE.clear()
        yield n


def open_gate():
    GATE.set()


def a_list(to):
    return list(range(to))


def with_culprit():
    yield 1
    yield [2, {"a": threading.Lock()}]


def no_iterator():
    return 5


def thread_of(_=None):
    yield threading.current_thread().name


def sizes(items):
    return [len(item) for item in items]


def total(items, stop_at=None):
    """Reads an iterator that is an argument."""
    found = 0
    for item in items:
        if item == stop_at:
            break
        found += item
    return found


def collect(items, more=()):
    return [list(items), list(more)]


def doubled(items):
    for item in items:
        yield item * 2


def one_then_wait(items):
    first = next(iter(items))
    LOG.append("read one")
    GATE.wait(20)
    return first


def never_read(items):
    return "nothing"


def error_of(items):
    found = []
    try:
        for item in items:
            found.append(item)
    except Exception as error:
        return [found, type(error).__name__, isinstance(error, ValueError), str(error)]
    return [found]


def close_after(items, many):
    found = [next(items) for _ in range(many)] if hasattr(items, "__next__") else [items.next() for _ in range(many)]
    items.close()
    return found + list(items)
