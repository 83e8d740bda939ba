"""Rooms: what each guest of a door has of it. Late part of the kernel, for ``doors``.

A room is a ``Core`` of its own, that takes the part of a node in the guest's tree: without handlers for anything but requests
of services, and what these bring with them. So a guest has no number in the door's tree, no link into it, and no say. What it
asks for is asked anew, in the door's name; arguments and results are passed on as the bytes that they are: nothing of them is
decoded here. So are items of streams and channels (``passages``, ``stand_ins``). A channel that is an argument or a result
becomes one of the door's.

Runs on the keeper, which asks nobody; answers, and what comes from the tree, on whichever thread reads the door's own link.
"""
import sys

from ramet.kernel import (
    compat,
    core,
    failures,
    limits,
    links,
    passages,
    proxies,
    references,
    results,
    stand_ins,
    start,
    streams,
    values,
)
from ramet.kernel.errors import ServiceError
from ramet.kernel.faults import CallCancelled, Error, ProtocolError
from ramet.kernel.frames import CONTROL, DEAD, ERROR, HEADER_BYTES

MYPY = False
if MYPY:
    from typing import Any, Dict, List

    from ramet.kernel.doors import Door

# Of one guest: requests that aren't answered, their bytes (a single one may be larger), and answers that it doesn't read.
requests_max = 64
asked_bytes_max = 8 << 20
unread_bytes_max = 16 << 20
early_max = 1000
# Of one guest: its streams, those that go into channels and come from them among them. With more than some at a time their
# windows don't grow any more.
streams_max = 256
wide_max = 8
# While more than so much lies here for a guest it gets no more of streams, whatever it says; and how often that is looked at.
credit_bytes_max = 8 << 20
look_s = 0.02


WHY = "a door lets guests ask services of its tree, and nothing else: no calls, no children"


def is_id(one):
    # type: (Any) -> bool
    return type(one) in compat.integers and 0 <= one < 1 << 32


class RoomSide(passages.Side):
    """A guest's tree, where items of streams go to and come from."""

    def __init__(self, room):
        # type: (Room) -> None
        passages.Side.__init__(self, room.core)
        self.room = room
        self.waiting = set()  # type: Any       # passages whose credit isn't passed on, since the guest doesn't read

    @property
    def window_bytes_max(self):  # type: ignore[override]
        # type: () -> int
        """See ``Side``: so what lies here for a guest that reads nothing is bounded, however much it asks for."""
        return streams.WINDOW_BYTES_MAX if self.room.width() <= wide_max else streams.WINDOW_BYTES

    def sends(self, size):
        # type: (int) -> None
        """See ``Side``."""
        self.room.owes(size)

    def takes_more(self, passage):
        # type: (passages.Passage) -> bool
        """See ``Side``. Who says that it has taken what still lies here gets no more for it."""
        if self.room.link.queue.size <= credit_bytes_max:
            return True
        if not self.waiting:
            self.core.loop.call_later(look_s, self._look)
        self.waiting.add(passage)
        return False

    def _look(self):
        # type: () -> None
        if self.room.link.dead:
            return
        if self.room.link.queue.size > credit_bytes_max:
            self.core.loop.call_later(look_s, self._look)
            return
        waiting, self.waiting = self.waiting, set()
        for passage in waiting:
            passage.tell()


class Asked(object):
    """A request of a guest that isn't answered; or whose answer is a stream that hasn't ended."""

    __slots__ = ("handle", "whom", "size", "passage", "watch", "given_up")

    def __init__(self, whom, size):
        # type: (int, int) -> None
        self.whom = whom
        self.size = size
        self.handle = self.watch = 0
        self.passage = None  # type: Any
        self.given_up = False


