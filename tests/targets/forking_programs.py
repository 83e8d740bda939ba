"""The programs of test_forked_programs.py: each grows a tree and forks in one of the ways in which programs do.

argv: the way. What it prints is what came of it. Each is a function, and runs in a process of its own.
"""
import asyncio
import itertools
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time

import ramet
from ramet import call, shelter, terminal
from ramet.kernel import channels, services, streams
from support import remote, remote_channels

LONG_S = 60


def refused(node):
    """What comes of using the tree in a child."""
    try:
        return node.call(remote.pid)
    except ramet.ClosedError as error:
        return "refused" if "forked" in str(error) else str(error)


def links():
    """How many descriptors of this process could keep a node alive: pipes and sockets beside 0, 1 and 2."""
    found = 0
    for fd in range(3, 200):
        try:
            found += os.readlink("/proc/self/fd/%d" % fd).startswith(("pipe:", "socket:"))
        except OSError:
            pass
    return found


def in_child(fn):
    """Run a function in a forked child; its text."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.close(r)
            os.write(w, str(fn()).encode())
            os.close(w)
            status = 0
        finally:
            os._exit(status)
    os.close(w)
    with os.fdopen(r) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def os_fork(tree, nodes):
    print(in_child(lambda: refused(nodes[0])), [node.call(remote.add, 1, 2) for node in nodes])


def everything_is_refused(tree, nodes):
    tree.fork().wait()      # so that there is a template, from which the next one would be forked
    ways = [lambda: nodes[0].call(remote.pid), lambda: nodes[0].start(remote.pid), lambda: nodes[0].cast(remote.pid),
            lambda: nodes[0].stream(range, 3), tree.local, nodes[0].local, tree.channel,
            lambda: nodes[0].run(["true"]), lambda: tree.connect_all(["web"]), lambda: nodes[0].raw(["true"]),
            lambda: tree.serve("x", [], allow="anyone"), lambda: [outcome.error for _, outcome in tree.each(nodes, remote.pid)],
            lambda: nodes[0].service("none").method(), tree.fork, lambda: next(nodes[0].stream(range, 3))]

    def child():
        wrong = []
        for number, way in enumerate(ways):
            try:
                found = way()
                if number != 11 or not all("forked" in str(error) for error in found):      # each() gives outcomes
                    wrong.append((number, found))
            except ramet.ClosedError as error:
                if "forked" not in str(error):
                    wrong.append((number, str(error)))
            except Exception as error:
                wrong.append((number, repr(error)))
        for node in nodes:
            node.close()
            node.kill()
        tree.close()
        return wrong
    print(in_child(child), [node.call(remote.add, 1, 2) for node in nodes])


def no_descriptor_is_kept(tree, nodes):
    growing = tree.command(["sh", "-c", "sleep 1000"], python=["python3"], name="never-up")
    growing.raw(["true"])
    pending = nodes[0].start(remote.sleep, 0.1)
    grown = in_child(links)
    pending.result()
    growing.kill()
    print(grown)     # the pipe of in_child, and those by which threads of this process wait


def a_tree_of_its_own(tree, nodes):
    """While other threads use the first one, so that locks are held."""
    stop = threading.Event()
    threads = [threading.Thread(target=lambda node=node: [node.start(remote.add, 1).result() for _ in iter(stop.is_set, True)])
               for node in nodes]
    for thread in threads:
        thread.start()

    def child():
        with ramet.Tree() as other:
            return other.local().call(remote.add, 20, 22)
    said = [in_child(child) for _ in range(10)]
    stop.set()
    for thread in threads:
        thread.join()
    print(said == ["42"] * 10, [node.call(remote.add, 1, 2) for node in nodes])


def locks_that_others_hold(tree, nodes):
    """A tree of its own needs those that aren't any tree's."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with call._MAKING, streams._making, channels._making, services._making:
            held.set()
            done.wait(LONG_S)
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(LONG_S)

    def child():
        with ramet.Tree() as other:
            node = other.local()
            pending = node.start(remote.add, 20, 22)
            one = call._MAKING is terminal._ONE     # else no call would be answered while the user is asked something
            return pending.exception(), pending.result(), list(node.stream(range, 3)), other.channel().size, one
    print(in_child(child))
    done.set()
    thread.join()
    print([node.call(remote.add, 1, 2) for node in nodes])


