"""The core of a node: messages in and out, replies, routes and losses. The controller has one, too.

It knows ids, links and handles, not what a call or a module is: those register themselves in ``handlers``. Handlers and
reply callbacks run on whichever thread reads the link, so they are short and never block.
"""
import itertools
import sys

from ramet.kernel import compat, limits, values
from ramet.kernel.faults import ProtocolError, ValueNotPortableError
from ramet.kernel.frames import CONTINUES, CONTROL, DEAD, HEADER_BYTES, LONG, MAGIC, pack_header
from ramet.kernel.links import Waiter
from ramet.kernel.routing import Routes

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

    from ramet.kernel.frames import Header
    from ramet.kernel.links import Link
    from ramet.kernel.loop import Loop

    ReplyCallback = Callable[[int, Any], Any]

# well-known handles; docs/protocol.md has a section for each
CONFIG, HELLO, CALL, CANCEL, LOST, ROUTE, GROW, END, MODULES, MODULE_REQUEST, OUTPUT, LOG, WISH, INSTALLED = range(1, 15)
TAKEN, KEEPALIVE = 18, 19


class Message(object):
    """What a handler is given. ``body`` isn't decoded: that is for the thread that needs it."""

    __slots__ = ("src", "authority", "handle", "reply_to", "flow", "link", "body")

    def __init__(self, src, authority, handle, reply_to, flow, link, body):
        # type: (int, int, int, int, int, Any, Any) -> None
        self.src = src
        self.authority = authority
        self.handle = handle
        self.reply_to = reply_to
        self.flow = flow
        self.link = link
        self.body = body


