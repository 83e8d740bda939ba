"""Branches on the Python version for the kernel's late parts, and what several of them need.

Belongs to ``compat``; a late part itself. Any thread may call it.
"""
import os
import sys

from ramet.kernel import compat, limits_late

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Optional

if compat.PY2:
    import pkgutil

    # Who imports holds the only import lock while it waits. Long messages that arrive meanwhile are put together by the
    # keeper, which couldn't import what that takes: neither could go on.
    from ramet.kernel import longs, start  # noqa: F401
    if start.node:
        start.node.core.longs()

# Can a link be read into the buffer of a BytesIO? PyPy's has no fixed address, and 2.7's gives none.
READS_IN_PLACE = hasattr(os, "readv") and not compat.PYPY

# Does a BytesIO that is cut give memory back to the system, and copy nothing? Other systems' C libraries may copy what is left.
CUTS_IN_PLACE = READS_IN_PLACE and sys.platform.startswith("linux")

# What PyPy's standard library imports "if it is there", and PyPy doesn't count among its own.
LOCAL = set((
    "_asyncio _bisect _datetime _decimal _decimal_cffi _elementtree _functools _heapq _json _queue _statistics _symtable "
    "_tkinter _tokenize _tracemalloc _typing _uuid _zoneinfo" if compat.PYPY else "").split())


_context = BaseException.__dict__.get("__context__")  # type: Any     # 2.7 has none


def wait(core, ready, link, seconds):
    # type: (Any, Callable[[], Any], Any, Optional[float]) -> Any
    """As ``core.wait``, also for longer than the system waits at once."""
    if seconds != seconds:
        raise ValueError("timeout must be a number of seconds, not nan")
    while seconds is not None and seconds > limits_late.wait_s_max:
        if core.wait(ready, link, limits_late.wait_s_max):
            return ready()
        seconds -= limits_late.wait_s_max
    return core.wait(ready, link, seconds)


def cut_circle():
    # type: () -> None
    """Cut a circle of ``__context__`` that begins at the exception that is being handled. Raises nothing, not even inside.

    Before 3.9, an interpreter goes round in it for ever, and all its threads stand still, when anything is raised meanwhile.
    """
    error, seen = sys.exc_info()[1], set()  # type: Any, Any
    while error is not None and _context:
        seen.add(id(error))
        linked = _context.__get__(error)
        if id(linked) in seen:
            _context.__set__(error, None)
            linked = None
        error = linked


def settle_collections():
    # type: () -> None
    """Have ``collections.abc`` in its place, before a thread of ours imports what needs it while the program imports, too.

    In 3.13 that module puts another one in its place when it is imported, and a second thread that comes meanwhile is given
    the empty one: "cannot import name 'Mapping'".
    """
    locked = getattr(sys.modules.get("_frozen_importlib"), "_ModuleLockManager", None)
    if sys.version_info >= (3, 13) and locked and not compat.PYPY:
        import _collections_abc
        import collections
        with locked("collections.abc"):
            collections.abc = sys.modules.setdefault("collections.abc", _collections_abc)


def collect():
    # type: () -> None
    """Have destructors run of what nobody holds any more, where that isn't counted: PyPy collects when enough new is made."""
    if compat.PYPY:
        import gc
        gc.collect()


def found_elsewhere(finder, name, path):
    # type: (Any, str, Any) -> Any
    """Whether a module is somebody else's: of the finders behind this one on ``sys.meta_path``, which programs append to.

    In 2.7 also what ``sys.path`` leads to: it isn't on ``sys.meta_path`` there, but is asked after all that is.
    """
    if name in LOCAL:
        return True
    for other in sys.meta_path[::-1]:
        if other is finder:
            break
        find = getattr(other, "find_module" if compat.PY2 else "find_spec", None)
        if find and find(name, path):
            return True
    return compat.PY2 and (name in sys.builtin_module_names or any(
        importer and importer.find_module(name) for importer in map(pkgutil.get_importer, path or sys.path)))


# Where who asks a finder stands, above `asker` and `whole`: behind find, Finder._find and Finder.find_module, or find_spec and
# what gives up the import lock around it.
ASKING = 4 if compat.PY2 else 5


