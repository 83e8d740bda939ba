"""A node that outlives its program: *kept* under a name, it waits there when it has none, and serves the next one that comes.

Late part of the kernel. ``keep`` is called in an ordinary node, as a call on the main lane, and never returns from there: it is
the main lane from then on. The node stays one process with all that its functions have made: modules, objects, threads. What
belonged to the program that is gone ends: calls, streams, channels, services, children, the main module.

========  ==============================================  =============================================================
state     what it means                                   how it ends
========  ==============================================  =============================================================
in use    there is a link to a parent                     the link is lost: settling. Asked to end: it ends
settling  calls and children of that program are ended    none is left: waiting. It takes longer than ``wait_s``: it ends
waiting   anybody of this account may come                one has come: in use. Nobody has within ``wait_s``: it ends
========  ==============================================  =============================================================

Who knocks is told in a line whose kernel this is, and says CONFIG and what follows at once; the first whose CONFIG comes while
the node waits gets it (``ok``), all others are told why not. The main thread serves or waits; the keeper does the rest.
"""
import os
import sys

from ramet.kernel import by_value, compat, core, ending, installed, instances, later, leash, links, meeting, parting, values
from ramet.kernel.faults import Error
from ramet.kernel.frames import DEAD
from ramet.kernel.handles import LINK
from ramet.kernel.routing import Routes

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional

# The guardian's word for a node that outlives its link.
KEPT = 100000000

# How often the main thread looks whether what it ends has ended.
settle_look_s = 0.02

# Who has knocked must have said what he wants within this time.
knock_within_s = 30.0

# Main modules of programs that are gone, of which something may be in use: 2.7 empties a module that nobody holds.
mains_max = 16

NO_ROOM = "it has no room for another process or descriptor"


def keep(target, wait_s, kernel):
    # type: (str, Optional[float], str) -> Any
    """Keep this node under a name from now on. Called by the controller, on the main lane; doesn't return.

    Args:
        target: a name or an absolute path; see ``meeting.Place``.
        wait_s: how long the node waits for a program whenever it has none; None: for ever.
        kernel: what names this version of the kernel.

    Raises:
        Error: it can't be kept, and is as before.
    """
    from ramet.kernel import start
    node = start.node  # type: Any
    calls = node.calls
    template = sys.modules.get("ramet.kernel.template")
    if not sys.platform.startswith("linux"):
        raise Error("a node can be detached on Linux only: other systems don't tell in the same way who is at a socket's end")
    if getattr(node, "held", None):
        raise Error("this node is kept already, as %s" % node.held.place.path)
    if template and template.serving or compat.thread_id() != compat.main_thread_id or not calls.current:
        raise Error("a template can't be kept, only what is forked from it")
    if node.nursery and (node.nursery.children or node.nursery.runs):
        raise Error("this node has children, which would end with the program: close them first, or detach them by themselves")
    if calls.on_idle is not bool:
        node.on_idle(node.core.routes.parent)   # the second half: its part is here
    place, sock, inode = meeting.listen_at(target)
    try:
        held = HeldNode(node, place, sock, inode, wait_s, kernel)
        held.leash.tie(node.core.routes.parent.fd_in)
    except BaseException as error:
        sock.close()
        meeting.remove(place, inode)
        place.close()
        if not isinstance(error, EnvironmentError):
            raise
        raise Error("this node can't be kept: there is no room for another process or descriptor: %s" % error)
    node.held = held
    held.run(calls.current)


