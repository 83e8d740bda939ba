"""Functions that tests run in nodes, on every Python from 2.7 on."""
import os
import signal
import subprocess
import sys
import threading
import time

import ramet
from support import remote_part


def add(a, b=0):
    return a + b


def echo(value):
    return value


def python():
    return "%d.%d" % tuple(sys.version_info[:2])


def from_own_module():
    return remote_part.answer()


def fail(message):
    raise ValueError(message)


def fail_with_file():
    with open("/does/not/exist"):
        pass


def fail_with_cause():
    try:
        fail("inner")
    except ValueError as error:
        outer = KeyError("outer")
        outer.__cause__ = error
        raise outer


def fail_with_exit():
    sys.exit("leaving")


class Special(Exception):
    pass


def fail_with_special():
    raise Special("special")


def unportable():
    return {"a": [1, threading.Lock()]}


def pid():
    return os.getpid()


def say(text, stream="stdout"):
    getattr(sys, stream).write(text)


def shout_from_subprocess(text):
    return subprocess.call(["echo", text])


def log(level, text):
    import logging
    logging.getLogger("app.part").log(level, text)


def sleep(seconds):
    time.sleep(seconds)
    return "slept"


def spin(seconds):
    end = time.time() + seconds
    while time.time() < end:
        pass


def hang_with_the_gil():
    """One regular expression that takes years, and keeps the GIL."""
    import re
    re.match(r"(a?){64}a{64}$", "a" * 63 + "b")
    re.match(r"(a+)+$", "a" * 60 + "b")


def stop_yourself():
    os.kill(os.getpid(), signal.SIGSTOP)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    os._exit(3)


def start_sleeper():
    """A subprocess that outlives the call."""
    return subprocess.Popen(["sleep", "1000"]).pid


def thread_name():
    return threading.current_thread().name


def main_thread():
    return threading.current_thread().__class__.__name__


def where():
    here = ramet.here()
    return [here.id, here.name, here.parent.id, here.controller.id]


def environment(name):
    return os.environ.get(name)


def set_variable(name, value):
    os.environ[name] = value


def interpreter():
    return [sys.executable, sys.prefix, sys.argv, sys.path]


def cwd():
    return os.getcwd()


def import_by_name(name):
    module = __import__(name, fromlist=["x"])
    return getattr(module, "__file__", None)


def grow_and_call():
    child = ramet.here().local()
    return [child.id, child.call(add, 20, 22)]


def call_upwards():
    return ramet.here().parent.call(add, 1, 2)


APPENDED = []


def append(value):
    APPENDED.append(value)
    return list(APPENDED)


def set_later(event_fd):
    os.write(event_fd, b"x")


def count_threads(seconds):
    time.sleep(seconds)
    return threading.active_count()


def make():
    return {"text": "text", "unicode": u"h\xe9", "bytes": b"bytes", "int": 2 ** 70, "float": 1.5, "tuple": (1, ("x",)),
            "set": set([1, 2]), "dict": {1: "one"}, "not utf-8": b"\xff"}


def hang_in_a_lane():
    thread = threading.Thread(target=hang_with_the_gil)
    thread.start()
    thread.join()


def set_message_limit(count):
    """Change how many bytes a message may have that this node sends or takes."""
    from ramet.kernel import limits
    limits.message_bytes_max, before = count, limits.message_bytes_max
    return before


def many_bytes(count):
    return b"x" * count


def lock():
    return threading.Lock()


def generator():
    return {"items": [(n for n in range(3))]}


def returned_exit():
    return SystemExit(3)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def endless():
    value = {}
    value["itself"] = [value]
    return value


class Sour(object):
    """Whatever is done with it fails."""

    def __getattribute__(self, name):
        raise RuntimeError("sour")

    def __reduce__(self):
        raise RuntimeError("sour")

    def __repr__(self):
        raise RuntimeError("sour")


def sour():
    return [Sour()]


class SourError(Exception):
    """An exception that can't be shown."""

    def __str__(self):
        raise RuntimeError("sour")

    __repr__ = __str__


def fail_sourly():
    raise SourError(Sour())


def recurse():
    return recurse()


def fail_with_memory():
    raise MemoryError


def replace_standard_streams():
    """What careless programs do."""
    sys.stdout = sys.stderr = None
    os.close(1)
    os.close(2)
    return "done"


def grown_here(connector, options):
    return ramet.here().grow(connector, **options).call(os.getuid)


def whoami():
    import pwd
    return pwd.getpwuid(os.geteuid()).pw_name


def break_main_lane():
    # type: () -> None
    """Have this node's main lane fail outside a call, which only a fault in ramet could do."""
    from ramet.kernel import start

    def fail(*_):
        # type: (*object) -> None
        raise RuntimeError("a fault of the main lane")
    start.node.core.wait = fail  # type: ignore[union-attr,method-assign]
