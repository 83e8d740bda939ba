"""Functions that tests run in lanes of nodes: what programs do to the process they are in. On every Python from 2.7 on."""
import os
import signal
import sys
import threading
import time

import ramet

GATE = threading.Event()
TOLD = []
HELD = []


def hold(seconds=60):
    """Wait until somebody opens the gate."""
    HELD.append(threading.current_thread().ident)
    GATE.wait(seconds)
    return threading.current_thread().ident


def held():
    """Whether somebody waits there, or has."""
    return bool(HELD)


def threads_known(many):
    """Of how many threads the node knows with what they wait, when so many have come and gone."""
    from ramet.kernel import start
    core = start.node.core
    for _ in range(many):
        thread = threading.Thread(target=core.waiter)
        thread.start()
        thread.join()
    return len(core.waiters)


def open_gate():
    GATE.set()


def shut_gate():
    GATE.clear()
    del HELD[:]


def thread():
    return threading.current_thread().ident


def thread_name(*lanes):
    """What the thread is called that a call comes to by way of these lanes of this node."""
    if lanes:
        return ramet.here().itself.options(lane=lanes[0]).call(thread_name, *lanes[1:])
    return threading.current_thread().name


def flows(names):
    from ramet.kernel import lanes
    return [lanes.flow_of(name) for name in names]


def set_threads_max(count):
    from ramet.kernel import lanes
    before, lanes.threads_max = lanes.threads_max, count
    return before


def wait_for_gate():
    """Whether it was opened meanwhile."""
    return GATE.wait(20)


def open_gate_when_woken(lane):
    """Have that lane's thread called to its own lane when it has just been woken: for another one's call, perhaps."""
    from ramet.kernel import lanes, start
    ours = start.node.calls.lanes
    bell = ours.named[lanes.flow_of(lane)].bell
    wait = bell.wait

    def wait_and_be_called():
        wait()
        del bell.wait
        ours.lock.release()
        ramet.here().itself.options(lane=lane).start(open_gate)
        ours.lock.acquire()
    bell.wait = wait_and_be_called


def start_below(id, word):
    """Start a call in lane ANY of a child, and don't wait for it."""
    from support import remote
    ramet.here().peer(id).options(lane=ramet.ANY).start(remote.append, word)


def threads():
    return threading.active_count()


def call_itself(lane, back):
    """Call into another lane of this node, which calls back into a third one."""
    itself = ramet.here().itself
    return (itself.options(lane=lane) if lane else itself).call(come_back, back)


def come_back(lane):
    itself = ramet.here().itself
    return (itself.options(lane=lane) if lane else itself).call(os.getpid)


def start_itself(lanes):
    """Start a call in the first of these lanes, wait for it, and let it do the same with the others."""
    itself = ramet.here().itself
    peer = itself.options(lane=lanes[0]) if lanes[0] else itself
    call = peer.start(start_itself, lanes[1:]) if lanes[1:] else peer.start(os.getpid)
    return call.result()


def start_and_go_on(lane, seconds):
    """Start what calls back into the main lane, wait for so long, if at all, and go on."""
    call = ramet.here().itself.options(lane=lane).start(come_back_and_tell, None)
    if not seconds:
        return call.done()
    try:
        return call.result(timeout=seconds)
    except ramet.CallTimeout:
        return call.done()


def come_back_and_tell(lane):
    TOLD.append(come_back(lane))
    GATE.set()


def told():
    GATE.wait(60)
    return list(TOLD)


def call_a_coroutine(lane):
    """From this lane into the asyncio one."""
    from support import remote_async
    itself = ramet.here().itself
    return (itself.options(lane=lane) if lane else itself).call(remote_async.double, 21)


def start_and_never_wait(count):
    """Start calls, and look at them till they are over. Returns how many are still to be ended with this one."""
    from ramet.kernel import cancelling, start
    itself = ramet.here().itself.options(lane=ramet.ANY)
    calls = [itself.start(os.getpid) for _ in range(count)]
    nested, end = cancelling.current_job(start.node.calls).nested, time.time() + 60
    while (nested or not all(call.done() for call in calls)) and time.time() < end:
        time.sleep(0.01)
    return len(nested)


def start_in_main(waits=False):
    """Start a call in the lane in which this runs."""
    call = ramet.here().itself.start(os.getpid)
    return call.result() if waits else call.done()


def deadline_below(id, own):
    """How many seconds a call has that is made from here, and what came of it."""
    child = ramet.here().peer(id)
    if own:
        child = child.options(timeout=own)
    began = time.time()
    try:
        child.call(time.sleep, 1000)
    except ramet.CallTimeout as error:
        return [time.time() - began, str(error), child.call(os.getpid) != os.getpid()]


def left():
    """What is left of this call's time, as a call from here would carry it on."""
    from ramet.kernel import cancelling, start
    return cancelling.current_job(start.node.calls).left()


def left_below(id):
    return ramet.here().peer(id).call(left)


def fork_and_return():
    """Both processes come back from here; only the node's own may answer."""
    pid = os.fork()
    if pid:
        return [pid, os.waitpid(pid, 0)[1]]
    return "the child's"


def fork_and_raise():
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] >> 8
    raise ValueError("in the child")


def fork_and_log():
    """A child that says something by logging, and stays for a moment."""
    import logging
    pid = os.fork()
    if not pid:
        logging.getLogger("app").warning("from the child")
        os._exit(7)
    return os.waitpid(pid, 0)[1] >> 8


def daemonize():
    """What daemons do to leave: two forks, a session of their own, and they keep what they have inherited."""
    ends = os.pipe()
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.write(ends[1], ("%d" % os.getpid()).encode())
            time.sleep(1000)
        os._exit(0)
    os.close(ends[1])
    return int(os.read(ends[0], 20))


def leave_a_thread(seconds):
    thread = threading.Thread(target=time.sleep, args=(seconds,))
    thread.daemon = True
    thread.start()


def crash_a_thread():
    def fail():
        raise ValueError("in a thread of the program's own")
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

    def leave():
        sys.exit(4)
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()


def exit():
    sys.exit(5)


def change_folder(path):
    os.chdir(path)
    return os.getcwd()


def interrupt_yourself():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)


def raise_alarm():
    """A signal handler of the program's own, on the main lane."""
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(threading.current_thread().name))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    end = time.time() + 10
    while not seen and time.time() < end:
        time.sleep(0.01)
    signal.signal(signal.SIGALRM, before)
    return seen


def close_standard():
    for fd in (0, 1, 2):
        os.close(fd)


def close_all():
    os.closerange(3, 1000)
    return "closed"


def limit_recursion(depth):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth)
    return before


def recurse(depth):
    return depth and recurse(depth - 1)


def spin_a_little(count):
    """Some steps at any of which a cancel may come."""
    total = 0
    for number in range(count):
        total += number
    return total