class Core(object):
    """One node's messages.

    Args:
        id: of this node; 0 is the controller.
        ancestors: from the parent up to the controller.

    Attributes:
        handlers: well-known handle -> function of a Message.
        descendants: what is known of them (``descent``), once there can be any.
        refused: how many frames were dropped since they broke the rules.
    """

    def __init__(self, id, ancestors, loop):
        # type: (int, Iterable[int], Loop) -> None
        self.id = id
        self.loop = loop
        self.routes = Routes(id, ancestors)
        self.descendants = None  # type: Any
        self.handlers = {}  # type: Dict[int, Callable[[Message], Any]]
        self.pending = {}  # type: Dict[int, Tuple[int, ReplyCallback]]
        self.handles = itertools.count(limits.first_free_handle)
        self.long = None  # type: Any       # made for the first long message: see ``longs``
        self.refused = 0
        self.messages_in = self.messages_out = 0
        self.threads = compat.thread_local()
        self.waiters = []  # type: List[Any]     # weak references: a thread's own goes with the thread

    # ------------------------------------------------------------------ sending

    def send(self, dst, handle, chunks, reply_to=0, flags=0, flow=0, later=False):
        # type: (int, int, Sequence[Any], int, int, int, bool) -> Any
        """Send a message. Any thread.

        Returns:
            The link; None if there is no way to that node.

        Raises:
            ValueNotPortableError: it is larger than what a node takes.
        """
        size = sum(map(len, chunks))
        link = self.routes.link_to(dst)
        if dst == self.id or link is None or link.dead:
            return None
        self.messages_out += 1
        if size > limits.plain_bytes_max and (size > limits.frame_bytes_max or (
                self.long and not flags & CONTROL and handle != MODULES)):     # they bring what counts
            self.longs().send(link, (flags, flow, dst, self.id, self.id, handle, reply_to), chunks)
        else:
            id = self.id
            frame = [pack_header(MAGIC, flags, flow, dst, id, id, handle, reply_to, size)]
            frame += chunks
            link.send((id, dst, flow), flags, b"".join(frame), later)
        return link

    def tell(self, dst, handle, value):
        # type: (int, int, Any) -> Any
        """Send a control message with a plain value."""
        return self.send(dst, handle, values.encode(value), 0, CONTROL)

    def ask(self, dst, handle, chunks, callback, flags=0, flow=0, later=False):
        # type: (int, int, Sequence[Any], ReplyCallback, int, int, bool) -> int
        """Send a message that wants a reply.

        Args:
            callback: called exactly once with (flags, body): the reply, or DEAD and the reason as UTF-8.

        Returns:
            The reply handle, for ``forget``.
        """
        reply_to = next(self.handles)
        self.pending[reply_to] = dst, callback
        try:
            link = self.send(dst, handle, chunks, reply_to, flags, flow, later)
        except ValueNotPortableError:
            del self.pending[reply_to]
            raise
        if not link or link.dead:
            self.resolve(reply_to, DEAD, b"there is no way to node %d" % dst)
        return reply_to

    def request(self, dst, handle, value, flags=0):
        # type: (int, int, Any, int) -> Tuple[int, Any]
        """Ask and wait: (flags, body). For threads that may block."""
        got = []  # type: List[Any]
        waiter = self.waiter()

        def done(flags, body):
            # type: (int, Any) -> None
            got.append((flags, body))
            waiter.wake()
        self.ask(dst, handle, values.encode(value), done, flags)
        self.wait(lambda: got, self.routes.link_to(dst))
        return got[0]  # type: ignore[no-any-return]

    def reply(self, message, chunks, flags=0, later=False):
        # type: (Message, Sequence[Any], int, bool) -> None
        """Answer a message, if it wants an answer."""
        if message.reply_to:
            self.send(message.src, message.reply_to, chunks, 0, flags, message.flow, later)

    # ------------------------------------------------------------------ waiting

    def waiter(self):
        # type: () -> Waiter
        """The calling thread's own."""
        try:
            return self.threads.waiter  # type: ignore[no-any-return]
        except AttributeError:
            waiter = self.threads.waiter = Waiter()
            self.waiters.append(compat.weak(waiter))
            return waiter

    def wait(self, ready, link, seconds=None):
        # type: (Callable[[], Any], Optional[Link], Optional[float]) -> Any
        """Block until ``ready()``, which who makes it true follows by ``waiter().wake()``; read ``link`` meanwhile if free.

        Returns:
            What ``ready()`` last said: false only when the seconds have passed.
        """
        waiter = self.waiter()
        end = None if seconds is None else self.loop.now() + seconds
        if link:
            kept = link.borrower is waiter
            if kept or link.borrow(waiter):
                try:
                    link.read_until(ready, seconds)
                finally:
                    if not kept or link.dead:   # its end is told when nobody reads it
                        link.give_back(waiter)
        while not ready():
            left = None if end is None else end - self.loop.now()
            if left is not None and left <= 0:
                break
            waiter.wait(left)
        return ready()

    # ------------------------------------------------------------------ receiving

    def on_frame(self, link, header, frame):
        # type: (Link, Header, bytes) -> None
        """Deliver a frame, or pass it on. The rules of ``routing`` are applied here, before anything else."""
        _, flags, flow, dst, src, authority, handle, reply_to, _ = header
        routes = self.routes
        if not routes.behind(src, link) or src != authority and not routes.behind(authority, link):
            self.refused += 1
        elif dst == self.id:
            try:
                body = frame[HEADER_BYTES:] if not flags & LONG else self.longs().add(link, header, frame)
                if body is not None:
                    self.messages_in += 1
                    if handle >= limits.first_free_handle:
                        self._on_reply(link, src, handle, flags, body)
                    else:
                        self.handlers[handle](Message(src, authority, handle, reply_to, flow, link, body))
            except Exception:
                self.refused += 1       # a handler that stumbles over what came, or has no memory for it, or no thread
                error = sys.exc_info()[1]
                text = ("refused: %s" % error).encode("utf-8", "replace")
                if handle >= limits.first_free_handle:
                    self._on_reply(link, src, handle, DEAD, text)
                else:
                    self._dead(src, reply_to, text)
                if not isinstance(error, (ProtocolError, ImportError, LookupError, TypeError, ValueError)):
                    self.loop.on_error(error)  # type: ignore[arg-type]
        else:
            out = routes.link_to(dst)
            if out is link or routes.one_way and routes.parent not in (link, out):
                out = None
            if flags & LONG:
                frame = self.longs().passing(link, header, frame, out)
            if out is None:
                if not flags & (DEAD | CONTINUES):
                    self._dead(src, reply_to, b"there is no node %d" % dst)
            else:
                if self.descendants:
                    self.descendants.talked(src, dst)
                out.send((src, dst, flow), flags, frame)
                if out.queue.size > limits.passing_bytes_max:
                    self.longs().crowded(link, out, (src, dst, flow))

    def longs(self):
        # type: () -> Any
        """What sends and receives long messages: a late part, which whoever sends one sends before."""
        if not self.long:
            from ramet.kernel import longs
            with self.loop.lock:
                self.long = self.long or longs.Long(self)
        return self.long

    def _on_reply(self, link, src, handle, flags, body):
        # type: (Link, int, int, int, Any) -> None
        entry = self.pending.get(handle)
        if entry:
            if entry[0] == src or flags & DEAD and self.above(src, entry[0]):
                self.resolve(handle, flags, body)
            else:
                self.refused += 1

    def above(self, one, other):
        # type: (int, int) -> Any
        """Whether a node lies above another, or above this one: whose word on that one's fate counts."""
        return one in self.routes.ancestors or self.descendants and self.descendants.above(one, other)

    def resolve(self, handle, flags, body):
        # type: (int, int, Any) -> None
        """Give a reply to who waits for it, unless he has got one."""
        entry = self.pending.pop(handle, None)
        if entry:
            entry[1](flags, body)

    def _dead(self, src, reply_to, reason):
        # type: (int, int, bytes) -> None
        """Tell a sender that its message can't be delivered."""
        if reply_to:
            self.send(src, reply_to, [reason], 0, DEAD | CONTROL)
