"""The second half of a node's life: what its first call doesn't need. It follows behind that call, and is begun when the
main thread is idle for the first time. Late part of the kernel.
"""
import os
import sys
import time

from ramet.kernel import compat, compat_late, ending, guardian, installed, limits, loop_late, main_thread, spinning
from ramet.kernel.loop import Poll

MYPY = False
if MYPY:
    from typing import Any, Callable

    from ramet.kernel.start import Self


def begin(node):
    # type: (Self) -> None
    """Do what could wait. Main thread."""
    main_thread.look_out()
    node.calls.waiter.poller = spinning.Spinner(node.calls.waiter.poller)
    if "logging" in sys.modules and node.log_hook in sys.meta_path:     # it was imported before the hook was there
        node.log_hook.find_module("logging")
    end_with_guardian()
    if hasattr(os, "register_at_fork"):     # since 3.7
        os.register_at_fork(after_in_child=lambda: let_go(node))
    outlast(node.loop)
    node.core.waiters = Waiters(node.core.waiters)
    node.loop.call_soon(loop_late.use_kqueue, node.loop)
    installed.tell()


class Waiters(list):  # type: ignore[type-arg]
    """A core's weak references to what its threads wait with. Those of threads that have ended go."""

    def append(self, weak):
        # type: (Any) -> None
        """See ``Core.waiter``."""
        list.append(self, compat.weak(weak(), self.remove))


def outlast(loop):
    # type: (Any) -> None
    """Let the keeper go on when there is no memory, not even to say of which callback. Without it the node would be deaf."""
    once = loop.once

    def outlasting():
        # type: () -> None
        try:
            once()
        except MemoryError:
            time.sleep(0.001)       # the rest is still due
    loop.once = outlasting


def let_go(node):
    # type: (Self) -> None
    """In a process that a function has forked: close the links, which aren't its own. It could break or keep them."""
    for link in [node.core.routes.parent] + list(node.core.routes.down.values()):
        for fd in set((getattr(link, "fd_in", -1), getattr(link, "fd_out", -1))) - set((-1,)):
            try:
                os.close(fd)
            except OSError:
                pass    # two nodes below one child: its link was closed before
        link.dead = True
        link.fd_in = link.fd_out = -1
        link.writing = compat.new_lock()


def end_with_guardian():
    # type: () -> None
    """See to it that this process group ends when its guardian is killed: nobody else could end it if it hangs then.

    On Linux the life pipe can send SIGKILL when its reader goes.
    """
    if guardian.life[3:]:
        return      # it is seen to
    try:
        import fcntl
        fd = guardian.life[0]
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETSIG, 9)
        guardian.life.append(lambda: fcntl.fcntl(fd, fcntl.F_SETFL, flags))
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_ASYNC)
        poller = Poll()
        poller.register(fd, 0)
        if poller.poll(0):      # it was killed before
            os.killpg(0, 9)
    except (ImportError, AttributeError, EnvironmentError, IndexError):
        pass    # not Linux, or a forked child: it goes on without a guardian


def end(node):
    # type: (Self) -> None
    """Let the node's children end, then its calls; the main thread then leaves ``serve``. On the keeper."""
    grace_s = node.config.get("close_grace_s", limits.close_grace_s)
    node.loop.call_later(grace_s, os._exit, 1)
    ending.wake_guardian()
    node.config["ends_at"] = compat.monotonic() + grace_s

    def end_calls():
        # type: () -> None
        with node.calls.lock:   # else the main thread takes a call out of the line that is emptied here, or begins it unseen
            node.calls.end()
        if node.calls.current or node.calls.lanes:
            compat.start_thread(cancel_all, (node,))    # what that needs may have to be loaded: the keeper can't wait for it
    if node.nursery:
        node.nursery.end_all(end_calls)
    else:
        end_calls()


def cancel_all(node):
    # type: (Self) -> None
    """End all calls, with what they have started."""
    try:
        from ramet.kernel import cancelling
        cancelling.end_all(node.calls)
    except ImportError:
        pass    # that part hasn't come


def live(node, serve):
    # type: (Self, Callable[[], Any]) -> None
    """Be the main lane of a node until ``serve`` returns; then go. For nodes that begin with all of the kernel. Main thread."""
    failed = ()  # type: Any
    try:
        serve()
    except BaseException:
        failed = sys.exc_info()
    try:
        leave(node, failed)
    finally:
        os._exit(98)


def leave(node, failed=()):
    # type: (Self, Any) -> None
    """Run exit handlers, deliver output that was written, and go: with status 0, or 98 if the main lane failed. Main thread.

    Args:
        failed: by what, as of ``sys.exc_info``; the node's stderr tells.
    """
    try:
        if failed:
            sys.__excepthook__(*failed)
        compat_late.run_exit_handlers()
    finally:
        end = node.config.get("ends_at") or compat.monotonic() + limits.close_grace_s
        ending.finish(node.output, end)
        parent = node.core.routes.parent
        while compat.monotonic() < end:
            parent.flush()
            if parent.dead or not parent.queue.size and not parent.tail:
                break
            node.calls.waiter.wait(0.01)
        ending.leave()
        os._exit(98 if failed else 0)
