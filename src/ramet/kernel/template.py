"""The template: a node that forks others from itself, which so have its modules loaded from the first. Late part of the kernel.

``become`` is called in an ordinary node. It imports what is wanted, gives its only other thread, the keeper, up, and is its own
keeper from then on, in the main thread: a process with one thread can be forked cleanly. ``Fork`` takes the place of a
``grow.Growth`` in its nursery. What a fork is sent first is in its memory already. All of it runs on the main thread.
"""
import os
import sys
import time

from ramet.kernel import compat, compat_late, guardian, importer, limits, loop_late, spawn, start, unforeseen
from ramet.kernel.diagnosis import connect_error
from ramet.kernel.grow import Beginning

MYPY = False
if MYPY:
    from typing import Any, List, Optional

# Parts of the kernel that nodes need sooner or later: loaded once, for all forks.
PARTS = ("failures", "compat_late", "unforeseen", "later", "facade", "logs", "nursery", "cancelling", "portable", "instances")

serving = []  # type: List[Any]      # the node, once it is a template
held = []  # type: List[Any]         # forks that are asked for before

# How long the keeper may take to end, before forks are refused.
alone_within_s = 2.0
look_s = 0.05       # how often the end of a fork is looked for while somebody waits for it


def become(names):
    # type: (List[str]) -> bool
    """Import modules, and be a template when this call has been answered."""
    node = start.node  # type: Any
    for name in PARTS:
        __import__("ramet.kernel." + name)
    for name in names:
        __import__(name)
    node.on_idle()
    node.calls.on_idle = lambda: serve(node)
    return True


def threads():
    # type: () -> int
    """How many threads this process has."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1 + compat_late.count_threads()


def serve(node):
    # type: (Any) -> None
    """Be keeper and main lane in one thread, until the node ends."""
    node.calls.on_idle = bool
    loop, calls, parent = node.loop, node.calls, node.core.routes.parent
    parent.give_back(calls.waiter)
    loop_late.stop(loop)
    end = compat.monotonic() + alone_within_s
    while threads() > 1 and compat.monotonic() < end:
        time.sleep(0.0002)
    loop.running, loop.thread = True, 0
    import gc
    gc.collect()
    getattr(gc, "freeze", int)()    # what was loaded stays shared with the forks
    serving.append(node)
    for fork in held:
        fork.start()
    while not calls.closing:
        if not calls.waiting:
            loop.once()
        if calls.waiting and not calls.closing:
            calls.current = message = calls.waiting.popleft()
            calls.began = compat.monotonic()
            reply = calls.run(message)
            calls.current = None
            if reply:
                calls.finish(message, *reply)
    compat.start_thread(loop.run, ())   # the end is as in any node, which needs a keeper


class Fork(Beginning):
    """Forks one node."""

    over = False
    alone_by = 0.0      # until when it waits for other threads to end

    def start(self):
        # type: () -> None
        """Begin, as soon as the node is a template."""
        if serving:
            self.loop.call_soon(self._begin)
        else:
            held.append(self)

    def abort(self, reason):
        # type: (Any) -> None
        """Give it up."""
        self.loop.call_soon(self._fail, reason if isinstance(reason, BaseException) else str(reason))

    def _fail(self, reason):
        # type: (Any) -> None
        if not self.over:
            self.over = True
            if not isinstance(reason, BaseException):
                reason = connect_error(self.plan, {"text": reason, "remedy": "see the text"})
            self.on_failed(reason)

    def _begin(self):
        # type: () -> None
        if self.over:
            return
        if threads() > 1:
            self.alone_by = self.alone_by or self.loop.now() + alone_within_s
            if self.loop.now() < self.alone_by:     # one of ramet's own may be just ending: that which takes KEEPALIVE
                self.loop.call_later(look_s, self._begin)
                return
            self._fail("its template has %d threads, so it can't be forked cleanly: one of the preloaded modules starts them, "
                       "or a call in it" % threads())
            return
        try:
            near, far = spawn.link_pair()
        except EnvironmentError:
            self._fail("no socket can be had: %s" % sys.exc_info()[1])
            return
        data = self.on_started(compat.form_tag())
        for file in sys.stdout, sys.stderr:
            try:
                file.flush()
            except Exception:
                pass    # closed or replaced by a module
        try:
            pid = os.fork()
        except OSError:
            near.close()
            far.close()
            self._fail("the system has no room for another process: %s" % sys.exc_info()[1])
            return
        if not pid:
            try:
                near.close()
                be_node(serving[0], os.dup(far.fileno()), far, data)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(98)
        fd = os.dup(near.fileno())      # 2.7's sockets can't give their descriptor away
        near.close()
        far.close()
        compat.set_cloexec(fd)
        compat.set_blocking(fd, False)
        self.over = True
        self.process = ForkedProcess(self.loop, pid)
        self._reached("process")
        self.on_up(self.process, fd, fd, b"")


class ForkedProcess(object):
    """A node that was forked here, as its parent sees the process: what ``nursery`` asks of a ``spawn.Process``."""

    lent = False

    def __init__(self, loop, pid):
        # type: (Any, int) -> None
        self.loop = loop
        self.pid = pid
        self.status = None  # type: Optional[int]
        self.waiting = []  # type: List[Any]
        self.looking = False

    def poll(self):
        # type: () -> Optional[int]
        """Its exit status (negative: the signal that ended it), or None as long as it runs."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except OSError:
                pid, status = self.pid, 0       # somebody else has waited for it
            if pid:
                self.status = -(status & 127) if status & 127 else status >> 8
        return self.status

    def on_exit(self, callback):
        # type: (Any) -> None
        """Call back with its status when it has ended."""
        self.waiting.append(callback)
        self._look()

    def _look(self, again=False):
        # type: (bool) -> None
        self.looking = self.looking and not again
        if self.poll() is None:
            if not self.looking:
                self.looking = True
                self.loop.call_later(look_s, self._look, True)
            return
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback(self.status)

    def lend(self):
        # type: () -> None
        """Let it go, for good. It is still waited for."""
        self.lent = True
        self.on_exit(bool)

    def kill(self):
        # type: () -> None
        """SIGKILL to its process group."""
        if self.poll() is None:
            try:
                os.killpg(self.pid, 9)
            except OSError:
                os.kill(self.pid, 9)    # it has no group of its own yet
            self._look()

    def stderr_tail(self):
        # type: () -> str
        """Nothing: what it says before its own output is up, the template forwards."""
        return ""


