"""What comes over a child's link, beside ``Core.on_frame``: what is refused is told; who doesn't read isn't answered for ever;
who goes on and on with what is refused, or sends others more than they take, is read slowly.

Late part of the kernel; in the controller, too. What a node refuses of its children, and of those below them, it tells the
controller, at a bounded rate, since who is refused chooses how often: of each child the first time, and whenever its count has
doubled.

What is refused takes processor time of who refuses it, which shares one interpreter with who makes calls. So a child from which
thousands of such have come has its link read in small parts, with rests between them that are nine times as long as these took.
Honest nodes send nothing that is refused, but what crosses with the news of a loss; that is forgiven: see ``Patience``. Who is
to blame may lie below an honest child. Then it isn't that child that is slowed down: the parent of who is to blame is told, and
does it.

What goes through this node waits here where its way on is slow, or stuck. Credit bounds it, and ``longs.Long.crowded`` stops a
flow that has too much of it; but neither binds who doesn't care for credit, sends control, or has any number of flows. So of
each child it is counted what waits here, and beyond a bound the child's link is hardly read until that is less: nothing is
lost, and what the child still has to send waits there, where the same holds for its own children.

Must not know why something is refused: whoever refuses counts it in ``Core.refused``. Runs on whichever thread reads
a child's link.
"""
from ramet.kernel import compat, compat_late, limits
from ramet.kernel import limits_late as late
from ramet.kernel.faults import ProtocolError
from ramet.kernel.frames import CONTROL
from ramet.kernel.handles import ITSELF, REFUSED
from ramet.kernel.links import Link

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Optional

    from ramet.kernel.core import Core, Message

# How many bytes of answers may wait for a child that sends questions and doesn't read. All nodes always read.
unread_bytes_max = 16 << 20

# How many refused frames of one node are forgiven at once, a third of a second's work, and how many a second. A large one
# counts for one more with each so many bytes.
forgiven_max = 16384
forgiven_bytes = 16384
forgiven_per_s = 400

# The same of what may be honest: frames of a node that is gone, which crossed with the news of that, 2 MiB of small ones in
# ssh; or that come from below a child that was told to slow them down, which lets 200 KB/s of them through.
crossing_max = 65536
crossing_per_s = 10000

# Of how many nodes below a child it is counted at a time.
counted_max = 1000

# How much of what comes from a child, and from all below it, may wait here for others: then its link is hardly read. From half
# of that on the parent of who sends it, if that is below the child, is told, as for what is refused: so many bytes are one.
# A frame counts for more than its bytes: it is an object, in a queue. And control for much more: others wait for all of it.
held_bytes_max = 128 << 20
held_bytes_blamed = 256
held_frame_bytes = 400
held_control_factor = 16

# How often at most it is made sure that what is counted is held still, in seconds.
collect_s = 1.0

# How a link is read slowly: so many bytes at a time, then a rest; so long by itself, or longer where these took long.
slow_bytes = 4096
rest_s_min = 0.02
rest_s_max = 1.0
rest_share = 9


class Patience(object):
    """How much is forgiven: so many at once, and so many a second. Pure."""

    def __init__(self, most, per_s):
        # type: (int, float) -> None
        self.most = most
        self.per_s = per_s
        self.left = most + 0.0
        self.at = 0.0

    def renew(self, now):
        # type: (float) -> bool
        """Time has passed. Returns whether all is forgiven."""
        self.left = min(self.most, self.left + max(0.0, now - self.at) * self.per_s)
        self.at = now
        return self.left >= self.most

    def take(self, count, now):
        # type: (int, float) -> bool
        """Forgive so many more. Returns whether it is at its end."""
        self.renew(now)
        self.left = max(0.0, self.left - count)
        return self.left < 1

    def end(self, now):
        # type: (float) -> None
        """Forgive nothing for now."""
        self.left = 0.0
        self.at = now


class Counted(bytes):
    """A frame that waits here to go on. When it has gone, or was dropped, wherever that happens, it leaves the account."""

    gone = None  # type: Any
    weight = 0

    def __del__(self):
        # type: () -> None
        self.gone.append(self.weight)


