"""What is re-enacted in nodes of what users of other libraries reported: see ``tests/targets/test_peers_reports.py``."""
import logging
import os
import subprocess
import threading

HANDLER = logging.StreamHandler()
LET_GO = threading.Event()


def hold_the_handler():
    """Have a handler of ``logging`` locked, as while it writes, until ``let_go``."""
    logging.getLogger("held").addHandler(HANDLER)
    HANDLER.acquire()
    try:
        LET_GO.wait()
    finally:
        HANDLER.release()


def is_held():
    """Whether another thread holds it."""
    free = HANDLER.lock.acquire(False)
    if free:
        HANDLER.release()
    return not free


def let_go():
    LET_GO.set()


def log_by_it(text):
    """By the same handler, where it was copied unlocked, and by the root's."""
    logging.getLogger("held").addHandler(HANDLER)
    logging.getLogger("held").warning(text)
    return os.getpid()


def start_programs(count):
    """One after the other, as a task does."""
    return [subprocess.call(["true"]) for _ in range(count)]
