"""Items on their way from one node to another: gathered into messages, sent under credit, taken out again.

A ``Feed`` is the sending end, an ``Intake`` the receiving one. A stream has one of each: the items of a remote generator,
those of an iterator that is an argument, what goes into a channel or comes out of it. The receiving end says how much it has
taken and how much may be under way (its window), so what isn't read stays where it is made. Both ends count the same bytes:
those of the encoded items.

Late part of the kernel, and the controller's. Must not know where items come from. What runs on the thread that reads a link
(``on_items``, ``on_credit``) decodes no item, and never blocks.
"""
import struct

from ramet.kernel import compat, compat_late, inlets, jobs, limits, limits_late, values
from ramet.kernel.faults import Error, ProtocolError
from ramet.kernel.frames import CONTROL

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from ramet.kernel.core import Core, Message

ITEMS, CREDIT = inlets.ITEMS, 16    # well-known handles
# What a call of a stream calls, in the asyncio lane and in others.
PRODUCE_ASYNC, PRODUCE = "ramet.kernel.producing_async:produce", "ramet.kernel.producing:produce"

# How an ITEMS message begins, always in this long form, so that it is known whose it is before it is decoded: an array, the
# stream's number, flags. The items follow.
HEAD = struct.Struct(">BIBIB")
TOLD = struct.Struct(">BBIBQBQBIBI")     # a CREDIT message, as ``values.encode`` doesn't make it: in a tenth of the time
WANTS = 1       # flags: the sender waits for credit
ENDS = 2        # the last item is none: it is what the iterator returned
FAILS = 4       # the last item is none: it is a failure

# What may be under way to one reader that takes nothing: at first, and at most. Between them it doubles when the reader has
# nothing left while the sender waits for credit, so what it comes to follows the round trip's time.
WINDOW_BYTES, WINDOW_BYTES_MAX = 1 << 18, 3 << 19
WINDOW_ITEMS, WINDOW_ITEMS_MAX = 1024, 65536
# What is gathered for one message when items come faster than this: it stays within one frame.
BATCH_BYTES, BATCH_ITEMS = 65536, 512
LINGER_S = 0.001
GONE_MAX = 1000     # ended streams whose late messages are known to be late

_making = compat.new_lock()


def of(core, codec=values):
    # type: (Core, Any) -> Streams
    """A core's streams. They are made when they are first asked for.

    Args:
        codec: what has ``encode`` and ``decode`` of values.
    """
    with _making:
        handler = core.handlers.get(ITEMS)  # type: Any
        return handler.__self__ if handler else Streams(core, codec)


class Streams(object):
    """All streams that begin or end in one node.

    Numbers are even where the receiving end has chosen them, odd where the sending end has: so no two are the same from one
    node to another, whoever chose. In the other direction there may be one of the same number.
    """

    def __init__(self, core, codec):
        # type: (Core, Any) -> None
        self.core = core
        self.codec = codec
        self.feeds = {}     # type: Dict[Tuple[int, int], Any]  # by the other node, and the number
        self.intakes = {}   # type: Dict[Tuple[int, int], Any]
        self.gone = {}      # type: Dict[Tuple[int, int], bool]     # does the sender still have to be told to stop?
        self.order = compat.deque()     # type: Any     # of these, oldest first
        core.handlers[ITEMS] = self.on_items
        core.handlers[CREDIT] = self.on_credit

    def number(self, sending):
        # type: (bool) -> int
        """A number for a new stream."""
        return next(self.core.handles) * 2 + sending & 0xffffffff

    def long_max(self, src, handle):
        # type: (int, int) -> int
        """How long messages of that node may be, as what a stream here asks for, or has asked for. 0: as any other."""
        if handle == ITEMS and any([key[0] == src for key in list(self.intakes)]):
            return limits.message_bytes_max
        return limits_late.untold_bytes_max * (handle == ITEMS and any([key[0] == src for key in list(self.gone)]))

    def flush(self):
        # type: () -> None
        """Send what was gathered: its thread is going to wait, maybe for what comes of that."""
        for feed in list(self.feeds.values()):
            if feed.count:
                feed.flush()

    def forget(self, end, unheard=False):
        # type: (Any, bool) -> None
        """A stream's end is here: what still comes for it is late.

        Args:
            unheard: the sender was told to stop, but may not have begun by then.
        """
        key = end.peer, end.number
        where = self.feeds if self.feeds.get(key) is end else self.intakes  # type: Any
        if where.get(key) is not end:
            return
        self.gone[key] = unheard    # first: else what comes in between is a stranger's, and its sender isn't told to stop
        self.order.append(key)
        where.pop(key, None)
        if len(self.order) > GONE_MAX:
            self.gone.pop(self.order.popleft(), None)

    def on_items(self, message):
        # type: (Message) -> None
        """Take an ITEMS message."""
        body = message.body
        head = body[0] if type(body) is list else body
        size = len(head) if head is body else len(head) + len(body[1])
        if size < HEAD.size:
            raise ProtocolError("malformed ITEMS")
        array, count, form, number, flags = HEAD.unpack_from(head)
        if size >= limits_late.in_place_bytes_min:
            inlets.begin(self.core, message.link)
        if (array, form) != (0xdd, 0xce) or count < 2 or flags > 7:
            raise ProtocolError("malformed ITEMS")
        key = message.src, number
        intake = self.intakes.get(key)
        if intake:
            intake.arrived(body, size - HEAD.size, count - 2, flags)
        elif self.gone.get(key):
            self.gone[key] = False
            self.core.tell(message.src, CREDIT, [number])
        elif key not in self.gone:
            raise ProtocolError("node %d has no stream %d to this one" % key)

    def on_credit(self, message):
        # type: (Message) -> None
        """Take a CREDIT message: [number, bytes taken, items taken, window in bytes, in items]; or [number], to stop."""
        said = values.decode(message.body)
        if type(said) is not list or len(said) not in (1, 5) or any(type(n) not in compat.integers or n < 0 for n in said):
            raise ProtocolError("malformed CREDIT")
        key = message.src, said[0]
        feed = self.feeds.get(key)
        if not feed:
            if key not in self.gone:
                raise ProtocolError("node %d has no stream %d from this one" % key)
        elif len(said) == 1:
            feed.stop()
        else:
            feed.granted(*said[1:])


