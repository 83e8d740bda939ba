"""Channels beyond a door: what stands for one in a tree where it isn't held. Late part of the kernel, for ``doors``.

A node asks the door for such a channel as it would ask who holds it, by a number and a token that are the door's own; the door
asks who does, on its other side, in its own name. Items and credit go through as ``passages``. What a guest is given is for
that guest, as long as it is in: nobody else's word for it counts, and no token goes through.

On whichever thread reads a link. Must not know of requests; who lets a channel through is ``doors``' business.
"""
from ramet.kernel import channels, compat, ends, passages, values
from ramet.kernel.ends import BACK, CHANNEL, CLOSE, HELD, SEND
from ramet.kernel.errors import ServiceError
from ramet.kernel.faults import ProtocolError
from ramet.kernel.frames import DEAD
from ramet.kernel.limits import reason_chars_max
from ramet.kernel.streams import ENDS

MYPY = False
if MYPY:
    from typing import Any, Dict, List

    from ramet.kernel.core import Message


channels_max = 256      # that one guest is given, and as many that it gives; of those that aren't used the oldest go


class StandIn(object):
    """Stands for a channel: as ``holding.Held``, for ``Channels.elsewhere``.

    Args:
        here: the side where it stands.
        there: the side where the channel is held.
        target: owner, number, token and size of the channel, there.
        given: the same as the door was given it: ``target``, or what stands for that in a tree which isn't its own.
        watched: nodes here can be lost, and the door stays.
        may_begin: whether one part more may be; called for each.

    Attributes:
        parts: (node here, number of its stream) -> what it sends or receives.
        left: of nodes here that receive no more: how many items they may give back, and how often.
    """

    def __init__(self, here, there, target, given, watched, may_begin):
        # type: (Any, Any, List[Any], List[Any], bool, Any) -> None
        self.here = here
        self.there = there
        self.target = target
        self.given = given
        self.watched = watched
        self.may_begin = may_begin
        self.number = next(here.core.handles)
        self.token = channels.new_token()
        self.parts = {}  # type: Dict[Any, Part]
        self.left = {}  # type: Dict[int, List[int]]
        self.lock = compat.new_lock()
        self.closed = False
        here.channels.elsewhere[self.number] = self

    def reference(self):
        # type: () -> List[Any]
        """What it is called here."""
        return [self.here.core.id, self.number, self.token, self.target[3]]

    def idle(self):
        # type: () -> bool
        """Whether nobody uses it now."""
        return not self.parts and not self.left

    def drop(self):
        # type: () -> None
        """It is known no longer. Who uses it is told by others."""
        self.here.channels.elsewhere.pop(self.number, None)

    def tell(self, what, stream):
        # type: (int, Any) -> None
        """Say something to who holds the channel."""
        owner, number, token, _ = self.target
        self.there.core.send(owner, CHANNEL, values.encode([what, number, token, stream]), 0, 0, ends.flow_of(number))

    # ------------------------------------------------------------------ as of one that is held here

    def close(self):
        # type: () -> None
        """Let nothing more in: once, however often it is said."""
        closed, self.closed = self.closed, True
        if not closed:
            self.tell(CLOSE, 0)

    def begin(self, message, what, stream):
        # type: (Message, int, int) -> None
        """A node here begins to send, or to receive."""
        if not self.may_begin():
            raise ProtocolError("too many are at channels of guests")
        there, owner, number = self.there, self.target[0], self.target[1]
        ours = there.streams.number(what == SEND)
        part = Part(self, message, what == SEND, stream, (there, owner, ours), ends.flow_of(number))
        asked = values.encode([what, number, self.target[2], ours])
        part.handles = [(there.core, there.core.ask(owner, CHANNEL, asked, part.answered, 0, ends.flow_of(number)))]
        if self.watched:
            part.handles.append((self.here.core, self.here.core.ask(
                message.src, CHANNEL, values.encode([HELD, self.number, "", 0]), part.gone, 0, message.flow)))
        if part.over:
            part.forget()

    def leave(self, peer, stream):
        # type: (int, int) -> bool
        """A node here receives no more. False: it doesn't."""
        part = self.parts.get((peer, stream))
        if part is None:
            return (peer, stream) in self.here.streams.gone     # it has ended meanwhile, who leaves can't know
        if part.sending or part.leaving:
            return False
        part.leaving = True
        self.tell(BACK, part.comes.number)
        return True

    def take_back(self, peer, items):
        # type: (int, List[Any]) -> bool
        """A node here gives back what it was sent, and hasn't given to anybody. False: it can't have that."""
        with self.lock:
            left = self.left.get(peer)
            if not left or len(items) > left[0] or any(type(data) is not compat.Bytes for data in items):
                return False
            left[0] -= len(items)
            left[1] -= 1
            if not left[1]:
                del self.left[peer]
        self.tell(BACK, items)
        return True

    # ------------------------------------------------------------------ ends

    def over(self, part):
        # type: (Part) -> None
        """A part has come to its end."""
        with self.lock:
            self.parts.pop(part.key, None)
            if part.leaving and not part.lost:
                left = self.left.setdefault(part.key[0], [0, 0])
                left[0] += part.items
                left[1] += 1

    def lost(self, peers=None):
        # type: (Any) -> None
        """These nodes here are gone, or all: who holds the channel is told. What they were sent is lost with them."""
        for part in list(self.parts.values()):
            if peers is None or part.key[0] in peers:
                part.lost = True
                if part.sending:
                    part.end(ENDS, [passages.NIL])
                else:
                    if not part.leaving:
                        self.tell(BACK, part.comes.number)
                    self.tell(BACK, [])
                    part.finish()
        with self.lock:
            gone = [peer for peer in self.left if peers is None or peer in peers]
            often = sum([self.left.pop(peer)[1] for peer in gone])
        for _ in range(often):
            self.tell(BACK, [])


