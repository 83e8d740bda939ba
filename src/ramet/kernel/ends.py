"""A channel at a node that doesn't hold it: sends to the holder by a feed, receives by an intake. Late part of the kernel.

``ended`` runs on whichever thread reads the link; the rest in threads that may block.
"""
from ramet.kernel import compat, compat_late, feeds, jobs, readers, streams, values
from ramet.kernel.errors import ClosedError, Error, NodeLostError
from ramet.kernel.frames import DEAD

MYPY = False
if MYPY:
    from typing import Any, Callable, List, Optional, Tuple

    from ramet.kernel.core import Core

CHANNEL = 17    # well-known handle
SEND, RECEIVE, CLOSE, BACK, HELD = range(5)     # what a CHANNEL message asks for


def window(size):
    # type: (int) -> Tuple[int, int]
    """What may be under way to or from a channel of that size, at first."""
    return streams.WINDOW_BYTES, min(size, streams.WINDOW_ITEMS)


def flow_of(number):
    # type: (int) -> int
    """The flow of a channel's messages."""
    return 1 + number % 0xfffe


class End(object):
    """A channel that another node holds. It begins to send, and to receive, when it is first asked to.

    Attributes:
        here: what has come to this node already. Its threads take it in one step.
    """

    here = ()   # type: Any

    def __init__(self, channels, channel):
        # type: (Any, Any) -> None
        self.channels = channels
        self.core = channels.core
        self.owner = channel.owner
        self.number = channel.number
        self.token = channel.token
        self.size = channel.size
        self.lock = compat.new_lock()
        self.sending = compat.new_lock()    # one thread at a time adds to the feed; nobody waits with it
        self.feed = self.reader = None  # type: Any
        self.error = None   # type: Optional[Error]
        self.handles = []   # type: List[int]

    def _begin(self):
        # type: () -> None
        with self.lock:
            if not self.feed and not self.error:
                ours = self.channels.streams
                number = ours.number(True)
                self.feed = feeds.Feed(ours, self.owner, number, flow_of(self.number), window(self.size))
                self._attach(SEND, number)

    def offer(self, data):
        # type: (Any) -> bool
        """Send an item if there is room, and nobody waits for some: a large one waits until nothing is under way."""
        if not self.feed:
            self._begin()
        chunks = feeds.packed(data)
        size = feeds.size_of(chunks)
        room = False
        if not self.error:
            with self.sending:
                room = not self.feed.waiting and bool(self.feed.room(size))
                if room:
                    self.feed.put(chunks, size)
                else:
                    self.feed.want()
        if self.error or self.feed.stopped:
            raise self._why()
        return room

    def wait_for_room(self, seconds):
        # type: (Optional[float]) -> None
        """Block until there may be room for an item."""
        wake = self.core.waiter().wake
        self.on_room(wake)
        try:
            jobs.wait(self.core, lambda: wake not in self.feed.waiting, self.core.routes.link_to(self.owner), seconds)
        finally:
            with self.lock:
                try:
                    self.feed.waiting.remove(wake)
                except ValueError:
                    pass    # it was called

    def on_room(self, call):
        # type: (Callable[[], Any]) -> None
        """Call that once when there may be room for an item: with the next credit, which is asked for until it comes; at once
        if none may come, since all was taken.
        """
        with self.lock:
            compat_late.add_call(self.feed.waiting, call)
        self.feed.want()
        if self.error or self.feed.stopped or self.feed.items == self.feed.taken_items:
            self.feed.wake()

    def _why(self):
        # type: () -> Error
        return type(self.error)(*self.error.args) if self.error else ClosedError("the channel is closed")

    def look(self):
        # type: () -> Optional[List[Any]]
        """[an item, packed], or None. Raises what ended it."""
        with self.lock:
            if not self.reader and not self.error:
                ours = self.channels.streams
                number = ours.number(False)
                intake = streams.Intake(ours, self.owner, number, None, window(self.size))
                intake.items_max = self.size
                self.reader = readers.Taker(intake)
                self.here = self.reader.items
                self._attach(RECEIVE, number)
        found = self.reader and self.reader.look()
        if not found and self.error and (not self.reader or self.reader.over):
            raise self._why()
        return found    # type: ignore[no-any-return]

    def over(self):
        # type: () -> Any
        """Is it closed, and nothing left?"""
        return self.reader.over

    def wait(self, seconds):
        # type: (Optional[float]) -> None
        """Block until there may be something."""
        self.reader.wait(seconds)

    def on_ready(self, call):
        # type: (Callable[[], Any]) -> None
        """Call that once when there may be something."""
        self.reader.on_ready(call)

    def close(self):
        # type: () -> None
        """Ask the owner, behind what was sent."""
        if self.feed:
            self.feed.flush()
        if not self.core.send(self.owner, CHANNEL, values.encode([CLOSE, self.number, self.token, 0]), 0, 0,
                              flow_of(self.number)):
            raise NodeLostError("node %d, which held the channel, is gone" % self.owner)

    def _attach(self, what, stream):
        # type: (int, int) -> None
        body = values.encode([what, self.number, self.token, stream])
        self.handles.append(self.core.ask(self.owner, CHANNEL, body, _ended(compat.weak(self)), 0, flow_of(self.number)))

    def ended(self, flags, body):
        # type: (int, Any) -> None
        """The owner has answered: the channel is closed, it is none, or the owner is gone."""
        error = None    # type: Optional[Error]
        if flags & DEAD:
            reason = bytes(body).decode("utf-8", "replace")
            if "refused: there is no such channel" in reason:
                error = ClosedError("there is no such channel, or none any more")
            else:
                error = NodeLostError("node %d, which held the channel, is gone: %s" % (self.owner, reason))
        self.error = self.error or error
        if self.feed:
            if not self.feed.stopped:
                self.feed.end(streams.ENDS, values.encode(None))
            self.feed.wake()
        if self.reader and error:
            self.reader.intake.end()

    def __del__(self):
        # type: () -> None
        channel = [self.owner, self.number, self.token]
        self.core.loop.call_soon(_detach, self.core, self.feed, self.reader, self.handles, channel)


def _ended(weak):
    # type: (Any) -> Callable[[int, Any], Any]
    def answered(flags, body):
        # type: (int, Any) -> None
        end = weak()
        if end:
            end.ended(flags, body)
    return answered


def _detach(core, feed, reader, handles, channel):
    # type: (Core, Any, Any, List[int], List[Any]) -> None
    """Nobody here has the channel any more. On the keeper."""
    for handle in handles:
        core.pending.pop(handle, None)
    if feed and not feed.stopped:
        feed.end(streams.ENDS, values.encode(None))
    if reader and not reader.intake.ended:
        owner, number, token = channel
        flow = flow_of(number)

        def give_back():
            # type: () -> None
            core.send(owner, CHANNEL, values.encode([BACK, number, token, reader.left()]), 0, 0, flow)
        reader.over = True
        reader.intake.on_end = give_back    # when all has come that is on its way
        core.send(owner, CHANNEL, values.encode([BACK, number, token, reader.intake.number]), 0, 0, flow)
