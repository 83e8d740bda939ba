"""A *door*: a node that lets other programs of this account, *guests*, ask services of its tree, and nothing else of it.

To its own tree a door is a node like any other: what it may ask there is what services allow it, and it commands nobody. To
each guest's tree it is a node, too, that runs no code: see ``rooms``.

A name is listened at as by a kept node (``held``, ``meeting``), and a guest comes as to one (``coming_back``): it says CONFIG,
and so what it calls the door. Late part of the kernel. All but ``begin`` and answers runs on the keeper, which asks nobody.
"""
import os
import sys

from ramet.kernel import compat, compat_late, core, descent, meeting, passages, rooms, start, values
from ramet.kernel.faults import Error, ProtocolError
from ramet.kernel.frames import HEADER_BYTES, unpack_header

MYPY = False
if MYPY:
    from typing import Any, Dict, List

guests_max = 16
# Who knocks must have said CONFIG within this time; it has no more than so many bytes, and lies no deeper in its tree.
knock_within_s = 30.0
config_bytes_max = 1 << 16
ancestors_max = 64

# What the keeper will need, which can't ask for anything.
needed = ("credit", "fragments", "inlets", "limits_late", "longs")


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
        self.side = passages.Side(node.core)
        self.services = services
        self.greeting = ("RAMET-KEPT %s %x %s\n" % (kernel, sys.hexversion, compat.IMPLEMENTATION[0].lower())).encode("ascii")
        self.knocking = {}  # type: Dict[Any, List[Any]]    # sockets of those who haven't said CONFIG: timer, what they said
        self.rooms = {}  # type: Dict[Any, rooms.Room]    # by their links

    def accept(self):
        # type: () -> None
        """Somebody knocks."""
        try:
            sock = meeting.accept(self.node.loop, self.sock)
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
            if len(ancestors) > ancestors_max or not ancestors or any(not rooms.is_id(one) for one in ancestors + [id]):
                raise ProtocolError("malformed CONFIG")
            full = len(self.rooms) >= guests_max
            sock.send(b"no: it has %d guests, and lets no more in\n" % guests_max if full else b"ok guest\n")
            if not full:
                fd = os.dup(sock.fileno())      # 2.7's sockets can't give their descriptor away
                compat.set_cloexec(fd)
                compat.set_blocking(fd, False)
                rooms.Room(self, id, ancestors, fd, said[size:])
        except (Error, OSError, IOError, TypeError, KeyError, ValueError):
            pass        # it is gone, or speaks something else
        self.drop(sock)
