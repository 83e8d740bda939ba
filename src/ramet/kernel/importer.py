"""Importing in a node what isn't there: from the node's cache of modules, else from the controller.

``ModuleCache`` is pure: records and refusals in, answers out. Two ``Finder`` objects stand on ``sys.meta_path``:

- the front one, before all others, gives what must win over anything installed here: the program's own modules
  (flag OWN), ``ramet`` itself, and submodules of a package that came over the wire;
- the back one is asked last and gives the rest: what lies in the cache, else what ``fetch`` brings.

Must not know of links and messages. Any thread imports; ``fetch`` blocks the importing thread. On 2.7 that thread holds
the interpreter's one import lock meanwhile, so whoever delivers modules there (the keeper) must not import anything.
"""
import marshal
import sys
import zlib

from ramet.kernel import compat
from ramet.kernel.faults import ProtocolError

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple
    Record = List[Any]      # [name, flags, filename, data]; a main module run by ``-m`` has its package's name behind

PACKAGE, OWN, BYTECODE, NAMESPACE, NATIVE, ZIPPED = 1, 2, 4, 8, 16, 32      # a record's flags (wire)
SCHEME = "ramet:"       # a path on the controller; ``__file__`` and ``__path__`` begin so here
ABSENT = "absent"       # (wire) why the controller doesn't send a module: it has none, or "refused: " and the reason

# Imported "if it is there" by the standard library itself, which isn't worth a round trip: it never comes from upstream.
# Python 3.10 and newer know the names of their whole standard library; these are what is asked for besides, or before.
# `threading`, which the smallest 2.7 lacks, is imported by threads that read a link: they must not wait for an answer.
LOCAL = set("threading org java vms_lib nt msvcrt winreg _winreg _wmi _winapi _scproxy _xmlplus _hashlib".split())
LOCAL.update(getattr(sys, "stdlib_module_names", ()))


class ModuleCache(object):
    """Module records by form and name, and the reasons why others can't be had.

    Thread-safety: single dict operations only, so any thread may call anything.
    """

    def __init__(self):
        # type: () -> None
        self.records = {}  # type: Dict[Tuple[str, str], Record]
        self.reasons = {}  # type: Dict[str, str]

    def add(self, form, records, absent):
        # type: (str, Iterable[Record], Dict[str, str]) -> None
        """Take in what a MODULES message brought: records in a form, and why this node doesn't get others.

        Raises:
            ProtocolError: a record isn't one.
        """
        try:
            for record in records:
                name, _, _, _ = record[:4]
                self.records[form, compat.local_module(name)] = record
            self.reasons.update(absent)
        except (TypeError, ValueError):
            raise ProtocolError("not a module record")

    def refuse(self, name, reason):
        # type: (str, str) -> None
        """Remember why a module can't be had. A record that is there or comes later wins."""
        self.reasons[name] = reason

    def get(self, form, name):
        # type: (str, str) -> Optional[Record]
        """A module's record in a form, or as source instead of bytecode; None if there is none."""
        name = compat.local_module(name)
        return self.records.get((form, name)) or (self.records.get(("source", name)) if form[:2] == "cp" else None)


