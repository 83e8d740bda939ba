"""A *door*: a node that lets other programs of this account, *guests*, ask services of its tree, and nothing else of it.

To its own tree a door is a node like any other: what it may ask there is what services allow it, and it commands nobody. To
each guest's tree it is a node, too, that runs no code: it has a ``Core`` of its own for each (a *room*), without handlers for
anything but requests of services. So a guest has no number in the tree, no link into it, and no say. What it asks for is asked
anew, in the door's name; arguments and results are passed on as the bytes that they are: nothing of them is decoded here.

A name is listened at as by a kept node (``held``, ``meeting``), and a guest comes as to one (``coming_back``): it says CONFIG,
and so what it calls the door. Late part of the kernel. All but ``begin`` and answers runs on the keeper, which asks nobody.
"""
import os
import sys

from ramet.kernel import compat, compat_late, core, descent, failures, links, meeting, proxies, start, streams, values
from ramet.kernel.errors import ServiceError
from ramet.kernel.faults import CallCancelled, Error, ProtocolError
from ramet.kernel.frames import CONTROL, DEAD, ERROR, HEADER_BYTES, unpack_header

MYPY = False
if MYPY:
    from typing import Any, Dict, List

guests_max = 16
# Who knocks must have said CONFIG within this time; it has no more than so many bytes, and lies no deeper in its tree.
knock_within_s = 30.0
config_bytes_max = 1 << 16
ancestors_max = 64
# Of one guest: requests that aren't answered, their bytes (a single one may be larger), and answers that it doesn't read.
requests_max = 64
asked_bytes_max = 8 << 20
unread_bytes_max = 16 << 20
early_max = 1000

# What the keeper will need, which can't ask for anything.
needed = ("credit", "fragments", "inlets", "limits_late", "longs")

WHY = "a door lets guests ask services of its tree, and nothing else: no calls, no children"


def begin(target, services, kernel):
    # type: (str, Dict[str, int], str) -> str
    """Be a door from now on. Called by the controller, on the main lane.

    Args:
        target: a name or an absolute path; see ``meeting.Place``.
        services: name of each service that guests may ask -> the id of the node that has it.
        kernel: what names this version of the kernel.

    Returns:
        The socket's path.

    Raises:
        Error: nothing can listen there.
    """
    node = start.node  # type: Any
    if not sys.platform.startswith("linux"):
        raise Error("guests can be let in on Linux only: other systems don't tell in the same way who is at a socket's end")
    if not node.core.descendants:
        descent.Losses(node.core)       # so that it hears of the loss of those that it asks
    for part in needed:
        __import__("ramet.kernel." + part)
    place, sock, inode = meeting.listen_at(target)
    compat_late.at_exit(lambda: meeting.remove(place, inode))
    node.door = door = Door(node, sock, services, kernel)
    node.loop.call_soon(node.loop.watch, sock.fileno(), door.accept)
    return place.path


class Door(object):
    """Who knocks, and who is in."""

    def __init__(self, node, sock, services, kernel):
        # type: (Any, Any, Dict[str, int], str) -> None
        self.node = node
        self.sock = sock
        self.services = services
        self.greeting = ("RAMET-KEPT %s %x %s\n" % (kernel, sys.hexversion, compat.IMPLEMENTATION[0].lower())).encode("ascii")
        self.knocking = {}  # type: Dict[Any, List[Any]]    # sockets of those who haven't said CONFIG: timer, what they said
        self.rooms = {}  # type: Dict[Any, Room]    # by their links

    def accept(self):
        # type: () -> None
        """Somebody knocks."""
        try:
            sock, _ = self.sock.accept()
        except (OSError, IOError):
            return      # who knocked is gone
        try:
            if meeting.peer(sock)[1] == os.geteuid() and len(self.knocking) < meeting.knocking_max:
                sock.setblocking(False)
                compat.set_cloexec(sock.fileno())
                sock.send(self.greeting)
                self.node.loop.watch(sock.fileno(), lambda: self.knocked(sock))
                self.knocking[sock] = [self.node.loop.call_later(knock_within_s, self.drop, sock), b""]
                return
        except (OSError, IOError):
            pass        # the same
        sock.close()

    def drop(self, sock):
        # type: (Any) -> None
        """Listen no longer to one who has knocked."""
        if sock in self.knocking:
            self.knocking.pop(sock)[0].cancel()
            self.node.loop.forget(sock.fileno())
            sock.close()

    def knocked(self, sock):
        # type: (Any) -> None
        """One says who he is."""
        if sock not in self.knocking:
            return
        try:
            data = sock.recv(65536)
            if not data:
                raise IOError("it is gone")
            said = self.knocking[sock][1] = self.knocking[sock][1] + data
            if len(said) < HEADER_BYTES:
                return
            header = unpack_header(said)
            size = HEADER_BYTES + header[8]
            if header[6] != core.CONFIG or size > config_bytes_max:
                raise ProtocolError("malformed CONFIG")
            if len(said) < size:
                return
            config = values.decode(said[HEADER_BYTES:size])
            id, ancestors = config["id"], config["ancestors"]
            if len(ancestors) > ancestors_max or not ancestors or any(not _is_id(one) for one in ancestors + [id]):
                raise ProtocolError("malformed CONFIG")
            full = len(self.rooms) >= guests_max
            sock.send(b"no: it has %d guests, and lets no more in\n" % guests_max if full else b"ok guest\n")
            if not full:
                fd = os.dup(sock.fileno())      # 2.7's sockets can't give their descriptor away
                compat.set_cloexec(fd)
                compat.set_blocking(fd, False)
                Room(self, id, ancestors, fd, said[size:])
        except (Error, OSError, IOError, TypeError, KeyError, ValueError):
            pass        # it is gone, or speaks something else
        self.drop(sock)


