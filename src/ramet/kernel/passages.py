"""Streams that go through a door: items one way, credit the other, each end taking the door for the other end. Late part of
the kernel, for ``doors``.

A door holds no items, and reads none: what comes is sent on at once. So credit is that of the two ends, passed on; but one of
them is a guest, so both are held to it here, and nothing goes into the tree that breaks its rules. What the two call their
stream has nothing to do with each other: a number that a guest makes up is none of anybody else's.

On whichever thread reads a link: that of the tree, or a guest's. Must not know of requests, nor of channels.
"""
from ramet.kernel import channels, compat, failures, references, streams
from ramet.kernel.faults import ProtocolError
from ramet.kernel.frames import CONTROL
from ramet.kernel.streams import CREDIT, ENDS, FAILS, HEAD, ITEMS, TOLD, WANTS

MYPY = False
if MYPY:
    from typing import Any, Callable

NIL = b"\xc0"


class Side(object):
    """One of the trees that a door is in: its own. A guest's has more to it: see ``doors``."""

    window_bytes_max = streams.WINDOW_BYTES_MAX
    window_items_max = streams.WINDOW_ITEMS_MAX

    def __init__(self, core):
        # type: (Any) -> None
        self.core = core
        self.streams = streams.of(core)
        self.channels = channels.of(core)

    def sends(self, size):
        # type: (int) -> None
        """So many bytes of items go there."""

    def takes_more(self, passage):
        # type: (Passage) -> bool
        """Whether there is room for more. If not, ``Passage.tell`` is called when there is."""
        return True


class Comes(object):
    """Stands where items of a passage come from: as ``streams.Intake``."""

    def __init__(self, passage, side, peer, number):
        # type: (Passage, Side, int, int) -> None
        self.peer = peer
        self.number = number
        self.core = side.core
        self.streams = side.streams
        self.arrived = passage.arrived
        side.streams.intakes[peer, number] = self


class Goes(object):
    """Stands where they go: as ``feeds.Feed``."""

    count = 0   # nothing is gathered

    def __init__(self, passage, side, peer, number, flow):
        # type: (Passage, Side, int, int, int) -> None
        self.peer = peer
        self.number = number
        self.flow = flow
        self.core = side.core
        self.streams = side.streams
        self.granted = passage.granted
        self.stop = passage.stop
        side.streams.feeds[peer, number] = self


