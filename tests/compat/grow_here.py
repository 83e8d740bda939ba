"""Runs on any Python, for test_growth.py: grows the plans that come on stdin as JSON, one after the other in one loop, then
all at once; writes what became of each as JSON."""
# ruff: noqa: C405, E402
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

import kernel_shim

kernel_shim.install()

from ramet.kernel import compat, grow, loop, loop_late

if len(sys.argv) > 1:       # what the smallest Pythons lack
    for name in ("termios", "pty", "_queue", "ctypes", "resource"):
        sys.modules[name] = None
    if tuple(sys.version_info) < (3, 7):    # `subprocess` needs it since
        sys.modules["threading"] = None


def main():
    # type: () -> None
    job = json.loads(os.fdopen(0, "rb").read().decode("ascii"))
    payload = job["payload"].encode("latin-1")
    said = []
    keeper = loop.Loop(lambda error: said.append("callback: %r" % error))
    growths = []

    def one(plan, then):
        record = {"what": plan["what"]}
        said.append(record)

        def started(form):
            record["form"] = form
            return b"hello"

        def up(process, fd_in, fd_out, data):
            compat.set_blocking(fd_in, True)
            while len(data) < 5:
                data += os.read(fd_in, 100)
            record["echo"] = data.decode("ascii")
            for fd in set((fd_in, fd_out)):
                os.close(fd)
            process.on_exit(exited)

        def failed(error):
            record["error"] = type(error).__name__
            record["stage"] = error.stage
            record["text"] = "%s" % error.args[0]
            then()

        def exited(status):
            record["status"] = status
            then()
        growth = grow.Growth(keeper, plan, lambda form: payload, started, up, failed)
        growths.append(growth)
        growth.start()
    left = list(job["plans"])

    def following():
        if left:
            one(left.pop(0), following)
        else:
            loop_late.stop(keeper)
    before = set(os.listdir("/proc/self/fd"))
    following()
    keeper.run()
    count = [len(job["plans"])]

    def done():
        count[0] -= 1
        if not count[0]:
            loop_late.stop(keeper)
    keeper.running = True
    for plan in job["plans"]:
        one(plan, done)
    keeper.run()
    record = {"fds": len(set(os.listdir("/proc/self/fd")) - before)}
    said.append(record)
    loop_late.close(keeper)
    os.write(1, json.dumps(said).encode("ascii"))


main()
