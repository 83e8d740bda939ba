"""Read by every interpreter of an environment while ``unsteady`` runs: threads are switched at once, and wait here and there.

Needs nothing that takes time to import. Whatever is read or written by ``os`` may take up to 60 ms longer, before or after.
"""
import os
import sys
import time

sys.setswitchinterval(2e-5)


def unsteady(call):
    def called(*args, **kwargs):
        chance, length = os.urandom(2)
        if chance < 3:
            time.sleep(length / 4000)
        result = call(*args, **kwargs)
        if chance > 252:
            time.sleep(length / 4000)
        return result
    called.__name__ = call.__name__
    return called


for _name in "read", "write", "readv", "writev":
    setattr(os, _name, unsteady(getattr(os, _name)))