def asker(name):
    # type: (str) -> int
    """Who is behind a finder's question: 2 an import, 1 somebody who only looks whether a module can be found.

    0: an import in 2.7 that tries its own package first (``import json`` within ``app`` asks for ``app.json``), which is
    never worth a round trip: code that runs on 3 doesn't mean that. The instruction tells: its level is -1.
    """
    frame = sys._getframe(ASKING)
    if not compat.PY2:
        above = frame.f_back    # the import system's own, _find_spec; behind it either import or importlib.util.find_spec
        return 2 if above and above.f_code.co_name == "_find_and_load_unlocked" else 1
    code, at, package = frame.f_code, frame.f_lasti, frame.f_globals.get("__package__")
    ops = bytearray(code.co_code)
    if package and ops[at] == 108 and code.co_consts[ops[at - 5] + 256 * ops[at - 4]] == -1:    # 108: IMPORT_NAME
        wanted = "%s.%s." % (package, code.co_names[ops[at + 1] + 256 * ops[at + 2]])
        if wanted.startswith(name + "."):
            return 0
    return 1 if frame.f_globals.get("__name__") == "pkgutil" else 2


def whose_archive():
    # type: () -> Any
    """The spec for which ``importlib.resources.files`` of Python 3.9 asks for a loader's ``archive``; None if it doesn't."""
    frame = sys._getframe(4)    # behind this, packages.archive, importer._late and its method
    return frame.f_locals.get("spec") if frame.f_code.co_name == "fallback_resources" else None


def spec_in_portions(parent, name):
    # type: (str, str) -> Any
    """A module's spec in folders of this machine that are parts of a namespace package which came over the wire, or None.

    The package's path then names these, too.
    """
    folders = getattr(sys.modules.get(parent), "__path__", None)
    if compat.PY2 or not isinstance(folders, list) or getattr(sys.modules[parent], "__file__", None):
        return None
    from _frozen_importlib_external import PathFinder

    def portions(package):
        # type: (str) -> Any
        above = package.rpartition(".")[0]
        path = portions(above) if above else sys.path
        spec = PathFinder.find_spec(package, path) if path else None
        return list(spec.submodule_search_locations or ()) if spec and not spec.loader else []
    folders += [folder for folder in portions(parent) if folder not in folders]
    return PathFinder.find_spec(name, folders)


def whole(name):
    # type: (str) -> str
    """What an import is after that begins with a parent: ``a.b.c``, where finders are asked for ``a`` first."""
    frame = sys._getframe(ASKING)
    if compat.PY2:
        code, at = frame.f_code, frame.f_lasti
        ops = bytearray(code.co_code)
        wanted = code.co_names[ops[at + 1] + 256 * ops[at + 2]] if ops[at] == 108 else name
        return wanted if wanted.startswith(name + ".") else name
    importing, found = frame.f_code.co_filename, name
    while frame and frame.f_code.co_filename == importing:
        wanted = frame.f_locals.get("name")
        if isinstance(wanted, str) and wanted.startswith(found + "."):
            found = wanted
        frame = frame.f_back  # type: ignore[assignment]
    return found


def module_suffixes():
    # type: () -> Any
    """What the names of modules' files end in."""
    if compat.PY2:
        import imp
        return [suffix for suffix, _, _ in imp.get_suffixes()]
    import _imp
    return [".py", ".pyc"] + _imp.extension_suffixes()


def sha256(data):
    # type: (bytes) -> bytes
    """A digest, without the 6 ms for which ``hashlib`` loads OpenSSL."""
    module = "hashlib" if compat.PY2 or compat.PYPY else "_sha2" if sys.version_info >= (3, 12) else "_sha256"
    return __import__(module).sha256(data).digest()  # type: ignore[no-any-return]


# What importlib.machinery offers, without what that imports.
ExtensionFileLoader = object if compat.PY2 else __import__("_frozen_importlib_external").ExtensionFileLoader  # type: Any


def extension_suffixes():
    # type: () -> Any
    """How the names of native modules may end that this interpreter loads; nothing on 2.7, which is sent none."""
    if compat.PY2:
        return ()
    import _imp
    return _imp.extension_suffixes()


def is_older(version):
    # type: (Any) -> bool
    """Whether this Python is of an older version than (major, minor)."""
    return sys.version_info[:2] < tuple(version)


def create_dynamic(spec):
    # type: (Any) -> Any
    """Load a native module from the file that is its spec's origin."""
    import _imp
    return _imp.create_dynamic(spec)


