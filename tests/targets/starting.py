"""Called in nodes, of any Python: what befalls a program while it is being started, and by chance seldom does."""
import subprocess
import threading
import time

entered, looked, made = threading.Event(), threading.Event(), threading.Event()
pids = []


class Late:
    """In place of ``subprocess``: the program is there when who cancels its call has looked for programs of it already."""

    PIPE, STDOUT = subprocess.PIPE, subprocess.STDOUT
    tries = 0

    def Popen(self, *args, **options):
        entered.set()
        looked.wait(60)
        process = subprocess.Popen(*args, **options)
        pids.append(process.pid)
        made.set()
        while self.tries < 2:       # in this code of Python's it is interrupted, if that may be done
            time.sleep(0.001)
        return process


def start_amid_the_look():
    from ramet.kernel import jobs, offspring, running
    late = running.subprocess = Late()
    look, interrupt = offspring.of, jobs.ThreadJob.interrupt

    def look_before(job):
        found = look(job)
        looked.set()
        made.wait(60)
        return found

    def counted(job):
        interrupt(job)
        late.tries += 1
    offspring.of, jobs.ThreadJob.interrupt = look_before, counted


def start_without_a_thread():
    from ramet.kernel import running

    def begin(thread):
        if running._write in thread.__dict__.values():
            raise RuntimeError("can't start new thread")
        start(thread)

    def told(pid):
        pids.append(pid)
        tell(pid)
        made.set()
    tell, running.ending.tell_guardian = running.ending.tell_guardian, told
    start, threading.Thread.start = threading.Thread.start, begin


def wait_for_start():
    return entered.wait(60)


def pid():
    made.wait(60)
    return pids[0]


def runs():
    from ramet.kernel import running
    return list(running.RUNS)