class Passage(object):
    """One stream through a door.

    Args:
        source: side, node and number of who sends.
        target: side, node, number and flow of who receives.
        window: bytes and items that may be under way before the first CREDIT.
        packed: it is one of a channel: its items are byte strings.
        on_over: called once, when it has ended, by any thread.

    Attributes:
        items, bytes: that were passed on.
    """

    def __init__(self, source, target, window, packed, on_over):
        # type: (Any, Any, Any, bool, Callable[[Passage], Any]) -> None
        self.packed = packed
        self.on_over = on_over
        self.lock = compat.new_lock()
        self.items = self.bytes = self.taken_items = self.taken_bytes = 0
        self.window_bytes, self.window_items = window
        self.said = None    # type: Any     # in the last CREDIT
        self.over = self.stopped = False
        self.wanted = False     # who sends waits for credit, and who receives was told so
        self.receiver = target[0]
        self.comes = Comes(self, *source)
        self.goes = Goes(self, *target)

    # ------------------------------------------------------------------ items

    def arrived(self, body, size, count, flags):
        # type: (Any, int, int, int) -> None
        """Items have come: see ``Intake``."""
        last = bool(flags & (ENDS | FAILS))
        size = 0 if last else size
        try:
            with self.lock:
                under_way = self.items - self.taken_items
                new = count - last
                if new < 0 or flags & FAILS and self.packed:
                    raise ProtocolError("malformed end of a stream")
                if not (not new or not under_way and new == 1 or under_way + new <= self.window_items
                        and self.bytes - self.taken_bytes + size <= self.window_bytes):
                    raise ProtocolError("node %d sent more than it had credit for" % self.comes.peer)
            body = self._looked_through(body, last)
        except ProtocolError:
            self.broken()
            raise
        with self.lock:
            if self.over or not count and (self.wanted or not flags & WANTS):
                return      # said before: who sends can't make messages of nothing
            self.wanted = bool(flags & WANTS)
            self.items += new
            self.bytes += size
        if last:
            self.finish()   # first: who receives may answer that at once, by what it gives back, and another thread reads it
        if not self.stopped:
            self._send(count, flags, body)

    def _looked_through(self, body, last):
        # type: (Any, bool) -> Any
        """The message, as far as it may be passed on: bytes, or a list of two where it is one large byte string."""
        if type(body) is list:
            return body if not self.packed or references.CHANNEL not in body[1] else references.packed(b"".join(body), last)
        if self.packed:
            return references.packed(body, last)
        return references.barred(body) if references.CHANNEL in body else body

    def _send(self, count, flags, body):
        # type: (int, int, Any) -> None
        head, rest = (body[0], body[1:]) if type(body) is list else (body, [])
        goes = self.goes
        chunks = [HEAD.pack(0xdd, count + 2, 0xce, goes.number, flags) + bytes(head[HEAD.size:])] + rest
        self.receiver.sends(sum(map(len, chunks)))
        goes.core.send(goes.peer, ITEMS, chunks, 0, 0, goes.flow)

    # ------------------------------------------------------------------ credit

    def granted(self, taken_bytes, taken_items, window_bytes, window_items):
        # type: (int, int, int, int) -> None
        """Credit has come: see ``Feed``."""
        with self.lock:
            if taken_bytes > self.bytes or taken_items > self.items:
                raise ProtocolError("more was taken of stream %d than was sent" % self.goes.number)
            self.taken_bytes = max(self.taken_bytes, taken_bytes)
            self.taken_items = max(self.taken_items, taken_items)
            self.window_bytes = max(self.window_bytes, min(window_bytes, self.receiver.window_bytes_max))
            self.window_items = max(self.window_items, min(window_items, self.receiver.window_items_max))
        if self.receiver.takes_more(self):
            self.tell()

    def tell(self):
        # type: () -> None
        """Pass on what credit there is, if that is news."""
        comes = self.comes
        with self.lock:
            said = self.taken_bytes, self.taken_items, self.window_bytes, self.window_items
            news, self.said = said != self.said and not self.over and not self.stopped, said
            self.wanted = self.wanted and not news
        if news:
            size, items, size_max, items_max = said
            told = TOLD.pack(0x95, 0xce, comes.number, 0xcf, size, 0xcf, items, 0xce, size_max, 0xce, items_max)
            comes.core.send(comes.peer, CREDIT, [told], 0, CONTROL)

    def stop(self):
        # type: () -> None
        """Who receives wants no more. A method that yields says when it has come to its end; until then it counts."""
        with self.lock:
            stopped, self.stopped = self.stopped, True
        if not stopped:
            self.comes.core.tell(self.comes.peer, CREDIT, [self.comes.number])
        if self.packed:
            self.finish()

    # ------------------------------------------------------------------ ends

    def end(self, flags, chunks):
        # type: (int, Any) -> None
        """Who sends is gone, or has gone too far: tell who receives."""
        with self.lock:
            tell = not self.over and not self.stopped
        if tell:
            self._send(1, flags, [b"\0" * HEAD.size + b"".join(chunks)])
        self.finish()

    def broken(self):
        # type: () -> None
        """Who sends breaks the rules."""
        self.comes.core.tell(self.comes.peer, CREDIT, [self.comes.number])
        if self.packed:
            self.end(ENDS, [NIL])
        else:
            self.end(FAILS, failures.pack(ProtocolError("who yields has broken the rules of streams")))

    def finish(self):
        # type: () -> None
        """It is over. What comes late is known to be late, at both ends."""
        with self.lock:
            over, self.over = self.over, True
        if not over:
            self.comes.streams.forget(self.comes)
            self.goes.streams.forget(self.goes)
            self.on_over(self)