def memory_file(name):
    # type: (str) -> int
    """A descriptor of a new anonymous file in memory, which programs that are started don't inherit (flag 1)."""
    make = getattr(os, "memfd_create", None)    # since 3.8
    if make:
        return make(name, 1)  # type: ignore[no-any-return]
    import ctypes
    fd = ctypes.CDLL(None, use_errno=True).memfd_create(name.encode("utf-8"), 1)    # glibc since 2.27
    if fd < 0:
        raise OSError(ctypes.get_errno(), "memfd_create")
    return fd  # type: ignore[no-any-return]


def decode_source(data):
    # type: (Any) -> Any
    """Source code as text, by its coding cookie; in 2.7 it is left as it is."""
    if compat.PY2:
        return data
    from _frozen_importlib_external import decode_source
    return decode_source(data)


if compat.PY2:
    def _put(value):
        # type: (Any) -> Any
        lambda: held    # noqa: B018  makes `held` a cell of this function; below, a cell of its caller's
        held = value    # noqa: F841

    def new_cell():
        # type: () -> Any
        """An empty cell for a function's free variable, and the function that fills it."""
        code, fill = _put.__code__, type(_put)

        def get():
            # type: () -> Any
            return held     # noqa: F821
        if 0:
            held = None     # noqa: F841
        cell = get.__closure__[0]  # type: ignore[index]
        put = type(code)(code.co_argcount, code.co_nlocals, code.co_stacksize, code.co_flags, code.co_code,  # type: ignore
                         code.co_consts, code.co_names, code.co_varnames, code.co_filename, code.co_name, code.co_firstlineno,
                         code.co_lnotab, code.co_cellvars, ())
        return cell, fill(put, {}, "put", None, (cell,))
else:
    new_cell = None  # type: Any
    # `nonlocal` is no syntax of 2.7, and 3.6 has no other way.
    exec("""def new_cell():
    def put(value):
        nonlocal held
        held = value
    if 0:
        held = None
    return put.__closure__[0], put""")


def run_exit_handlers():
    # type: () -> None
    """What the interpreter does at its end for threads and ``atexit``. A node leaves by ``os._exit``, so it won't."""
    if "threading" in sys.modules:
        finish = getattr(sys.modules["threading"], "_shutdown", None)   # waits for threads that aren't daemons
        if finish:
            finish()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()


def prepare_classes(space):
    # type: (Any) -> None
    """Let classes without a base be made in a namespace as in Python 3."""
    if compat.PY2:
        space["__metaclass__"] = type


def count_threads():
    # type: () -> int
    """How many threads ``_thread`` has started that run."""
    return getattr(__import__("thread" if compat.PY2 else "_thread"), "_count", int)()


def call_each(calls):
    # type: (Any) -> None
    """Call each of a list's functions, once: it is taken out. Two threads may, and who has put one in may take it back."""
    while calls:
        try:
            call = calls.pop()
        except IndexError:
            return
        call()


def add_call(calls, call):
    # type: (Any, Any) -> None
    """Append to a list of functions of which each is called once. Those whose ``over()`` says that nobody waits any more go:
    it may be long till something comes. They are looked for when there are twice as many as the last time.
    """
    if not len(calls) & (len(calls) - 1):
        calls[:] = [one for one in calls if not getattr(one, "over", bool)()]
    calls.append(call)


def own_session():
    # type: () -> Any
    """Arguments for ``subprocess.Popen``: in a session of its own."""
    return {"preexec_fn": os.setsid} if compat.PY2 else {"start_new_session": True}


def at_exit(fn):
    # type: (Any) -> None
    """Call a function at the end of this process."""
    import atexit
    atexit.register(fn)


def after_fork(file):
    # type: (Any) -> None
    """Let forked children of this process close a file. Before 3.7 they keep it."""
    register = getattr(os, "register_at_fork", None)
    if register:
        register(after_in_child=file.raw.close)


def spec_in(folder, name):
    # type: (str, str) -> Any
    """A module's spec in one folder. In 2.7 it is imported instead, in place of the one that is being made."""
    if compat.PY2:
        del sys.modules[name]
        pkgutil.get_importer(folder).find_module(name).load_module(name)
        return None
    from _frozen_importlib_external import PathFinder
    return PathFinder.find_spec(name, [folder])
