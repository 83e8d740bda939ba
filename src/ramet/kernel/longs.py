"""Long messages, and credit: what a node's core does with them. Late part of the kernel.

Who sends a node a long message sends it this part before. Any thread; ``write`` is called by ``links``.
"""
import io
import os
import struct
import sys
import time

from ramet.kernel import compat, inlets, limits, values
from ramet.kernel import limits_late as late
from ramet.kernel.core import LOG, LOST, OUTPUT, TAKEN
from ramet.kernel.credit import Buffers, CreditQueue, Passing
from ramet.kernel.faults import ProtocolError, ValueNotPortableError
from ramet.kernel.fragments import IN_PLACE, PIECE, Assembler, Outgoing
from ramet.kernel.frames import CONTINUES, CONTROL, COUNTED, DEAD, HEADER_BYTES, LONG, MORE

MYPY = False
if MYPY:
    from typing import Any, Callable, Collection, Dict, List, Optional, Sequence, Tuple

    from ramet.kernel.core import Core, Message
    from ramet.kernel.flow import Flow
    from ramet.kernel.frames import Chunk, Header
    from ramet.kernel.links import Link

STOP, GO_ON = 0, -1
TOLD = struct.Struct(">BBIBIBHBi")   # a TAKEN message, as ``values.encode`` doesn't make it: in a tenth of the time


class InTurn(object):
    """A lock that threads get in turn: who has just released it doesn't get it before one who waits for it already.

    A link's ``writing`` with credit. Who reads acknowledgements takes it again and again, and a thread that had to be woken for
    it came too late each time: a call waited while 50 MB passed.

    Args:
        lock: the plain one; who waits for that itself is excluded by this one, too.
    """

    def __init__(self, lock):
        # type: (Any) -> None
        self.lock = lock
        self.next = compat.new_lock()   # whose turn it is when the lock is released

    def __enter__(self):
        # type: () -> None
        with self.next:
            self.lock.acquire()

    def __exit__(self, *_):
        # type: (*Any) -> None
        self.lock.release()


