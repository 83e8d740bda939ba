"""Fragments: long messages are cut into them, and put together again. Late part of the kernel, with ``longs``.

Pure. A large byte string in a message is a *piece* of its own: the flag PIECE, and its length, stand at the head of its first
fragment. So it is sent from where it lies, and received into what becomes the value: it is never copied.
"""
import io  # here, not where it is used: on 2.7 that would wait for a thread that imports, which may wait for this one
import struct

from ramet.kernel import limits, values
from ramet.kernel.core import CALL
from ramet.kernel.faults import ProtocolError
from ramet.kernel.frames import CONTINUES, CONTROL, COUNTED, DEAD, HEADER_BYTES, MAGIC, MORE, pack_header

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional, Sequence, Tuple

    from ramet.kernel.frames import Chunk, Header

PIECE = 32      # a flag: here begins a byte string, whose length comes first
LENGTH = struct.Struct(">I")
IN_PLACE = hasattr(io.BytesIO, "getbuffer")     # not in 2.7


def whole(flags, flow, dst, src, authority, handle, reply_to, chunks):
    # type: (int, int, int, int, int, int, int, Sequence[Chunk]) -> bytes
    """The frame of a message that isn't long: no more than ``limits.frame_bytes_max``. ``Core.send`` makes them itself."""
    head = pack_header(MAGIC, flags, flow, dst, src, authority, handle, reply_to, sum(map(len, chunks)))
    return b"".join([head] + list(chunks))


class Outgoing(object):
    """A long message on its way out: it is cut when its fragments go, in the size that is right then.

    Args:
        fields: flags, flow, destination, source, authority, handle and reply handle.
        chunks: the body. bytes aren't copied; the rest is, since its owner may change it.
    """

    def __init__(self, fields, chunks):
        # type: (Tuple[int, ...], Sequence[Chunk]) -> None
        self.flags, self.fields = fields[0] | COUNTED * (not fields[0] & CONTROL), fields[1:]
        self.first = True
        self.left = 0
        self.pieces = []  # type: List[Any]     # (view, is it a byte string of its own?), the last one first
        # ``values.encode`` gives large byte strings in the odd places. What is otherwise has none of its own.
        size = sum(map(len, chunks))
        apart = size > limits.frame_bytes_max and len(chunks) % 2 and all(len(chunk) >= values.BIG for chunk in chunks[1::2])
        for n, chunk in enumerate(chunks):
            if not isinstance(chunk, bytes):
                chunk = memoryview(chunk).tobytes()
            if chunk:
                self.pieces.append((memoryview(chunk), n % 2 and apart))
                self.left += len(chunk)
        if size <= limits.frame_bytes_max:
            self.pieces = [(memoryview(b"".join([piece.tobytes() for piece, _ in self.pieces])), False)]
        self.pieces.reverse()
        self.at = 0

    def __len__(self):
        # type: () -> int
        return self.left

    def room(self, most):
        # type: (int) -> int
        """How many bytes of credit the next fragment takes."""
        return min(most, len(self.pieces[-1][0]) - self.at) + HEADER_BYTES

    def take(self, most):
        # type: (int) -> Tuple[List[Any], int, bool]
        """The next fragment: its buffers, what credit it takes, and whether that was all."""
        view, own = self.pieces[-1]
        prefix = b""
        flags = self.flags | CONTINUES * (not self.first)
        if own and not self.at:
            flags |= PIECE
            prefix = LENGTH.pack(len(view))
        end = min(self.at + most - len(prefix), len(view))
        part = view[self.at:end]
        self.left -= end - self.at
        self.at = end
        if end == len(view):
            self.pieces.pop()
            self.at = 0
        flags |= MORE * bool(self.pieces)
        self.first = False
        flow, dst, src, authority, handle, reply_to = self.fields
        count = len(prefix) + len(part)
        head = pack_header(MAGIC, flags, flow, dst, src, authority, handle, reply_to, count) + prefix
        if IN_PLACE and len(part) > limits.batch_bytes:
            return [head, part], count + HEADER_BYTES, not self.pieces
        return [head + part.tobytes()], count + HEADER_BYTES, not self.pieces


