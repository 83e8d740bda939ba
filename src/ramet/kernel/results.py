"""The receiving end of a stream that is a request's result. Late part of the kernel, and the controller's. Any thread."""
from ramet.kernel import compat, streams
from ramet.kernel.core import CANCEL
from ramet.kernel.faults import ProtocolError
from ramet.kernel.frames import DEAD
from ramet.kernel.readers import Taker

MYPY = False
if MYPY:
    from typing import Any, Callable, List


def stream_number(reply):
    # type: (Any) -> Any
    """What a reply says that isn't a result: the number of a stream; None for a result. Raises ProtocolError."""
    if type(reply) is list and len(reply) == 1:
        return None
    number = reply[1] if type(reply) is list and len(reply) == 2 else None  # type: Any
    if type(number) in compat.integers and 0 < number < 1 << 32 and number & 1:
        return number
    raise ProtocolError("malformed answer of a service")


def intake_of(ours, peer, number, context, why, at_end):
    # type: (streams.Streams, int, int, Any, Callable[[Any], Any], List[Callable[[], Any]]) -> streams.Intake
    """Make the receiving end of such a stream. It begins when ``grant`` is called.

    Args:
        why: makes the error that ends it when the node is lost, of the reason that came.
        at_end: what to call when it has ended.
    """
    if (peer, number) in ours.intakes:
        raise ProtocolError("node %d has a stream %d already" % (peer, number))
    core = ours.core
    intake = streams.Intake(ours, peer, number, context)
    watch = next(core.handles)      # nobody answers there: but it hears of that node's loss

    def ended():
        # type: () -> None
        core.pending.pop(watch, None)
        for call in at_end:
            call()
    intake.on_end = ended
    core.pending[watch] = peer, lambda flags, body: intake.end(None, why(body))
    link = core.routes.link_to(peer)
    if link is None or link.dead:
        core.resolve(watch, DEAD, b"the way to it is gone")
    return intake


class ResultStream(Taker):
    """What a method of a service yields, for ``for`` and ``async for``: as ``Stream``, in a node.

    Leaving a ``with`` block, ``close()``, or dropping the last reference ends the generator over there.

    Attributes:
        value: what the generator returned; None until all items were taken.
    """

    def __init__(self, intake, handle):
        # type: (streams.Intake, int) -> None
        Taker.__init__(self, intake)
        self.handle = handle

    @property
    def value(self):
        # type: () -> Any
        return self.intake.value if self.over else None

    def close(self):
        # type: () -> None
        """End it: the generator is closed over there, what hasn't been taken is dropped. Returns at once; idempotent."""
        ended = self.intake.ended
        Taker.close(self)
        if not ended:
            self.intake.core.tell(self.intake.peer, CANCEL, [self.handle])

    def __enter__(self):
        # type: () -> ResultStream
        return self

    def __exit__(self, kind, error, trace):
        # type: (Any, Any, Any) -> None
        self.close()

    def __del__(self):
        # type: () -> None
        if not self.intake.ended:   # see Taker: not here
            core, peer, handle = self.intake.core, self.intake.peer, self.handle
            core.loop.call_soon(self.intake.stop)
            core.loop.call_soon(core.tell, peer, CANCEL, [handle])
