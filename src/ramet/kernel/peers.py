"""``ramet.here()``: what code in a node sees of the tree. Late part of the kernel, for every Python.

Calls go down only: a node may call functions in nodes below it. Any thread; calls block.
"""

from ramet.kernel import compat, descent, remote_errors, values
from ramet.kernel import core as core_module
from ramet.kernel.errors import NodeLostError, ServiceError, ValueNotPortableError
from ramet.kernel.frames import DEAD, ERROR

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict


class Peer(object):
    """Another node, as seen from this one."""

    def __init__(self, node, id, name=""):
        # type: (Any, int, str) -> None
        self._node = node
        self.id = id
        self.name = name or "node %d" % id

    def call(self, fn, *args, **kwargs):
        # type: (Callable[..., Any], *Any, **Any) -> Any
        """Run a function there and wait for its result. Only in descendants: elsewhere it is refused by who is called.

        Raises:
            RemoteError: what the function raised. NodeLostError: the node can't answer.
            ProtocolError: that node isn't below this one.
        """
        return self._ask(core_module.CALL, [_name(fn), list(args), kwargs, {}])

    def cast(self, fn, *args, **kwargs):
        # type: (Callable[..., Any], *Any, **Any) -> None
        """Run a function there; nothing comes back."""
        self._node.core.send(self.id, core_module.CALL, values.encode([_name(fn), list(args), kwargs, {}]))

    def service(self, name):
        # type: (str) -> Any
        """A service of that node: an object whose methods are requests to it, which block.

        Requests raise RemoteError: what the method raised. ServiceError: there is no such service for this node, or it is busy.
        NodeLostError: that node is gone, or this tree lets nodes talk up and down only.
        """
        from ramet.kernel import proxies

        def request(method, args, kwargs):
            # type: (Any, Any, Any) -> Any
            return self._ask(proxies.SERVICE, [name, method, list(args), kwargs])
        return proxies.ServiceProxy(name, self.name, request)

    def _ask(self, handle, value):
        # type: (int, Any) -> Any
        node = self._node
        flags, body = node.core.request(self.id, handle, value)
        if flags & DEAD:
            if bytes(body) == b"refused: 21":   # proxies.NONE
                raise ServiceError("%s has no services" % self.name)
            raise NodeLostError("%s doesn't answer: %s" % (self.name, bytes(body).decode("utf-8", "replace")))
        if flags & ERROR:
            raise remote_errors.unpack(values.decode(body), self.name)
        return values.decode(body, node.context(self.id))

    def __repr__(self):
        # type: () -> str
        return "<Peer %d %s>" % (self.id, self.name)


class Here(object):
    """This node.

    Attributes:
        id, name: of this node.
        parent, controller: Peers above it.
    """

    def __init__(self, node):
        # type: (Any) -> None
        self._node = node
        if not node.core.descendants:
            descent.Losses(node.core)       # so that it hears of the loss of those that it talks to
        self.id = node.core.id
        self.name = node.name
        self.parent = Peer(node, node.core.routes.ancestors[0])
        self.controller = Peer(node, 0, "controller")

    def peer(self, id):
        # type: (int) -> Peer
        """Any node, by its id."""
        return Peer(self._node, id)

    def local(self, **options):
        # type: (**Any) -> Peer
        """Grow a child on this machine; waits until it is up. Options as for ``Node.local``."""
        return self._wish("local", options)

    def ssh(self, host, **options):
        # type: (str, **Any) -> Peer
        """Grow a child on another host, by the OpenSSH program of this machine. Options as for ``Node.ssh``."""
        return self._wish("ssh", dict(options, host=host))

    def grow(self, connector, **options):
        # type: (str, **Any) -> Peer
        """Grow a child by any of ramet's connectors, "sudo" say; waits until it is up. Options as for its ``plan``, by name."""
        return self._wish(connector, options)

    def serve(self, name, thing, allow, **options):
        # type: (str, Any, Any, **Any) -> None
        """Let other nodes call methods of an object. Options as for ``Node.serve``."""
        from ramet.kernel import services
        services.of(self._node.core, self._node.context).add(name, thing, services.ids_of(allow), **options)

    def withdraw(self, name):
        # type: (str) -> None
        """Serve it no longer. Raises KeyError."""
        from ramet.kernel import services
        services.of(self._node.core, self._node.context).remove(name)

    def _wish(self, connector, options):
        # type: (str, Dict[str, Any]) -> Peer
        id, name = self.controller._ask(core_module.WISH, [connector, options])
        return Peer(self._node, id, name)

    def __repr__(self):
        # type: () -> str
        return "<ramet.here(): node %d %s>" % (self.id, self.name)


def _name(fn):
    # type: (Any) -> str
    name = getattr(fn, "__qualname__", getattr(fn, "__name__", "<"))
    module = fn.__module__
    if "<" in name or module is None:
        raise ValueNotPortableError("%r can't be found by name in another interpreter: give a function of a module" % (fn,))
    return "%s:%s" % ("__main__" if module == compat.MAIN else module, name)
