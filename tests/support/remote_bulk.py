"""Functions for nodes that are given, or give, more than is good for them."""
import os
import subprocess
import sys
import time


def size_of(value):
    """How long it is."""
    return len(value)


def echo(value):
    """The same."""
    return value


def made(count):
    """So many bytes."""
    return b"r" * count


def own_memory():
    """Private memory in KiB: what only this process uses."""
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private"))


def peak_memory():
    """The most that it has used since ``forget_peak``, in KiB."""
    with open("/proc/self/status") as file:
        return [int(line.split()[1]) for line in file if line.startswith("VmHWM")][0]


def forget_peak():
    """Count the peak from now on. Returns what is used now, in KiB."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return peak_memory()


def pid():
    """The process's."""
    return os.getpid()


def flood(megabytes, line_bytes=100):
    """Let a subprocess write so much to stdout, in lines."""
    code = ("import sys\nline = b'o' * (%d - 1) + b'\\n'\nblock = line * (65536 // len(line))\n"
            "for _ in range(%d * 1000000 // len(block)): sys.stdout.buffer.write(block)" % (line_bytes, megabytes))
    return subprocess.call([sys.executable, "-c", code])


def nap(seconds):
    """Do nothing for a while."""
    time.sleep(seconds)


def tell_to_stop(child, flow, stop):
    """Tell a child of this node to stop a flow of its own to the controller, or to let it go on."""
    core = sys.modules["ramet.kernel.start"].node.core
    core.longs().took(core.routes.link_to(child), (child, 0, flow), 0 if stop else -1)


def stopped_flows():
    """How many flows this node's parent has stopped here."""
    return getattr(sys.modules["ramet.kernel.start"].node.core.routes.parent.queue, "stops", 0)
