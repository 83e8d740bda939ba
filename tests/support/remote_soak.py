"""What the soak test calls in nodes: work whose answer is known, and faults that a node brings upon itself."""
import errno
import os
import sys
import threading
import time


def pids():
    """This process, and its guardian if it has one."""
    from ramet.kernel import guardian
    return [os.getpid()] + guardian.life[2:3]


def kill_guardian():
    from ramet.kernel import guardian
    os.kill(guardian.life[2], 9)


def echo(number, data):
    return [number, data]


def cant_say_what():
    """Raise, when there is no memory to describe that."""
    from ramet.kernel import failures
    real = failures.pack

    def lacking(*_):
        failures.pack = real
        raise MemoryError("none left")
    failures.pack = lacking
    raise ValueError("not told")


def exit_now(status):
    os._exit(status)


def abort():
    os.abort()


def few_files(seconds):
    """No descriptor can be made for a while. Returns what error that gives."""
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    held, end, seen = [], time.time() + seconds, set()
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while time.time() < end:
            try:
                held.append(os.open(os.devnull, os.O_RDONLY))   # also those that are free below the limit
            except EnvironmentError as error:
                seen.add(error.errno)
                time.sleep(0.02)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    return errno.EMFILE in seen


def little_memory(spare, seconds):
    """No more than so many bytes of address space can be had for a while. Returns whether that was felt here."""
    import resource
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    felt = False
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, hard))
    try:
        end = time.time() + seconds
        while time.time() < end:
            try:
                bytearray(16 * spare)
            except MemoryError:
                felt = True
            time.sleep(0.02)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return felt


def large(count):
    return b"x" * count


def full_disk(path):
    """Write there until there is no more room. Returns the error's number."""
    try:
        with open(path, "wb") as file:
            for _ in range(1 << 10):
                file.write(b"x" * 4096)
                file.flush()
    except EnvironmentError as error:
        return error.errno
    finally:
        if os.path.isfile(path):
            os.remove(path)


def slow_disk(path):
    """Read what comes as slowly as somebody writes it: a FIFO. Returns how much that was."""
    with open(path, "rb") as file:
        return len(file.read())


def flood(lines):
    """More output than all pipes hold: of this process, and of one below it."""
    for _ in range(lines):
        sys.stdout.write("f" * 100 + "\n")
    sys.stdout.flush()
    import subprocess
    script = "i=0; while [ $i -lt %d ]; do echo %s; i=$((i+1)); done" % (lines, "g" * 100)
    return subprocess.call(["/bin/sh", "-c", script])


def jump(seconds, hold_s):
    """The clock that timers go by jumps, and back again: on 2.7 that is the wall clock. Elsewhere only what calls see jumps."""
    real, end = time.time, time.time() + hold_s
    names = "time", "monotonic"

    def jumped():
        return real() + seconds
    changed = []
    for module in [module for name, module in list(sys.modules.items())
                   if module is not None and (name == "time" or name.startswith("ramet.kernel."))]:
        for name in names:
            if getattr(module, name, None) is real:
                setattr(module, name, jumped)
                changed.append((module, name))
    from ramet.kernel import start
    loop = start.node.loop
    if loop.now is real:
        loop.now = jumped
        changed.append((loop, "now"))
    try:
        while real() < end:
            threading.Event().wait(0.05)
    finally:
        for module, name in changed:
            setattr(module, name, real)
    return len(changed)


def left():
    """Threads of this node by name, and how many descriptors it has."""
    return sorted(thread.name for thread in threading.enumerate()), len(os.listdir("/proc/self/fd"))


def resident():
    """KiB of memory in use, descriptors and threads."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return [int(fields["VmRSS"].split()[0]), len(os.listdir("/proc/self/fd")), int(fields["Threads"])]


def state():
    """What this node is at: its threads' stacks, and what waits."""
    import traceback

    from ramet.kernel import start
    calls = start.node.calls
    lanes = calls.lanes
    return ["".join(traceback.format_stack(frame)) for frame in sys._current_frames().values()] + [str((
        len(calls.waiting), len(calls.aside), len(calls.cancels), calls.current and calls.current.reply_to,
        list(calls.early or ()), lanes and (
            sorted(lanes.jobs), lanes.running, lanes.named_threads, lanes.any_threads, len(lanes.starved), len(lanes.idle),
            len(lanes.turns), [(flow, len(lane.queue)) for flow, lane in lanes.named.items()])))]


def outlasts():
    """Is the keeper prepared for having no memory? From the node's second half on."""
    from ramet.kernel import start
    return "once" in vars(start.node.loop)


class Lacking(object):
    """A poller without memory for what it finds, at first."""

    def __init__(self, poller, times):
        self.poller, self.times = poller, times

    def __getattr__(self, name):
        return getattr(self.poller, name)

    def poll(self, *args):
        if self.times:
            self.times -= 1
            raise MemoryError
        return self.poller.poll(*args)


def keeper_lacks_memory(times):
    from ramet.kernel import start
    loop = start.node.loop
    loop.poller = lacking = Lacking(loop.poller, times)
    loop.call_soon(bool)
    while lacking.times == times:
        time.sleep(0.001)


def busy(begun, over):
    """Make a file, and wait until there is another one."""
    open(begun, "w").close()
    while not os.path.exists(over):
        time.sleep(0.01)


DOOMED = []


def threads_die(count, waits_s=None):
    """The next threads that are started end before they have begun, as without memory for their first step."""
    from ramet.kernel import lanes
    lanes.begin_waits_s = waits_s or lanes.begin_waits_s
    real = threading.Thread._bootstrap

    def bootstrap(self):
        if DOOMED:
            DOOMED.pop()
        else:
            real(self)
    if real.__name__ != "bootstrap":
        threading.Thread._bootstrap = bootstrap
    DOOMED[:] = [True] * count