def stray_writes(tree, nodes):
    """Descriptors that are opened in the child get the numbers of those that were closed: nothing may write there."""
    stream = nodes[0].stream(range, 100000)
    next(stream)
    held = [stream]
    pending = nodes[0].start(remote.add, 1)
    pending.result()

    def child():
        pairs = [socket.socketpair() for _ in range(40)]
        assert pairs[0][0].fileno() < 12
        held.clear()
        nonlocal stream
        del stream
        pending.cancel()
        tree.close()
        for one in list(nodes):
            one.close()
        wrong = []
        for one in itertools.chain(*pairs):
            one.setblocking(False)
            try:
                wrong.append(one.recv(100))
            except BlockingIOError:
                pass
        return wrong
    print(in_child(child), [node.call(remote.add, 1, 2) for node in nodes], next(stream))


def beside_a_wait(tree, nodes):
    """Forked by a thread while the main one waits for a node: the child's handlers are the program's own."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
    channel = tree.channel()
    statuses = []

    def fork():
        while not shelter._inside:
            time.sleep(0.001)
        r, w = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.write(w, b"!")
                time.sleep(LONG_S)
            finally:
                os._exit(0)
        os.read(r, 1)
        os.kill(pid, signal.SIGTERM)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        channel.send(1)
    thread = threading.Thread(target=fork)
    thread.start()
    channel.receive()
    thread.join()
    print(statuses)


def waits_from_before(tree, nodes):
    """Nothing comes to the child: it waited for ever, and read what was to wake the parent's thread."""
    pending, channel = nodes[0].start(remote.sleep, 1), tree.channel()
    print(in_child(lambda: all_refused(channel.receive, pending.result)), pending.result())


def all_refused(*ways):
    """Those that aren't refused; each as what came of it."""
    signal.alarm(LONG_S)    # what hangs ends
    wrong = []
    for way in ways:
        try:
            wrong.append(way())
        except ramet.ClosedError as error:
            if "forked" not in str(error):
                wrong.append(str(error))
    return wrong


def waits_while_the_tree_is_locked(tree, nodes):
    """By a thread that isn't in the child."""
    pending, held, done = nodes[0].start(remote.sleep, 1), threading.Event(), threading.Event()

    def hold():
        with tree._shipper.lock:
            held.set()
            done.wait(LONG_S)
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(LONG_S)
    print(in_child(lambda: all_refused(pending.result)))
    done.set()
    thread.join()
    print(pending.result())


def channels_from_before(tree, nodes):
    """The child's items were put into its copy, and it took those that the parent gives."""
    ours, theirs = tree.channel(), nodes[0].call(remote_channels.make, 10)
    for channel in ours, theirs:
        channel.send(1)
    ways = [way for one in (ours, theirs) for way in (
        lambda one=one: one.send(2), one.receive, one.close, lambda one=one: list(one),
        lambda one=one: asyncio.run(all_items(one)))]
    print(in_child(lambda: all_refused(*ways)))
    for channel in ours, theirs:
        channel.send(3)
        print(channel.receive(), channel.receive())


def channels_that_were_read(tree, nodes):
    """What had come with the parent's items was given by the child, too."""
    theirs = nodes[0].call(remote_channels.make, 10)
    for number in range(6):
        theirs.send(number)
    while nodes[0].call(remote_channels.arrived, theirs) < 6:
        pass
    ours = tree.channel(100)
    for number in range(6):
        ours.send(number)
    for channel in theirs, ours:
        print(channel.receive(), channel.receive(), len(channel._end.here))
        print(in_child(lambda one=channel: all_refused(one.receive, lambda: list(one))))
        print([channel.receive() for _ in range(4)])


async def all_items(source):
    return [item async for item in source]


async def result(source):
    return await source


def awaits_from_before(tree, nodes):
    growing = tree.command(["sh", "-c", "sleep 1000"], python=["python3"], name="never-up")
    many = tree.connect_all([["sh", "-c", "sleep 1000"]], "command", python=["python3"])
    waits = [nodes[0].start(remote.sleep, 1), growing, nodes[0].raw(["sleep", "1000"]), many]
    stream = nodes[0].stream(range, 10 ** 9)
    ways = [lambda one=one: asyncio.run(result(one)) for one in waits]
    print(in_child(lambda: all_refused(*ways, lambda: asyncio.run(all_items(stream)))), waits[0].result(), next(stream))
    stream.close()
    waits[2].cancel()
    for node in (growing, *many.nodes):
        node.kill()


