"""What test_attaching.py runs in nodes. Python 2.7 and newer."""
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import ramet

items = []
ended = []
threads = []


def add(item):
    """Remember something. Gives all that was remembered, by whichever program."""
    items.append(item)
    return [os.getpid(), items]


def name_itself(name):
    """Give this process a name for ``ps``. The system cuts it after 15 bytes, be that within a letter. Gives what it became."""
    with open("/proc/self/comm", "wb") as comm:
        comm.write(name)
    with open("/proc/self/comm", "rb") as comm:
        return comm.read()


def forks_fail_while(path):
    """Let every fork of this process fail as long as there is that file."""
    fork = os.fork

    def fork_if_there_is_room():
        if os.path.exists(path):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()
    os.fork = fork_if_there_is_room


def dups_fail_while(path):
    """Let whoever knocks find no descriptor here for as long as that exists."""
    dup = os.dup

    def dup_or_fail(fd):
        if os.path.exists(path):
            raise OSError(24, "Too many open files")
        return dup(fd)
    os.dup = dup_or_fail


def leave_a_daemon():
    """Fork a process that outlives this one. Returns its number, and that of this node's leash."""
    from ramet.kernel import start
    pid = os.fork()
    if not pid:
        os.setsid()
        signal.pause()
    return pid, start.node.held.leash.pid


def fds():
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def give_up_its_link():
    """Close the link to the program, as a node does that has heard nothing for too long."""
    from ramet.kernel import start
    items.append("gave up")
    start.node.core.routes.parent.close("nothing has come over its link")


def work(name="work"):
    """Run until it is ended, and remember that it was."""
    items.append(name)
    try:
        while True:
            time.sleep(0.01)
    finally:
        ended.append(name)


def count():
    """Give numbers for ever, and remember that it was ended."""
    try:
        number = 0
        while True:
            number += 1
            yield number
    finally:
        ended.append("count")


def go_on():
    """Start a thread that belongs to no call."""
    def run():
        while True:
            items.append("tick")
            done.set()
            time.sleep(0.01)
    done = threading.Event()
    thread = threading.Thread(target=run)
    thread.daemon = True
    thread.start()
    threads.append(thread)
    done.wait()


def write_much(path, first, mb):
    """Write from a thread that belongs to no call, when there is the first file, and make the other one when it is done."""
    def run():
        while not os.path.exists(first):
            time.sleep(0.01)
        for _ in range(mb):
            sys.stdout.write(("x" * 1023 + "\n") * 1024)
        sys.stdout.flush()
        open(path, "w").close()
    thread = threading.Thread(target=run)
    thread.daemon = True
    thread.start()


def flood():
    """Write without end from a thread that belongs to no call."""
    def run():
        while True:
            sys.stdout.write("x" * 99 + "\n")
    thread = threading.Thread(target=run)
    thread.daemon = True
    thread.start()


def read(path):
    """Wait in one system call, out of which no exception gets a thread, until somebody writes there."""
    items.append("stuck")
    with open(path) as file:
        items.append(file.read())


def receive(channel):
    return channel.receive()


def start_sleeper():
    """Start a program that outlives the call."""
    return subprocess.Popen(["sleep", "1000"]).pid


def state():
    """[what was remembered, what was ended, whether the threads run]"""
    return [items, ended, [thread.is_alive() for thread in threads]]


def what_it_has():
    """How many descriptors, threads and processes the node has, and how many objects of ramet's kernel."""
    gc.collect()
    kernel = [one for one in gc.get_objects() if type(one).__module__[:13] == "ramet.kernel."
              and type(one).__name__ != "Timer"]     # one that was cancelled goes when its time has come
    with open("/proc/self/task/%d/children" % os.getpid()) as children:
        return [len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), len(children.read().split()), len(kernel)]


def parent_id():
    return ramet.here().parent.id


def pid():
    return os.getpid()


late = []


def end_calls_late():
    """Have the thread that ends this program's calls come late: when the next one's first call runs, or after a while."""
    from ramet.kernel import later
    cancel_all = later.cancel_all

    def come_late(node):
        end = time.time() + 2
        while not late and time.time() < end:
            time.sleep(0.01)
        cancel_all(node)
        late.append("done")
    later.cancel_all = come_late


def parent_id_when_late():
    """The number of the node above; asked while that thread is at its work, if it hasn't done that."""
    late.append("here")
    end = time.time() + 2
    while "done" not in late and time.time() < end:
        time.sleep(0.01)
    return parent_id()
