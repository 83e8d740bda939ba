"""Channels: bounded queues that any nodes send into and receive from. Late part of the kernel, and the controller's.

A channel is held by the node that made it (``Held``). Whoever else has a reference is an end of it (``End``): its items go
there by a feed, and come from there by an intake, as those of any stream. An item stays packed on its way, each in bytes of its
own; it is unpacked by who receives it, as data, whoever sent it. A reference holds a token that can't be guessed; nothing else
is asked.

``on_channel`` and ``pump`` run on whichever thread reads a link: they move packed items and never block.
"""
import binascii
import os
from weakref import WeakValueDictionary

from ramet.kernel import compat, descent, facade, feeds, importer, jobs, limits_late, readers, streams, values
from ramet.kernel.ends import BACK, CHANNEL, CLOSE, HELD, RECEIVE, SEND, End, window
from ramet.kernel.errors import CallTimeout, ClosedError, ProtocolError
from ramet.kernel.holding import Held
from ramet.kernel.portable import Reference

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

    from ramet.kernel.core import Core, Message

SIZE_MAX = 1 << 24
OVER_MAX = 10000    # channels that are over, and are known as such to who hasn't heard of it
ENDS_MAX = 4096     # of one channel in one node: sixteen guests of a door have 256 streams each. An honest node has two
ENDED_MAX = 16384   # with those that it has ended while the channel is full: functions that send one item, one after the other
SHORT_BYTES = 512   # of an item that is looked through for what takes more to read it than is here

_making = compat.new_lock()


def of(core, codec=values, find_class=importer.find_class):
    # type: (Core, Any, Any) -> Channels
    """A core's channels. They are made when they are first asked for."""
    with _making:
        handler = core.handlers.get(CHANNEL)  # type: Any
        return handler.__self__ if handler else Channels(core, streams.of(core, codec), find_class)


class Channels(object):
    """All channels that one node holds, or is an end of."""

    def __init__(self, core, ours, find_class):
        # type: (Core, streams.Streams, Any) -> None
        self.core = core
        self.streams = ours
        self.context = values.Context(False, find_class)    # data only: it isn't known who sent it
        self.held = {}  # type: Dict[int, Held]
        self.over = {}  # type: Dict[int, Any]  # of those that were: their tokens
        self.order = compat.deque()     # type: Any     # of these, oldest first
        self.made_of = Channel  # type: Any     # the program's are sheltered
        self.elsewhere = {}     # type: Dict[int, Any]      # what a door has in place of channels: see ``stand_ins``
        self.ends = WeakValueDictionary()   # type: Any     # owner, number -> this node's end of it
        self.context.unpack = lambda kind, items: made(self, items)  # type: ignore[attr-defined]
        core.handlers[CHANNEL] = self.on_channel
        if not core.descendants:
            descent.Losses(core)    # so that it hears of the loss of those that it talks to

    def open(self, size):
        # type: (int) -> Channel
        """Make a channel, to be held here."""
        if type(size) not in compat.integers or not 0 < size <= SIZE_MAX:
            raise ValueError("size must be a number of items from 1 to %d, not %r" % (SIZE_MAX, size))
        number = next(self.core.handles)
        token = new_token()
        held = self.held[number] = Held(self.core, token, size)
        held.on_over = lambda: self._forget(number)
        return self.made_of(self, self.core.id, number, token, size)    # type: ignore[no-any-return]

    def close(self):
        # type: () -> None
        """Close all that are held here: nobody can be reached any more, so who waits for something is told."""
        for held in list(self.held.values()):
            held.close()

    def _forget(self, number):
        # type: (int) -> None
        """One that is held here is over. Any thread, also two at once."""
        held = self.held.get(number)
        if held:
            self.over[number] = held.token      # first: else who comes in between is a stranger
            if self.held.pop(number, None):
                self.order.append(number)
                if len(self.order) > OVER_MAX:
                    self.over.pop(self.order.popleft(), None)

    def end(self, channel):
        # type: (Channel) -> Any
        """What a channel's operations are done with: what is held here, or this node's end of it."""
        if channel.owner == self.core.id:
            held = self.held.get(channel.number)
            if not held or held.token != channel.token:
                raise ClosedError("there is no such channel, or none any more")
            return held
        with _making:
            end = self.ends.get((channel.owner, channel.number))
            if not end:
                end = self.ends[channel.owner, channel.number] = channel.made_end(self, channel)
            return end

    def long_max(self, src, handle):
        # type: (int, int) -> int
        """How long messages of that node may be: items that it gives back, since it has left. 0: as any other."""
        back = handle == CHANNEL and any([src in one.left for one in list(self.held.values()) + list(self.elsewhere.values())])
        return limits_late.untold_bytes_max if back else 0

    def on_channel(self, message):
        # type: (Message) -> None
        """Take a CHANNEL message: [what, channel, token, stream]."""
        said = values.decode(message.body)
        if type(said) is not list or len(said) != 4 or type(said[3]) not in compat.integers + (list,):
            raise ProtocolError("malformed CHANNEL")
        what, number, token, stream = said
        if what == HELD:
            return      # it is never answered: by our end, or our loss, the owner hears of it
        held = (self.held.get(number) or self.elsewhere.get(number)) if type(number) in compat.integers else None  # type: Any
        if what == BACK and held is None:
            return      # all was taken of a closed one, meanwhile: who leaves can't know
        known = held.token if held else self.over.get(number) if type(number) in compat.integers else None
        if known is None or known != token or what not in (SEND, RECEIVE, CLOSE, BACK):
            raise ProtocolError("there is no such channel here")
        if what == CLOSE:
            if held:
                held.close()
            return
        if what == BACK:
            if not (held.take_back(message.src, stream) if type(stream) is list else held.leave(message.src, stream)):
                self.core.refused += 1
            return
        if type(stream) is list or not 0 <= stream < 1 << 32 or stream & 1 != (what == SEND):
            raise ProtocolError("malformed CHANNEL")
        key = message.src, stream
        # Only in its own direction: who has chosen a number knows nothing of those that the other has chosen for what it sends.
        if key in (self.streams.intakes if what == SEND else self.streams.feeds):
            raise ProtocolError("node %d has a stream %d already" % key)
        if not held:
            self._too_late(message, what, stream)
            return
        if number in self.elsewhere:
            held.begin(message, what, stream)
            return
        if len(held.senders) + len(held.receivers) >= ENDS_MAX:     # each item moves past all of them
            ends = [end for end in list(held.senders) + list(held.receivers) if end.peer == message.src]
            if len(ends) >= ENDED_MAX or len([end for end in ends if not getattr(end, "ended", False)]) >= ENDS_MAX:
                raise ProtocolError("node %d has too many ends of this channel" % message.src)
        if what == SEND:
            held.add_sender(streams.Intake(self.streams, message.src, stream, None, window(held.size)), message)
        else:
            held.add_receiver(feeds.Feed(self.streams, message.src, stream, message.flow, window(held.size)), message)

        def gone(flags, body):
            # type: (int, Any) -> None
            held.lost(message.src)
        if held.is_new(message.src):
            held.watches[message.src] = self.core.ask(message.src, CHANNEL, values.encode([HELD, number, "", 0]), gone, 0,
                                                      message.flow)

    def _too_late(self, message, what, stream):
        # type: (Message, int, int) -> None
        """Who begins at one that is over hasn't heard of that: it is told as who was there is, and its items are late ones."""
        if what == SEND:
            streams.Intake(self.streams, message.src, stream, None).end()
        else:
            feeds.Feed(self.streams, message.src, stream, message.flow, window(1)).end(streams.ENDS, values.encode(None))
        self.core.reply(message, values.encode(None))


