"""Functions that tests of keepalive run in nodes."""
import os
import time


def hold_the_gil(seconds):
    """In C code, so that no other thread of this interpreter runs meanwhile. Returns how long that was."""
    import ctypes
    began = time.time()
    library = ctypes.PyDLL(None)    # whose functions keep the lock
    while time.time() - began < seconds:    # a signal ends one sleep
        library.sleep(int(began + seconds - time.time()) + 1)
    return time.time() - began


def can_hold_the_gil():
    """Whether it could: small Pythons have no ctypes."""
    try:
        import ctypes  # noqa: F401
    except ImportError:
        return False
    return True


def watches():
    """Whether this node looks after its neighbours."""
    from ramet.kernel import start
    return hasattr(start.node, "watch")


def has_idled():
    """Whether this node has begun with the second half of its life, as it does when it is idle for the first time."""
    import sys

    from ramet.kernel import guardian
    return "ramet.kernel.later" in sys.modules and (len(guardian.life) > 3 or not sys.platform.startswith("linux"))


def tell(dst, handle, value):
    """Send any node any message."""
    from ramet.kernel import start
    start.node.core.tell(dst, handle, value)


def pids():
    """This process's, and its guardian's."""
    from ramet.kernel import guardian
    return [os.getpid(), guardian.life[2]]


def hang_at_the_end():
    """Let this process not end by itself."""
    import atexit
    atexit.register(time.sleep, 1000)
