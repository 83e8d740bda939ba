"""Imports that were not foreseen: whether anybody else has the module, asking for it, and what to say if nobody has.

Late part of the kernel, and of ``importer``: the program's own modules that came with a call don't need it. Any thread.
"""
import sys

from ramet.kernel import compat, compat_late, installed
from ramet.kernel.errors import ModuleNotShippedError

COMING = "coming"   # (wire) why a module isn't here: it is being packed, and will be sent without a request
LOOK_S = 0.005      # how often a thread that can't read the link itself looks whether it has come

MYPY = False
if MYPY:
    from typing import Any

    from ramet.kernel.importer import Finder


def find(finder, record, name, path):
    # type: (Finder, Any, str, Any) -> Any
    """The record of a module that no finder before the last one has, or None; or the spec of one in another folder.

    Raises:
        ImportError: an import asks, and it can't be had; with the reason. Who only looks for it gets None.
    """
    if compat_late.found_elsewhere(finder, name, path):
        return None
    spec = compat_late.spec_in_portions(name.rpartition(".")[0], name)
    if spec:
        return spec
    if not record:
        asker = compat_late.asker(name)
        if not asker:
            return None
        record = _ask(finder, name, compat_late.whole(name))
        if not record and asker > 1:
            raise error(finder, name)
    return record


def _ask(finder, name, whole):
    # type: (Finder, str, str) -> Any
    """Fetch a module. If it is wanted for one below it, that comes first: with its closure, and this one, in one answer."""
    installed.tell()    # then the answer holds nothing that is here
    if whole != name:
        finder.obtain(whole, finder.form)
    return finder.obtain(name, finder.form) or _await(finder, name)


def _await(finder, name):
    # type: (Finder, str) -> Any
    """The record of a module that was said to be coming, when it has come; None if it wasn't, or won't."""
    cache, form = finder.cache, finder.form

    def known():
        # type: () -> Any
        return cache.get(form, name) or cache.reasons.get(name) != COMING
    if not known():
        node = sys.modules["ramet.kernel.start"].node  # type: Any
        parent = node.core.routes.parent
        if compat.thread_id() in (parent.parsing, node.loop.thread):
            raise ImportError("%s is needed by a thread that receives messages, and is still coming" % name)
        while not known() and not parent.dead:      # nobody is woken by modules: another thread may read the link meanwhile
            node.core.wait(known, parent, LOOK_S)
    return cache.get(form, name)


def error(finder, name):
    # type: (Finder, str) -> ImportError
    """Why a module can't be had."""
    # 2.7 swallows what was raised when the module was looked for, and then has it loaded: see Finder.find_module.
    reason = finder.cache.reasons.get(name, "it can't be asked now, by a thread that receives messages")
    refused = reason[:7] == "refused"
    found = (ModuleNotShippedError if refused else compat.ModuleMissing)(
        "No module named %r here (%s), and the controller sends none: %s. Install it here, or see "
        "tree.modules.explain(%r)" % (name, sys.executable, reason, name))
    if not refused:
        found.name = name   # of a refused one it would let `from package import name` swallow the error
    return found