# ---------------------------------------------------------------------- in the forked process

def be_node(old, fd, far, data):
    # type: (Any, int, Any, bytes) -> None
    """Be a node of one's own, with the modules of the template and nothing else of it. Doesn't return."""
    far.close()
    os.setsid()
    guardian.forget()
    from ramet.kernel import later
    later.let_go(old)
    loop = old.loop
    for one in [one for one in old.output.fds if one >= 0]:
        os.close(one)
    loop_late.close(loop, old.core)
    del serving[:], held[:]
    config, data = start.read_config(fd, data)
    compat.set_cloexec(fd)
    compat.set_blocking(fd, False)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)        # the template's: the guardian shall neither keep it open nor write there
    os.close(null)
    output_fds = guardian.start(fd, limits.guardian_grace_s, config.get("keepalive"))
    finders = list(sys.meta_path)  # type: List[Any]
    sys.path_hooks.remove(importer.Nowhere)
    start.node = node = start.Self(config, [fd, fd], data, output_fds, old.kernel)
    node.cache.records.update(old.cache.records)
    # What was coming to the template isn't coming to this one: it asks.
    node.cache.reasons.update((name, why) for name, why in old.cache.reasons.items() if why != unforeseen.COMING)
    for finder in finders:
        if isinstance(finder, importer.Finder):     # modules that are loaded know it
            finder.cache, finder.fetch, finder.fetching = node.cache, node.fetch, {}
    if old.log_hook not in finders:     # `logging` is here, and its records go where that one says
        from ramet.kernel import logs
        old.log_hook.core, old.log_hook.level = node.core, node.log_hook.level
        node.log_hook = old.log_hook
        logs.begin(node.log_hook)
    else:
        finders[finders.index(old.log_hook)] = node.log_hook
    sys.meta_path[:] = finders
    later.live(node, node.calls.serve)

