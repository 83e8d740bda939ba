"""What test_guests.py runs in doors, and in nodes that guests ask. Python 2.7 and newer."""
import os
import threading
import time

import ramet

BEGUN = []
ENDED = []


class Shelf(object):
    """Holds things."""

    def find(self, name):
        """How many there are."""
        return {"tea": 3}[name]

    def same(self, value):
        return value

    def many(self):
        yield 1

    def wait(self):
        this = object()
        try:
            BEGUN.append(this)      # it may be interrupted between any two of these lines
            while True:
                time.sleep(0.01)
        finally:
            ENDED.append(this)


def counts():
    """How many requests have begun to wait, and how many of these have ended."""
    ended = list(ENDED)
    begun = list(BEGUN)
    return [len(begun), len([one for one in begun if one in ended])]


def set_limit(name, value):
    """Set one of the door's limits, where we are."""
    from ramet.kernel import doors, rooms, stand_ins
    where, = [module for module in (doors, rooms, stand_ins) if hasattr(module, name)]
    setattr(where, name, value)


def what_it_has():
    """Descriptors, and threads."""
    return [len(os.listdir("/proc/self/fd")), threading.active_count()]


def guests():
    """How many are in."""
    from ramet.kernel import start
    return len(start.node.door.rooms)


def id_here():
    """This node's number."""
    return ramet.here().id