class Watcher(object):
    """Takes the frames of one child. The controller says itself what it refuses.

    Args:
        child: its id.

    Attributes:
        slow: is its link to be read slowly?
        held: what of its frames waits here, but for what has gone since: that is in ``gone``, by whichever thread wrote it.
    """

    def __init__(self, core, child):
        # type: (Core, int) -> None
        self.core = core
        self.child = child
        self.lock = compat.new_lock()
        self.refused = 0
        self.owed = self.written = self.held = 0
        self.collected = 0.0    # when that was
        self.gone = compat.deque()  # type: Any
        self.slow = False
        self.own = Patience(forgiven_max, forgiven_per_s)
        self.crossing = Patience(crossing_max, crossing_per_s)
        self.below = {}  # type: Dict[int, Patience]

    def on_frame(self, link, header, frame):
        # type: (Any, Any, bytes) -> None
        """See ``Link``."""
        core = self.core
        if header[3] != core.id:
            frame = self.passing(link, header, frame)
        refused, waiting = core.refused, link.queue.size
        core.on_frame(link, header, frame)
        count = core.refused - refused
        if count:
            if core.id:
                self.tell(link, header)
            if count <= 2:      # more are never of one frame: another thread has refused some of another link
                self.blame(link, header[4], header[5], header[8])
        more = link.queue.size - waiting
        if more > 0:
            self.answered(link, more)

    def passing(self, link, header, frame):
        # type: (Any, Any, bytes) -> bytes
        """A frame for another node. Where much waits on the way to that one already, it is counted as long as it waits."""
        _, flags, _, dst, src, authority, _, _, _ = header
        out = self.core.routes.link_to(dst)
        if out is None or out.queue.size <= (limits.passing_bytes_max if flags & CONTROL else late.window_bytes_max):
            return frame
        held = Counted(frame)
        held.gone = self.gone
        held.weight = held_frame_bytes + len(frame) * (held_control_factor if flags & CONTROL else 1)
        self.held += held.weight
        if self.full(held_bytes_max // 2):
            id = self.culprit(link, src, authority)
            if id not in (None, self.child):
                self.blame_below(id, held.weight // held_bytes_blamed)
            if self.full():
                self.slow = True
        return held

    def full(self, most=None):
        # type: (Optional[int]) -> bool
        """Does more of the child's frames wait here than may? By who reads its link."""
        bound = most or held_bytes_max
        now = self.core.loop.now() if self.held > bound else 0.0
        if now > self.collected + collect_s:
            self.collected = now    # before it is believed: a slow link makes little that would have garbage collected
            compat_late.collect()
        while self.gone:
            self.held -= self.gone.popleft()
        return self.held > bound

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
        if dst in (core.id, ITSELF) or not (core.routes.behind(src, link) and core.routes.behind(authority, link)):
            with self.lock:
                count = self.refused = self.refused + 1
            if not count & (count - 1):
                core.tell(0, REFUSED, [self.child, count, handle, dst, src])

    def blame(self, link, src, authority, size):
        # type: (Any, int, int, int) -> None
        """A frame of so many bytes was refused, or should not have been sent: whose patience with whom does it cost?"""
        now = self.core.loop.now()
        count = 1 + size // forgiven_bytes
        id = self.culprit(link, src, authority)
        if id == self.child:
            end = self.own.take(count, now)
        else:
            end = self.crossing.take(count, now)
            if id is not None:
                self.blame_below(id, count)
        if end:
            self.slow_down()

    def blame_below(self, id, count):
        # type: (int, int) -> None
        """It costs so much of the patience with a node below the child. At its end that one's parent is told."""
        if id not in self.below and len(self.below) >= counted_max:
            self.below.clear()
        if self.below.setdefault(id, Patience(forgiven_max, forgiven_per_s)).take(count, self.core.loop.now()):
            del self.below[id]
            parent = self.core.descendants.parents.get(id)
            if parent is not None:
                self.core.tell(parent, REFUSED, [id])

    def culprit(self, link, src, authority):
        # type: (Any, int, int) -> Optional[int]
        """Who has sent what was refused. None: somebody who is gone by now, or nobody; that can't be known."""
        routes = self.core.routes
        for id in src, authority:
            if not routes.behind(id, link):     # only the child itself lets that through
                return self.child if id == routes.id or id in routes.ancestors or id in routes.down else None
        return src

    def slow_down(self):
        # type: () -> None
        """Have the link read slowly, until nothing was refused for a while. Any thread."""
        self.own.end(self.core.loop.now())
        self.slow = True

    def again(self):
        # type: () -> bool
        """Whether it is still to be read slowly."""
        self.slow = self.full() or not self.own.renew(self.core.loop.now())
        return self.slow


def overran(message):
    # type: (Message) -> None
    """A message was taken, but its sender was told not to send so much. By who reads its link, amid that frame."""
    watcher = getattr(message.link, "watcher", None)    # this node's link to itself has none
    if watcher:
        watcher.blame(message.link, message.src, message.authority, len(message.body))


class ChildLink(Link):
    """The link to a child. While its watcher says so it is read slowly: nobody reads it while it rests. Who gives it back lets
    the keeper have one part of it before that rests.

    Attributes:
        until: the end of the rest; 0: it doesn't rest.
    """

    def __init__(self, core, child, on_lost):
        # type: (Core, int, Callable[[Any, str], Any]) -> None
        self.watcher = Watcher(core, child)
        self.until = 0.0
        self.timer = None  # type: Any      # when the keeper looks whether the rest is over
        Link.__init__(self, core.loop, self.watcher.on_frame, on_lost)

    def _read(self):
        # type: () -> None
        """As ever; or little of it, and then rest. By who has the lock ``reading``."""
        if not self.watcher.slow or not self.watcher.again():
            Link._read(self)
            return
        began = self.loop.now()
        if began < self.until:
            return
        self.until = 0.0
        read = self.read

        def read_little(fd, most):
            # type: (int, int) -> Any
            return read(fd, min(most, slow_bytes))
        self.read = read_little     # what is read into place still is: see ``inlets``
        Link._read(self)
        self.read = read
        now = self.loop.now()
        self.until = now + (rest_s_max if self.watcher.full() else min(max(rest_s_min, (now - began) * rest_share), rest_s_max))
        if self.borrower is None:
            self._rest()

    def _rest(self):
        # type: () -> None
        """Have the keeper look away for so long. On the keeper, which has the lock ``reading``."""
        if not self.dead:
            self.loop.pause(self.fd_in, True)
            if self.timer:
                self.timer.cancel()
            self.timer = self.loop.call_later(max(0.0, self.until - self.loop.now()), self._go_on)

    def _go_on(self):
        # type: () -> None
        """Read again if it has rested. On the keeper."""
        if self.reading.acquire(False):     # else it is borrowed, and given back in its time
            try:
                if self.until > self.loop.now():
                    self._rest()
                elif not self.dead:
                    self.until = 0.0
                    self.loop.pause(self.fd_in, False)
            finally:
                self.reading.release()

    def _readable(self):
        # type: () -> None
        """There is something to read, or its end. While it rests only that is told: what is left is read at once."""
        if self.until:
            self.until = 0.0
            borrower = self.borrower
            if borrower:
                borrower.wake()
        Link._readable(self)

    def read_until(self, ready, seconds=None):
        # type: (Callable[[], Any], Optional[float]) -> None
        """As ever. While the link rests, who has borrowed it waits without it."""
        end = None if seconds is None else self.loop.now() + seconds
        while not self.dead:
            left = None if end is None else end - self.loop.now()
            Link.read_until(self, lambda: self.until or ready(), left)
            if ready() or end is not None and end <= self.loop.now():
                return
            rest = self.until - self.loop.now()     # it may have been ended meanwhile
            if rest <= 0:
                self.until = 0.0
            else:
                self.borrower.wait(rest if end is None else min(rest, end - self.loop.now()))  # type: ignore[union-attr]
