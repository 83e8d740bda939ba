"""Iterators as arguments of calls: over there they are iterators, too, whose items come from here when they are asked for.

A plain iterator runs on a thread of its own, from the first time that it is asked until it ends or the call does; an
asynchronous one as a task of the event loop that made the call. The thread that reads a link only starts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ramet import codec
from ramet.kernel import failures, producing
from ramet.kernel.errors import ValueNotPortableError
from ramet.kernel.feeds import Feed
from ramet.kernel.portable import Reference
from ramet.kernel.streams import ENDS, FAILS

if TYPE_CHECKING:
    from ramet.node import Node


class Pulled(Reference):
    """One iterator that is an argument: what travels in its place, and what sends its items.

    Args:
        encode: makes chunks of an item, and sees to it that the node has what that needs.
    """

    kind = "J"

    def __init__(self, node: Node, source: Any, flow: int, encode: Callable[[Any], list[Any]]) -> None:
        streams = node._tree._streams
        self.source = source
        self.encode = encode
        self.loop = asyncio.get_running_loop() if not hasattr(type(source), "__next__") else None
        self.feed = Feed(streams, node.id, streams.number(True), flow, (0, 0))
        self.feed.on_room = self._begin
        self.lock = threading.Lock()
        self.begun = False
        self.inside = False     # does an asynchronous one run, or wait for something?

    def parts(self) -> list[Any]:
        """See ``Reference``."""
        return [self.feed.core.id, self.feed.number]

    def end(self, _: object = None) -> None:
        """The call is over: nobody asks any more. What runs is closed. Any thread."""
        with self.lock:
            begun, self.begun = self.begun, True
        self.feed.stop()
        if not begun:
            self.feed.forget()

    def _begin(self) -> None:
        """The first credit is here. On the thread that reads the link."""
        with self.lock:
            if self.begun:
                return
            self.begun = True
        self.feed.on_room = None
        if self.loop is None:
            try:
                threading.Thread(target=self._run, name="ramet-input", daemon=True).start()
            except RuntimeError as error:       # who asks over there would wait for ever
                self._fail(error)
        else:
            try:
                self.loop.call_soon_threadsafe(self._begin_task)
            except RuntimeError:    # it is closed
                self._fail(RuntimeError("the event loop of this iterator is closed"))

    def _run(self) -> None:
        try:
            value = producing.run(self.feed, self.source, None, encode=self.encode)
            last = codec.encode(value, None, "the iterator's value")
        except BaseException as error:
            self._fail(error)
        else:
            self.feed.end(ENDS, last)

    def _fail(self, error: BaseException) -> None:
        self.feed.end(FAILS, failures.pack(error))

    def _begin_task(self) -> None:
        assert self.loop is not None
        self._task = self.loop.create_task(self._drive())

    def _stopped(self) -> None:
        """Nobody asks any more. The next item may be long in coming, and would be lost."""
        if self.inside:
            self._task.cancel()

    async def _next(self) -> Any:
        self.inside = True
        try:
            return await self.source.__anext__()
        except asyncio.CancelledError:
            if not self.feed.stopped:
                raise
            raise StopAsyncIteration from None
        finally:
            self.inside = False

    async def _drive(self) -> None:
        feed, loop = self.feed, self.loop
        assert loop is not None

        def stopped() -> None:
            with contextlib.suppress(RuntimeError):     # the loop is closed
                loop.call_soon_threadsafe(self._stopped)
        feed.on_stop = stopped
        try:
            while not feed.stopped:
                try:
                    item = await self._next()
                except StopAsyncIteration:
                    break
                chunks = self.encode(item)
                size = sum(map(len, chunks))
                while not feed.room(size):
                    room = asyncio.Event()
                    feed.on_room = lambda event=room: loop.call_soon_threadsafe(event.set)
                    feed.want()
                    if not feed.room(size):     # else it has come meanwhile
                        await room.wait()
                if feed.stopped:
                    break
                feed.put(chunks, size)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            feed.end(ENDS, codec.encode(None))
        finally:
            if hasattr(self.source, "aclose"):
                await self.source.aclose()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_iterator(value: Any) -> bool:
    """Whether an argument goes as an iterator."""
    kind = type(value)
    if not (hasattr(kind, "__next__") or hasattr(kind, "__anext__")) or isinstance(value, io.IOBase | Reference):
        return False
    if hasattr(kind, "__anext__") and not hasattr(kind, "__next__") and _running_loop() is None:
        raise ValueNotPortableError("an asynchronous iterator can be an argument only where its event loop runs: "
                                    "in a coroutine, of a call that is awaited")
    return True
