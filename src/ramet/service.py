"""``Service``: what the user holds of an object that a node serves.

Must not know of links or frames; the requests are ``Caller``'s. All methods are thread-safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ramet.kernel import proxies

if TYPE_CHECKING:
    from ramet.call import Call
    from ramet.node import Node


class ServiceMethod(proxies.Method):
    """One method of a service: call it, and wait for its result; or ``start`` it.

    Raises what ``Call.result`` raises, and ServiceError: there is no such service for this program, or it is busy.
    """

    def start(self, *args: Any, **kwargs: Any) -> Call[Any]:
        """Send the request. Returns at once, a ``Call``: wait with ``result()``, or await it."""
        service: Any = self._service
        return service._start(self, args, kwargs)  # type: ignore[no-any-return]


class Service(proxies.ServiceProxy):
    """A service of a node: its methods are requests to it. Made by ``Node.service`` and ``Node.serve``.

    ``db.find("x")`` waits for the result, ``db.find.start("x")`` gives a ``Call``. ``dir(db)``, ``help(db.find)`` and
    ``inspect.signature(db.find)`` tell what there is.
    """

    Method = ServiceMethod

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(name, node.name, self._ask)
        self._node = node

    def _start(self, method: ServiceMethod | None, args: Any, kwargs: Any) -> Call[Any]:
        self._node._tree._check_open()
        return self._node._tree._caller.request(self._node, self._name, method, args, kwargs)

    def _ask(self, method: str | None, args: Any, kwargs: Any) -> Any:
        return self._start(None if method is None else getattr(self, method), args, kwargs).result()