class Part(passages.Passage):
    """What one node sends into a channel beyond the door, or receives out of it.

    Attributes:
        leaving: it has said that it receives no more.
        lost: it is gone.
        handles: at which the door waits for something about it.
    """

    leaving = lost = False

    def __init__(self, stand_in, message, sending, stream, theirs, flow):
        # type: (StandIn, Message, bool, int, Any, int) -> None
        self.stand_in = stand_in
        self.message = message
        self.sending = sending
        self.key = message.src, stream
        self.handles = []  # type: List[Any]
        stand_in.parts[self.key] = self
        mine = stand_in.here, message.src, stream
        source, target = (mine, theirs + (flow,)) if sending else (theirs, mine + (message.flow,))
        passages.Passage.__init__(self, source, target, ends.window(stand_in.target[3]), True, self._ended)

    def answered(self, flags, body):
        # type: (int, Any) -> None
        """Who holds the channel says that it is closed, or will never say anything. Of what it says nothing is passed on."""
        if flags & DEAD:
            reason = [bytes(body).decode("utf-8", "replace")[:reason_chars_max].encode("utf-8")]
        self.stand_in.here.core.reply(self.message, reason if flags & DEAD else [passages.NIL], flags & DEAD)
        if flags & DEAD or not self.sending:
            self.finish()

    def gone(self, flags, body):
        # type: (int, Any) -> None
        """The node here is lost."""
        self.stand_in.lost([self.key[0]])

    def forget(self):
        # type: () -> None
        """Wait for nothing more, but that a channel is closed of which all came."""
        for at, (core, handle) in enumerate(self.handles):
            if at or self.sending or self.leaving or self.lost:
                core.pending.pop(handle, None)

    def _ended(self, _):
        # type: (Any) -> None
        self.stand_in.over(self)
        self.forget()


class Exchange(object):
    """The channels that one guest was given, and has given.

    Args:
        tree: the side of the door's tree.
        guest: the guest's side.
        may_begin: see ``StandIn``.

    Attributes:
        lent: channels that the guest was given: owner, number and token as the tree knows them -> what stands for them.
        borrowed: those that it has given, as it knows them.
    """

    def __init__(self, tree, guest, may_begin):
        # type: (Any, Any, Any) -> None
        self.tree = tree
        self.guest = guest
        self.may_begin = may_begin
        self.lent = {}  # type: Dict[Any, StandIn]
        self.borrowed = {}  # type: Dict[Any, StandIn]
        self.lock = compat.new_lock()

    def for_tree(self, items):
        # type: (List[Any]) -> List[Any]
        """A reference that the guest gives, as its tree is given it. Raises ServiceError: it may not have it."""
        owner, number, token, _ = items
        if owner == self.guest.core.id:
            known = _known(self.guest, number, token)
            if not known:
                raise ServiceError("the door has forgotten that channel: of those that nobody uses it knows %d" % channels_max)
            return list(known.given)
        if owner not in self.guest.core.routes.ancestors:
            raise ServiceError("node %d holds that channel: through a door pass those of the program itself" % owner)
        return self._of(self.borrowed, self.tree, self.guest, items, items)

    def for_guest(self, items):
        # type: (List[Any]) -> List[Any]
        """A reference that comes from the tree, as the guest is given it. Raises ServiceError: it can't have it."""
        owner, number, token, _ = items
        there, target = self.tree, items
        if owner == self.tree.core.id:
            known = _known(self.tree, number, token)
            if not known:
                raise ServiceError("a channel of a guest that has left, or of the door itself, doesn't pass the door")
            if known.there is self.guest:
                return list(known.given)
            there, target = known.there, known.target
        return self._of(self.lent, self.guest, there, target, items)

    def _of(self, table, here, there, target, given):
        # type: (Dict[Any, StandIn], Any, Any, List[Any], List[Any]) -> List[Any]
        key = tuple(given[:3])
        with self.lock:
            known = table.get(key)
            if not known:
                if len(table) >= channels_max:
                    idle = [(one.number, name) for name, one in table.items() if one.idle()]
                    if not idle:
                        raise ServiceError("this guest uses %d channels at a time: no more pass the door" % channels_max)
                    table.pop(min(idle)[1]).drop()
                known = table[key] = StandIn(here, there, target, given, here is self.tree, self.may_begin)
        return known.reference()

    def parts(self):
        # type: () -> int
        """How many send and receive."""
        return sum([len(one.parts) for one in list(self.lent.values()) + list(self.borrowed.values())])

    def close(self):
        # type: () -> None
        """The guest is gone. Who waits for something of its channels is told by who waits for answers of it."""
        for one in list(self.lent.values()):
            one.drop()
            one.lost()
        for one in list(self.borrowed.values()):
            one.drop()


def _known(side, number, token):
    # type: (Any, int, Any) -> Any
    found = side.channels.elsewhere.get(number)
    return found if found and found.token == token else None
