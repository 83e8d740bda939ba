"""A channel at the node that holds it: its items, and who sends and receives them. Late part of the kernel.

Items are bytes here: nothing is unpacked. Any thread, also one that reads a link: ``pump`` never blocks.
"""
from ramet.kernel import compat, compat_late, feeds, jobs, streams, values
from ramet.kernel.errors import ClosedError

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

    from ramet.kernel.core import Core

BYTES_MAX = 1 << 20     # an item more than that may be in it, whatever its size
# What is laid out for this node's threads at once: items, one of so many that the channel has room for, and bytes.
OUT_MAX, OUT_OF, OUT_BYTES = 16, 8, 4096


class Held(object):
    """The queue itself."""

    def __init__(self, core, token, size):
        # type: (Core, Any, int) -> None
        self.core = core
        self.token = token
        self.size = size
        self.items = compat.deque()     # type: Any
        self.here = compat.deque()      # type: Any     # the first of them, when nobody else wants any: taken without a lock
        self.bytes = 0
        self.senders = compat.deque()   # type: Any     # intakes, the next one's turn first
        self.receivers = compat.deque()     # type: Any     # feeds
        self.asked = set()  # type: Any     # of these: they were told that more is here
        self.left = {}      # type: Dict[int, List[int]]    # node that receives no more -> items it was sent, how often it left
        self.told = {}      # type: Dict[Any, Any]      # of senders: the messages that are answered when it is closed
        self.peers = {}     # type: Dict[int, Dict[int, Any]]   # node -> stream -> those that are answered when all is taken
        self.watches = {}   # type: Dict[int, int]  # node -> the handle at which its loss is heard of
        self.lock = compat.new_lock()       # held for as long as a step takes
        self.pumping = compat.new_lock()    # held by who moves items
        self.dirty = self.closed = False
        self.receiving = 0      # threads of this node that wait for an item
        self.on_over = bool     # type: Callable[[], Any]   # called when all is taken of a closed one
        self.waiting = []   # type: List[Callable[[], Any]]     # of threads, for as long as they wait
        self.callbacks = []     # type: List[Callable[[], Any]]     # each is called once, when there is an item
        self.offering = []      # type: List[Callable[[], Any]]     # or room

    # ------------------------------------------------------------------ in this node

    def offer(self, data):
        # type: (Any) -> bool
        """Append an item if there is room."""
        with self.lock:
            if self.closed:
                raise ClosedError("the channel is closed")
            if self._full():
                return False
            if len(self.receivers) == 1 and self._give_at_once(data):
                return True
            self._append(data)
        self.pump()
        return True

    def wait_for_room(self, seconds):
        # type: (Optional[float]) -> None
        """Block until there may be room for an item."""
        self._wait(lambda: self.closed or not self._full(), seconds)

    def on_room(self, call):
        # type: (Callable[[], Any]) -> None
        """Call that once when there may be room for an item; at once if there is."""
        with self.lock:
            compat_late.add_call(self.offering, call)
        if self.closed or not self._full():
            self._wake()

    def look(self):
        # type: () -> Optional[List[Any]]
        """[the next item], or None."""
        with self.lock:
            found = self._first()
        if self.closed or self.offering or self.waiting or not found or any([end.bodies for end in list(self.senders)]):
            self.pump()
        return found

    def over(self):
        # type: () -> bool
        """Is it closed, and nothing left?"""
        with self.lock:     # who moves items has a sender in its hands, and those that it has taken out of that
            return self._over()

    def _over(self):
        # type: () -> bool
        still = self.items or self.left or any(not end.ended or end.bodies for end in list(self.senders))
        return self.closed and not still

    def wait(self, seconds):
        # type: (Optional[float]) -> None
        """Block until there may be something."""
        self.receiving += 1
        try:
            self._wait(lambda: self.here or self.items or self.over(), seconds)
        finally:
            self.receiving -= 1

    def on_ready(self, call):
        # type: (Callable[[], Any]) -> None
        """Call that once when there may be something; at once if there is."""
        with self.lock:
            compat_late.add_call(self.callbacks, call)
        if self.here or self.items or self.over():
            self._wake()

    def close(self):
        # type: () -> None
        """Let nothing more in. Other nodes are told, and what they had sent before they knew still comes."""
        with self.lock:
            self.closed = True
            self._take_in()
            told, self.told = self.told, {}
        for message in told.values():
            self.core.reply(message, values.encode(None))
        self.pump()

    def _wait(self, ready, seconds):
        # type: (Callable[[], Any], Optional[float]) -> None
        wake = self.core.waiter().wake
        streams.of(self.core).flush()
        with self.lock:
            self.waiting.append(wake)
        ends = self.senders or self.receivers
        link = self.core.routes.link_to(ends[-1].peer) if ends else None
        try:
            jobs.wait(self.core, ready, link, seconds)
        finally:
            with self.lock:
                self.waiting.remove(wake)

    # ------------------------------------------------------------------ other nodes

    def add_sender(self, intake, message):
        # type: (Any, Any) -> None
        """Another node begins to send."""
        intake.items_max = self.size
        intake.listener = self.pump
        self.senders.append(intake)
        self.peers.setdefault(message.src, {})
        self.told[intake] = message
        if self.closed:
            self.close()

    def add_receiver(self, feed, message):
        # type: (Any, Any) -> None
        """Another node begins to receive."""
        def room():
            # type: () -> None
            self.asked.discard(feed)
            self.pump()
        feed.on_room = room
        with self.lock:
            self.receivers.append(feed)
            self._take_in()
        self.peers.setdefault(message.src, {})[feed.number] = message
        self.pump()

    def is_new(self, peer):
        # type: (int) -> bool
        """Whether nobody watches yet whether that node is lost."""
        return peer in self.peers and peer not in self.watches

    def lost(self, peer):
        # type: (int) -> None
        """A node is gone. What it had sent is kept, what it was sent and hadn't taken is lost with it."""
        self.peers.pop(peer, None)
        self.watches.pop(peer, None)
        self.left.pop(peer, None)
        with self.lock:     # who moves items has a sender in its hands
            senders, receivers = list(self.senders), list(self.receivers)
        for end in senders:
            if end.peer == peer:
                end.end()
        for end in receivers:
            if end.peer == peer:
                end.stop()
        self.pump()

    def take_back(self, peer, items):
        # type: (int, List[Any]) -> bool
        """A receiver that has left gives back what it was sent and hasn't given to anybody. False: it can't have that."""
        if any(type(data) is not compat.Bytes for data in items):
            return False
        with self.lock:
            left = self.left.get(peer)
            if not left or len(items) > left[0]:
                return False
            left[0] -= len(items)       # a door leaves for each of its guests
            left[1] -= 1
            if not left[1]:
                del self.left[peer]
            self._take_in()
            self.items.extendleft(reversed(items))
            self.bytes += sum(map(len, items))
        self.pump()
        return True

    def leave(self, peer, stream):
        # type: (int, int) -> bool
        """A receiver gets nothing more. When all has arrived that is on its way to it, it gives back."""
        for feed in list(self.receivers):
            if (feed.peer, feed.number) == (peer, stream):
                with self.lock:
                    self.receivers.remove(feed)
                    self.asked.discard(feed)
                    self.peers.get(peer, {}).pop(stream, None)      # nobody there waits for an answer
                    items, often = self.left.get(peer, (0, 0))
                    self.left[peer] = [items + feed.items, often + 1]
                feed.end(streams.ENDS, values.encode(None))
                return True
        return self.closed

    # ------------------------------------------------------------------ moving

    def pump(self):
        # type: () -> None
        """Move items on: out of what senders have sent, to receivers that have room."""
        self.dirty = True
        while self.dirty and self.pumping.acquire(False):
            try:
                self.dirty = False
                with self.lock:
                    # When nothing more is to be had of senders, items are given; then there may be room for more again.
                    while self.senders and self._fill() or self.receivers and self._give() and self.senders:
                        pass
            finally:
                self.pumping.release()
            self._wake()
            if self.closed:     # not who finds another one at it, or itself: it may hold the lock, in a sender's `take`
                self._end()

    def _full(self):
        # type: () -> bool
        return len(self.items) >= self.size or self.bytes >= BYTES_MAX

    def _append(self, data):
        # type: (Any) -> None
        self.items.append(data)
        self.bytes += len(data)

    def _pop(self):
        # type: () -> Any
        data = self.items.popleft()
        self.bytes -= len(data)
        return data

    def _first(self):
        # type: () -> Optional[List[Any]]
        """[the next item], or None. When nobody else wants any, those behind it are laid out: no lock, and no looking for who
        waits, for each of them. Under the lock.
        """
        try:
            return [self.here.popleft()]
        except IndexError:
            pass
        if not self.items:
            return None
        found = [self._pop()]
        if not (self.closed or self.receivers or self.waiting or self.callbacks or self.offering):
            size = 0
            for _ in range(min(OUT_MAX, self.size // OUT_OF, len(self.items))):
                size += len(self.items[0])
                if size > OUT_BYTES:
                    break
                self.here.append(self._pop())
        return found

    def _take_in(self):
        # type: () -> None
        """Somebody else wants items, or it is to be known when the last one is taken: what is laid out is as the others. Under
        the lock.
        """
        while self.here:
            try:
                data = self.here.pop()
            except IndexError:
                break       # another thread has got it
            self.items.appendleft(data)
            self.bytes += len(data)

    def _fill(self):
        # type: () -> bool
        moved = False
        for _ in range(len(self.senders)):
            if self._full():
                break
            sender = self.senders.popleft()
            items = sender.take()
            if not sender.ended or sender.bodies:   # in this order: behind the end nothing comes
                self.senders.append(sender)
            else:
                self.told.pop(sender, None)     # it has left: nobody there waits for an answer
            for data in items or ():
                if type(data) is compat.Bytes:
                    self._append(data)
                    moved = True
                else:
                    self.core.refused += 1
        return moved

    def _give_at_once(self, data):
        # type: (Any) -> bool
        """Give an item to the one receiver, as ``_give`` would, if nothing is before it. Under the lock."""
        feed = self.receivers[0]
        if self.items or self.receiving or self.callbacks or feed.stopped or not feed.room(len(data) + 5):
            return False
        chunks = feeds.packed(data)
        feed.put(chunks, feeds.size_of(chunks))
        return True

    def _give(self):
        # type: () -> bool
        moved = False
        for _ in range(len(self.receivers)):
            feed = self.receivers[0]
            self.receivers.rotate(-1)
            if feed.stopped:
                self.receivers.remove(feed)
                self.asked.discard(feed)
                feed.forget()
                continue
            # Who receives alone gets ahead what there is credit for; several get one item each, so that none waits with many.
            alone = len(self.receivers) == 1 and not self.receiving and not self.callbacks
            while (self.items and not feed.stopped and (alone or feed.items == feed.taken_items)
                   and feed.room(len(self.items[0]) + 5)):
                chunks = feeds.packed(self._pop())
                feed.put(chunks, feeds.size_of(chunks))
                moved = True
            if self.items and feed not in self.asked:
                self.asked.add(feed)
                feed.want()
        return moved

    def _end(self):
        # type: () -> None
        """If all is taken: tell the receivers, and answer everybody."""
        with self.lock:
            if not self._over():
                return
            receivers, peers, watches = list(self.receivers), self.peers, self.watches
            self.receivers.clear()
            self.peers, self.watches = {}, {}
        self.on_over()
        for handle in watches.values():
            self.core.pending.pop(handle, None)
        for feed in receivers:
            if not feed.stopped:
                feed.end(streams.ENDS, values.encode(None))
        for messages in peers.values():
            for message in messages.values():
                self.core.reply(message, values.encode(None))

    def _wake(self):
        # type: () -> None
        if self.waiting or self.callbacks or self.offering:
            with self.lock:
                calls = list(self.waiting)
                if self.here or self.items or self.closed:
                    calls += self.callbacks
                    self.callbacks = []
                if self.closed or not self._full():
                    calls += self.offering
                    self.offering = []
            for call in calls:
                call()
