"""The program of test_kills.py: a controller with a child, a grandchild and (where told) a node behind ssh, to be killed.

argv: a name for this run, what the nodes shall be doing, and options of the connector ``ssh`` as JSON, or "null". It says
"growing" when it begins to, and "ready" when all nodes are at it.
"""
import json
import os
import signal
import sys
import time

import ramet
from support import remote, remote_silent
from support.eventually import until


def flood():
    while True:
        os.write(1, b"x" * 79 + b"\n")


DOING = {
    "idle": None, "call": (remote.sleep, 1000), "gil": (remote.hang_with_the_gil,), "stopped": (remote.stop_yourself,),
    "flood": (flood,), "subprocess": (remote.start_sleeper,), "thread": (remote.hang_in_a_lane,), "raise": None,
}  # fmt: skip


def grow(tree, name, ssh):
    child = tree.local(name=name + "-child")
    nodes = [child, child.local(name=name + "-grandchild")]
    if ssh:
        nodes.append(tree.ssh("127.0.0.1", name=name + "-ssh", **ssh))
    return nodes


def begin(nodes, doing):
    """Set all nodes at it. Gives their calls."""
    for node in nodes:
        until(lambda node=node: node.call(remote_silent.has_idled), "it has been idle once")
    fn, *args = DOING[doing] or (remote.pid,)
    calls = [node.start(fn, *args) for node in reversed(nodes)]     # one that hangs can't pass a call on
    if doing in ("idle", "raise", "subprocess"):
        for call in calls:
            call.result()
    else:
        time.sleep(0.4)
    return calls


def main():
    # A shell's background job (`make test &`, nohup) has these ignored, and so has all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    name, doing, ssh = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if doing == "flood":
        sys.stdout = open(os.devnull, "w")
    say = os.fdopen(os.dup(1), "w", 1)
    with ramet.Tree() as tree:
        say.write("growing\n")
        nodes = grow(tree, name, ssh)
        if doing == "connect":
            time.sleep(1000)
        calls = begin(nodes, doing)
        say.write("ready\n")
        if doing == "raise":
            raise ZeroDivisionError
        time.sleep(1000)
        del calls


if __name__ == "__main__":
    main()