class Finder(object):
    """Finder and loader of modules that came over the wire.

    Args:
        fetch: called with a module's name and a form when nothing is known of it; returns when the cache has a record or
            a reason. Called by one thread at a time for a name, without the import lock (but see above for 2.7).
        front: this is the one that stands first.
    """

    def __init__(self, cache, fetch, front):
        # type: (ModuleCache, Callable[[str, str], Any], bool) -> None
        self.cache = cache
        self.fetch = fetch
        self.front = front
        self.form = compat.form_tag()
        self.fetching = {}  # type: Dict[str, Any]    # a lock for each module that is being fetched

    # ------------------------------------------------------------------ finding

    @compat.unlocked
    def find_spec(self, name, path=None, target=None):
        # type: (str, Any, Any) -> Any
        """The import system asks for a module: its spec, or None."""
        record = self._find(name, path)
        if not isinstance(record, list):
            return record       # None, or another's spec
        if record[1] & NATIVE:
            from ramet.kernel import native
            return native.spec(self, record)
        kind = compat.ModuleSpec  # type: Any
        if record[4:]:
            kind = type("MainSpec", (kind,), {"parent": record[4]})
        spec = kind(name, self, origin=record[2])
        if not record[1] & NAMESPACE:
            spec.has_location = True    # then __file__ is the origin
        if record[1] & PACKAGE:
            spec.submodule_search_locations = _path(record)
        return spec

    def find_module(self, name, path=None):
        # type: (str, Any) -> Any
        """The same question in Python 2.7, which swallows an ImportError here, but not one from ``load_module``."""
        try:
            return self._find(name, path) and self
        except ImportError:
            return self

    def _find(self, name, path):
        # type: (str, Any) -> Optional[Record]
        if name == "__main__":
            return None
        record = self._get(name)
        ramet = name[:6] == "ramet."
        ours = ramet or any(str(entry)[:6] == SCHEME for entry in path or ())
        if self.front:
            if record:
                return record if ours or record[1] & OWN else None
            if not ramet:
                return None
        else:
            # A submodule of a package that is installed here comes from there or not at all: versions aren't mixed. The
            # parts of a namespace package may come from anywhere.
            parent = sys.modules.get(name.rpartition(".")[0])
            if name in LOCAL or not ours and getattr(parent, "__file__", None):
                return None
            from ramet.kernel import unforeseen
            return unforeseen.find(self, record, name, path)  # type: ignore[no-any-return]
        record = record or self.obtain(name, self.form)
        if not record:      # else a copy that is installed here would be found
            raise ImportError("%s: %s" % (name, self.cache.reasons.get(name)))
        return record

    def _get(self, name):
        # type: (str) -> Any
        # With -O modules come as source, to be compiled so; but who sent the kernel's parts didn't know of it yet.
        return self.cache.get(self.form, name) or name[:6] == "ramet." and self.cache.get(compat.form_tag(0), name)

    def obtain(self, name, form):
        # type: (str, str) -> Optional[Record]
        """A record in a form, fetched if nothing is known of it. What several threads want is fetched once."""
        cache = self.cache
        reason = name if form == self.form else name + "/" + form

        def known():
            # type: () -> Any
            return cache.get(form, name) or reason in cache.reasons
        while not known():
            mine = compat.new_lock()
            with mine:
                lock = self.fetching.setdefault(reason, mine)
                if lock is mine:
                    try:
                        if not known():
                            self.fetch(name, form)
                            cache.reasons.setdefault(reason, ABSENT)
                    finally:
                        del self.fetching[reason]
            with lock:
                pass
        return cache.get(form, name)

    # ------------------------------------------------------------------ loading

    def create_module(self, spec):
        # type: (Any) -> None
        """Let the import system make the module object."""

    def exec_module(self, module):
        # type: (Any) -> None
        """Run a module's code in it. The main module is ``__main__`` as well, from before its first line on."""
        name = module.__name__
        if name == compat.MAIN:
            sys.modules["__main__"] = module
            __import__(module.__package__ or "sys")
        exec(self.get_code(name), module.__dict__)
        if name == compat.MAIN:
            getattr(module, "__spec__", self).name = "__main__"  # type: ignore[union-attr]  # else multiprocessing imports it

    def load_module(self, name):
        # type: (str) -> Any
        """Make a module and run its code, for Python 2.7."""
        record = self._get(name)
        if not record:
            from ramet.kernel import unforeseen
            raise unforeseen.error(self, name)
        module = sys.modules.setdefault(name, type(sys)(name))  # type: Any
        module.__loader__ = self
        # Empty for the kernel, where `import re` must not ask for `ramet.kernel.re` first.
        module.__package__ = str(record[4]) if record[4:] else "" if name[:6] == "ramet." else name.rpartition(".")[0]
        if record[1] & PACKAGE:
            module.__package__ = name
            module.__path__ = _path(record)
        if not record[1] & NAMESPACE:
            module.__file__ = compat.native(record[2])
        try:
            self.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return sys.modules[name]

    def get_code(self, name):
        # type: (str) -> Any
        """A module's code object."""
        record = self._get(name)  # type: Any
        data = content(record)
        if record[1] & BYTECODE:
            return marshal.loads(data)
        return compile(data, compat.native(record[2]), "exec", 0, True)

def _late(self, name):
    # type: (Any, str) -> Any
    """The rarer methods of finders are functions of the late part ``packages``, which take the finder first."""
    def method(*args):
        # type: (*Any) -> Any
        from ramet.kernel import packages
        return getattr(packages, name)(self, *args)
    if name[:4] in "get_ find is_p iter":
        return method
    if name == "archive":   # Python 3.9 asks for it in place of a resource reader
        return method()
    raise AttributeError


class Nowhere(object):
    """What looks into ``ramet:`` folders for the import system: nothing is there, also not below the current folder.

    Which modules there are, ``packages`` tells ``pkgutil``.
    """

    def __init__(self, path):
        # type: (str) -> None
        if path[:6] != SCHEME:
            raise ImportError(path)
        self.path = path

    def find_spec(self, name, target=None):
        # type: (str, Any) -> None
        """Find nothing. The finders that stand on ``sys.meta_path`` have been asked already, or will be."""

    find_module = find_spec


Finder.__getattr__ = Nowhere.__getattr__ = _late  # type: ignore[attr-defined]


def content(record):
    # type: (Record) -> bytes
    """A record's data."""
    return zlib.decompress(record[3]) if record[1] & ZIPPED else record[3]


def _path(record):
    # type: (Record) -> List[str]
    return [compat.native(record[2]).rpartition("/")[0]]


def install(cache, fetch):
    # type: (ModuleCache, Callable[..., Any]) -> None
    """Make this interpreter import over the wire, too.

    Args:
        fetch: see ``Finder``.
    """
    sys.meta_path.insert(0, Finder(cache, fetch, True))
    sys.meta_path.append(Finder(cache, fetch, False))
    sys.path_hooks.insert(0, Nowhere)


def find_class(module, qualname, whole=None):
    # type: (str, str, Optional[Dict[str, Any]]) -> Any
    """What a module holds under a dotted name, by the module's name on the wire. The module is imported, and packages above
    it before: it is whole, also where other threads import it, too, and are interrupted in that.

    Args:
        whole: modules by name that this has found for a thread which was importing nothing: none of them is looked at twice.

    Raises:
        ImportError, AttributeError: there is no such module or name.
    """
    here = compat.local_module(module)
    found = whole and whole.get(here)  # type: Any
    if not found or found is not sys.modules.get(here):
        path = ""
        for name in here.split("."):
            path += name
            for _ in range(99):     # a thread that waited for another one's import is given what failed there: half a module
                found = sys.modules.get(path)
                __import__(path)    # which waits for whoever is at it
                if found and found is sys.modules.get(path):
                    break
            path += "."
        if whole is not None:
            whole[here] = found
    for name in qualname.split("."):
        found = getattr(found, name)
    return found