class Room(object):
    """One guest, and what it has asked for.

    Attributes:
        asked: (source, reply handle) -> what isn't answered.
        early: of CANCELs that came before what they cancel.
        owed: bytes from the tree that the guest hasn't read; ``largest``: of one answer of these.
        channels: that it was given, or has given.
    """

    def __init__(self, door, id, ancestors, fd, data):
        # type: (Door, int, List[int], int, bytes) -> None
        self.door = door
        self.tree = door.node.core
        self.core = ours = core.Core(id, ancestors, door.node.loop)
        self.lock = compat.new_lock()
        self.asked = {}  # type: Dict[Any, Asked]
        self.early = {}  # type: Dict[Any, bool]
        self.bytes = self.owed = self.written = self.largest = 0
        self.side = RoomSide(self)
        self.channels = stand_ins.Exchange(door.side, self.side, lambda: self.width() < streams_max)
        del ours.handlers[core.LOST], ours.handlers[core.ROUTE]
        ours.handlers.update({
            proxies.SERVICE: self.on_request, core.CANCEL: self.on_cancel, core.CALL: self.refuse, core.GROW: self.refuse,
            core.KEEPALIVE: lambda message: ours.reply(message, [], CONTROL), core.END: self.on_end,
            core.MODULES: bool, core.OUTPUT: bool, core.LOG: bool})     # nothing here is the guest's to load, show or log
        ours.longs().for_guest = True
        self.link = ours.routes.parent = links.Link(door.node.loop, self.on_frame, self.on_lost)
        door.rooms[self.link] = self
        ours.tell(0, core.HELLO, start.facts())
        self.link.open(fd, fd, data)

    def width(self):
        # type: () -> int
        """How many streams of this guest there are, with those of channels."""
        return len(self.asked) + self.channels.parts()

    def on_frame(self, link, header, frame):
        # type: (Any, Any, bytes) -> None
        """See ``Link``. Only the guest and those that it is reached through speak here, each for itself.

        What is for another node is answered: it may be for a child that the guest believes to be growing here.
        """
        _, _, _, _, src, authority, _, _, _ = header
        if src == authority and src in self.core.routes.ancestors:
            self.core.on_frame(link, header, frame)
        else:
            self.core.refused += 1
        self.owes()
        if self.link.queue.size - self.owed > unread_bytes_max:
            raise ProtocolError("it goes on asking, and doesn't read the answers")

    def on_lost(self, link, reason):
        # type: (Any, str) -> None
        """The guest is gone: what it has asked for is given up, and its channels are."""
        self.door.rooms.pop(link, None)
        with self.lock:
            asked, self.asked = self.asked, {}
        for entry in asked.values():
            self._give_up(entry)
            if entry.passage:
                entry.passage.stop()
                entry.passage.finish()
            self.tree.pending.pop(entry.handle, None)
        for handle in list(self.core.pending):      # who comes later has no way to the guest, and then there is no such channel
            self.core.resolve(handle, DEAD, b"the guest that held it has left")
        self.channels.close()

    def long_max(self, src, handle):
        # type: (int, int) -> int
        """How long the guest's messages may be: a request that is the only one as any message. 0: as any other's."""
        return limits.message_bytes_max if handle == proxies.SERVICE else 0

    def on_end(self, message):
        # type: (core.Message) -> None
        """It leaves. The door stays."""
        if not values.decode(message.body):
            self.link.close("it has left")

    def refuse(self, message):
        # type: (core.Message) -> None
        """What is no request."""
        self.core.reply(message, failures.pack(Error(WHY)), ERROR | CONTROL if message.handle == core.GROW else ERROR)

    # ------------------------------------------------------------------ requests

    def on_request(self, message):
        # type: (core.Message) -> None
        """Take a request, and ask for it anew."""
        key, size = (message.src, message.reply_to), len(message.body)
        try:
            whom, chunks = self._anew(message.body)
            with self.lock:
                if self.early.pop(key, False):
                    raise CallCancelled("cancelled before it began")
                if len(self.asked) >= requests_max or self.asked and self.bytes + size > asked_bytes_max or key in self.asked:
                    raise ServiceError("too many requests of this guest wait: ask again later")
                if self.owed - self.largest > unread_bytes_max:
                    raise ServiceError("too much is asked for, and isn't read: ask again later")
                self.asked[key] = entry = Asked(whom, size)
                self.bytes += size
        except Error:
            self.core.reply(message, failures.pack(sys.exc_info()[1]), ERROR)
            return

        def answered(flags, body):
            # type: (int, Any) -> None
            number = 0 if flags & (ERROR | DEAD) else _stream_number(body)
            with self.lock:
                self.bytes -= size
                known = self.asked.get(key) is entry
                if known and not number:
                    del self.asked[key]
            if known and number:
                self._stream(message, key, entry, number)
            elif known:
                self._pass_on(message, flags, body)
        try:
            entry.handle = self.tree.ask(whom, proxies.SERVICE, chunks, answered)
        except Error:       # it is larger than a message may be
            answered(ERROR, b"".join(failures.pack(sys.exc_info()[1])))

    def _anew(self, body):
        # type: (Any) -> Any
        """Who is asked, and the request as the door makes it. Of what it says of its caller only the time holds here."""
        at = 1
        for number in range(4):
            at = streams.skip(body, at)
            if not number:
                name = values.decode(bytes(body[1:at]))
        options = values.decode(bytes(body[at:]))
        if bytes(body[:1]) != b"\x95" or type(options) is not dict:
            raise ProtocolError("malformed request for a service")
        whom = self.door.services.get(name) if isinstance(name, (str, compat.text)) else None
        if whom is None:
            raise ServiceError("there is no service %.100r for guests here" % (name,))
        options = {"timeout": options["timeout"]} if "timeout" in options else {}
        chunks = [bytes(body[:at])] + values.encode(options)
        if references.CHANNEL in chunks[0]:
            chunks = [references.replaced(b"".join(chunks), self.channels.for_tree)]
        return whom, chunks

    def _pass_on(self, message, flags, body):
        # type: (core.Message, int, Any) -> None
        """Give the guest its answer. On whichever thread reads the door's own link."""
        try:
            if flags & DEAD:
                chunks, flags = failures.pack(_unanswered(body)), ERROR
            else:
                chunks = references.chunks_of(body if flags & ERROR else references.replaced(body, self.channels.for_guest))
            size = sum(map(len, chunks))
            self.largest = max(self.largest, size)
            self.owes(size)
            self.core.reply(message, chunks, flags & ERROR)
        except Error:
            self.core.reply(message, failures.pack(sys.exc_info()[1]), ERROR)

    def _stream(self, message, key, entry, number):
        # type: (core.Message, Any, Asked, int) -> None
        """The answer is a stream. It goes on as one of the door's; until it has ended, the request counts as unanswered."""
        ours = self.door.side
        if (entry.whom, number) in ours.streams.intakes:
            with self.lock:
                self.asked.pop(key, None)
            self._pass_on(message, DEAD, b"it has such a stream already")
            return
        named = self.side.streams.number(True)

        def over(_):
            # type: (Any) -> None
            self.tree.pending.pop(entry.watch, None)
            with self.lock:
                self.asked.pop(key, None)
        entry.watch = next(self.tree.handles)       # nobody answers there: but it hears of that node's loss
        entry.passage = passages.Passage(
            (ours, entry.whom, number), (self.side, message.src, named, 1 + named % 0xfffe), (0, 0), False, over)
        self.tree.pending[entry.watch] = entry.whom, lambda flags, body: entry.passage.end(
            streams.FAILS, failures.pack(_unanswered(body)))
        if self.link.dead:      # the guest has gone just now, and nobody else ends it
            entry.passage.stop()
            entry.passage.finish()
        self.core.reply(message, values.encode([None, named]))

    def on_cancel(self, message):
        # type: (core.Message) -> None
        """Take a CANCEL: [reply handle]. It may have overtaken what it cancels."""
        said = values.decode(message.body)
        if type(said) is not list or len(said) != 1 or not is_id(said[0]):
            raise ProtocolError("malformed CANCEL")
        key = message.src, said[0]
        with self.lock:
            entry = self.asked.get(key)
            if not entry:
                if len(self.early) >= early_max:
                    self.early.pop(next(iter(self.early)))
                self.early[key] = True
        if entry:
            self._give_up(entry)

    def _give_up(self, entry):
        # type: (Asked) -> None
        given_up, entry.given_up = entry.given_up, True
        if not given_up:
            self.tree.tell(entry.whom, core.CANCEL, [entry.handle])

    def owes(self, size=-HEADER_BYTES):
        # type: (int) -> None
        """So many bytes more wait for the guest; what was written meanwhile it has read, more or less."""
        with self.lock:
            written, self.written = self.written, self.link.bytes_out
            left = self.owed - self.written + written if self.link.queue.size else 0
            self.owed = max(0, left) + size + HEADER_BYTES
            if not self.owed:
                self.largest = 0


def _stream_number(body):
    # type: (Any) -> int
    """The number of a stream, where a service's answer is [nil, number]; else 0."""
    if type(body) is list or len(body) > 8 or bytes(body[:2]) != b"\x92\xc0":
        return 0
    try:
        return results.stream_number([None, values.decode(body[2:])])  # type: ignore[no-any-return]
    except ProtocolError:
        return 0    # it is passed on as it is


def _unanswered(reason):
    # type: (Any) -> Error
    why = bytes(reason)
    text = "its tree has no services now" if why == proxies.NONE else why.decode("utf-8", "replace")
    return ServiceError("the one who serves that doesn't answer: " + text)