def while_it_is_closed(tree, nodes):
    """By another thread, which waits for a node to end: the child keeps none of its descriptors."""
    pid = nodes[2].call(remote.pid)
    os.kill(pid, signal.SIGSTOP)
    thread = threading.Thread(target=tree.close)
    thread.start()
    while not tree._closed:
        time.sleep(0.001)
    print(in_child(lambda: [one.link.fd_in for one in tree._nursery.children.values() if one.link.fd_in >= 0]))
    os.kill(pid, signal.SIGCONT)
    thread.join()


def exits_as_usual(tree, nodes):
    """The child runs off the end, with its exit handlers."""
    pid = os.fork()
    if not pid:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), [node.call(remote.add, 1, 2) for node in nodes])


def leaves_the_block(tree, nodes):
    """The child leaves the ``with`` block, and the parent is still in it."""
    if not hasattr(leaves_the_block, "pid"):
        leaves_the_block.pid = os.fork()
    if leaves_the_block.pid:
        status = os.waitpid(leaves_the_block.pid, 0)[1]
        print(os.waitstatus_to_exitcode(status), [node.call(remote.add, 1, 2) for node in nodes])


def square(number):
    return number * number


def _multiprocessing(method, nodes):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        print(pool.map(square, range(5)), [node.call(remote.add, 1, 2) for node in nodes])
        sys.stdout.flush()
    process = context.Process(target=square, args=(3,))
    process.start()
    process.join()
    print(process.exitcode, [node.call(remote.add, 1, 2) for node in nodes])


def attached_nodes(tree, nodes):
    """One that was detached before, and one that is being attached and says nothing yet."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        pid = nodes[1].call(remote.pid)
        nodes[1].detach(os.path.join(folder, "kept"))
        attached = None
        while attached is None:
            try:
                attached = tree.attach(os.path.join(folder, "kept")).wait()
            except ramet.ConnectError as error:     # it isn't done with being left yet
                if "another program" not in str(error) and "hasn't ended yet" not in str(error):
                    raise
        listener.bind(os.path.join(folder, "silent"))
        listener.listen()
        attaching = tree.attach(os.path.join(folder, "silent"))
        silent, _ = listener.accept()

        def child():
            listener.close()
            silent.close()
            sockets = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)
                       and os.readlink("/proc/self/fd/" + fd).startswith("socket:")]
            return "%s %d" % (refused(attached), len(sockets))
        print(in_child(child), attached.call(remote.pid) == pid)
        attaching.kill()
        attached.close()
        silent.close()
        while os.path.exists(os.path.join(folder, "kept")):
            time.sleep(0.01)


def multiprocessing_fork(tree, nodes):
    _multiprocessing("fork", nodes)


def multiprocessing_spawn(tree, nodes):
    _multiprocessing("spawn", nodes)


def multiprocessing_forkserver(tree, nodes):
    _multiprocessing("forkserver", nodes)


def preforking(tree, nodes):
    """As gunicorn: workers are forked, one is killed and forked anew; each has a tree of its own; the master uses the first."""
    def work(w):
        with ramet.Tree() as own:
            os.write(w, b"%d %s\n" % (own.local().call(remote.add, 1, 2), refused(nodes[0]).encode()))
            while True:
                time.sleep(0.1)     # no pause(): a signal just before it would be waited for again

    def worker():
        r, w = os.pipe()
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            try:
                work(w)
            finally:
                os._exit(0)
        os.close(w)
        with os.fdopen(r) as file:
            return pid, file.readline().strip()
    workers = [worker() for _ in range(3)]
    os.kill(workers[0][0], signal.SIGKILL)
    os.waitpid(workers[0][0], 0)
    workers.append(worker())
    said = [line for _, line in workers]
    for pid, _ in workers[1:]:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    print(said, [node.call(remote.add, 1, 2) for node in nodes])


def daemon(tree, nodes):
    """Forks twice, in a session of its own, and outlives this program: it is said which process it is."""
    r, w = os.pipe()
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.write(w, b"%d" % os.getpid())
            os.close(w)
            for fd in range(3):
                os.close(fd)
            time.sleep(1000)
        os._exit(0)
    os.wait()
    print(os.read(r, 99).decode(), [node.call(remote.pid) for node in nodes])


def main():
    way = globals()[sys.argv[1]]
    with ramet.Tree() as tree:
        child = tree.local()
        nodes = [child, child.local(), tree.command(["env"], python=[sys.executable])]
        for node in nodes:
            node.call(remote.pid)
        way(tree, nodes)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
