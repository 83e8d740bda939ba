"""What a node refuses of its children, and of those below them, is told to the controller. Late part of the kernel.

At a bounded rate, since who is refused chooses how often: of each child the first time, and whenever its count has doubled.
Must not know why something is refused: whoever refuses counts it in ``Core.refused``. Runs on whichever thread reads a
child's link.
"""
from ramet.kernel import compat
from ramet.kernel.handles import REFUSED

MYPY = False
if MYPY:
    from typing import Any

    from ramet.kernel.core import Core


def telling(core, child):
    # type: (Core, int) -> Any
    """Make what takes the frames of one child: ``Core.on_frame``, and a look at what came of it."""
    on_frame = core.on_frame
    lock = compat.new_lock()
    seen = [0]

    def watched(link, header, frame):
        # type: (Any, Any, bytes) -> None
        before = core.refused
        on_frame(link, header, frame)
        if core.refused != before:
            tell(link, header)

    def tell(link, header):
        # type: (Any, Any) -> None
        """Count it, if it can have been this frame: another thread may have refused one of another link meanwhile."""
        _, _, _, dst, src, authority, handle, _, _ = header
        if dst == core.id or not (core.routes.behind(src, link) and core.routes.behind(authority, link)):
            with lock:
                count = seen[0] = seen[0] + 1
            if not count & (count - 1):
                core.tell(0, REFUSED, [child, count, handle, dst, src])
    return watched
