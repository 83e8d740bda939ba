"""``Service``: what the user holds of an object that a node serves.

Must not know of links or frames; the requests are ``Caller``'s. All methods are thread-safe.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ramet import codec
from ramet.backlog import wait_for_room
from ramet.call import Call
from ramet.kernel import cancelling, proxies, results
from ramet.kernel.core import CANCEL
from ramet.kernel.errors import CallTimeout, Error, ProtocolError
from ramet.kernel.frames import DEAD, ERROR
from ramet.stream import Stream

if TYPE_CHECKING:
    from ramet.node import Node


class ServiceMethod(proxies.Method):
    """One method of a service: call it, and wait for its result; or ``start`` it. Of one that yields, that is a ``Stream``.

    Raises what ``Call.result`` raises; ServiceError: there is no such service for this program, or it is busy; DeadlockError:
    the service waits for who asks here.
    """

    def start(self, *args: Any, **kwargs: Any) -> Call[Any]:
        """Send the request. Returns at once, a ``Call``: wait with ``result()``, or await it."""
        service: Any = self._service
        return service._start(self, args, kwargs)  # type: ignore[no-any-return]


class Service(proxies.ServiceProxy):
    """A service of a node: its methods are requests to it. Made by ``Node.service`` and ``Node.serve``.

    ``db.find("x")`` waits for the result, ``db.find.start("x")`` gives a ``Call``. ``dir(db)``,
    ``inspect.signature(db.find)`` and ``db.find.__doc__`` tell what there is.
    """

    Method = ServiceMethod

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(name, node.name, self._ask)
        self._node = node

    def _start(self, method: ServiceMethod | None, args: Any, kwargs: Any) -> Call[Any]:
        self._node._tree._check_open()
        wait_for_room(self._node._tree._core, self._node)
        return self._node._tree._caller.request(self._node, self._name, method, args, kwargs)

    def _ask(self, method: str | None, args: Any, kwargs: Any) -> Any:
        return self._start(None if method is None else getattr(self, method), args, kwargs).result()


class RequestCall(Call[Any]):
    """A request to a service: its reply is a result, or the number of a stream.

    Attributes:
        until: when its time is up, by ``time.monotonic``; None if it has no limit.
    """

    _is_request = True

    def __init__(self, node: Node, fn: Callable[..., Any], seconds: float | None) -> None:
        super().__init__(node, fn)
        self.until = None if seconds is None else time.monotonic() + seconds
        self._producing = Producing(self)

    @property
    def _handle(self) -> int:
        """See ``Call``. The reply may be read by another thread before it is known here."""
        return self._producing.handle

    @_handle.setter
    def _handle(self, handle: int) -> None:
        self._producing.known(handle)

    def _reply(self, flags: int, body: Any) -> None:
        """See ``Call``."""
        if flags & (DEAD | ERROR) or self._answered:
            super()._reply(flags, body)
            return
        state = self.node._state
        state.calls -= 1
        try:
            reply = codec.decode(body, state.context)
            number = results.stream_number(reply)
            value = reply[0] if number is None else self._stream(number)
        except Error as error:
            self._settle(None, error)
        except Exception as error:
            self._settle(None, ProtocolError(f"node {self.node.name} sent a result that can't be read: {error!r}"))
        else:
            self._settle(value)

    def _stream(self, number: int) -> Stream[Any]:
        node = self.node
        tree = node._tree
        at_end: list[Callable[[], Any]] = []
        intake = results.intake_of(tree._streams, node.id, number, node._state.context,
                                   lambda _: node._state.failure(node.name), at_end)
        stream: Stream[Any] = Stream(node, intake=intake)
        stream._made_by(self._producing)
        if self.until is not None:
            producing = self._producing     # not this call: it holds the stream, which ends when nobody holds it

            def expire() -> None:
                intake.stop(CallTimeout(f"{producing.name} in {node.name} took longer than its timeout and was ended"))
                producing.cancel()      # not before: the answer would be why it ended
            timer = tree._loop.call_later(max(0, self.until - time.monotonic()), expire)
            at_end.append(timer.cancel)
        intake.grant()
        return stream


class Producing:
    """A request that becomes a stream: what ends it. It holds neither the call nor the stream. Thread-safe."""

    def __init__(self, call: RequestCall) -> None:
        self.name = call.name
        self.handle = 0
        self._cancelled = False
        self._tell = call.node._tree._core.tell
        self._id = call.node.id

    def known(self, handle: int) -> None:
        """Learn the handle at which the request is answered."""
        self.handle = handle
        if self._cancelled:
            self._tell(self._id, CANCEL, [handle])

    def cancel(self) -> None:
        """End it over there, whatever it is at."""
        self._cancelled = True
        if self.handle:
            self._tell(self._id, CANCEL, [self.handle])


def within(job: Any, node: Node, options: dict[str, Any], waits: bool) -> dict[str, Any]:
    """Options of a call that a method of this program's services makes: it has the time that the method has left.

    Args:
        job: the request for that method.
        waits: the method will wait for it at once.

    Raises:
        CallTimeout: no time is left.
    """
    left = job.left()
    if left is not None:
        if left <= 0:
            raise CallTimeout(f"no time is left for a call in {node.name}: its caller has used up its own")
        options = {**options, "timeout": min(left, options.get("timeout", left))}
    if waits:
        options = {**options, "chain": job.chain}
    return options


def ends_with(job: Any, call: Call[Any]) -> None:
    """End a call with the request in whose method it was made."""
    take_back = cancelling.register(job, call.cancel)
    call.add_done_callback(lambda _: take_back())


def loop_of_caller() -> Callable[[], Any]:
    """What gives the event loop that runs here and now, for coroutines that are asked for later."""
    asyncio = sys.modules.get("asyncio")
    try:
        loop = asyncio.get_running_loop() if asyncio else None
    except RuntimeError:
        loop = None

    def given() -> Any:
        if loop is None:
            raise Error("the method is asynchronous: its object must be served from a coroutine, whose event loop will run it")
        return loop
    return given
