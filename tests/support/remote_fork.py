"""What tests call in forks; preloaded by their template."""
import os
import random
import sys
import threading
import time

import ramet

COUNT = []
LOADED_IN = os.getpid()
LOADED = "support.remote_fork" in sys.modules


def count(number):
    COUNT.append(number)
    return list(COUNT)


def facts():
    here = ramet.here()
    return {"loaded in": LOADED_IN, "pid": os.getpid(), "ppid": os.getppid(), "pgid": os.getpgrp(), "sid": os.getsid(0),
            "id": here.id, "name": here.name, "parent": here.parent.id, "threads": threading.active_count(),
            "main": threading.current_thread().__class__.__name__}


def relatives():
    """In a template: the process ids of its guardian, and of spares that are at their ends, the last one among them."""
    spare = sys.modules["ramet.kernel.template"].serving[0]
    return [sys.modules["ramet.kernel.guardian"].life[2]] + [process.pid for process in spare.going]


def chance():
    return random.random()


def log(text):
    import logging
    logging.getLogger("app").warning(text)


def descriptors():
    return sorted(os.readlink("/proc/self/fd/" + name).split(":")[0] for name in os.listdir("/proc/self/fd") if int(name) > 2
                  and os.path.exists("/proc/self/fd/" + name))


def late():
    """Import something that nobody foresaw."""
    return __import__("support.remote_" + "part", fromlist=["x"]).answer()


def sleep():
    time.sleep(1000)
