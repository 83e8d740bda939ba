"""What comes over a child's link, beside ``Core.on_frame``: what is refused is told; who doesn't read isn't answered for ever.

Late part of the kernel; in the controller, too. What a node refuses of its children, and of those below them, it tells the
controller, at a bounded rate, since who is refused chooses how often: of each child the first time, and whenever its count has
doubled. Must not know why something is refused: whoever refuses counts it in ``Core.refused``. Runs on whichever thread reads
a child's link.
"""
from ramet.kernel import compat, limits
from ramet.kernel.faults import ProtocolError
from ramet.kernel.handles import REFUSED

MYPY = False
if MYPY:
    from typing import Any

    from ramet.kernel.core import Core

# How many bytes of answers may wait for a child that sends questions and doesn't read. All nodes always read.
unread_bytes_max = 16 << 20


class Watcher(object):
    """Takes the frames of one child. The controller says itself what it refuses.

    Args:
        child: its id.
    """

    def __init__(self, core, child):
        # type: (Core, int) -> None
        self.core = core
        self.child = child
        self.lock = compat.new_lock()
        self.refused = 0
        self.owed = self.written = 0

    def on_frame(self, link, header, frame):
        # type: (Any, Any, bytes) -> None
        """See ``Link``."""
        core = self.core
        refused, waiting = core.refused, link.queue.size
        core.on_frame(link, header, frame)
        if core.refused != refused and core.id:
            self.tell(link, header)
        more = link.queue.size - waiting
        if more > 0:
            self.answered(link, more)

    def answered(self, link, count):
        # type: (Any, int) -> None
        """So many bytes more wait for the child: an answer to what has come, or another thread's, of which little is counted.

        Raises:
            ProtocolError: it goes on asking, and reads nothing.
        """
        written, self.written = self.written, link.bytes_out
        self.owed = max(0, self.owed + min(count, limits.reason_chars_max) - link.bytes_out + written)
        if self.owed > unread_bytes_max:
            raise ProtocolError("it goes on sending, and doesn't read the answers")

    def tell(self, link, header):
        # type: (Any, Any) -> None
        """Count it, if it can have been this frame: another thread may have refused one of another link meanwhile."""
        core = self.core
        _, _, _, dst, src, authority, handle, _, _ = header
        if dst == core.id or not (core.routes.behind(src, link) and core.routes.behind(authority, link)):
            with self.lock:
                count = self.refused = self.refused + 1
            if not count & (count - 1):
                core.tell(0, REFUSED, [self.child, count, handle, dst, src])
