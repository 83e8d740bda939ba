"""Metadata of shipped distributions, as ``importlib.metadata`` and its backport want it: late part of the kernel.

Belongs to ``packages``. A distribution's texts come as a record of the form "dist", named ``name:``, its list of files as
``name:RECORD``, and all that the node may know of as ``*:`` and something that makes the question new. Any thread that may
fetch modules; not one that reads a link.
"""
import re
import sys

from ramet.kernel import compat, resources, values
from ramet.kernel.importer import OWN, Finder, content

MYPY = False
if MYPY:
    from typing import Any, Iterator, List

    from ramet.kernel.importer import Record

DIST = "dist"       # (wire) the form of metadata
LISTS = ("RECORD", "SOURCES.txt", "installed-files.txt")    # of files: long, and seldom wanted

classes = {}    # type: Any     # by the module that asks: the base class differs between it and its backport


def find(finder, context=None):
    # type: (Finder, Any) -> Iterator[Any]
    """The distributions that a question is about and that no finder before this one has.

    The one that stands first gives those that win over installed ones; they came ahead of the question.
    """
    name = getattr(context, "name", None)
    if context is None or "path" in vars(context):      # in other places than the import path
        return iter(())
    if name is not None:
        names = [re.sub(r"[-_.]+", "-", name).lower()]
    elif finder.front:
        names = [key[:-1] for form, key in list(finder.cache.records) if form == DIST and key[-1:] == ":"]
    else:
        names = _all(finder)
    return iter([_class(context)(finder, record) for record in map(lambda one: _record(finder, one, context), names) if record])


def _record(finder, name, context):
    # type: (Finder, str, Any) -> Any
    record = finder.cache.get(DIST, name + ":")
    if finder.front:
        return record if record and record[1] & OWN else None
    if record and record[1] & OWN or _is_installed(name, context):
        return None     # the front finder gave it, or it is this machine's
    return record or finder.obtain(name + ":", DIST)


def _is_installed(name, context):
    # type: (str, Any) -> bool
    question = type(context)(name=name)
    finds = [getattr(other, "find_distributions", None) for other in sys.meta_path if not isinstance(other, Finder)]
    return any(True for find in finds if find for _ in find(question))


def _all(finder):
    # type: (Finder) -> List[str]
    """Ask for the names of all distributions that this node may know of: again whenever modules came since."""
    from ramet.kernel import start
    came = sum(form == finder.form for form, _ in list(finder.cache.records))
    record = finder.obtain("*:%d.%d" % (start.node.core.id if start.node else 0, came), DIST)
    return [compat.native(name) for name in content(record).decode("utf-8").split(u"\0")] if record else []


def _class(context):
    # type: (Any) -> Any
    asks = type(context).__module__
    if asks not in classes:
        base = sys.modules[asks].Distribution  # type: Any
        classes[asks] = type("ShippedDistribution", (_Shipped, base), {"__doc__": _Shipped.__doc__})
    return classes[asks]


class _Shipped(object):
    """A distribution that is installed at the controller."""

    def __init__(self, finder, record):
        # type: (Finder, Record) -> None
        self.finder = finder
        self.key = record[0]
        self.texts = values.decode(content(record))

    def read_text(self, filename):
        # type: (Any) -> Any
        """One of the texts, None if there is none of that name."""
        filename = str(filename)
        if filename in LISTS and filename not in self.texts:
            record = self.finder.obtain(self.key + filename, DIST)
            self.texts[filename] = content(record).decode("utf-8") if record else None
        return self.texts.get(filename)

    def locate_file(self, path):
        # type: (Any) -> Any
        """A file that the distribution lists; one that is in a package can be read."""
        package, _, inside = str(path).partition("/")
        return Located(self.finder, package, inside)


class Located(resources.Item):
    """A file that a distribution lists, so it is there."""

    def exists(self):
        # type: () -> bool
        """True: who looks at the list wants all of it."""
        return True
