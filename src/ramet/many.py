"""One function on many nodes: as they complete (``each``), or spread over them (``map``). Any thread."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ramet.call import Call, Outcome
from ramet.kernel.errors import Error
from ramet.shelter import sheltered

if TYPE_CHECKING:
    from ramet.node import Node

T = TypeVar("T")


class Each(Generic[T]):
    """Calls under way on several nodes: iterate for (node, Outcome), in the order in which they complete."""

    def __init__(self, nodes: list[Node], fn: Callable[..., T], args: Any, kwargs: Any) -> None:
        self.left = len(nodes)
        self._early: list[tuple[Node, Outcome[T]]] = []
        self._calls: list[Call[T]] = []
        try:
            for node in nodes:
                try:
                    self._calls.append(node.start(fn, *args, **kwargs))
                except Error as error:      # this node is closed already, say: the others go on
                    self._early.append((node, Outcome(error=error)))
        except BaseException:   # Ctrl-C, say: nobody will have them
            end_all(self._calls)
            raise

    def __iter__(self) -> Iterator[tuple[Node, Outcome[T]]]:
        try:
            done: queue.SimpleQueue[Call[T]] = queue.SimpleQueue()
            if self._calls:
                self._calls[0].node._tree._caller.look_ahead(self._calls[0])
            for call in self._calls:
                call.add_done_callback(done.put)  # type: ignore[arg-type]
            if done.qsize() < len(self._calls):
                self._calls[0].node._tree._core.may_wait(None)
            yield from self._early
            for _ in self._calls:
                call = done.get()
                yield call.node, call.outcome()
        except GeneratorExit:   # left early: the calls go on, as do those of `start`
            raise
        except BaseException:   # Ctrl-C, say, or nobody would read the answers
            end_all(self._calls)
            raise

    async def __aiter__(self) -> AsyncIterator[tuple[Node, Outcome[T]]]:
        import asyncio

        loop = asyncio.get_running_loop()
        done: asyncio.Queue[Call[T]] = asyncio.Queue()

        def tell(call: Any) -> None:
            with contextlib.suppress(RuntimeError):     # that loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(done.put_nowait, call)
        try:
            for call in self._calls:
                call.add_done_callback(tell)
            for early in self._early:
                yield early
            for _ in self._calls:
                call = await done.get()
                yield call.node, call.outcome()
        except GeneratorExit:   # as above
            raise
        except BaseException:   # the task was cancelled, by Ctrl-C, say
            end_all(self._calls)
            raise


@sheltered
def end_all(calls: Sequence[Call[Any] | BaseException | None]) -> None:
    """Cancel those calls that aren't over: the last ones first, so that none begins since the one before it has ended."""
    for call in reversed(calls):
        if isinstance(call, Call) and not call._answered:
            call.cancel()


# Calls that a node has at a time in ``map``: the next is there when one ends, so the node never waits for us.
AHEAD = 2


def map_over(fn: Callable[..., T], items: list[Any], nodes: list[Node]) -> Iterator[T]:
    """See ``Tree.map``."""
    if items and not nodes:
        raise ValueError("map needs at least one node")
    calls: list[Call[T] | BaseException | None] = [None] * len(items)
    ready: list[queue.SimpleQueue[None]] = [queue.SimpleQueue() for _ in items]
    numbers = iter(range(len(items)))
    left = False    # nobody waits for the results any more

    def give(node: Node) -> None:
        for number in numbers:
            if left:
                return
            call: Call[T] | None = None
            try:
                node._tree._check_open()
                # Not ``node.start``: who reads a link is here, and can't wait for room, and two items wait at most.
                calls[number] = call = node._tree._caller.start(node, fn, (items[number],), {})
            except Exception as error:
                calls[number] = error
            ready[number].put(None)
            if left and call is not None:   # since just now: who ends them may not have seen this one
                call.cancel()
            if call is not None and not call.done():    # else the node is gone: the rest fails as fast
                call.add_done_callback(lambda _: give(node))
                return

    def leave() -> None:
        nonlocal left
        left = True
        end_all(calls)

    try:
        for node in nodes * AHEAD:
            give(node)
    except BaseException:   # Ctrl-C, say
        leave()
        raise

    def results() -> Iterator[T]:
        call: Call[T] | BaseException | None = None
        try:
            for number, waiting in enumerate(ready):
                waiting.get()
                call = calls[number]
                assert call is not None
                if isinstance(call, BaseException) or call.exception() is not None:
                    break
                yield call.result()
            else:
                return
        except GeneratorExit:   # left early. Not here: garbage may be collected where this thread holds a link's lock
            nodes[0]._tree._loop.call_soon(leave)
            raise
        except BaseException:   # Ctrl-C, say
            leave()
            raise
        if isinstance(call, BaseException):
            raise call
        call.result()   # raises; the others go on
    return results()