def _is_id(one):
    # type: (Any) -> bool
    return type(one) in compat.integers and 0 <= one < 1 << 32


class Room(object):
    """One guest, and what it has asked for.

    Attributes:
        asked: (source, reply handle) -> [handle of ours, who is asked, bytes] of what isn't answered.
        early: of CANCELs that came before what they cancel.
        owed: bytes of answers that the guest hasn't read.
    """

    def __init__(self, door, id, ancestors, fd, data):
        # type: (Door, int, List[int], int, bytes) -> None
        self.door = door
        self.tree = door.node.core
        self.core = ours = core.Core(id, ancestors, door.node.loop)
        self.lock = compat.new_lock()
        self.asked = {}  # type: Dict[Any, List[Any]]
        self.early = {}  # type: Dict[Any, bool]
        self.bytes = self.owed = self.written = 0
        ours.handlers.update({
            proxies.SERVICE: self.on_request, core.CANCEL: self.on_cancel, core.CALL: self.refuse, core.GROW: self.refuse,
            core.KEEPALIVE: lambda message: ours.reply(message, [], CONTROL), core.END: self.on_end,
            core.MODULES: bool})
        ours.longs()
        self.link = ours.routes.parent = links.Link(door.node.loop, self.on_frame, self.on_lost)
        door.rooms[self.link] = self
        ours.tell(0, core.HELLO, start.facts())
        self.link.open(fd, fd, data)

    def on_frame(self, link, header, frame):
        # type: (Any, Any, bytes) -> None
        """See ``Link``. Only the guest and those that it is reached through speak here, each for itself.

        What is for another node is answered: it may be for a child that the guest believes to be growing here.
        """
        _, _, _, _, src, authority, _, _, _ = header
        if src == authority and src in self.core.routes.ancestors:
            self.core.on_frame(link, header, frame)
        else:
            self.core.refused += 1
        self._owes(0)
        if self.owed > 2 * unread_bytes_max:
            raise ProtocolError("it goes on asking, and doesn't read the answers")

    def on_lost(self, link, reason):
        # type: (Any, str) -> None
        """The guest is gone: what it has asked for is given up."""
        self.door.rooms.pop(link, None)
        with self.lock:
            asked, self.asked = self.asked, {}
        for handle, whom, _ in asked.values():
            self._give_up(handle, whom)
            self.tree.pending.pop(handle, None)

    def on_end(self, message):
        # type: (core.Message) -> None
        """It leaves. The door stays."""
        if not values.decode(message.body):
            self.link.close("it has left")

    def refuse(self, message):
        # type: (core.Message) -> None
        """What is no request."""
        self._answer(message, failures.pack(Error(WHY)), ERROR | CONTROL if message.handle == core.GROW else ERROR)

    # ------------------------------------------------------------------ requests

    def on_request(self, message):
        # type: (core.Message) -> None
        """Take a request, and ask for it anew."""
        key, size = (message.src, message.reply_to), len(message.body)
        try:
            whom, chunks = self._anew(message.body)
            with self.lock:
                if self.early.pop(key, False):
                    raise CallCancelled("cancelled before it began")
                if len(self.asked) >= requests_max or self.asked and self.bytes + size > asked_bytes_max or key in self.asked:
                    raise ServiceError("too many requests of this guest wait: ask again later")
                if self.owed > unread_bytes_max:
                    raise ServiceError("too much is asked for, and isn't read: ask again later")
                self.asked[key] = entry = [0, whom, size]
                self.bytes += size
        except Error:
            self._answer(message, failures.pack(sys.exc_info()[1]), ERROR)
            return

        def answered(flags, body):
            # type: (int, Any) -> None
            with self.lock:
                self.bytes -= size
                known = self.asked.get(key) is entry and self.asked.pop(key)
            if known:
                self._pass_on(message, entry, flags, body)
        try:
            handle = self.tree.ask(whom, proxies.SERVICE, chunks, answered)
            with self.lock:
                streams_on, entry[0] = entry[0], handle
            if streams_on:      # another thread has read the answer before its handle was known here
                self._give_up(handle, whom)
        except Error:       # it is larger than a message may be
            answered(ERROR, b"".join(failures.pack(sys.exc_info()[1])))

    def _anew(self, body):
        # type: (Any) -> Any
        """Who is asked, and the request as the door makes it. Of what it says of its caller only the time holds here."""
        at = 1
        for number in range(4):
            at = streams.skip(body, at)
            if not number:
                name = values.decode(bytes(body[1:at]))
        options = values.decode(bytes(body[at:]))
        if bytes(body[:1]) != b"\x95" or type(options) is not dict:
            raise ProtocolError("malformed request for a service")
        whom = self.door.services.get(name) if isinstance(name, (str, compat.text)) else None
        if whom is None:
            raise ServiceError("there is no service %.100r for guests here" % (name,))
        options = {"timeout": options["timeout"]} if "timeout" in options else {}
        return whom, [bytes(body[:at])] + values.encode(options)

    def _pass_on(self, message, entry, flags, body):
        # type: (core.Message, List[Any], int, Any) -> None
        """Give the guest its answer. On whichever thread reads the door's own link."""
        if flags & DEAD:
            why = bytes(body)
            text = "its tree has no services now" if why == proxies.NONE else why.decode("utf-8", "replace")
            chunks, flags = failures.pack(ServiceError("the one who serves that doesn't answer: " + text)), ERROR
        elif not flags & ERROR and bytes(body[:1]) == b"\x92":
            with self.lock:
                handle, entry[0] = entry[0], -1
            if handle:
                self._give_up(handle, entry[1])
            chunks, flags = failures.pack(ServiceError("this method yields, and streams don't pass a door")), ERROR
        else:
            chunks = chunks_of(body)
        try:
            self._answer(message, chunks, flags & ERROR)
        except Error:
            self._answer(message, failures.pack(sys.exc_info()[1]), ERROR)

    def on_cancel(self, message):
        # type: (core.Message) -> None
        """Take a CANCEL: [reply handle]. It may have overtaken what it cancels."""
        said = values.decode(message.body)
        if type(said) is not list or len(said) != 1 or not _is_id(said[0]):
            raise ProtocolError("malformed CANCEL")
        key = message.src, said[0]
        with self.lock:
            entry = self.asked.get(key)
            if not entry:
                if len(self.early) >= early_max:
                    self.early.pop(next(iter(self.early)))
                self.early[key] = True
        if entry:
            self._give_up(entry[0], entry[1])

    def _give_up(self, handle, whom):
        # type: (int, int) -> None
        self.tree.tell(whom, core.CANCEL, [handle])

    def _answer(self, message, chunks, flags):
        # type: (core.Message, List[Any], int) -> None
        self._owes(sum(map(len, chunks)))
        self.core.reply(message, chunks, flags)

    def _owes(self, size):
        # type: (int) -> None
        """So many bytes more wait for the guest; what was written meanwhile it has read, more or less."""
        with self.lock:
            written, self.written = self.written, self.link.bytes_out
            self.owed = max(0, self.owed + size - self.written + written)


def chunks_of(body):
    # type: (Any) -> List[Any]
    """An answer as it was sent: the large byte strings, which came apart (see ``fragments``), are where they belong."""
    if type(body) is not list:
        return [body]
    around, strings = body[0], iter(body[1:])
    data = around if type(around) in compat.indexed else bytearray(around)
    chunks, begin, at, left = [], 0, 0, 1  # type: List[Any], int, int, int
    while left:
        first = data[at]
        kind, count, form = values.FORMS[first]
        at += 1
        if form:
            count, = form.unpack_from(data, at)
            at += form.size
        left -= 1
        if kind in (3, 4):
            left += count * (kind - 2)
        elif kind in (1, 2) and count >= values.BIG:
            chunks += [around[begin:at], next(strings)]
            begin = at
        elif kind in (1, 2):
            at += count
        elif first == 0xd4:
            at += 2
    return chunks + [around[begin:]]
