"""Credit: how much of long messages may be under way on a link. Late part of the kernel, with ``fragments``.

Pure: frames and times in, decisions out. A link's write lock guards its queue.

A neighbour acknowledges each fragment (a frame of a long message) when it has delivered or dropped it, or passed it on. What
isn't acknowledged is *under way*, and bounded by a window for each flow and a limit for the link. A flow that has nothing under
way may always send one fragment, so none starves another. Hence:

- a node in the middle holds of each flow what its sender's window allows, however slow the way on is;
- behind a long message a call waits for a window's bytes at most, though ssh, pipe and TCP would swallow megabytes;
- a neighbour that never acknowledges stalls the flows to it and behind it, and nothing else.

A window is what the flow delivers in two round trips and ``late.queueing_s``: so a far link is kept busy, and a slow one
holds little. The round trip is the shortest that was seen, so that what waits in a window doesn't make it grow.

Frames that aren't fragments need no credit. A node that has too many of them to pass on stops their flow at the neighbour
that they come from, and lets it go on when they are gone: ``stop``.

Control goes first. Where it doesn't end, a flow has a turn now and then, with what was there before all control that is left.
"""
from ramet.kernel import compat, limits
from ramet.kernel import limits_late as late
from ramet.kernel.flow import FairQueue
from ramet.kernel.frames import CONTROL

MYPY = False
if MYPY:
    from typing import Any, Callable, Collection, Dict, List, Optional, Tuple

    from ramet.kernel.flow import Flow


class Buffers(object):
    """What a link writes next, where that is several buffers. It can be cut at its head, like bytes."""

    def __init__(self, buffers):
        # type: (List[Any]) -> None
        self.buffers = buffers

    def __len__(self):
        # type: () -> int
        return len(self.buffers)

    def __getitem__(self, part):
        # type: (Any) -> Buffers
        at, count = 0, part.start
        while at < len(self.buffers) and count >= len(self.buffers[at]):
            count -= len(self.buffers[at])
            at += 1
        left = self.buffers[at:]
        if left and count:
            left[0] = memoryview(left[0])[count:]
        return Buffers(left)


class Window(object):
    """Bytes that may be under way, and what is measured to know how many.

    Attributes:
        rate: bytes per second, as far as they were counted.
        full: has it kept something back since it was last looked at?
    """

    __slots__ = ("size", "under_way", "rate", "since", "counted", "full")

    def __init__(self):
        # type: () -> None
        self.size = late.window_bytes
        self.under_way = 0
        self.rate = 0.0
        self.since = 0.0
        self.counted = 0
        self.full = False

    def send(self, count, now):
        # type: (int, float) -> None
        """So many bytes go out."""
        if not self.under_way:
            self.since, self.counted = now, 0
        self.under_way += count

    def acknowledge(self, count, now, trip_s):
        # type: (int, float, float) -> None
        """So many have arrived. ``trip_s``: the shortest round trip on this link."""
        self.under_way -= count
        self.counted += count
        span = now - self.since
        if span >= max(trip_s, 0.002):
            self.rate = self.counted / span
            if self.full:
                size = self.rate * trip_s * 2 + min(self.rate * late.queueing_s, late.window_bytes_near)
                self.size = int(min(max(size, late.window_bytes_min), late.window_bytes_max))
            self.since, self.counted, self.full = now, 0, False


class Waiting(object):
    """What waits in one flow, and what of it is under way.

    Attributes:
        turn: is it in line?
        short: it has had its turn, and its window was full.
        open: has a message begun that isn't acknowledged whole? That one is unfinished at the neighbour, for all we know.
        plain: bytes of frames that aren't fragments.
        stopped: the neighbour wants no more of it for now.
        source: the link on which it was stopped by us, since too much waits here.
        after: how many frames of control must have gone before its first one may overtake others.
        probe: of a fragment whose acknowledgement is timed: what must have arrived with it, and when it went.
    """

    __slots__ = ("key", "frames", "window", "turn", "short", "open", "plain", "stopped", "source", "sent", "arrived", "probe",
                 "after")

    def __init__(self, key):
        # type: (Flow) -> None
        self.key = key
        self.frames = compat.deque()  # type: Any
        self.window = Window()
        self.turn = self.short = self.open = self.stopped = False
        self.plain = self.sent = self.arrived = self.after = 0
        self.source = None  # type: Any
        self.probe = None  # type: Any


class Passing(object):
    """A fragment that a node passes on.

    Args:
        passed: called when it goes, or is dropped.
    """

    __slots__ = ("frame", "first", "passed")

    def __init__(self, frame, first, passed):
        # type: (bytes, bool, Callable[[], Any]) -> None
        self.frame = frame
        self.first = first
        self.passed = passed

    def __len__(self):
        # type: () -> int
        return len(self.frame)

    def room(self, most):
        # type: (int) -> int
        """How many bytes of credit the next fragment takes."""
        return len(self.frame)

    def take(self, most):
        # type: (int) -> Tuple[List[Any], int, bool]
        """The fragment: its buffers, what credit it takes, and whether that was all."""
        self.passed()
        return [self.frame], len(self.frame), True


