"""What is sent next on a link: control first, then one frame of each flow in turn.

Pure. Must not know what frames mean. Not thread-safe: a link's write lock guards its queue.

A flow is (source, destination, lane or stream). Inside a flow frames keep their order. A long message is many frames, so
another flow waits for one of them at most.
"""
from ramet.kernel import compat

MYPY = False
if MYPY:
    from typing import Any, Dict, Optional, Tuple
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

    def push(self, flow, control, frame):
        # type: (Flow, int, bytes) -> None
        """Append a frame to its flow, or to the control frames."""
        self.size += len(frame)
        if control:
            self.control.append(frame)
        elif flow in self.flows:
            self.flows[flow].append(frame)
        else:
            self.flows[flow] = compat.deque([frame])
            self.turns.append(flow)

    def pop(self):
        # type: () -> Optional[bytes]
        """Take the frame whose turn it is; None if nothing waits."""
        if self.control:
            frame = self.control.popleft()  # type: bytes
        elif self.turns:
            flow = self.turns.popleft()
            waiting = self.flows[flow]
            frame = waiting.popleft()
            if waiting:
                self.turns.append(flow)
            else:
                del self.flows[flow]
        else:
            return None
        self.size -= len(frame)
        return frame
