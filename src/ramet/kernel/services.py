"""Services: methods of an object in one node, for other nodes to call, as far as a policy admits them. Late part of the kernel,
and the controller's.

A request names the service, the method, and its arguments. It comes from below or beside as often as from above, so it is only
data: it can't name a function, and makes no instance that values from below can't make. Requests run on a bounded number of
threads, taken in turn from their senders; who sends more than may wait is told so at once. What a request is, and how it ends,
is in ``requests``, who waits for it in ``askers``.

``arrive`` runs on whichever thread reads the link; it decodes nothing and never blocks. All else runs on threads made here.
"""
import sys
import threading

from ramet.kernel import compat, descent, failures, limits, requests, values
from ramet.kernel.askers import BYTES_MAX, NO_THREAD, Askers
from ramet.kernel.calls import Interrupt
from ramet.kernel.core import CANCEL
from ramet.kernel.errors import DeadlockError, Error, ServiceError
from ramet.kernel.faults import CallCancelled
from ramet.kernel.frames import ERROR
from ramet.kernel.proxies import SERVICE
from ramet.kernel.served import THREADS_MAX, Served, methods_of

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List

    from ramet.kernel.core import Core, Message
    from ramet.kernel.requests import Request

STREAMS_MAX = 256       # that run; of one sender as many as it may have requests
IDLE_S = 10.0           # that a thread waits for another request before it ends
RESULT = b"\x91"        # how a reply begins that is a result: an array of one

_making = compat.new_lock()


def of(core, context, codec=values, interrupts=False):
    # type: (Core, Callable[[int], Any], Any, bool) -> Services
    """The services of a node: made at the first use. Any thread."""
    with _making:
        handler = core.handlers.get(SERVICE)
        found = getattr(handler, "__self__", None)  # type: Any
        if found is None:
            found = Services(core, context, codec, interrupts)
            core.handlers[SERVICE] = found.arrive
            core.handlers[CANCEL] = found.on_cancel
            if not core.descendants:
                descent.Losses(core)        # so that it hears of the loss of those that ask
        return found  # type: ignore[no-any-return]


def of_node(node):
    # type: (Any) -> Services
    """The services of this node, whose methods may be interrupted."""
    from ramet.kernel import lanes
    lanes.made(node.calls)      # what keeps interrupts away from ramet's own code
    return of(node.core, node.context, interrupts=True)


def serve_here(name, thing, options):
    # type: (str, Any, Dict[str, Any]) -> None
    """What ``Node.serve`` calls over there."""
    from ramet.kernel import start
    if isinstance(thing, type) or not methods_of(type(thing), None) and callable(thing):
        thing = thing()
    serve(start.node, name, thing, **options)


def serve(node, name, thing, allow, **options):
    # type: (Any, str, Any, Any, **Any) -> None
    """Serve an object of this node. Its coroutines run on the node's asyncio loop."""
    from ramet.kernel import lanes
    of_node(node).add(name, thing, allow, lambda: lanes.made(node.calls).asyncio_loop(), **options)


def withdraw_here(name):
    # type: (str) -> None
    """What ``Node.withdraw`` calls over there."""
    from ramet.kernel import start
    of_node(start.node).remove(name)


def ids_of(allow):
    # type: (Any) -> Any
    """A policy with the ids of nodes in place of the nodes."""
    if isinstance(allow, (list, tuple, set, frozenset)):
        return [getattr(one, "id", one) for one in allow]
    return getattr(allow, "id", allow)


