"""Long messages: cut into frames, and put together again. Late part of the kernel, and of ``frames``.

Pure. Who sends a node a long message sends it this part before.
"""
import io  # here, not where it is used: on 2.7 that would wait for a thread that imports, which may wait for this one

from ramet.kernel import limits
from ramet.kernel.errors import ProtocolError
from ramet.kernel.frames import CONTINUES, CONTROL, HEADER_BYTES, MAGIC, MORE, pack_header

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional, Sequence

    from ramet.kernel.frames import Chunk, Header


def split(flags, flow, dst, src, authority, handle, reply_to, size, chunks):
    # type: (int, int, int, int, int, int, int, int, Sequence[Chunk]) -> List[bytes]
    """Cut a message of ``size`` bytes into frames: see ``frames.split``."""
    frames = []  # type: List[bytes]
    pieces = []  # type: List[Any]
    room = limits.frame_bytes_max
    for chunk in chunks:
        view = memoryview(chunk)
        while len(view):
            pieces.append(view[:room])
            view = view[len(pieces[-1]):]
            size -= len(pieces[-1])
            room -= len(pieces[-1])
            if not room or not size:
                head = pack_header(MAGIC, flags | CONTINUES * bool(frames) | MORE * bool(size), flow, dst, src,
                                   authority, handle, reply_to, limits.frame_bytes_max - room)
                frames.append(b"".join([head] + [p.tobytes() for p in pieces]))
                pieces = []
                room = limits.frame_bytes_max
    return frames


class Assembler(object):
    """Puts the frames of long messages together. One for each node; bounded in messages and bytes."""

    def __init__(self, bytes_max=limits.message_bytes_max):
        # type: (int) -> None
        self.bytes_max = bytes_max
        self.partial = {}  # type: Dict[Any, List[Any]]

    def add(self, header, frame):
        # type: (Header, bytes) -> Optional[bytes]
        """Take a frame that has MORE or CONTINUES set.

        Returns:
            The message's whole body when this was its last frame, else None.

        Raises:
            ProtocolError: a continuation of nothing, too many messages at once, or one over the limit.
        """
        flags = header[1]
        key = header[4], header[2], header[6], header[7], flags & CONTROL     # control overtakes, in the midst of another
        partial = self.partial.get(key)
        if not flags & CONTINUES:
            if partial or sum(k[0] == key[0] for k in self.partial) >= limits.partial_messages_max:
                raise ProtocolError("node %d has too many unfinished messages" % key[0])
            partial = self.partial[key] = [io.BytesIO()]
        if not partial:
            raise ProtocolError("node %d continues a message that it never began" % key[0])
        body = partial[0]
        body.write(memoryview(frame)[HEADER_BYTES:])
        if body.tell() > self.bytes_max:
            del self.partial[key]
            raise ProtocolError("a message from node %d is larger than %d bytes" % (key[0], self.bytes_max))
        if flags & MORE:
            return None
        del self.partial[key]
        whole = body.getvalue()  # type: bytes
        return whole

    def forget(self, source):
        # type: (int) -> None
        """Drop what a node that is gone has left unfinished."""
        for key in [key for key in self.partial if key[0] == source]:
            del self.partial[key]
