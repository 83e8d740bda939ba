"""``Stream``: what the user holds while a generator runs elsewhere: its items, one by one.

Must not know of links or frames. It is a ``Call`` (which ends it) and an ``Intake`` (which has its items). Items are decoded in
the thread that asks for them, for ``async for`` on the event loop; nothing here runs on a thread of its own.
"""

from __future__ import annotations

import collections
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ramet.kernel import readers, streams
from ramet.kernel.errors import CallCancelled, CallTimeout
from ramet.shelter import sheltered

if TYPE_CHECKING:
    from ramet.call import Call
    from ramet.node import Node

T = TypeVar("T")


class Producer(Protocol):
    """What makes a stream's items, as far as it is to be ended and named: a call, or a request to a service."""

    @property
    def name(self) -> str:
        """The function's name."""
        ...

    def cancel(self) -> object:
        """End it."""
        ...


class Stream(Generic[T]):
    """The items of a generator that runs in a node: an iterator, for ``for`` and for ``async for``. Made by ``Node.stream``,
    and by methods of services that yield.

    What isn't taken stays over there: the generator waits when about a quarter of a megabyte, or a thousand items, are on their
    way (up to one and a half megabytes, 65,536 items, when that is too little for the way). Several threads and tasks may take
    from it: each item is given once. Leaving the ``with`` block, ``close()``, or dropping the last reference ends the generator
    over there.

    Attributes:
        node: where it runs.
        value: what the generator returned; None until all items were taken.
    """

    def __init__(self, node: Node, flow: int = 0, intake: streams.Intake | None = None) -> None:
        core = node._tree._core
        ours = node._tree._streams
        self.node = node
        self.value: Any = None
        self._intake = intake or streams.Intake(ours, node.id, ours.number(False), node._state.context)
        self._call: Producer | None = None
        self._name = "?"
        self._items: collections.deque[T] = collections.deque()
        self._lock = threading.Lock()
        self._over = False
        self._loop = core.loop
        self._flow = flow

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        """The next item: blocks until there is one.

        Raises:
            StopIteration: there are no more; ``value`` is what the generator returned.
            RemoteError: the generator raised, after the items that came before.
            NodeLostError, ClosedError, CallTimeout, CallCancelled: it can't go on; also after those that had come.
        """
        try:
            return self._items.popleft()    # nothing that must be sheltered
        except IndexError:
            return self._next()

    @sheltered
    def _next(self) -> T:
        while True:
            if not self._refill():
                self._intake.wait(taken=self._items)
            try:
                return self._items.popleft()
            except IndexError:
                pass    # another thread has got it

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        """The next item. Raises what ``__next__`` does, with StopAsyncIteration at the end."""
        import asyncio  # who awaits has loaded it

        while True:
            try:
                return self._items.popleft()
            except IndexError:
                pass
            try:
                found = self._refill()
            except StopIteration:
                raise StopAsyncIteration from None
            if found:
                await asyncio.sleep(0)      # others get their turn once a message, though this needn't wait
            else:
                self.node._tree._core.check_here()
                await readers.ready(self._intake, self._items)

    @sheltered
    def close(self) -> None:
        """End it: the generator is closed over there, what hasn't been taken is dropped. Returns at once; idempotent."""
        self._over = True
        self._items.clear()
        _close(self._intake, self._call)

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        self.close()

    def _dropped(self) -> None:
        intake = self.__dict__.get("_intake")
        if intake is not None and not intake.ended:
            # Not here: garbage may be collected at any place, also where this thread holds a link's lock.
            self._loop.call_soon(_close, intake, self._call)

    __del__ = sheltered(_dropped, destructor=True)

    def __repr__(self) -> str:
        return f"<Stream {self._name} in {self.node.name}: {'ended' if self._intake.ended else 'running'}>"

    def _refill(self) -> bool:
        """Take what has come; False if nothing has. Raises what ends the stream, once; from then on StopIteration."""
        with self._lock:
            if self._items:
                return True
            if self._over:
                raise StopIteration
            items = self._intake.take()
            if items is not None:
                self._items.extend(items)
            elif not self._intake.ended or self._intake.bodies:
                return False
            else:
                self._over = True
                self.value, error = self._intake.value, self._intake.error
                self._intake.error = self._call = None
        if items is not None:
            if len(items) > 1:
                self._intake.wake()     # others wait for what came, and one takes it all: the rest is for them
            return True
        if error is not None:
            try:
                raise error
            finally:        # its traceback holds the reader's frame, and all that is open there: no circle, so that it goes
                error = None
        raise StopIteration

    # ------------------------------------------------------------------ for the tree

    def _message(self, call: list[Any]) -> list[Any]:
        """A CALL message that makes a stream of what another one calls."""
        target, args, kwargs, options = call
        window = self._intake.window_bytes, self._intake.window_items
        about = [self._intake.number, self._intake.core.id, self._flow, window]
        produce = streams.PRODUCE_ASYNC if options["lane"] == "asyncio" else streams.PRODUCE
        return [produce, [*about, target, args, kwargs], {}, options]

    def _made_by(self, producer: Producer) -> None:
        self._call, self._name = producer, producer.name

    def _begun(self, call: Call[Any]) -> None:
        """The call that produces the items is made."""
        self._made_by(call)
        intake = self._intake

        def ended(done: Any) -> None:
            error = Future.exception(done, 0)   # not the call's own: it would look for its reply, which is being dealt with
            if isinstance(error, CallTimeout | CallCancelled):      # ended here: over there it goes on
                intake.core.tell(intake.peer, streams.CREDIT, [intake.number])
            intake.end(None if error else Future.result(done, 0), error)
        intake.on_end = call.cancel     # it has ended by itself: what came can't be read, say
        call.add_done_callback(ended)


def _close(intake: streams.Intake, call: Producer | None) -> None:
    ended = intake.ended
    intake.stop()
    if call is not None and not ended:
        call.cancel()
