"""The loader: reads the kernel from the link, makes its modules and starts it.

Its text, not the module, is what is used: ``packing`` minifies it and sends it compressed, and the stub's head (see
``kernel/stub.py``) runs it over there, in ``__main__``'s namespace, on Python 2.7 and 3.6 or newer. Whatever it raises
ends the process with status 98. Runs on the main thread, before there is another one.
"""
# ruff: noqa: F401, UP018, UP031
import marshal
import os
import sys
import zlib

MYPY = False
if MYPY:
    from typing import Any


def load(source, data, excepthook, entry):
    # type: (bytes, bytes, Any, str) -> None
    """Be the bridge between the stub and the kernel; doesn't return before the kernel does.

    Args:
        source: the text of this loader.
        data: what was read from the link behind it.
        excepthook: ``sys.excepthook`` as it was.
        entry: what was taken from the front of ``sys.path``: the empty string, unless the interpreter's flags forbid that.
    """
    if entry:
        sys.path.insert(0, entry)
    unzip = zlib.decompressobj()
    pack = text = bytes()
    while True:
        pack += data
        text += unzip.decompress(data)
        data = unzip.unused_data
        if data:    # a frame always follows
            break
        data = os.read(9, 262144) or os._exit(98)
    head, _, text = text.partition(b"\0")
    form = str(head.decode())
    parts = text.split(b"\0")
    if form != "source":
        # "cpython-311" -> "cp311"
        tag = getattr(getattr(sys, "implementation", 0), "cache_tag", None) or ""
        if form != tag.replace("ython-", ""):
            raise SystemError("ramet: bytecode of %s came for Python %s" % (form, sys.version))
        parts = marshal.loads(text)
    for at in range(0, len(parts), 2):
        name = str(parts[at].decode())
        code = parts[at + 1]
        module = sys.modules[name] = type(sys)(name)
        module.__file__ = path = name.replace(".", "/") + ".py"
        above, _, last = name.rpartition(".")
        if above:
            setattr(sys.modules[above], last, module)
        if code:
            exec(compile(code, path, "exec", 0, True) if form == "source" else code, module.__dict__)
        else:
            module.__path__ = []
    # The interpreter takes the path in argv[0] for its own, whether there is such a file or not.
    for name in "executable", "_base_executable":
        path = (getattr(sys, name, None) or "").split("(ramet:")[0]
        for other in path, os.path.dirname(path) + "/python%d.%d" % sys.version_info[:2], os.path.realpath("/proc/self/exe"):
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
    packed = zlib.compress(source, 9) + pack[:-len(data)]
    names = globals()
    for name in list(names):
        if name[:2] != "__":
            del names[name]
    main(9, out, data, packed, str(form))
