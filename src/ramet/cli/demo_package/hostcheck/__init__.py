"""What a host lacks that ramet makes use of, for `ramet doctor`. It runs over there, on every Python from 2.7 on."""
import os
import sys

# module -> what doesn't work without it
MODULES = (
    ("threading", "nothing but plain calls"),
    ("asyncio", "coroutine functions"),
    ("termios", "the terminal's echo can't be switched off where a node grown from here is asked for a password"),
    ("ctypes", "native modules on a Python older than 3.8"),
    ("ssl", "what speaks TLS"),
    ("sqlite3", "what uses SQLite"),
)


def look():
    """A dict of what there is and what isn't."""
    lacks = {}
    for name, why in MODULES:
        if name == "asyncio" and sys.version_info < (3, 4) or name == "ctypes" and sys.version_info >= (3, 8):
            continue
        try:
            __import__(name)
        except ImportError:
            lacks["the module " + name] = "needed for: " + why
    if not os.path.isdir("/proc/self"):
        lacks["/proc"] = "subprocesses of what is ended are found less surely"
    if not os.path.exists("/bin/sh"):
        lacks["/bin/sh"] = "a terminal for questions, and looking for an interpreter, where a node grows from here"
    if not os.path.isdir("/dev/pts") or not os.path.exists("/dev/ptmx"):
        lacks["/dev/pts"] = "passwords can't be typed where a node grows from here"
    if sys.platform.startswith("linux") and sys.version_info >= (3, 8) and not hasattr(os, "memfd_create"):
        lacks["memfd_create"] = "native modules can't be loaded"
    if sys.version_info < (3, 10):
        lacks["Python 3.10"] = "what needs the whole of ramet over there; code by value travels to it as source"
    return {"lacks": lacks}
