"""Runs a generator in a node and sends its items: what a call of ``Node.stream`` calls. Late part of the kernel.

Runs in the lane of the call: a thread of its own, unless another lane was asked for. Whoever reads the stream may end it early:
then the generator is closed, at its next ``yield`` at the latest.
"""
import sys

from ramet.kernel import calls, cancelling, compat_late, feeds, streams
from ramet.kernel.faults import ValueNotPortableError

MYPY = False
if MYPY:
    from typing import Any


def produce(number, reader, flow, window, target, args, kwargs):
    # type: (int, int, int, Any, Any, Any, Any) -> Any
    """Call a function and send the items of what it returns.

    Args:
        number, flow, window: of the stream, see ``feeds.Feed``.
        reader: the node that gets them.
        target, args, kwargs: as in a CALL message.

    Returns:
        What the generator returned: the call's own result, which ends the stream.
    """
    from ramet.kernel import start
    node = start.node  # type: Any
    ours = streams.of(node.core)
    feed = feeds.Feed(ours, reader, number, flow, window)
    job = cancelling.current_job(node.calls)
    take_back = cancelling.register(job, feed.stop)     # while it waits for credit, it isn't interrupted
    try:
        return run(feed, items_of(calls.resolve(target)(*args, **kwargs)), node.context(reader), None, job)
    finally:
        take_back()
        feed.forget()


def items_of(found):
    # type: (Any) -> Any
    """An iterator over what a function returned for a stream."""
    if hasattr(found, "__aiter__") and not hasattr(found, "__iter__"):
        raise TypeError("a function that returns an asynchronous iterator runs in the asyncio lane: options(lane=\"asyncio\")")
    try:
        return iter(found)
    except TypeError:
        if hasattr(found, "close"):
            found.close()   # a coroutine
        raise TypeError("a stream needs a function that yields, or returns something iterable, not a %s" % type(found).__name__)


def run(feed, iterator, context, encode=None, job=None):
    # type: (feeds.Feed, Any, Any, Any, Any) -> Any
    """Send an iterator's items, until it or the reader has enough.

    Args:
        encode: makes chunks of an item. Without it they are encoded as values in that context.
        job: the call in which it runs, which may be interrupted while the generator runs.

    Returns:
        What it returned. What it raises comes out of here, when the items before that are on their way.
    """
    feed.on_stop = getattr(iterator, "_ramet_stop", None)   # of ``running.Run``: it may be waiting for a program
    pack = feed.streams.codec.encode
    try:
        while not feed.stopped:
            try:
                item = next(iterator)
            except StopIteration:
                return getattr(sys.exc_info()[1], "value", None)
            chunks = encode(item) if encode else pack(item, context, "item")
            left = job.leave() if job else False
            try:
                if not feed.add(chunks):
                    break
            finally:
                if job:
                    job.back(left)
        return None
    except ValueNotPortableError:
        feed.flush()
        raise
    except BaseException:
        compat_late.cut_circle()
        raise
    finally:
        left = job.leave() if job else False    # what a generator does to clean up isn't interrupted
        try:
            feed.flush()
            close = getattr(iterator, "close", None)
            if close:
                close()     # of a generator: what is in its `finally` runs; harmless if it has ended
        finally:
            if job:
                job.back(left)
