"""Bound the time of work elsewhere, and end it: with its subprocesses, and at every depth.

    python timeouts.py [SPEC]

Prints:

    CallTimeout: sleep in ... took longer than its timeout of 0.5 s and was ended
    not there yet, but the work goes on
    cancelled: sleep in ... was cancelled
    its subprocess is gone, too: True
    and the node is at your service: 3
"""
import os
import subprocess
import sys
import time
from concurrent.futures import TimeoutError

import ramet


def run_sleep(path):
    """A subprocess, whose number it notes."""
    process = subprocess.Popen(["sleep", "1000"])
    try:
        with open(path, "w") as file:
            file.write(str(process.pid))
        process.wait()
    finally:
        process.wait()      # it gets SIGTERM when the call is ended: nothing is left of it


def is_noted(path):
    return os.path.exists(path) and os.path.getsize(path) > 0


def is_gone(path):
    """Whether that subprocess has ended."""
    with open(path) as file:
        try:
            os.kill(int(file.read()), 0)
            return False
        except ProcessLookupError:
            return True


if __name__ == "__main__":
    with ramet.Tree() as tree:
        node = tree.connect(sys.argv[1] if len(sys.argv) > 1 else "local").wait()

        try:
            node.options(timeout=0.5).call(time.sleep, 1000)    # bounds the work: it is ended over there
        except ramet.CallTimeout as error:
            print("CallTimeout:", error)

        call = node.start(time.sleep, 1000)
        try:
            call.result(timeout=0.1)                            # bounds this wait only
        except TimeoutError:
            print("not there yet, but the work goes on")
        call.cancel()
        print("cancelled:", call.exception())

        path = f"/tmp/ramet-example-{os.getpid()}"
        call = node.start(run_sleep, path)
        beside = node.options(lane="beside")        # the main lane is busy
        while not beside.call(is_noted, path):
            time.sleep(0.01)
        call.cancel()
        print("its subprocess is gone, too:", node.call(is_gone, path))     # behind it, in order, on the main lane
        node.call(os.remove, path)
        print("and the node is at your service:", node.call(max, 1, 3, 2))
