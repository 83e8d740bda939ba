"""What is sent next on a link: control first, then one frame of each flow in turn.

Pure. Must not know what frames mean. Not thread-safe: a link's write lock guards its queue. The first long message on a link
puts a ``credit.CreditQueue`` in its place.

A flow is (source, destination, lane or stream). Inside a flow frames keep their order. A long message is many frames, so
another flow waits for one of them at most.
"""
from ramet.kernel import compat
from ramet.kernel.frames import CONTROL

MYPY = False
if MYPY:
    from typing import Any, Dict, Tuple
    Flow = Tuple[int, int, int]


class FairQueue(object):
    """Frames that wait for their link, in fair order.

    Attributes:
        size: bytes that wait.
    """

    def __init__(self):
        # type: () -> None
        self.control = compat.deque()  # type: Any
        self.flows = {}  # type: Dict[Flow, Any]
        self.turns = compat.deque()  # type: Any
        self.size = 0

    def push(self, flow, flags, frame):
        # type: (Flow, int, Any) -> None
        """Append a frame to its flow, or to the control frames."""
        self.size += len(frame)
        if flags & CONTROL:
            self.control.append(frame)
        elif flow in self.flows:
            self.flows[flow].append(frame)
        else:
            self.flows[flow] = compat.deque([frame])
            self.turns.append(flow)

    def take(self, most):
        # type: (int) -> Any
        """Take those whose turn it is, as one piece of bytes: until there are as many bytes as that. None: empty."""
        batch = []
        while self.size and most > 0:
            if self.control:
                frame = self.control.popleft()
            else:
                flow = self.turns.popleft()
                waiting = self.flows[flow]
                frame = waiting.popleft()
                if waiting:
                    self.turns.append(flow)
                else:
                    del self.flows[flow]
            batch.append(frame)
            self.size -= len(frame)
            most -= len(frame)
        return b"".join(batch)