class Partial(object):
    """A long message of which some is here.

    Attributes:
        sink: nobody waits for it any more: its bytes are dropped.
        view, at: where the byte string that comes now is written, and how far it is; None where there is none.
    """

    def __init__(self, bytes_max, sink):
        # type: (int, bool) -> None
        self.bytes_max = bytes_max
        self.sink = sink
        self.pool = None  # type: Any       # of those with which it shares a bound
        self.total = 0
        self.parts = []  # type: List[Any]      # (is it a byte string of its own?, file)
        self.need = 0           # of the byte string that comes now
        self.view = None  # type: Any
        self.at = 0

    def add(self, flags, body):
        # type: (int, Any) -> None
        """Take a fragment's body, a memoryview."""
        if self.sink:
            return
        if flags & PIECE:
            if self.need or len(body) < LENGTH.size:
                raise ProtocolError("a byte string begins in the midst of another")
            size, = LENGTH.unpack(body[:LENGTH.size].tobytes())
            body = body[LENGTH.size:]
            if size < values.BIG or self.total + size > self.bytes_max:
                raise ProtocolError("a message is larger than %d bytes" % self.bytes_max)
            self.total += size
            self.need = size
            file = io.BytesIO(bytes(size)) if IN_PLACE else io.BytesIO()    # zeros cost nothing until they are overwritten
            self.parts.append((True, file))
            if IN_PLACE:
                self.view, self.at = file.getbuffer(), 0
        if self.need:
            if len(body) > self.need:
                raise ProtocolError("more of a byte string came than was said")
            if self.view is not None:
                self.view[self.at:self.at + len(body)] = body
            else:
                self.parts[-1][1].write(body)
            self.advance(len(body))
        else:
            self.total += len(body)
            if self.total > self.bytes_max:
                raise ProtocolError("a message is larger than %d bytes" % self.bytes_max)
            if not self.parts or self.parts[-1][0]:
                self.parts.append((False, io.BytesIO()))
            self.parts[-1][1].write(body)

    def advance(self, count):
        # type: (int) -> None
        """So much of the byte string has come."""
        self.at += count
        self.need -= count
        if not self.need and self.view is not None:
            self.view.release()
            self.view = None

    def whole(self, apart):
        # type: (bool) -> Any
        """The body: bytes; or, if that is wanted and there are byte strings in it, a list: what is around them, and they."""
        if self.need:
            raise ProtocolError("a message ends in the midst of a byte string")
        parts = [(own, file.getvalue()) for own, file in self.parts]
        strings = [part for own, part in parts if own]
        if apart and strings:
            return [b"".join([part for own, part in parts if not own])] + strings
        return b"".join([part for _, part in parts])


class Assembler(object):
    """Puts the fragments of long messages together. One for each node; bounded in messages and bytes.

    Several threads read links, each one of its own, so a table is copied before it is walked: that is one step.
    """

    def __init__(self, bytes_max=None):
        # type: (Optional[int]) -> None
        self.bytes_max = bytes_max
        self.partial = {}  # type: Dict[Any, Partial]
        self.pools = {}  # type: Dict[Any, int]     # bytes of messages that share a bound

    def add(self, header, frame, bytes_max=limits.message_bytes_max, sink=False, pool=None):
        # type: (Header, bytes, int, bool, Optional[Tuple[Any, int]]) -> Any
        """Take a fragment.

        Args:
            bytes_max: the largest that this message may be.
            sink: nobody waits for this message.
            pool: of unfinished messages, and how many bytes all of that pool may have together.

        Returns:
            The message's body when this was its last fragment, else None. See ``Partial.whole``.

        Raises:
            ProtocolError: a continuation of nothing, too many messages at once, or one over the limit.
        """
        flags = header[1]
        key = self.key(header)
        partial = self.partial.get(key)
        if not flags & CONTINUES:
            if partial or sum(k[0] == key[0] for k in list(self.partial)) >= limits.partial_messages_max:
                raise ProtocolError("node %d has too many unfinished messages" % key[0])
            partial = self.partial[key] = Partial(self.bytes_max or bytes_max, sink)
        if not partial:
            raise ProtocolError("node %d continues a message that it never began" % key[0])
        try:
            if sink and not partial.sink:
                self.partial[key] = partial = Partial(0, True)
            self._leave_pool(partial)
            if pool:
                partial.bytes_max = min(bytes_max, pool[1] - self.pools.get(pool, 0))
            try:
                partial.add(flags, memoryview(frame)[HEADER_BYTES:])
            finally:
                if pool:
                    partial.pool = pool
                    self.pools[pool] = self.pools.get(pool, 0) + partial.total
            if flags & MORE:
                return None
            self._drop(key)
            return None if partial.sink else partial.whole(
                (header[6] == CALL or header[6] >= limits.first_free_handle) and not flags & (CONTROL | DEAD))
        except Exception:       # also that there is no memory for it
            self._drop(key)
            raise

    def _drop(self, key):
        # type: (Any) -> None
        partial = self.partial.pop(key, None)
        if partial:
            self._leave_pool(partial)

    def _leave_pool(self, partial):
        # type: (Partial) -> None
        pool, partial.pool = partial.pool, None
        if pool:
            self.pools[pool] -= partial.total
            if not self.pools[pool]:
                del self.pools[pool]

    @staticmethod
    def key(header):
        # type: (Header) -> Any
        """What the fragments of one message have in common. Control overtakes, in the midst of another."""
        return header[4], header[2], header[6], header[7], header[1] & CONTROL

    def forget(self, source):
        # type: (int) -> None
        """Drop what a node that is gone has left unfinished."""
        for key in [key for key in list(self.partial) if key[0] == source]:
            self._drop(key)
