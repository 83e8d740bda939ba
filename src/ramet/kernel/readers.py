"""Taking items out of an intake one by one: by ``for``, and where there is asyncio, by ``async for``. Late part of the kernel.

Any thread, any event loop: each item is given once.
"""
import sys

from ramet.kernel import compat, jobs
from ramet.kernel.faults import ValueNotPortableError

MYPY = False
if MYPY:
    from typing import Any, List, Optional

    from ramet.kernel.streams import Intake


class Taker(object):
    """An iterator over what comes out of an intake."""

    def __init__(self, intake):
        # type: (Intake) -> None
        self.intake = intake
        self.items = compat.deque()  # type: Any
        self.taking = compat.new_lock()
        self.over = False

    def __iter__(self):
        # type: () -> Taker
        return self

    def __next__(self):
        # type: () -> Any
        """The next item; blocks until there is one."""
        try:
            return self.items.popleft()
        except IndexError:
            pass
        return jobs.apart(self.intake.core, self._next)

    next = __next__

    def _next(self):
        # type: () -> Any
        while True:
            found = self.look()
            if found:
                return found[0]
            if self.over:
                raise StopIteration
            self.wait()

    def __aiter__(self):
        # type: () -> Taker
        return self

    def __anext__(self):
        # type: () -> Any
        return Awaited(self)

    def wait(self, seconds=None):
        # type: (Optional[float]) -> Any
        """Block until there may be something. False: time is up."""
        return self.intake.wait(seconds, self.items)

    def look(self):
        # type: () -> Optional[List[Any]]
        """[the next item], or None if there is none now: ``over`` says whether more can come. Raises what ended it, once."""
        while True:
            try:
                return [self.items.popleft()]
            except IndexError:
                pass
            with self.taking:
                if self.items:
                    continue
                if self.over:
                    return None
                items = self.intake.take()
                if items is not None:
                    self.items.extend(items)
                    if len(items) > 1:
                        self.intake.wake()      # others wait for what came, and one takes it all: the rest is for them
                    continue
                if not self.intake.ended or self.intake.bodies:
                    return None
                self.over = True
            error, self.intake.error = self.intake.error, None
            if error is not None:
                try:
                    raise error
                finally:
                    del error       # its traceback holds the reader's frame: no circle, so that it goes

    def on_ready(self, call):
        # type: (Any) -> None
        """Call that once when there may be something."""
        self.intake.on_ready(call, self.items)

    def left(self):
        # type: () -> List[Any]
        """All that has come and wasn't given to anybody. Nothing is given any more."""
        with self.taking:
            self.over = True
            items = list(self.items)
            self.items.clear()
            more = self.intake.take()
            while more is not None:
                items += more
                more = self.intake.take()
        return items

    def close(self):
        # type: () -> None
        """Want no more: the sender is told. Any thread; harmless when it has ended."""
        self.over = True
        self.items.clear()
        self.intake.stop()
        self.intake.error = None

    def __del__(self):
        # type: () -> None
        if not self.intake.ended:   # not here: garbage may be collected where this thread holds a link's lock
            self.intake.core.loop.call_soon(self.intake.stop)


class Awaited(object):
    """``await``, spelled out, for the next item of a reader."""

    def __init__(self, reader):
        # type: (Any) -> None
        self.reader = reader
        self.inner = None   # type: Any

    def __await__(self):
        # type: () -> Awaited
        return self

    __iter__ = __await__

    def send(self, _):
        # type: (Any) -> Any
        """Go on. StopIteration holds the item."""
        while True:
            if self.inner is not None:
                try:
                    return next(self.inner)
                except StopIteration:
                    self.inner = None
            found = self.reader.look()
            if found:
                raise StopIteration(found[0])
            if self.reader.over:
                raise StopAsyncIteration
            self.inner = ready(self.reader).__await__()

    def __next__(self):
        # type: () -> Any
        return self.send(None)

    def throw(self, kind, value=None, trace=None):
        # type: (Any, Any, Any) -> Any
        """The wait was given up."""
        self.inner = None
        raise kind if value is None else value

    def close(self):
        # type: () -> None
        """The wait was given up."""
        self.inner = None


def ready(reader, *taken):
    # type: (Any, *Any) -> Any
    """A future of the running event loop, done when there is something to take of a reader; or of an intake, or was taken."""
    asyncio = sys.modules["asyncio"]  # type: Any
    loop = asyncio.get_event_loop()
    future = loop.create_future()

    def settle():
        # type: () -> None
        if not future.done():
            future.set_result(None)

    def wake():
        # type: () -> None
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            pass    # the loop is closed, and whoever waited is gone
    wake.over = future.done     # type: ignore[attr-defined]    # a wait that was given up leaves nothing behind
    reader.on_ready(wake, *taken)
    return future


def unpack(items, ctx):
    # type: (List[Any], Any) -> Taker
    """The iterator that stands for one that is an argument of a call: kind J, [source, number]."""
    from ramet.kernel import start, streams
    node = start.node  # type: Any
    source, number = items
    if node is None or not (ctx and ctx.trusted and node.core.routes.commands(source)):
        raise ValueNotPortableError("an iterator can be an argument of a call, and nothing else")
    intake = streams.Intake(streams.of(node.core), source, number, node.context(source))
    return Input(intake)


class Input(Taker):
    """An iterator that runs in the program. It begins when it is first asked for an item."""

    begun = False

    def look(self):
        # type: () -> Optional[List[Any]]
        """See ``Taker``."""
        if not self.begun:
            self.begun = True
            self.intake.grant()
        return Taker.look(self)
