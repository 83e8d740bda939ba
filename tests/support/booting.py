"""Starts an interpreter as a node is started, with a kernel that only looks around: for the tests of the bootstrap.

    facts = boot(first_stage.command(["python3.6"], "web1"))        # what the interpreter is like from the inside
"""
from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from ramet.bootstrap import packing

#: Runs in any Python, before ``start`` and in a plain interpreter.
LOOK = '''
import os, sys
def look():
    found = dict((name, getattr(sys, name, None)) for name in
                 "executable prefix exec_prefix base_prefix base_exec_prefix _base_executable argv".split())
    found["path"] = sys.path[:]
    found["flags"] = str(sys.flags)
    found["environ"] = dict(os.environ)
    found["cwd"] = os.getcwd()
    found["encodings"] = [sys.getfilesystemencoding(), sys.getdefaultencoding()]
    try:
        import within
        found["within"] = within.__file__
    except ImportError:
        found["within"] = None
    import json, zlib, struct, tempfile
    found["files"] = [getattr(m, "__file__", None) for m in (os, json, zlib, struct, tempfile)]
    return found
'''

START = '''
import os, sys
from ramet.kernel import look
def main(fd_in, fd_out, data, pack, form):
    fds = sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd/%d" % fd))
    found = look.look()
    found["main"] = sorted(vars(sys.modules["__main__"]))
    found["fds"] = fds
    found["links"] = [fd_in, fd_out]
    found["data"], found["pack"] = list(bytearray(data)), list(bytearray(pack))
    found["form"] = form
    found["cmdline"] = open("/proc/self/cmdline").read().split("\\0")[:-1]
    found["hook"] = sys.excepthook is sys.__excepthook__
    try:
        1 / 0
    except ZeroDivisionError:
        code = sys.exc_info()[2].tb_frame.f_code
        found["code"] = [code.co_filename, code.co_firstlineno]
    text = repr(found)
    if not isinstance(text, bytes):
        text = text.encode("utf-8", "surrogateescape")
    while text:
        text = text[os.write(fd_out, text):]
    sys.stdout.flush()
    os._exit(0)
'''

PARTS = [("ramet.kernel.look", LOOK), ("ramet.kernel.start", START)]
BEHIND = b"CONFIG\0\1"


def environment(**more: str) -> dict[str, str]:
    """Our own without what steers an interpreter."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "__PYVENV_LAUNCHER__"}, **more}


def run(argv: Sequence[str], sent: bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command line with these bytes on its stdin, then the end of it."""
    options.setdefault("env", environment())
    return subprocess.run(argv, input=sent, capture_output=True, timeout=120, **options)


def boot(argv: Sequence[str], form: str = "source", **options: Any) -> dict[str, Any]:
    """Start it, and let it tell what it is like. Raises AssertionError if it doesn't get so far."""
    done = run(argv, packing.build(form, PARTS) + BEHIND, **options)
    said = done.stdout.partition(b"\nRAMET2\n")
    assert done.returncode == 0 and said[1], f"status {done.returncode}: {done.stdout[:500]!r} {done.stderr.decode()[-3000:]}"
    found: dict[str, Any] = ast.literal_eval(said[2].decode("utf-8", "surrogateescape"))
    found["marker"] = said[0]
    found["stderr"] = done.stderr.decode()
    return found


def plain(python: Sequence[str], **options: Any) -> dict[str, Any]:
    """What an interpreter is like from the inside when it is started in the usual way, with its program on stdin."""
    done = run([*python], (LOOK + "print(repr(look()))\n").encode(), **options)
    assert not done.returncode, done.stderr
    found: dict[str, Any] = ast.literal_eval(done.stdout.decode("utf-8", "surrogateescape"))
    return found
