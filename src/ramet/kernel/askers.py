"""Who waits for answers of this node's services: how much each may ask for, and what becomes of that when it is cancelled, or
the asker is lost. Late part of the kernel, and the controller's.

``noted``, ``on_cancel`` and ``_lost`` run on whichever thread reads the link: they never block.
"""
import itertools
import sys
import threading
import time

from ramet.kernel import cancelling, compat, failures, requests, values
from ramet.kernel.errors import ProtocolError, ServiceError
from ramet.kernel.faults import CallCancelled
from ramet.kernel.frames import ERROR

MYPY = False
if MYPY:
    from typing import Any, Dict, List

    from ramet.kernel.core import Core, Message

REQUESTS_MAX = 256      # of one sender that aren't answered yet
BYTES_MAX = 8 << 20     # of these; a single one may be larger
BYTES_ALL_MAX = 64 << 20        # of all senders' requests
NO_THREAD = "this node can't start a thread: %s"


class Askers(object):
    """Accounts of requests by who sent them.

    Attributes:
        asked: (source, reply handle) -> its request; or the message, while no thread has looked at it.
        loads: sender -> number and bytes of its requests that aren't answered.
        watches: sender -> the handle at which its loss is heard of.
        early: of CANCELs that came before what they cancel.
        told: (source, reply handle) -> the chain of who waits for a request that no thread has looked at; see ``circles``.
        refused: requests that weren't admitted, or came when too many waited.
        waiting: sender -> its requests that no thread has looked at; ``queued`` of all.
        turns: senders that have some.
        threads: how many look at requests.
        looked_at: sender -> its requests that threads look at just now, in the order in which they came.
    """

    def __init__(self, core, other_cancels):
        # type: (Core, Any) -> None
        self.core = core
        self.other_cancels = other_cancels
        lock = threading.RLock()
        self.changed, self.next_one = threading.Condition(lock), threading.Condition(lock)
        self.looked_at = {}  # type: Dict[int, List[Message]]
        self.numbers = itertools.count(1)
        self.asked = {}  # type: Dict[Any, Any]
        self.loads = {}  # type: Dict[int, List[int]]
        self.bytes = 0
        self.watches = {}  # type: Dict[int, int]
        self.early = {}  # type: Dict[Any, bool]
        self.told = {}  # type: Dict[Any, Any]
        self.refused = 0
        self.waiting = {}  # type: Dict[int, Any]
        self.turns = compat.deque()  # type: Any
        self.threads = self.queued = 0

    def noted(self, message):
        # type: (Message) -> str
        """Enter a message that has come. Returns why it can't be taken, or "". Under the lock."""
        src, size, key = message.src, len(message.body), (message.src, message.reply_to)
        load = self.loads.setdefault(src, [0, 0])
        full = load[0] >= REQUESTS_MAX or load[0] and (load[1] + size > BYTES_MAX or self.bytes + size > BYTES_ALL_MAX)
        full = full or key in self.asked    # in its place the other one would never be answered, nor taken off what is counted
        load[0] += 1
        load[1] += size
        self.bytes += size
        if self.early.pop(key, False):
            return "cancelled before it began"
        if full:
            return "too many requests of this node wait: ask again later"
        self.asked[key] = message
        if src not in self.watches:
            self.watches[src] = handle = next(self.core.handles)
            self.core.pending[handle] = src, lambda flags, body: self._lost(src)
        return ""

    def _next(self):
        # type: () -> Any
        """The next request, in turn from each sender. Under the lock; None if there is none."""
        while self.turns:
            src = self.turns.popleft()
            queue = self.waiting[src]
            message = queue.popleft()
            self.queued -= 1
            if queue:
                self.turns.append(src)
            else:
                del self.waiting[src]
            waits = self.asked.get((src, message.reply_to)) is message
            if waits:       # else it was given up
                self.looked_at.setdefault(src, []).append(message)
                return message
        return None

    def in_turn(self, message):
        # type: (Message) -> None
        """Wait until what came before from that sender has been looked at: it may be for the same lane. Under the lock."""
        while self.looked_at[message.src][0] is not message:
            self.next_one.wait()

    def looked(self, message):
        # type: (Message) -> None
        """A message has been looked at: it waits in its lane, if it has to."""
        with self.changed:
            left = self.looked_at[message.src]
            left.remove(message)
            if not left:
                del self.looked_at[message.src]
            self.next_one.notify_all()

    def without_thread(self, error):
        # type: (Any) -> None
        """A thread couldn't be started. If there is none, all that waits is refused. On whichever thread reads the link."""
        left = []  # type: List[Message]
        with self.changed:
            self.threads -= 1
            while self.turns and not self.threads:
                message = self._next()
                if message:
                    self.forget([message], message)     # so nobody else answers it
                    left.append(message)
        for message in left:
            self.refuse(message, NO_THREAD % error)

    def forget(self, messages, found):
        # type: (List[Message], Any) -> None
        """They are answered: nothing of them is left to be cancelled. Under the lock."""
        for message in messages:
            key = message.src, message.reply_to
            if self.asked.get(key) is found:
                del self.asked[key]
                self.told.pop(key, None)

    def on_cancel(self, message):
        # type: (Message) -> None
        """Take a CANCEL: [reply handle] of a request, or of a call; with a chain behind it, see ``circles``. On whichever
        thread reads the link.
        """
        said = values.decode(message.body)
        if type(said) is not list or len(said) not in (1, 2) or type(said[0]) not in compat.integers:
            raise ProtocolError("malformed CANCEL")
        key = message.src, said[0]
        if said[1:]:
            with self.changed:
                found = self.asked.get(key)
                if found is not None and not isinstance(found, requests.Request):
                    # It is a request in a moment, and hears of it then. Kept until then is what is believed of it, no more.
                    self.told[key] = requests.checked({"chain": said[1]}).get("chain", [])
            if isinstance(found, requests.Request):
                compat.start_thread(found.heard, (said[1],))
            elif found is None and self.other_cancels:
                self.other_cancels(message)
            return
        with self.changed:
            known = key in self.asked
            if not known:
                if len(self.early) >= cancelling.early_max:
                    self.early.pop(next(iter(self.early)))
                self.early[key] = True
        if known:
            compat.start_thread(self.give_up, (key,))
        elif self.other_cancels:
            self.other_cancels(message)

    def _lost(self, src):
        # type: (int) -> None
        """A node that has asked is gone. On whichever thread reads the link."""
        with self.changed:
            self.watches.pop(src, None)
            keys = [key for key in self.asked if key[0] == src]

        def give_up():
            # type: () -> None
            for key in keys:
                self.give_up(key)

        def start():
            # type: () -> None
            try:
                compat.start_thread(give_up, ())
            except Exception:       # there is no room for one: other things are to be told of the loss, too
                self.core.loop.call_later(1, start)
        if keys:
            start()

    def give_up(self, key):
        # type: (Any) -> None
        """Who asked doesn't want it any more. The last one who goes takes the request along. Any thread."""
        with self.changed:
            found = self.asked.get(key)
            if found is None:
                return
            if isinstance(found, requests.Request):
                message = [one for one in found.askers if (one.src, one.reply_to) == key][0]
                last = len(found.askers) == 1
                running = last and found.begun
                if running:
                    found.message = message     # it is answered when it has come to its end
                else:
                    found.askers.remove(message)
                if last and found.key and found.served.twins.get(found.key) is found:
                    del found.served.twins[found.key]
                if last and not running:
                    for queue in [found.served.parked] + list(found.served.busy.values()):
                        if found in queue:
                            queue.remove(found)
            else:
                message, running = found, False
            if not running:
                del self.asked[key]
                self.told.pop(key, None)
        if running:
            found.end()
        else:
            self.reply([message], failures.pack(CallCancelled("cancelled before it began")), ERROR)

    def reply(self, messages, chunks, flags):
        # type: (List[Message], List[Any], int) -> None
        """Answer some messages alike."""
        for message in messages:
            with self.changed:
                load = self.loads[message.src]
                load[0] -= 1
                load[1] -= len(message.body)
                self.bytes -= len(message.body)
                if not load[0]:
                    del self.loads[message.src]
                self.forget([message], message)
                self.unwatch(message.src)
            try:
                self.core.reply(message, chunks, flags)
            except Exception:       # larger than a message may be, or no memory for it
                self._fail(message, sys.exc_info()[1])

    def _fail(self, message, error):
        # type: (Message, Any) -> None
        """Answer by what kept the answer from being sent, when there is memory for that much: who asks waits for it.

        Not in a loop: this may be the thread that would free some, by writing what waits for a link.
        """
        try:
            self.core.reply(message, failures.pack(error), ERROR)
        except MemoryError:
            while True:
                try:
                    self.core.loop.call_later(0.001, self._fail, message, error)
                    return
                except MemoryError:     # not even for that
                    time.sleep(0.001)

    def unwatch(self, src):
        # type: (int) -> None
        """Nothing of a node is left, so its loss is nobody's business. Under the lock."""
        if src in self.watches and src not in self.loads and not any(key[0] == src for key in self.asked):
            self.core.pending.pop(self.watches.pop(src), None)

    def settle(self, message, chunks, flags):
        # type: (Message, List[Any], int) -> None
        """Answer one of which no request was made, unless it was given up meanwhile, and answered so."""
        with self.changed:
            asked = self.asked.get((message.src, message.reply_to)) is message
            self.forget([message], message)
        if asked:
            self.reply([message], chunks, flags)

    def turn_down(self, message, why):
        # type: (Message, str) -> None
        """Refuse one that a thread has looked at."""
        self.refused += 1
        self.settle(message, failures.pack(ServiceError(why)), ERROR)

    def refuse(self, message, why):
        # type: (Message, str) -> None
        """Answer a request that can't be taken."""
        self.refused += 1
        self.reply([message], failures.pack(ServiceError(why)), ERROR)