class Services(Askers):
    """All services of a node.

    Args:
        context: makes the values.Context for what a node sends.
        codec: ``values``, or what does the same faster.
        interrupts: a method that nobody waits for any more is interrupted. Not in the program that grows the tree.

    Attributes:
        closing, lanes: stand for those of ``Calls``.
    """

    closing = False
    lanes = None    # type: Any

    def __init__(self, core, context, codec, interrupts=False):
        # type: (Core, Callable[[int], Any], Any, bool) -> None
        Askers.__init__(self, core, core.handlers.get(CANCEL))
        self.context = context
        self.codec = codec
        self.interrupts = interrupts
        self.served = {}  # type: Dict[str, Served]
        self.running = {}  # type: Dict[int, Request]       # by their numbers in chains: those that hold a thread or a lane
        self.streams = 0
        self.idle = 0
        self.closed = False

    def close(self):
        # type: () -> None
        """Let the threads end that have nothing to do, and the others when they are done: nobody waits for them."""
        with self.changed:
            self.closed = True
            self.served.clear()
            keys = list(self.asked)
            self.changed.notify_all()
        for key in keys:
            self.give_up(key)

    def add(self, name, thing, allow, loop=None, **options):
        # type: (str, Any, Any, Any, **Any) -> Served
        """Serve an object. Raises ValueError if that name is taken, or an option is wrong."""
        served = Served(name, thing, allow, loop, **options)
        with self.changed:
            if name in self.served:
                raise ValueError("there is a service %r in this node already" % name)
            self.served[name] = served
        return served

    def remove(self, name):
        # type: (str) -> None
        """Serve it no longer: what runs ends as it would, what waits is refused. Raises KeyError."""
        left = []
        with self.changed:
            served = self.served.pop(name)
            for queue in [served.parked] + list(served.busy.values()):
                for request in queue:
                    left += request.askers
                    self.forget(request.askers, request)
                    served.twins.pop(request.key, None)
                queue.clear()
        for message in left:
            self.refuse(message, self.unknown(name))

    # ------------------------------------------------------------------ taking requests

    def long_max(self, src, handle):
        # type: (int, int) -> int
        """How long messages of that node may be, as requests; who isn't admitted is told so. 0: as any other."""
        if handle != SERVICE:
            return 0
        admitted = any([served.admits_node(src, self.core) for served in list(self.served.values())])
        return limits.message_bytes_max if admitted else BYTES_MAX

    def arrive(self, message):
        # type: (Message) -> None
        """Take a request. On whichever thread reads the link."""
        with self.changed:
            why = self.noted(message)
            start = False
            if not why:
                queue = self.waiting.setdefault(message.src, compat.deque())
                queue.append(message)
                if len(queue) == 1:
                    self.turns.append(message.src)
                self.queued += 1
                start = self.queued > self.idle and self.threads < THREADS_MAX
                self.threads += start
                self.changed.notify()
        if why:
            self.refuse(message, why)
        elif start:
            try:
                self._thread(self._work)
            except Exception:       # there is no room for one: those that there are must do
                self.without_thread(sys.exc_info()[1])

    def _thread(self, target, *args):
        # type: (Callable[..., Any], *Any) -> None
        thread = threading.Thread(target=target, args=args, name="ramet-service")
        thread.daemon = True
        thread.start()

    def _work(self):
        # type: () -> None
        """A thread's life: requests, until none comes for a while."""
        while True:
            with self.changed:
                message = self._next()
                if message is None and not self.closed:
                    self.idle += 1
                    self.changed.wait(IDLE_S)
                    self.idle -= 1
                    message = self._next()
                if message is None:
                    self.threads -= 1
                    return
            try:
                request = self._admitted(message)
            finally:
                self.looked(message)
            self._go_on(request)

    def _go_on(self, request):
        # type: (Any) -> None
        """Run a request, and what may begin in its place, one after the other."""
        while request:
            request = self._run(request)

    def _admitted(self, message):
        # type: (Message) -> Any
        """What a message asks for, if that can run now."""
        try:
            asked = self.codec.decode(message.body, self.context(message.src))
            name, method, args, kwargs = asked[:4]
            served = self.served.get(name)
            if served is None or not served.admits(message, self.core):
                raise LookupError(self.unknown(name))      # who isn't admitted doesn't learn that there is one
            if method is None:
                self.settle(message, [RESULT] + self.codec.encode(served.described()), 0)
                return None
            if method not in served.methods:
                raise LookupError("the service %s has no method %r" % (name, method))
            body = message.body
            key = bytes(body[1:requests.ends_of(body)]) if method in served.shared else b""
            request = requests.Request(self, served, method, args, kwargs, asked[4] if asked[4:] else None, message, key)
        except LookupError as error:
            self.turn_down(message, error.args[0])
        except Error as error:
            self.turn_down(message, "%s" % error)
        except Exception:
            self.turn_down(message, "malformed request for a service")
        else:
            try:
                with self.changed:
                    if method in served.lanes:
                        self.in_turn(message)
                    chain = self.told.pop((message.src, message.reply_to), None)
                    if chain:
                        request.heard(chain)
                    self._check_cycle(request)
                    if self.asked.get((message.src, message.reply_to)) is message:     # else it was given up meanwhile
                        return request if self._may_begin(request, message) else None
            except DeadlockError as error:
                self.settle(message, failures.pack(error), ERROR)
        return None

    def _check_cycle(self, request):
        # type: (Request) -> None
        """Raise DeadlockError if it waits for what waits for it: a lane, its equal, or all threads. Under the lock."""
        served = request.served
        chain = request.chain
        above = [self.running[flow] for id, flow, _ in chain if id == self.core.id and flow in self.running]
        lane = served.lanes.get(request.method)
        same = [one for one in above if one.served is served]
        cycle = [one for one in same if lane is not None and served.lanes.get(one.method) == lane
                 or request.key and one.key == request.key]
        if cycle or len(same) >= served.threads or len(above) >= THREADS_MAX:
            where = (cycle or above)[0]
            at = [flow for _, flow, _ in chain].index(where.flow)
            raise DeadlockError("this request would wait for itself: " + " -> ".join(
                ["node %d, lane %s" % (id, name or "main") for id, _, name in chain[at:]]))

    def _may_begin(self, request, message):
        # type: (Request, Message) -> bool
        """Whether a request begins now; else it is kept where it waits. Under the lock."""
        served = request.served
        twin = served.twins.get(request.key) if request.key else None
        self.asked[message.src, message.reply_to] = twin or request
        if twin is not None:
            twin.askers.append(message)
            return False
        if request.key:
            served.twins[request.key] = request
        return self._has_room(request)

    def _has_room(self, request):
        # type: (Request) -> bool
        served = request.served
        lane = served.lanes.get(request.method)
        if lane in served.busy:
            served.busy[lane].append(request)
            return False
        if served.running >= served.threads:
            served.parked.append(request)
            return False
        served.running += 1
        if lane is not None:
            served.busy[lane] = compat.deque()
        return True

    # ------------------------------------------------------------------ running them

    def _run(self, request):
        # type: (Request) -> Any
        """Run one request, and answer it. Returns the next of that service that may begin, or None."""
        served, flags = request.served, 0
        with self.changed:
            request.begun = True
            self.running[request.flow] = request
        try:
            if not request.askers:
                raise CallCancelled("cancelled before it began")
            if request.refused:
                raise request.refused
            found = request.run()
            if requests.is_stream(found):
                chunks = self._begin_stream(request, found)
            else:
                chunks = [RESULT] + self.codec.encode(found, self.context(request.message.src), "result")
        except BaseException:
            error = sys.exc_info()[1]
            error = CallCancelled("cancelled while it ran") if isinstance(error, Interrupt) else error
            chunks, flags = failures.pack(error), ERROR
        with self.changed:
            askers = list(request.askers)
            if request.key and served.twins.get(request.key) is request:
                del served.twins[request.key]
            lane = served.lanes.get(request.method)
            stays = request.feed is not None and lane is not None   # in its lane, till the stream ends
            if request.feed is None:
                request.ended = True
                self.forget(askers, request)
            if not stays:
                self.running.pop(request.flow, None)    # a stream that was cancelled may have ended before
            following = None if stays else self._following(served, lane)
        self.reply(askers, chunks, flags)
        return following

    def _begin_stream(self, request, iterator):
        # type: (Request, Any) -> List[Any]
        """The reply to a request whose method yields: its number stands for the items."""
        with self.changed:
            full = self.streams >= STREAMS_MAX
        if full or len(request.askers) > 1:
            close = getattr(iterator, "close", None)
            if close:
                close()
            raise ServiceError("too many streams of this node's services run: ask again later" if full else
                               "a stream has one reader, and several ask for this one")
        return self.codec.encode([None, request.stream(iterator)])  # type: ignore[no-any-return]

    def over(self, request):
        # type: (Request) -> None
        """A stream has ended. In its own thread, or on the event loop."""
        following = None
        with self.changed:
            self.streams -= 1
            self.running.pop(request.flow, None)
            self.forget(request.askers, request)
            lane = request.served.lanes.get(request.method)
            if lane is not None:
                following = self._following(request.served, lane)
            self.unwatch(request.message.src)
        while following:
            try:
                self._thread(self._go_on, following)
                return
            except Exception:       # there is no room for one, and this thread may be the event loop's
                following.refused = ServiceError(NO_THREAD % sys.exc_info()[1])
                following = self._run(following)

    def _following(self, served, lane):
        # type: (Served, Any) -> Any
        """What may begin in the place of a request that has ended. Under the lock."""
        if lane is not None:
            if served.busy[lane]:
                return served.busy[lane].popleft()
            del served.busy[lane]
        served.running -= 1
        while served.parked:
            request = served.parked.popleft()
            if self._has_room(request):
                return request
        return None

    def unknown(self, name):
        # type: (Any) -> str
        return "there is no service %.100r for that node here" % (name,)
