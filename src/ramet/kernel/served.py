"""One service: the object, its methods, and who may call them. Late part of the kernel, and the controller's.

Must not know how requests come or run; ``services`` keeps its state. Any thread.
"""
from ramet.kernel import compat, failures

MYPY = False
if MYPY:
    from typing import Any, Dict, Iterable, List, Optional

    from ramet.kernel.core import Core, Message
    from ramet.kernel.requests import Request

THREADS_MAX = 16        # that serve one node's services
GENERATOR, ASYNC_GENERATOR = 0x20, 0x200        # CO_GENERATOR, CO_ASYNC_GENERATOR

WHOM = ("ancestors", "subtree", "anyone")


def methods_of(cls, wanted):
    # type: (Any, Optional[Iterable[str]]) -> List[str]
    """Names of the methods of a class that may be exposed: those without an underscore, or the wanted ones."""
    names = [name for name in dir(cls) if name[:1] != "_" and callable(getattr(cls, name, None))]
    if wanted is None:
        return names
    missing = [name for name in wanted if name[:1] == "_" or name not in names]
    if missing:
        raise ValueError("%s has no public method %s" % (cls.__name__, ", ".join(map(repr, missing))))
    return list(wanted)


class Served(object):
    """One service.

    Args:
        allow: one of WHOM, the id of a node, or several of these.
        loop: gives the event loop for its coroutines and asynchronous generators.
        methods: names of those to expose; None: all without an underscore.
        shared: names of methods of which equal requests that come while one runs get that one's result.
        lanes: method's name -> a lane: requests of one lane run one after the other.
        threads: how many requests may run at a time.
    """

    def __init__(self, name, thing, allow, loop, methods=None, shared=(), lanes=None, threads=8):
        # type: (str, Any, Any, Any, Optional[Iterable[str]], Iterable[str], Optional[Dict[str, str]], int) -> None
        self.name = name
        self.loop = loop
        whom = [allow] if isinstance(allow, (str, int)) else list(allow)
        wrong = [one for one in whom if one not in WHOM and not isinstance(one, int)]
        if wrong or not whom:
            raise ValueError("allow must be one of %s, a node, or several of these, not %r" % (", ".join(WHOM), allow))
        if not 1 <= threads <= THREADS_MAX:
            raise ValueError("threads must be a number from 1 to %d, not %r" % (THREADS_MAX, threads))
        self.whom = frozenset(whom)
        self.methods = dict((method, getattr(thing, method)) for method in methods_of(type(thing), methods))
        self.shared = frozenset(shared)
        self.lanes = dict(lanes or {})
        unknown = [method for method in list(self.shared) + list(self.lanes) if method not in self.methods]
        if unknown or not self.methods:
            raise ValueError("the service %s has no method %s" % (name, unknown[0] if unknown else "at all"))
        yields = [method for method in shared if _flags(self.methods[method]) & (GENERATOR | ASYNC_GENERATOR)]
        if yields:
            raise ValueError("%s yields: each stream has one reader, so it can't be shared" % yields[0])
        self.threads = threads
        self.running = 0
        self.parked = compat.deque()  # type: Any        # requests for which it has no thread now
        self.busy = {}  # type: Dict[str, Any]          # lane -> requests that wait for it
        self.twins = {}  # type: Dict[bytes, Request]   # shared requests that wait or run

    def admits(self, message, core):
        # type: (Message, Core) -> bool
        """Whether the policy lets that node in. Both who sent it and in whose name it is sent must be admitted."""
        return all(self.admits_node(id, core) for id in {message.src, message.authority})

    def admits_node(self, id, core):
        # type: (int, Core) -> bool
        """Whether the policy lets in what one node sends for itself."""
        routes = core.routes
        return ("anyone" in self.whom or id in self.whom or "ancestors" in self.whom and id in routes.ancestors
                or "subtree" in self.whom and id in routes.down)

    def described(self):
        # type: () -> Dict[str, Any]
        """Method -> [its text of help, parameters]: what a proxy shows."""
        return dict((name, [getattr(method, "__doc__", None), parameters(method)]) for name, method in self.methods.items())


def _flags(method):
    # type: (Any) -> int
    """What its code says of how it runs."""
    return getattr(getattr(method, "__code__", None), "co_flags", 0)


def parameters(method):
    # type: (Any) -> Any
    """[[name, kind, text of the default or None] ...] of a method; None where this Python can't tell."""
    try:
        import inspect
        found = inspect.signature(method).parameters.values()
    except Exception:
        return None
    return [[p.name, int(p.kind), None if p.default is p.empty else failures._text(repr(p.default))] for p in found]