class Long(object):
    """All that a node's core does with long messages, and with credit. Any thread, as the core says."""

    def __init__(self, core):
        # type: (Core) -> None
        self.core = core
        self.assembler = Assembler()
        self.neighbours = {}  # type: Dict[Link, int]
        self.credited = {}  # type: Dict[Link, CreditQueue]     # queues that give credit; a link that is lost has forgotten its own
        self.for_guest = False      # those above this one are none: it is a door's
        self.tells = compat.deque()  # type: Any        # what neighbours are to be told of flows that stop or go on, as decided
        self.telling = compat.new_lock()
        core.handlers.setdefault(TAKEN, self.on_credit)
        core.handlers.setdefault(OUTPUT, _told)
        core.handlers.setdefault(LOG, _told)

    # ------------------------------------------------------------------ sending

    def send(self, link, fields, chunks):
        # type: (Link, Tuple[int, ...], Sequence[Chunk]) -> None
        """Send a long message. One that is control needs no credit: it goes as it is, in frames."""
        message = Outgoing(fields, chunks)
        if len(message) > limits.message_bytes_max:
            raise ValueNotPortableError("a message of %d bytes is over the limit of %d: send it in parts"
                                        % (len(message), limits.message_bytes_max))
        flags, flow, dst, src = fields[:4]
        if not hasattr(link, "writing"):    # to this node itself
            link.send((src, dst, flow), flags, message)
        elif flags & CONTROL:
            with link.writing:
                while len(message) and not link.dead:
                    frame = b"".join(map(bytes, message.take(limits.frame_bytes_max)[0]))
                    link.queue.push((src, dst, flow), flags, frame)
            link.flush()
        else:
            self.queue(link)
            link.send((src, dst, flow), flags | LONG, message)

    def queue(self, link):
        # type: (Link) -> CreditQueue
        """A link's queue, which gives credit from now on."""
        queue = link.queue
        if not isinstance(queue, CreditQueue):
            with link.writing:
                if not isinstance(link.queue, CreditQueue):
                    self.credited[link] = link.queue = CreditQueue(link.queue, self.core.loop.now, self._relieved)
                    if IN_PLACE:
                        link.write = write_pieces
                    link.writing = InTurn(link.writing)
                queue = link.queue
        return queue

    def passing(self, link, header, frame, out):
        # type: (Link, Header, bytes, Optional[Link]) -> Any
        """A fragment on its way to another node, to be put in line for that link; it is dropped if there is none."""
        if header[1] & CONTROL:
            return frame
        key, count = (header[4], header[3], header[2]), len(frame)
        if out is None or out.dead or not hasattr(out, "writing"):  # to this node itself: it refuses that
            return self.took(link, key, count)
        self.queue(out)

        def passed():
            # type: () -> None
            self.core.loop.call_soon(self.took, link, key, count)
        return Passing(frame, not header[1] & CONTINUES, passed)

    # ------------------------------------------------------------------ receiving

    def add(self, link, header, frame):
        # type: (Link, Header, bytes) -> Any
        """A fragment for this node: the message's body when this was the last."""
        _, flags, flow, dst, src, _, handle, _, _ = header
        if not flags & CONTROL:
            self.took(link, (src, dst, flow), len(frame))
        if not flags & (MORE | CONTINUES):
            return frame[HEADER_BYTES:]
        sink, bytes_max, pool = False, limits.message_bytes_max, None   # type: bool, int, Optional[Tuple[Any, int]]
        if handle >= limits.first_free_handle:
            entry = self.core.pending.get(handle)
            sink = not entry or entry[0] != src and not flags & DEAD
        elif handle not in self.core.handlers:
            raise ProtocolError("nothing receives messages at handle %d" % handle)
        elif self.for_guest or src not in self.core.routes.ancestors:
            bytes_max, pool = self._bound(src, handle)
        body = self.assembler.add(header, frame, bytes_max, sink, pool)
        if flags & PIECE and flags & MORE:
            inlets.begin(self.core, link)
        return body

    def _bound(self, src, handle):
        # type: (int, int) -> Tuple[int, Optional[Tuple[Any, int]]]
        """How long a message may be of who isn't above this node; and in which pool its unfinished ones are.

        Whose method takes messages of that handle may know of longer ones, by ``long_max``: a stream's item, a request.
        """
        told = getattr(getattr(self.core.handlers[handle], "__self__", None), "long_max", None)
        bytes_max = told(src, handle) if told else 0
        bytes_max = bytes_max or (late.news_bytes_max if handle in (LOG, LOST) else limits.fragment_bytes_max)
        whose = None if self.for_guest else src     # a guest speaks for any number of nodes
        if bytes_max <= late.untold_bytes_max:
            return bytes_max, (whose, late.untold_bytes_max)
        return bytes_max, (whose, limits.message_bytes_max) if self.for_guest else None

    @staticmethod
    def let_go(message, pause=lambda: time.sleep(0.0001)):
        # type: (Message, Callable[[], Any]) -> None
        """Give back the memory of what a message has brought, now that nobody needs it there: large byte strings in steps.

        As one, 256 MB take 15 ms, in which no other thread of this interpreter runs. A BytesIO that alone holds a byte string
        cuts it where it lies. What a function has kept is left alone.

        Args:
            pause: called between two steps; lets other threads run.
        """
        body, message.body = message.body, b""
        if not IN_PLACE or type(body) is not list:
            return
        from ramet.kernel import compat_late  # not above: on 2.7 that loads this part
        fresh = bytes(bytearray(2))     # nothing else holds it
        while compat_late.CUTS_IN_PLACE and body:
            part = body.pop()
            size = len(part)
            if size > late.let_go_bytes * 2 and sys.getrefcount(part) == sys.getrefcount(fresh):
                file = io.BytesIO(part)
                part = None
                for left in range(size - late.let_go_bytes, 0, -late.let_go_bytes):
                    file.truncate(left)
                    file.getvalue()     # this is what cuts: until then it keeps the room that it had
                    pause()

    # ------------------------------------------------------------------ credit

    def neighbour(self, link):
        # type: (Link) -> int
        """The node at a link's other end."""
        routes = self.core.routes
        if link is routes.parent:
            return routes.ancestors[0]
        if link not in self.neighbours:
            parents = self.core.descendants.parents
            ids = [id for id, up in list(routes.down.items()) if up is link and parents.get(id) == routes.id]
            self.neighbours[link] = ids[0]
        return self.neighbours[link]

    def took(self, link, key, count):
        # type: (Link, Flow, int) -> None
        """Acknowledge what came of a flow on a link: it was delivered, dropped or passed on. Or stop a flow there."""
        if not link.dead:
            try:
                # COUNTED: a node to which credit hasn't mattered loads the part that knows of it.
                src, dst, flow = key
                self.core.send(self.neighbour(link), TAKEN, [TOLD.pack(0x94, 0xce, src, 0xce, dst, 0xcd, flow, 0xd2, count)], 0,
                               CONTROL | COUNTED if count == STOP else CONTROL)
            except IndexError:
                pass    # that node is gone

    def crowded(self, link, out, key):
        # type: (Link, Link, Flow) -> None
        """Much waits for a link. If most of it is of the flow that a frame has come of, stop that where it comes from.

        Who doesn't stop loses its link, if it is below: it would fill this node's memory.
        """
        self.queue(out)
        stop = False
        with out.writing:
            waiting = out.queue.flows.get(key)
            plain = waiting.plain if waiting else 0
            if waiting and plain > late.flow_bytes_max and not waiting.source:
                waiting.source = link
                self.tells.append((link, key, STOP))
                stop = True
        if stop:
            self._tell()
        if plain > late.unstopped_bytes_max and link is not self.core.routes.parent:
            self.core.refused += 1
            self.core.loop.call_soon(link.close, "it sends on what it was told to stop")

    def _relieved(self, link, key):
        # type: (Link, Flow) -> None
        """A flow that was stopped may go on. By who writes the link that it waits for, and has its lock."""
        self.tells.append((link, key, GO_ON))
        self.core.loop.call_soon(self._tell)

    def _tell(self):
        # type: () -> None
        """Tell neighbours what was decided, in that order: one that heard "go on" before the "stop" would stop for ever.

        Any thread: who reads tells it at once, and meanwhile who writes may have decided on the contrary.
        """
        with self.telling:
            while self.tells:
                self.took(*self.tells.popleft())

    def on_credit(self, message):
        # type: (Message) -> None
        """[source, destination, flow, bytes]: from the neighbour, of what it has taken. 0 bytes: stop that flow; -1: go on."""
        link = message.link
        try:
            src, dst, flow, count = values.decode(message.body)
            key = src + 0, dst + 0, flow + 0
            good = message.src == self.neighbour(link) and (count != STOP or self.core.routes.link_to(dst) is link)
        except (TypeError, ValueError, IndexError):
            raise ProtocolError("malformed TAKEN")
        if good:
            queue = self.queue(link)
            with link.writing:
                good = queue.acknowledge(key, count) if count > 0 else queue.stop(key, count == STOP)
        if not good:
            self.core.refused += 1
            return
        link.flush()

    def forget(self, ids):
        # type: (Collection[int]) -> None
        """Nodes are gone: drop what they left unfinished, and what is for them."""
        if self.assembler.partial:
            for id in ids:
                self.assembler.forget(id)
        for link, queue in list(self.credited.items()):     # not of all links: in a storm of losses each is told by itself
            with link.writing:
                queue.forget(ids, self.core.id if link is self.core.routes.parent else None)
            link.flush()
            if link.dead and not queue.flows:   # else it is lost with others, and its turn comes
                self.credited.pop(link, None)
        for link in list(self.neighbours):
            if link.dead:
                self.neighbours.pop(link, None)


# The part that takes what was shown, once it is loaded.
SHOWN = []  # type: List[Any]


def _told(message):
    # type: (Message) -> None
    """The controller has shown output or records, or wants other records. It has sent that part before."""
    if not SHOWN:       # once: in 2.7 an import of what is loaded, too, waits for who imports, and that one for who reads
        from ramet.kernel import shown
        SHOWN.append(shown)
    SHOWN[0].told(message)


def write_pieces(fd, data):
    # type: (int, Any) -> int
    """Like ``os.write``, also for several buffers at once."""
    return os.writev(fd, data.buffers) if isinstance(data, Buffers) else os.write(fd, data)