class Intake(object):
    """The receiving end of a stream. Any thread may take.

    Args:
        context: how its items are read.

    Attributes:
        ended: nothing more will come; what has come before can still be taken.
        value, error: how it ended.
        on_end: called once, when it has ended; by any thread.
        listener: called whenever something has come, or it has ended; by any thread.
        items_max: how far its window may grow.
    """

    def __init__(self, streams, peer, number, context, window=(WINDOW_BYTES, WINDOW_ITEMS)):
        # type: (Streams, int, int, Any, Any) -> None
        self.core = streams.core
        self.streams = streams
        self.peer = peer
        self.number = number
        self.context = context      # type: Any
        self.window_bytes, self.window_items = window
        self.items_max = WINDOW_ITEMS_MAX
        self.bodies = compat.deque()    # type: Any     # messages that have come: (body, bytes, items, flags)
        self.bytes = self.items = 0     # that have come, in all
        self.taken_bytes = self.taken_items = 0
        self.told_bytes = self.told_items = 0   # of these: the last CREDIT said so
        self.wanted = False     # does the sender wait for credit?
        self.lock = compat.new_lock()
        self.ended = False
        self.value = None   # type: Any
        self.error = None   # type: Any
        self.on_end = None  # type: Optional[Callable[[], Any]]
        self.listener = None    # type: Optional[Callable[[], Any]]
        self.waiting = []   # type: List[Callable[[], Any]]     # of threads, for as long as they wait
        self.callbacks = []     # type: List[Callable[[], Any]]     # each is called once
        streams.intakes[peer, number] = self

    def arrived(self, body, size, count, flags):
        # type: (Any, int, int, int) -> None
        """Items have come, of so many bytes in all. On whichever thread reads the link."""
        last = bool(flags & (ENDS | FAILS))
        if last:
            size = 0
        with self.lock:
            if self.ended:
                return
            under_way, credit = self.items - self.taken_items, None
            # What ends it isn't under credit: an item larger than the window may be under way before it.
            fits = count <= last or not under_way and count == 1 or (
                self.bytes - self.taken_bytes + size <= self.window_bytes and under_way + count - last <= self.window_items)
            if fits:
                if count:
                    self.bodies.append((body, size, count - last, flags))
                    self.items += count - last
                    self.bytes += size
                self.wanted = bool(flags & WANTS)
                self.ended = last
                credit = self._due()
        if not fits:
            error = ProtocolError("node %d sent more than it had credit for" % self.peer)
            self.stop(error)
            raise error
        self._tell(credit)
        if last:
            self.streams.forget(self)
        if count:
            self.wake()

    def take(self):
        # type: () -> Optional[List[Any]]
        """The items of the oldest message that wasn't taken. Not for the thread that reads a link: it decodes.

        Returns:
            None if there is none now; see ``ended``.
        """
        with self.lock:
            if not self.bodies:
                return None
            body, size, count, flags = self.bodies.popleft()
            self.taken_items += count
            self.taken_bytes += size
            credit = self._due()
        self._tell(credit)
        if type(body) is list and not flags & (ENDS | FAILS):
            return body[1:]     # one byte string, see ``inlets``
        try:
            items = self.streams.codec.decode(body, self.context)
            del items[:2]
        except Error as error:
            items = self._as_far_as_possible(body, error)
            flags = 0
        if flags & (ENDS | FAILS):
            self._last(items.pop(), flags)
        return items  # type: ignore[no-any-return]

    def wait(self, seconds=None, taken=()):
        # type: (Optional[float], Any) -> Any
        """Block until there is something to take, or was ``taken`` for all, or it has ended. Reads the link if nobody does.
        False: time is up.
        """
        wake = self.core.waiter().wake
        self.streams.flush()
        with self.lock:
            self.waiting.append(wake)
        try:
            core = self.core
            return jobs.wait(core, lambda: taken or self.bodies or self.ended, core.routes.link_to(self.peer), seconds)
        finally:
            with self.lock:
                self.waiting.remove(wake)

    def on_ready(self, call, taken=()):
        # type: (Callable[[], Any], Any) -> None
        """Call that once, by any thread, when there is something to take or it has ended; at once if that is so."""
        self.streams.flush()
        with self.lock:
            compat_late.add_call(self.callbacks, call)
        if taken or self.bodies or self.ended:
            self.wake()

    def grant(self):
        # type: () -> None
        """Let the sender begin: for a stream whose sender has no credit at first."""
        self._tell(self._credit())

    def end(self, value=None, error=None):
        # type: (Any, Any) -> None
        """Nothing more will come. What has come is kept. Any thread; the first time counts."""
        with self.lock:
            if self.ended:
                return
            self.ended = True
            self.value, self.error = value, error
        self.streams.forget(self)
        self.wake()

    def stop(self, error=None):
        # type: (Any) -> None
        """Tell the sender to stop, and drop what has come. Any thread; harmless when it has ended."""
        with self.lock:
            ended, self.ended = self.ended, True
            self.bodies.clear()
            self.error = error
        if not ended:
            self.core.tell(self.peer, CREDIT, [self.number])
            self.streams.forget(self, not self.items)
        self.wake()

    def _last(self, said, flags):
        # type: (Any, int) -> None
        if flags & ENDS:
            self.value = said
        else:
            from ramet.kernel import remote_errors
            self.error = remote_errors.unpack(said, "%d" % self.peer)

    def _due(self):
        # type: () -> Any
        """The CREDIT that is due now, or None. Under the lock."""
        if self.ended:
            return None
        if self.wanted and not self.bodies:
            self.wanted = False
            if self.items:      # it was too little, whatever the reason
                self.window_bytes = min(self.window_bytes * 2, WINDOW_BYTES_MAX)
                self.window_items = min(self.window_items * 2, self.items_max)
            return self._credit()
        if (self.taken_bytes - self.told_bytes) * 4 >= self.window_bytes or (
                self.taken_items - self.told_items) * 4 >= self.window_items:
            return self._credit()
        return None

    def _credit(self):
        # type: () -> List[int]
        self.told_bytes, self.told_items = self.taken_bytes, self.taken_items
        return [self.number, self.taken_bytes, self.taken_items, self.window_bytes, self.window_items]

    def _tell(self, credit):
        # type: (Optional[List[int]]) -> None
        if credit:
            number, size, items, size_max, items_max = credit
            said = TOLD.pack(0x95, 0xce, number, 0xcf, size, 0xcf, items, 0xce, size_max, 0xce, items_max)
            self.core.send(self.peer, CREDIT, [said], 0, CONTROL)

    def wake(self):
        # type: () -> None
        """Let all who wait look. Any thread."""
        with self.lock:
            calls, self.callbacks = self.waiting + self.callbacks, []
        for call in calls:
            call()
        if self.listener:
            self.listener()
        with self.lock:     # two threads may be here, since the last items come and it is stopped
            last = self.ended and self.on_end
            if last:
                self.on_end = None
        if last:
            last()

    def _as_far_as_possible(self, body, error):
        # type: (Any, Error) -> List[Any]
        """The items of a message before the one that can't be read. That ends the stream, with this error behind them."""
        items = []  # type: List[Any]
        at = HEAD.size
        try:
            while at < len(body):
                end = skip(body, at)
                items.append(self.streams.codec.decode(body[at:end], self.context))
                at = end
        except Error:
            pass
        self.stop(error)
        return items


def skip(data, at):
    # type: (Any, int) -> int
    """Where the value that begins there ends.

    Raises:
        ProtocolError: it doesn't end, or holds nothing that we know.
    """
    data = data if type(data) in compat.indexed else bytearray(data)
    left = 1
    try:
        while left:
            first = data[at]
            kind, count, form = values.FORMS[first]
            at += 1
            if form:
                count, = form.unpack_from(data, at)
                at += form.size
            left -= 1
            if kind in (3, 4):
                left += count * (kind - 2)
            elif kind in (1, 2):
                at += count
            elif first == 0xd4:
                at += 2
            elif kind == 5:
                raise IndexError
    except (IndexError, struct.error):
        raise ProtocolError("an item that can't be read")
    if at > len(data):
        raise ProtocolError("an item that doesn't end")
    return at
