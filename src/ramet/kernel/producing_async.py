"""Asynchronous generators in a node: what a call of ``Node.stream`` calls for them. Late part of the kernel, for 3.6 and newer.

Runs as one task of the node's asyncio lane, so that what an asynchronous generator holds over its ``yield`` (a timeout, a task
group, a context variable) stays with one task. Every file of the kernel compiles on 2.7, so ``await`` is spelled out here.
"""
import asyncio
import collections.abc
import sys

from ramet.kernel import calls, cancelling, compat_late, feeds, streams

MYPY = False
if MYPY:
    from typing import Any


class Awaits(object):
    """A coroutine made of a generator whose every ``yield`` is an ``await``. Its result is None."""

    def __init__(self, generator):
        # type: (Any) -> None
        self.generator = generator
        self.inner = None   # type: Any     # what is awaited now

    def send(self, value):
        # type: (Any) -> Any
        """See ``collections.abc.Coroutine``."""
        return self._go_on(value, None)

    def throw(self, kind, value=None, trace=None):
        # type: (Any, Any, Any) -> Any
        """See ``collections.abc.Coroutine``."""
        return self._go_on(None, kind if isinstance(kind, BaseException) else kind() if value is None else value)

    def close(self):
        # type: () -> None
        """See ``collections.abc.Coroutine``."""
        if hasattr(self.inner, "close"):
            self.inner.close()
        self.generator.close()

    def __await__(self):
        # type: () -> Any
        return self     # nobody awaits it but a task, which uses the other methods

    def _go_on(self, value, error):
        # type: (Any, Any) -> Any
        """Run to what has to be waited for next, and return that. StopIteration: it is at its end."""
        while True:
            if self.inner is None:
                found = self.generator.throw(error) if error is not None else self.generator.send(value)
                self.inner = found.__await__() if hasattr(found, "__await__") else found    # 3.6's sleep is a generator
                value = error = None
            try:
                if error is not None:
                    return self.inner.throw(error)
                return next(self.inner) if value is None else self.inner.send(value)
            except StopIteration:
                value, error = getattr(sys.exc_info()[1], "value", None), None
                self.inner = None
            except BaseException:
                value, error = None, sys.exc_info()[1]
                self.inner = None


collections.abc.Coroutine.register(Awaits)


def produce(number, reader, flow, window, target, args, kwargs):
    # type: (int, int, int, Any, Any, Any, Any) -> Any
    """Call a function and send the items of the asynchronous iterator that it returns. See ``producing.produce``."""
    from ramet.kernel import start
    node = start.node  # type: Any
    feed = feeds.Feed(streams.of(node.core), reader, number, flow, window)
    job = cancelling.current_job(node.calls)
    return Awaits(_produce(feed, lambda: calls.resolve(target)(*args, **kwargs), node.context(reader), job))


def _produce(feed, make, context, job=None):
    # type: (feeds.Feed, Any, Any, Any) -> Any
    loop = asyncio.get_event_loop()
    tasks = asyncio if hasattr(asyncio, "current_task") else asyncio.Task   # type: Any    # that is 3.6
    task = tasks.current_task()
    iterator = None  # type: Any
    inside = [False]    # does the iterator run, or wait for something?

    def stopped():
        # type: () -> None
        done = job and job.interrupted      # who ends a stream cancels its call, too: what it does to clean up goes on
        if job:
            job.interrupted = True
        if inside[0] and not done:
            task.cancel()
    feed.on_stop = lambda: loop.call_soon_threadsafe(stopped)
    encode = feed.streams.codec.encode
    try:
        found = make()
        if not hasattr(found, "__aiter__"):
            raise TypeError("a stream of the asyncio lane needs an asynchronous generator, not a %s" % type(found).__name__)
        iterator = found.__aiter__()
        while not feed.stopped:
            inside[0] = True
            try:
                item = yield iterator.__anext__()
            except StopAsyncIteration:
                break
            finally:
                inside[0] = False
            chunks = encode(item, context, "item")
            size = sum(map(len, chunks))
            if not feed.room(size):
                yield _room(feed, size, loop)
            feed.put(chunks, size)
            if not feed.count:
                yield asyncio.sleep(0)      # others get their turn once a message, though this needn't wait
    except BaseException:
        compat_late.cut_circle()
        raise
    finally:
        feed.flush()
        feed.on_room = feed.on_stop = None
        if job and feed.stopped:
            job.interrupted = True      # `on_stop` may have been taken away before it was called: what cleans up goes on
        if hasattr(iterator, "aclose"):
            yield iterator.aclose()
        feed.forget()


def _room(feed, size, loop):
    # type: (feeds.Feed, int, Any) -> Any
    """A future that is done when there is credit for so many bytes, or nobody wants them."""
    future = loop.create_future()

    def look():
        # type: () -> None
        if feed.room(size) and not future.done():
            future.set_result(None)
    feed.on_room = lambda: loop.call_soon_threadsafe(look)
    feed.want()
    look()      # it may have come meanwhile
    return future