class CreditQueue(FairQueue):
    """A link's queue, once there was something on it that needs credit.

    Args:
        old: the queue that it replaces.
        now: gives the time, in seconds.
        on_relieved: called with (link, flow) when a flow that was stopped there may go on.
    """

    def __init__(self, old, now, on_relieved):
        # type: (FairQueue, Callable[[], float], Callable[[Any, Flow], Any]) -> None
        FairQueue.__init__(self)
        self.now = now
        self.on_relieved = on_relieved
        self.under_way = self.stops = 0
        self.trip_s = late.trip_s_max
        self.rate = Window()    # of all flows
        self.crowd = compat.deque()  # type: Any        # flows that had their turn, and the link's bound was reached ...
        self.unbegun = compat.deque()  # type: Any      # ... or that of messages that have begun
        self.open = {}  # type: Dict[Any, int]          # (source, destination) -> messages that have begun ...
        self.begun = 0                                  # ... and all of them
        self.control = old.control
        self.came = len(old.control)    # frames of control, so far; what has gone of them; bytes of these since a flow's turn
        self.went = self.ahead = 0
        self.size = sum(map(len, old.control))
        for flow in old.turns:
            for frame in old.flows[flow]:
                self.push(flow, 0, frame)

    def push(self, flow, flags, frame):
        # type: (Flow, int, Any) -> None
        """Append bytes, or what is cut into fragments when it goes: ``Passing``, or like it."""
        self.size += len(frame)
        if flags & CONTROL:
            self.control.append(frame)
            self.came += 1
            return
        waiting = self.flow(flow)
        if not waiting.frames:
            waiting.after = self.came
        waiting.frames.append(frame)
        if isinstance(frame, bytes):
            waiting.plain += len(frame)
        if not waiting.turn and not waiting.short and not waiting.stopped:
            waiting.turn = True
            self.turns.append(waiting)

    def flow(self, key):
        # type: (Flow) -> Waiting
        """What is known of a flow."""
        found = self.flows.get(key)
        if found is None:
            found = self.flows[key] = Waiting(key)
        return found

    def take(self, most):
        # type: (int) -> Any
        """Take those whose turn it is and that have credit. Returns bytes, or ``Buffers``; empty if nothing can go now."""
        found = []  # type: List[Any]
        small = []  # type: List[bytes]     # these are joined: a system call takes 1,024 buffers
        while self.size and most > 0:
            if self.control and not (self.ahead > late.control_bytes_ahead and self.turns and self.turns[0].after <= self.went):
                small.append(self.control.popleft())
                self.went += 1
                self.size -= len(small[-1])
                most -= len(small[-1])
                self.ahead += len(small[-1])
            elif self.turns:
                self.ahead = 0
                for buffer in self._next(self.turns.popleft()):
                    most -= len(buffer)
                    if isinstance(buffer, bytes):
                        small.append(buffer)
                    else:
                        found += b"".join(small), buffer
                        small = []
            else:
                break
        if small:
            found.append(b"".join(small))
        return Buffers(found) if len(found) > 1 else b"".join(found)

    def _next(self, waiting):
        # type: (Waiting) -> List[Any]
        """What of a flow may go when its turn has come."""
        frame = waiting.frames[0]
        before = len(frame)
        if waiting.stopped:
            waiting.turn = False
            return []
        if isinstance(frame, bytes):
            buffers, ended = [frame], True
            waiting.plain -= before
            if waiting.source and waiting.plain < late.flow_bytes_low:
                self.on_relieved(waiting.source, waiting.key)
                waiting.source = None
        else:
            most = self._fragment_bytes(waiting)
            if not self._may_send(waiting, frame, frame.room(most)):
                return []
            if frame.first and not waiting.open:
                waiting.open = True
                pair = waiting.key[:2]
                self.open[pair] = self.open.get(pair, 0) + 1
                self.begun += 1
            buffers, count, ended = frame.take(most)
            now = self.now()
            waiting.window.send(count, now)
            self.rate.send(count, now)
            self.under_way, waiting.sent = self.under_way + count, waiting.sent + count
            if not waiting.probe:
                waiting.probe = waiting.sent, now
        self.size -= before if ended else before - len(frame)
        if ended:
            waiting.frames.popleft()
        if waiting.frames:
            waiting.after = self.came
            self.turns.append(waiting)
        else:
            waiting.turn = False
            self._drop_if_done(waiting)
        return buffers

    def _may_send(self, waiting, frame, count):
        # type: (Waiting, Any, int) -> bool
        """Is there credit? If not, the flow is put where it is found when there is."""
        window = waiting.window
        if frame.first and not waiting.open and (
                self.open.get(waiting.key[:2], 0) >= late.begun_by_pair_max or self.begun >= late.begun_max):
            self.unbegun.append(waiting)
        elif window.under_way and window.under_way + count > max(window.size, 2 * count):
            window.full = waiting.short = True
            waiting.turn = False
        elif window.under_way and self.under_way + count > late.window_bytes_max:
            self.crowd.append(waiting)
        else:
            return True
        return False

    def _fragment_bytes(self, waiting):
        # type: (Waiting) -> int
        """The largest body that a flow's next fragment may have: less where the link is slow, or many flows share it."""
        if self.begun > late.begun_small or self.trip_s == late.trip_s_max:     # a large one would take long by itself
            return late.fragment_bytes_min
        if not self.rate.rate:
            return limits.frame_bytes_max
        size = self.rate.rate * late.fragment_s / max(1, self.begun // 4)
        return min(limits.fragment_bytes_max, max(late.fragment_bytes_min, int(size)))

    def acknowledge(self, key, count):
        # type: (Flow, int) -> bool
        """The neighbour has taken so many bytes of a flow. Returns False if they weren't under way. Late news is no news."""
        waiting = self.flows.get(key)
        if waiting is None:
            return True
        if not 0 < count <= waiting.window.under_way:
            return False
        now = self.now()
        waiting.arrived += count
        if waiting.probe and waiting.arrived >= waiting.probe[0]:
            self.trip_s = min(self.trip_s, now - waiting.probe[1])
            waiting.probe = None
        waiting.window.acknowledge(count, now, self.trip_s)
        self.rate.acknowledge(count, now, self.trip_s)
        self.under_way -= count
        if not waiting.window.under_way and not (waiting.frames and getattr(waiting.frames[0], "first", True) is False):
            self._close(waiting)
        self._take_up(waiting)
        if self.crowd:
            self._again(self.crowd)
        self._drop_if_done(waiting)
        return True

    def _take_up(self, waiting):
        # type: (Waiting) -> None
        """Put a flow in line again, if it waited for credit of its own."""
        if waiting.short:
            waiting.short, waiting.turn = False, True
            self.turns.append(waiting)

    def _again(self, flows):
        # type: (Any) -> None
        self.turns.extend(flows)
        flows.clear()

    def _close(self, waiting):
        # type: (Waiting) -> None
        if waiting.open:
            waiting.open = False
            pair = waiting.key[:2]
            self.begun -= 1
            self._again(self.unbegun)
            self.open[pair] -= 1
            if not self.open[pair]:
                del self.open[pair]

    def _drop_if_done(self, waiting):
        # type: (Waiting) -> None
        """Keep nothing of a flow on which nothing happens."""
        if not (waiting.frames or waiting.window.under_way or waiting.stopped or waiting.open):
            self.flows.pop(waiting.key, None)

    def stop(self, key, on):
        # type: (Flow, bool) -> bool
        """The neighbour wants a flow to stop, or to go on. Returns False if it has stopped too many."""
        if on:
            waiting = self.flow(key)
            if not waiting.stopped:
                if self.stops >= late.stopped_flows_max:
                    self._drop_if_done(waiting)
                    return False
                waiting.stopped = True
                self.stops += 1
                self.size += 1      # so that a link doesn't take this queue for empty, and send past it
        elif key in self.flows and self.flows[key].stopped:
            waiting = self.flows[key]
            waiting.stopped = False
            self.stops, self.size = self.stops - 1, self.size - 1
            if waiting.frames and not waiting.turn and not waiting.short:
                waiting.turn = True
                self.turns.append(waiting)
            self._drop_if_done(waiting)
        return True

    def forget(self, ids, own=None):
        # type: (Collection[int], Optional[int]) -> None
        """Drop the flows from and to nodes that are gone, and take back their credit. What was to pass on counts as passed.

        Args:
            own: on the link upwards: this node's id. What others send there to such nodes goes on: who is above answers it.
        """
        for key in [key for key in self.flows if key[0] in ids or key[1] in ids and own in (None, key[0])]:
            waiting = self.flows.pop(key)
            if waiting.source:
                self.on_relieved(waiting.source, key)
            for frame in waiting.frames:
                if isinstance(frame, Passing):
                    frame.passed()
            self.size -= sum(map(len, waiting.frames)) + waiting.stopped
            self.under_way, self.stops = self.under_way - waiting.window.under_way, self.stops - waiting.stopped
            self.rate.under_way -= waiting.window.under_way
            self._close(waiting)
            for line in self.turns, self.crowd, self.unbegun:
                if waiting in line:
                    line.remove(waiting)
        self._again(self.crowd)