class HeldNode(object):
    """What a node is that is kept."""

    def __init__(self, node, place, sock, inode, wait_s, kernel):
        # type: (Any, meeting.Place, Any, int, Optional[float], str) -> None
        self.node = node
        self.place = place
        self.sock = sock
        self.inode = inode
        self.wait_s = wait_s
        self.kernel = kernel
        self.over = False       # it was asked to end
        self.why = "another program is attached to it"     # why nobody can be; "" while it waits
        self.lock = compat.new_lock()   # of ``why`` and ``guest``
        self.guest = None  # type: Any      # [descriptor, what it has said] of who has come
        self.knocking = {}  # type: Dict[Any, Any]      # sockets of those who haven't said anything yet, and their timers
        self.output_fds = []  # type: List[int]
        self.waiter = links.Waiter()
        self.since = 0.0        # when it had a program the last time
        self.leash = leash.Leash(wait_s)
        self.mains = []  # type: List[Any]
        self.cancelling = False     # a thread is about to end what the last program has begun

    def run(self, message):
        # type: (Any) -> None
        """Be the main lane until the node ends. Main thread."""
        node, calls = self.node, self.node.calls
        if hasattr(os, "register_at_fork"):     # since 3.7
            os.register_at_fork(after_in_child=self.leash.forget)
        node.loop.watch(self.sock.fileno(), self.accept)
        node.core.handlers[core.END] = self.on_end
        node.core.routes.parent.on_lost = self.on_lost
        ending.tell_guardian(KEPT)
        calls.running, calls.current = False, None
        calls.finish(message, (values.encode(self.place.path), 0))
        later.live(node, self.serve_programs)

    def serve_programs(self):
        # type: () -> None
        """Serve one program after the other."""
        try:
            while True:
                self.serve()
                if self.over or not self.next_program():
                    break
        finally:
            self.node.loop.forget(self.sock.fileno())
            meeting.remove(self.place, self.inode)
            self.node.output.fds = self.output_fds or self.node.output.fds
            self.leash.loose()

    def serve(self):
        # type: () -> None
        """Serve one program until it is gone."""
        calls, link = self.node.calls, self.node.core.routes.parent
        while not calls.closing:
            try:
                calls.serve()
            except (OSError, IOError, ValueError):
                if not link.dead:
                    raise
                # It was lost just when it was borrowed: its descriptor is gone. Any other node would end now.
                link.give_back(calls.waiter)

    # ------------------------------------------------------------------ its program goes

    def on_end(self, message):
        # type: (core.Message) -> None
        """The program ends the node itself, or a child; or has the node let it go."""
        if self.node.core.routes.commands(message.authority):
            ids = values.decode(message.body)
            if ids == [LINK]:
                self.node.loop.call_soon(self.leave)
            self.over = self.over or not ids
        self.node.on_end(message)

    def leave(self):
        # type: () -> None
        """Send what was written so far, then let the program go. On the keeper."""
        parting.Parting(self.node, self.keep_output).look()

    def keep_output(self):
        # type: () -> None
        """Leave what is written from now on to the next program: nobody reads it. What doesn't fit the guardian drops."""
        output = self.node.output
        if not self.output_fds:
            self.output_fds, output.fds = output.fds, [-1, -1]
            for fd in self.output_fds:
                if fd >= 0:
                    self.node.loop.forget(fd)

    def on_lost(self, link, reason):
        # type: (Any, str) -> None
        """The link is lost. On the keeper."""
        node = self.node
        self.leash.hang_up()
        if self.over:
            node.on_orphan(link, reason)
            return
        self.since = compat.monotonic()
        with self.lock:
            self.why = meeting.SETTLING
        service = node.core.handlers.get(21)    # ``services``, which may not be here
        if service:
            service.__self__.close()
        if node.nursery:
            node.nursery.end_all(bool)
        for handle in list(node.core.pending):
            node.core.resolve(handle, DEAD, b"the program that this node was attached to is gone")
        if hasattr(node.log_hook, "waiters"):       # who logs waits until that was shown: nobody shows it any more
            node.log_hook.shown += 1 << 60
            for waiter in list(node.log_hook.waiters):
                waiter.wake()
        self.keep_output()
        watch = getattr(node, "watch", None)
        if watch:
            watch.over, node.watch = True, None
        self.cancelling = True      # before the main thread looks whether all has settled
        with node.calls.lock:   # see ``later.end``
            node.calls.end()
        try:
            compat.start_thread(self.cancel_all, ())
        except Exception:
            self.cancelling = False
            raise

    def cancel_all(self):
        # type: () -> None
        """End what the program has begun. The next one waits for that: its first call would be ended, too."""
        try:
            later.cancel_all(self.node)
        finally:
            self.cancelling = False

    def settled(self):
        # type: () -> bool
        """Whether nothing runs any more that the last program has begun."""
        calls, nursery = self.node.calls, self.node.nursery
        return not (self.cancelling or nursery and (nursery.children or nursery.runs) or calls.lanes and calls.lanes.running)

    def next_program(self):
        # type: () -> bool
        """Wait for the next program, and be its node. False: nobody came. Main thread."""
        forgotten = False
        while not (forgotten and self.settled()):       # a call may have been on its way into a lane: it is ended now
            while not self.settled():
                if self.left() == 0:
                    return False
                self.waiter.wait(settle_look_s)
            self.forget()
            forgotten = True
        while True:
            with self.lock:
                self.why = ""
            while not self.guest:
                left = self.left()
                with self.lock:
                    if left == 0 and not self.guest:
                        self.why = "its time to wait is over"
                        return False
                self.waiter.wait(left)
            (fd, data), self.guest = self.guest, None
            config, rest = meeting.read_config(fd, data, knock_within_s)
            if config and self.tied(fd) and write(fd, b"ok\n"):
                self.begin(config, fd, rest)
                return True
            os.close(fd)

    def tied(self, fd):
        # type: (int) -> bool
        """Have a leash for the link of who has come. False: there is no room for one. He is told so, and the node waits on."""
        try:
            self.leash.tie(fd)
        except (OSError, IOError):
            write(fd, ("no: %s\n" % NO_ROOM).encode("ascii"))
            return False
        return True

    def left(self):
        # type: () -> Optional[float]
        """Seconds that it may wait yet; None: for ever."""
        return None if self.wait_s is None else max(0, self.since + self.wait_s - compat.monotonic())

    def forget(self):
        # type: () -> None
        """Forget the program. What was loaded stays, but for its main module."""
        node, calls = self.node, self.node.calls
        for queue in (calls.waiting, calls.aside, calls.cancels):
            queue.clear()
        calls.current = calls.interrupted = None
        calls.failed, calls.early, calls.began = {}, (), 0.0
        if calls.lanes:
            calls.lanes.end_all()
            with calls.lanes.lock:
                calls.lanes.jobs.clear()
        main = sys.modules.pop(compat.MAIN, None)
        if main:
            self.mains = (self.mains + [main])[-mains_max:]
            sys.modules["__main__"] = type(sys)("__main__")
        by_value._shared.clear()
        instances.by_value, instances.by_number = {}, {}
        installed.forget()
        running = sys.modules.get("ramet.kernel.running")  # type: Any
        if running:
            running.ENDED.clear()       # the next program's have the same numbers
        records = node.cache.records
        for form, name in list(records):
            if name[:6] != "ramet." and name not in sys.modules:
                del records[form, name]
        node.cache.reasons.clear()
        node.nursery = None

    # ------------------------------------------------------------------ the next one comes

    def accept(self):
        # type: () -> None
        """Somebody knocks. On the keeper."""
        try:
            sock = meeting.accept(self.node.loop, self.sock)
            if meeting.peer(sock)[1] == os.geteuid() and len(self.knocking) < meeting.knocking_max:
                sock.setblocking(False)
                compat.set_cloexec(sock.fileno())
                sock.send(("RAMET-KEPT %s %x %s\n" % (
                    self.kernel, sys.hexversion, compat.IMPLEMENTATION[0].lower())).encode("ascii"))
                self.knocking[sock] = self.node.loop.call_later(knock_within_s, self.drop, sock)
                self.node.loop.watch(sock.fileno(), lambda: self.knocked(sock))
            else:
                sock.close()
        except (OSError, IOError):
            pass    # who knocked is gone

    def drop(self, sock):
        # type: (Any) -> None
        """Listen no longer to one who has knocked."""
        if sock in self.knocking:
            self.knocking.pop(sock).cancel()
            self.node.loop.forget(sock.fileno())
            sock.close()

    def knocked(self, sock):
        # type: (Any) -> None
        """One says what he wants."""
        try:
            data = sock.recv(65536)
        except (OSError, IOError):
            data = b""
        with self.lock:
            why = self.why
            if data and not why:
                try:
                    fd = os.dup(sock.fileno())      # 2.7's sockets can't give their descriptor away
                except OSError:
                    why = NO_ROOM
                else:
                    compat.set_cloexec(fd)
                    self.guest = [fd, data]
                    self.why = "another program is attached to it"
        if data and why:
            write(sock.fileno(), ("no: %s\n" % why).encode("ascii"))
        self.drop(sock)
        self.waiter.wake()

    def begin(self, config, fd, data):
        # type: (Dict[str, Any], int, bytes) -> None
        """Be a node of another tree, under another number."""
        from ramet.kernel import start
        node, calls, ours = self.node, self.node.calls, self.node.core
        node.config, node.name = config, config["name"]
        ours.id = config["id"]
        ours.routes = Routes(ours.id, config["ancestors"])
        ours.routes.one_way = "one_way" in config
        ours.descendants = ours.long = None
        ours.handlers.clear()
        ours.handlers.update({
            core.CALL: calls.arrive, core.CANCEL: calls.cancel, core.END: self.on_end, core.MODULES: node.on_modules,
            core.GROW: node.on_family, core.MODULE_REQUEST: node.on_family, core.KEEPALIVE: node.on_keepalive})
        calls.closing, calls.on_idle = False, self.on_idle
        log = node.log_hook
        log.level = config["log_level"]
        log.__dict__.pop("levels", None)
        if log not in sys.meta_path:
            from ramet.kernel import logs
            logs.begin(log)
        node.output.sent = node.output.shown = 0
        node.output.fds, self.output_fds = self.output_fds, []
        link = ours.routes.parent = links.Link(node.loop, ours.on_frame, self.on_lost)
        compat.set_blocking(fd, False)
        link.open(fd, fd, data)
        ours.tell(0, core.HELLO, start.facts())
        node.loop.call_soon(node.output.watch)

    def on_idle(self, _):
        # type: (Any) -> None
        """The first call is answered: tell what is installed. The rest of the second half goes on since the node's start."""
        self.node.calls.on_idle = bool
        installed.tell()


def write(fd, data):
    # type: (int, bytes) -> bool
    """Write a line to who has just knocked: it fits. Returns whether he is there."""
    try:
        return os.write(fd, data) == len(data)
    except OSError:
        return False