def new_token():
    # type: () -> str
    """What a channel is known by, beside its number: nobody can guess it."""
    return binascii.hexlify(os.urandom(16)).decode("ascii")


class Channel(Reference, facade.Channel):  # type: ignore[misc]
    """A bounded queue between any nodes: many senders, many receivers, each item for one of them.

    It is held by the node that made it, can be an argument and a result of calls and an item of streams and other channels, and
    works in whatever node it arrives. All methods are thread-safe. Made by ``tree.channel()`` and ``ramet.here().channel()``.

    Attributes:
        owner: id of the node that holds it.
        size: how many items it holds before ``send`` waits. Of those that wait for this node's threads up to an eighth, 16 at
            most, don't count; and a few more are under way from other nodes.
    """

    kind = "K"
    over = False
    made_end = End

    def __init__(self, channels, owner, number, token, size):
        # type: (Channels, int, int, Any, int) -> None
        self._channels = channels
        self._end = None    # type: Any
        self.owner = owner
        self.number = number
        self.token = token
        self.size = size

    def send(self, item, timeout=None):
        # type: (Any, Optional[float]) -> None
        """Put an item in; blocks while there is no room.

        Args:
            item: any value that isn't code. It is read as data, whoever sends it.
            timeout: seconds to wait at most.

        Raises:
            ClosedError: the channel is closed. NodeLostError: the node that holds it is gone.
            CallTimeout: there was no room in time. ValueNotPortableError: the item can't travel.
        """
        ours = self._channels
        data = compat.Bytes(b"".join(ours.streams.codec.encode(item, ours.context, "item")))
        jobs.apart(ours.core, self._put, data, timeout)

    put = send

    def asend(self, item):
        # type: (Any) -> Any
        """Put an item in, in a coroutine: ``await channel.asend(item)`` waits while there is no room, and blocks nothing.

        A wait that is cancelled hasn't sent it. Nothing is sent that isn't awaited. Raises what ``send`` does.
        """
        ours = self._channels
        data = compat.Bytes(b"".join(ours.streams.codec.encode(item, ours.context, "item")))
        return readers.Awaited(Offer(self, data))

    def receive(self, timeout=None):
        # type: (Optional[float]) -> Any
        """Take an item out; blocks until there is one.

        Args:
            timeout: seconds to wait at most.

        Raises:
            ClosedError: it is closed, and all items were taken. NodeLostError: the node that holds it is gone.
            CallTimeout: nothing came in time. ValueNotPortableError, ProtocolError: this item can't be read here.
        """
        here = self._end and self._end.here
        if here:
            try:
                data = here.popleft()   # it is here: one step, nothing that an interrupt could harm
            except IndexError:
                pass        # another thread has got it
            else:
                if len(data) < SHORT_BYTES and values.MARK[0] not in data:  # it is read without importing anything
                    return self._unpack(data)
                return jobs.apart(self._channels.core, self._unpack, data)
        return jobs.apart(self._channels.core, self._take, timeout)

    get = receive

    def close(self):
        # type: () -> None
        """Let nothing more in. Who receives gets what is in it, and then the end. Any holder may do it; idempotent."""
        self._use().close()

    def __iter__(self):
        # type: () -> Channel
        return self

    def __next__(self):
        # type: () -> Any
        try:
            return self.receive()
        except ClosedError:
            raise StopIteration

    next = __next__

    def __aiter__(self):
        # type: () -> Channel
        return self

    def __anext__(self):
        # type: () -> Any
        return readers.Awaited(self)

    def look(self):
        # type: () -> Optional[List[Any]]
        """[an item], or None if there is none now; ``over`` says whether more can come."""
        end = self._use()
        found = end.look()
        self.over = not found and end.over()
        return found and [self._unpack(found[0])]

    def offer(self, data):
        # type: (Any) -> Any
        """Put an item in, packed, if there is room."""
        return self._use().offer(data)

    def on_ready(self, call):
        # type: (Callable[[], Any]) -> None
        """Call that once when there may be something to take."""
        self._use().on_ready(call)

    def parts(self):
        # type: () -> List[Any]
        """See ``Reference``."""
        return [self.owner, self.number, self.token, self.size]

    def _put(self, data, timeout):
        # type: (Any, Optional[float]) -> None
        end = self._use()
        if end.offer(data):
            return
        now = self._channels.core.loop.now
        until = None if timeout is None else now() + timeout
        while True:
            left = None if until is None else until - now()
            if left is not None and left <= 0:
                raise CallTimeout("the channel had no room for %g s" % (timeout or 0))
            end.wait_for_room(left)
            if end.offer(data):
                return

    def _take(self, timeout):
        # type: (Optional[float]) -> Any
        now = self._channels.core.loop.now
        until = None if timeout is None else now() + timeout
        end = self._use()
        while True:
            found = end.look()
            if found:
                return self._unpack(found[0])
            if end.over():
                raise ClosedError("the channel is closed")
            left = None if until is None else until - now()
            if left is not None and left <= 0:
                raise CallTimeout("nothing came out of the channel for %g s" % (timeout or 0))
            end.wait(left)

    def _use(self):
        # type: () -> Any
        if not self._end:
            self._end = self._channels.end(self)
        return self._end

    def _unpack(self, data):
        # type: (Any) -> Any
        if type(data) is not compat.Bytes:
            raise ProtocolError("node %d sent what is no item of a channel" % self.owner)
        return self._channels.streams.codec.decode(data, self._channels.context)

    def __eq__(self, other):
        # type: (object) -> bool
        return isinstance(other, Channel) and (other.owner, other.token) == (self.owner, self.token)

    def __ne__(self, other):
        # type: (object) -> bool
        return not self == other

    def __hash__(self):
        # type: () -> int
        return hash((self.owner, self.token))

    def __repr__(self):
        # type: () -> str
        return "<Channel %d of node %d>" % (self.number, self.owner)    # the token is a secret


class Offer(object):
    """An item for which a coroutine waits until there is room. Stands for a reader, in ``readers.Awaited``."""

    over = False

    def __init__(self, channel, data):
        # type: (Channel, Any) -> None
        self.channel = channel
        self.data = data

    def look(self):
        # type: () -> Optional[List[Any]]
        """[None] when it is in the channel."""
        return [None] if self.channel.offer(self.data) else None

    def on_ready(self, call):
        # type: (Callable[[], Any]) -> None
        """Call that once when there may be room."""
        self.channel._use().on_room(call)


def unpack(items, ctx):
    # type: (List[Any], Any) -> Channel
    """A channel that came as a value, in a node."""
    from ramet.kernel import start
    node = start.node  # type: Any
    return made(of(node.core), items)


def made(channels, items):
    # type: (Channels, List[Any]) -> Channel
    """A channel of its reference."""
    owner, number, token, size = items
    if any(type(n) not in compat.integers or not 0 <= n < 1 << 32 for n in (owner, number, size)) or len(token) != 32:
        raise ProtocolError("malformed reference to a channel")
    return channels.made_of(channels, owner, number, token, max(1, min(size, SIZE_MAX)))    # type: ignore[no-any-return]
