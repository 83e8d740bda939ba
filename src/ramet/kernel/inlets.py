"""Reading a link without copying what is large: byte strings of long messages, and large frames. Late part of the kernel.

An ``Inlet`` takes the place of a link's parser and of the function by which it is read, as soon as something large has come on
it. What is large is read into the memory that becomes the value. Must not know whose a message is: that is looked at, as with
any frame, when it is delivered. Runs on whichever thread reads the link.
"""
import os
import struct

from ramet.kernel import limits, values
from ramet.kernel.fragments import IN_PLACE, PIECE, Assembler
from ramet.kernel.frames import CONTROL, HEADER_BYTES, LONG, MAGIC, Parser, unpack_header
from ramet.kernel.limits_late import in_place_bytes_min

MYPY = False
if MYPY:
    from typing import Any, Iterable, Optional

    from ramet.kernel.core import Core
    from ramet.kernel.links import Link

ITEMS = 15      # well-known handle, of ``streams``
# How an ITEMS message begins that holds a large byte string and nothing else: what comes behind that is the value.
LEAD_BYTES = 16
LEAD = b"\xdd\x00\x00\x00\x03\xce"
STRING = struct.Struct(">BI")
# What is read at once where large frames follow one another: not more, so that what follows is a value by itself.
HEAD_BYTES = HEADER_BYTES + LEAD_BYTES


def begin(core, link):
    # type: (Core, Link) -> None
    """Read a link that way from now on, if this Python can. By the thread that reads it, while it handles a frame."""
    if not IN_PLACE or getattr(link, "read", None) is not os.read:   # a link to this node itself has none
        return
    from ramet.kernel import compat_late  # not above: on 2.7 that loads this part
    if compat_late.READS_IN_PLACE:
        inlet = Inlet(core, link)
        link.read = inlet.read
        link.parser = inlet
        bytearray(limits.passing_bytes_max * 4)     # for glibc's `malloc`: what was given back is worth being kept, up to 2 MiB


class Placed(object):
    """A large frame's body, which was read into place. It stands for the frame."""

    __slots__ = ("body",)

    def __init__(self, body):
        # type: (Any) -> None
        self.body = body

    def __getitem__(self, part):
        # type: (Any) -> Any
        return self.body


class Target(object):
    """A large frame whose body is still to come: in one piece, if all of it is there already.

    Args:
        lead: what comes before the byte string that the rest is; empty where the whole body is one value or several.
        here: what has come behind that.
    """

    taken = ()  # type: Any

    def __init__(self, header, lead, here):
        # type: (Any, bytes, bytes) -> None
        self.header = header
        self.lead = lead
        self.parts = [here] * bool(here)

    def frame(self):
        # type: () -> Placed
        """What stands for the frame, now that it is here."""
        body = b"".join(self.parts)     # which copies nothing where there is one
        return Placed([self.lead, body] if self.lead else body)


class Inlet(Parser):
    """What a link is read by. ``read`` gives itself where a large frame is here, and nothing where only some of it has come."""

    def __init__(self, core, link):
        # type: (Core, Link) -> None
        Parser.__init__(self)
        old = link.parser
        self.rest, self.have, self.need = old.rest, old.have, old.need
        self.core = core
        self.link = link
        self.target = None  # type: Any
        self.left = 0           # of the frame that comes now
        self.large = True       # was the last one large? Then the next one may be, too
        self.head = bytearray(HEAD_BYTES)

    def __len__(self):
        # type: () -> int
        return 1

    def feed(self, data):
        # type: (Any) -> Iterable[Any]
        """As ``Parser.feed``."""
        if data is not self:
            found = Parser.feed(self, data)
            if found and found[-1][0][8] >= in_place_bytes_min:  # type: ignore[index]
                self.large = True
            return found
        target, self.target = self.target, None
        return [(target.header, target.frame())]

    def read(self, fd, most):
        # type: (int, int) -> Any
        """Like ``os.read``; None if all that came is in place."""
        if not self.left and not self._begin():
            if not self.large or self.rest:
                return os.read(fd, most)
            data = os.read(fd, HEAD_BYTES)
            self.rest, self.have = [data], len(data)
            if not self._begin():
                self.rest = []
                self.large = False
                return data
            self.link.bytes_in += len(data)
        target = self.target
        if target.taken:
            return self._read_piece(fd, target)
        data = os.read(fd, self.left)
        if not data:
            return data
        target.parts.append(data)
        self.left -= len(data)
        self.large = True
        if self.left:
            self.link.bytes_in += len(data)
            return None
        self.link.bytes_in += len(data) - len(self)     # whoever parses this counts it
        return self

    def _read_piece(self, fd, target):
        # type: (int, Any) -> Any
        """Go on with a byte string of a long message."""
        left = self.left
        count = os.readv(fd, [target.view[target.at:target.at + left], self.head])
        if not count:
            return b""
        here = min(count, left)
        self.left -= here
        self.link.bytes_in += here
        target.advance(here)
        if self.left:
            return None
        self.large = True
        self.target = None
        self.core.longs().took(*target.taken)
        return bytes(self.head[:count - here]) or None

    def _begin(self):
        # type: () -> bool
        """Is the frame that has come in part to be read into place? Then what has come of it is put there."""
        if not self.rest or self.have < HEADER_BYTES:
            return False
        data = b"".join(self.rest)
        self.rest = [data]
        header = unpack_header(data)
        magic, flags, _, dst, _, _, _, _, size = header
        if dst != self.core.id or magic != MAGIC or not in_place_bytes_min <= size <= limits.fragment_bytes_max:
            return False
        if len(data) >= size + HEADER_BYTES:
            return False
        if flags & LONG:
            target = self._fragment(header)
            if target:
                here = data[HEADER_BYTES:]
                target.view[target.at:target.at + len(here)] = here
                target.advance(len(here))
        else:
            target = self._whole(header, data)
        if not target:
            return False
        self.left = size + HEADER_BYTES - len(data)
        self.rest = []
        self.target = target
        return True

    def _whole(self, header, data):
        # type: (Any, bytes) -> Optional[Target]
        size = header[8]
        if len(data) < HEADER_BYTES + LEAD_BYTES:
            return None
        lead = data[HEADER_BYTES:HEADER_BYTES + LEAD_BYTES]
        form, count = STRING.unpack_from(lead, LEAD_BYTES - STRING.size)
        if header[6] != ITEMS or lead[:len(LEAD)] != LEAD or form != 0xc6 or count != size - LEAD_BYTES or count < values.BIG:
            lead = b""
        return Target(header, lead, data[HEADER_BYTES + len(lead):])

    def _fragment(self, header):
        # type: (Any) -> Any
        """The byte string of a long message that a fragment goes on with, and doesn't end."""
        _, flags, flow, dst, src, authority, _, _, size = header
        if flags & (LONG | PIECE | CONTROL) != LONG:
            return None
        partial = self.core.longs().assembler.partial.get(Assembler.key(header))
        if not partial or partial.view is None or size > partial.need:
            return None
        behind = self.core.routes.behind
        if not behind(src, self.link) or not behind(authority, self.link):
            return None
        partial.taken = self.link, (src, dst, flow), size + HEADER_BYTES
        return partial
