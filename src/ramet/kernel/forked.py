"""A process that was forked from a template, from both sides: how its parent sees it, and how it becomes a node. Late part.

It is forked before anything is known of the node that it will be: that comes with CONFIG, over its link, as for any node. Until
then it waits; when its link is closed instead, it goes. Main thread, but what a ``ForkedProcess`` says.
"""
import os
import sys

from ramet.kernel import compat, ending, guardian, importer, later, limits, loop, loop_late, spawn, start, unforeseen

MYPY = False
if MYPY:
    from typing import Any, List, Optional, Tuple

look_s = 0.05       # how often the end of a fork is looked for while somebody waits for it


def fork(template):
    # type: (Any) -> Tuple[ForkedProcess, int]
    """Fork a process that will be a node: (it, this end of its link, non-blocking).

    Args:
        template: the node that is forked. This is its only thread. It has no spare, whose link the fork would keep.

    Raises:
        EnvironmentError: the system has no room for it; nothing is left behind.
    """
    try:
        near, far = spawn.link_pair()
    except EnvironmentError:
        raise EnvironmentError("no socket can be had: %s" % sys.exc_info()[1])
    for file in sys.stdout, sys.stderr:
        try:
            file.flush()
        except Exception:
            pass    # closed or replaced by a module
    try:
        fd = os.dup(near.fileno())      # 2.7's sockets can't give their descriptor away
        try:
            pid = os.fork()
        except OSError:
            os.close(fd)
            raise EnvironmentError("the system has no room for another process: %s" % sys.exc_info()[1])
        if not pid:
            try:
                near.close()
                os.close(fd)
                be_node(template, os.dup(far.fileno()), far)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(98)
    finally:
        near.close()
        far.close()
    compat.set_cloexec(fd)
    compat.set_blocking(fd, False)
    return ForkedProcess(template.loop, pid), fd


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

def be_node(old, fd, far):
    # type: (Any, int, Any) -> None
    """Be a node of one's own, with the modules of the template and nothing else of it. Doesn't return."""
    far.close()
    os.setsid()
    guardian.forget()
    later.let_go(old)
    for one in [one for one in old.output.fds if one >= 0]:
        os.close(one)
    loop_late.close(old.loop, old.core)
    from ramet.kernel import template
    del template.serving[:], template.held[:]
    if not hasattr(os, "register_at_fork") and "random" in sys.modules:     # since 3.7 it does so itself
        sys.modules["random"].seed()
    compat.set_cloexec(fd)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)        # the template's: the guardian shall neither keep it open nor write there
    os.close(null)
    output_fds = guardian.start(fd, limits.guardian_grace_s, old.config.get("keepalive"))
    later.end_with_guardian()
    config, data = wait_for_config(fd)
    compat.set_blocking(fd, False)
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


def wait_for_config(fd):
    # type: (int) -> Any
    """What ``start.read_config`` gives, when it has come. Doesn't return when the link is closed instead."""
    compat.set_blocking(fd, True)       # a module may have set a default timeout for sockets
    data = None
    while data is None:
        try:
            data = os.read(fd, 65536)
        except OSError as error:
            if not loop.interrupted(error):
                raise
    if not data:    # nobody has asked for this one
        try:
            ending.leave()
        finally:
            os._exit(0)
    return start.read_config(fd, data)
