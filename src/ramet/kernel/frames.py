"""Frames: the unit on a link, and how bytes become frames. Long messages, which take several, are in ``fragments``.

Pure: bytes in, frames out. Must not know of descriptors, threads, time or what a handle means. Not thread-safe: a link's
reader owns its ``Parser``.

Header, big-endian, 28 bytes: magic (1), flags (1), flow (2), destination (4), source (4), authority (4), handle (4),
reply-to (4), length of the body (4). docs/protocol.md gives each field's meaning.
"""
import struct

from ramet.kernel import limits
from ramet.kernel.faults import ProtocolError

MYPY = False
if MYPY:
    from typing import Iterable, List, Tuple, Union
    Chunk = Union[bytes, bytearray, memoryview]
    Header = Tuple[int, int, int, int, int, int, int, int, int]
    Parsed = Tuple[Header, bytes]

MAGIC = 0x72
MORE = 1         # further frames of the same message follow
CONTINUES = 2    # not the first frame of its message
CONTROL = 4      # goes before all that isn't control
ERROR = 8        # a reply that carries a failure
DEAD = 16        # a reply made by a node on the way: the message can't be delivered, or its answer can't come
COUNTED = 64     # its neighbour acknowledges it
LONG = 67        # one of three: it is a fragment, see ``fragments``

HEADER = struct.Struct(">BBHIIIIII")
HEADER_BYTES = HEADER.size
pack_header = HEADER.pack
unpack_header = HEADER.unpack_from


class Parser(object):
    """Cuts what a link delivers into frames, however the bytes are split over reads."""

    def __init__(self):
        # type: () -> None
        self.rest = []  # type: List[bytes]
        self.have = 0
        self.need = HEADER_BYTES

    def feed(self, data):
        # type: (bytes) -> Iterable[Parsed]
        """Take what was read.

        Returns:
            The frames that are complete now, each as (header, the frame's bytes with its header).

        Raises:
            ProtocolError: these bytes aren't frames.
        """
        if self.rest:
            self.rest.append(data)
            self.have += len(data)
            if self.have < self.need:
                return ()
            data = b"".join(self.rest)
            self.rest = []
        found = []
        at = 0
        end = len(data)
        need = HEADER_BYTES
        while end - at >= HEADER_BYTES:
            header = unpack_header(data, at)
            if header[0] != MAGIC or header[8] > limits.fragment_bytes_max:
                raise ProtocolError("not a frame: %r" % (data[at:at + HEADER_BYTES],))
            stop = at + HEADER_BYTES + header[8]
            if stop > end:
                need = stop - at
                break
            found.append((header, data[at:stop]))
            at = stop
        if at < end:
            self.rest = [data[at:]]
            self.have = end - at
            self.need = need
        return found
