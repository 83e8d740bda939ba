"""The loader: reads the kernel from the link, makes its modules and starts it.

Its text, not the module, is what is used: ``packing`` minifies it and sends it behind the kernel, in the same zlib stream,
and the stub's head (see ``kernel/stub.py``) inflates that and runs it over there, in ``__main__``'s namespace, on Python 2.7
and 3.6 or newer. Whatever it raises ends the process with status 98. Runs on the main thread, before there is another one.
"""
# ruff: noqa: F401, UP031
import marshal
import os
import sys

MYPY = False
if MYPY:
    from typing import Any


def load(text, data, excepthook, entry):
    # type: (bytes, bytes, Any, str) -> None
    """Be the bridge between the stub and the kernel; doesn't return before the kernel does.

    Args:
        text: what came over the link, inflated: form NUL modules NUL the text of this loader.
        data: what was read from the link behind it.
        excepthook: ``sys.excepthook`` as it was.
        entry: what was taken from the front of ``sys.path``: the empty string, unless the interpreter's flags forbid that.
    """
    if entry:
        sys.path.insert(0, entry)
    head, _, pack = text.partition(b"\0")
    form = str(head.decode())
    if form == "source":
        parts = pack.split(b"\0")   # bytecode has thousands of these
    else:
        # "cpython-311" -> "cp311"
        tag = getattr(getattr(sys, "implementation", 0), "cache_tag", None) or ""
        if form != tag.replace("ython-", ""):
            raise SystemError("ramet: bytecode of %s came for Python %s" % (form, sys.version))
        parts = marshal.loads(pack)
    for at in range(0, len(parts) - 1, 2):
        name = str(parts[at].decode())
        code = parts[at + 1]
        module = sys.modules[name] = type(sys)(name)
        module.__package__ = ""     # else 2.7 takes `import re` for `import ramet.kernel.re` first
        module.__file__ = path = name.replace(".", "/") + ".py"
        above, _, last = name.rpartition(".")
        if above:
            setattr(sys.modules[above], last, module)
        if code:
            exec(compile(code, path, "exec", 0, True) if form == "source" else code, module.__dict__)
        else:
            module.__path__ = []
    # The interpreter takes the path in argv[0] for its own, whether there is such a file or not.
    # And since 3.11 a virtual environment's takes the ``python3`` beside its base for that, whichever version it is.
    for name in "_base_executable", "executable":
        path, named, _ = (getattr(sys, name, None) or "").partition("(ramet:")
        version = os.path.dirname(path) + "/python%d.%d" % sys.version_info[:2]
        for other in (path, version, os.path.realpath("/proc/self/exe"))[not named and "(ramet:" in sys.executable:]:
            if path and os.path.exists(other):
                setattr(sys, name, other)
                break
    sys.argv[:] = [""]
    for fd in range(3, 9):      # 2.7 hands on the stub's pipe a second time
        try:
            if os.fstat(fd) == os.fstat(0):
                os.close(fd)
        except OSError:
            pass
    out = os.dup(1)
    os.write(1, b"\nRAMET2\n")
    sys.excepthook = excepthook
    main = sys.modules["ramet.kernel.start"].main
    del pack, parts     # this function never ends
    names = globals()
    for name in list(names):
        if name[:2] != "__":
            del names[name]
    main(9, out, data, text, form)
