"""Services: methods of an object in one node, for other nodes to call, as far as a policy admits them. Late part of the kernel,
and the controller's.

A request names the service, the method, and its arguments. It comes from below or beside as often as from above, so it is only
data: it can't name a function, and makes no instance that values from below can't make. Requests run on a bounded number of
threads, taken in turn from their senders; who sends more than may wait is told so at once.

``arrive`` runs on whichever thread reads the link; it decodes nothing and never blocks. All else runs on threads made here.
"""
import sys
import threading

from ramet.kernel import compat, failures, values
from ramet.kernel.errors import Error, ServiceError
from ramet.kernel.frames import ERROR
from ramet.kernel.proxies import SERVICE

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Iterable, List, Optional

    from ramet.kernel.core import Core, Message

THREADS_MAX = 16        # that serve one node's services
REQUESTS_MAX = 256      # of one sender that aren't answered yet
BYTES_MAX = 8 << 20     # of these; a single one may be larger
BYTES_ALL_MAX = 64 << 20        # of all senders' requests
IDLE_S = 10.0           # that a thread waits for another request before it ends

WHOM = ("ancestors", "subtree", "anyone")
_making = compat.new_lock()


def of(core, context, codec=values):
    # type: (Core, Callable[[int], Any], Any) -> Services
    """The services of a node: made at the first use. Any thread."""
    with _making:
        handler = core.handlers.get(SERVICE)
        found = getattr(handler, "__self__", None)  # type: Any
        if found is None:
            found = Services(core, context, codec)
            core.handlers[SERVICE] = found.arrive
        return found  # type: ignore[no-any-return]


def serve_here(name, thing, options):
    # type: (str, Any, Dict[str, Any]) -> None
    """What ``Node.serve`` calls over there."""
    from ramet.kernel import start
    node = start.node  # type: Any
    if isinstance(thing, type) or not _methods(type(thing), None) and callable(thing):
        thing = thing()
    of(node.core, node.context).add(name, thing, **options)


def withdraw_here(name):
    # type: (str) -> None
    """What ``Node.withdraw`` calls over there."""
    from ramet.kernel import start
    node = start.node  # type: Any
    of(node.core, node.context).remove(name)


def ids_of(allow):
    # type: (Any) -> Any
    """A policy with the ids of nodes in place of the nodes."""
    if isinstance(allow, (list, tuple, set, frozenset)):
        return [getattr(one, "id", one) for one in allow]
    return getattr(allow, "id", allow)


def _methods(cls, wanted):
    # type: (Any, Optional[Iterable[str]]) -> List[str]
    """Names of the methods of a class that may be exposed: those without an underscore, or the wanted ones."""
    names = [name for name in dir(cls) if name[:1] != "_" and callable(getattr(cls, name, None))]
    if wanted is None:
        return names
    missing = [name for name in wanted if name[:1] == "_" or name not in names]
    if missing:
        raise ValueError("%s has no public method %s" % (cls.__name__, ", ".join(map(repr, missing))))
    return list(wanted)


class Served(object):
    """One service.

    Args:
        allow: one of WHOM, the id of a node, or several of these.
        methods: names of those to expose; None: all without an underscore.
        shared: names of methods of which equal requests that come while one runs get that one's result.
        lanes: method's name -> a lane: requests of one lane run one after the other.
        threads: how many requests may run at a time.
    """

    def __init__(self, name, thing, allow, methods=None, shared=(), lanes=None, threads=8):
        # type: (str, Any, Any, Optional[Iterable[str]], Iterable[str], Optional[Dict[str, str]], int) -> None
        self.name = name
        whom = [allow] if isinstance(allow, (str, int)) else list(allow)
        wrong = [one for one in whom if one not in WHOM and not isinstance(one, int)]
        if wrong or not whom:
            raise ValueError("allow must be one of %s, a node, or several of these, not %r" % (", ".join(WHOM), allow))
        if not 1 <= threads <= THREADS_MAX:
            raise ValueError("threads must be a number from 1 to %d, not %r" % (THREADS_MAX, threads))
        self.whom = frozenset(whom)
        self.methods = dict((method, getattr(thing, method)) for method in _methods(type(thing), methods))
        self.shared = frozenset(shared)
        self.lanes = dict(lanes or {})
        unknown = [method for method in list(self.shared) + list(self.lanes) if method not in self.methods]
        if unknown or not self.methods:
            raise ValueError("the service %s has no method %s" % (name, unknown[0] if unknown else "at all"))
        self.threads = threads
        self.running = 0
        self.parked = compat.deque()  # type: Any        # requests for which it has no thread now
        self.busy = {}  # type: Dict[str, Any]          # lane -> requests that wait for it
        self.twins = {}  # type: Dict[bytes, List[Message]]     # a shared request that runs -> others that want its result

    def admits(self, message, core):
        # type: (Message, Core) -> bool
        """Whether the policy lets that node in. Both who sent it and in whose name it is sent must be admitted."""
        return all(self._admits(id, message, core) for id in {message.src, message.authority})

    def _admits(self, id, message, core):
        # type: (int, Message, Core) -> bool
        routes = core.routes
        return ("anyone" in self.whom or id in self.whom or "ancestors" in self.whom and id in routes.ancestors
                or "subtree" in self.whom and id in routes.down)

    def described(self):
        # type: () -> Dict[str, Any]
        """Method -> [its text of help, parameters]: what a proxy shows."""
        return dict((name, [getattr(method, "__doc__", None), parameters(method)]) for name, method in self.methods.items())


def parameters(method):
    # type: (Any) -> Any
    """[[name, kind, text of the default or None] ...] of a method; None where this Python can't tell."""
    try:
        import inspect
        found = inspect.signature(method).parameters.values()
    except Exception:
        return None
    return [[p.name, int(p.kind), None if p.default is p.empty else failures._text(repr(p.default))] for p in found]


class Services(object):
    """All services of a node.

    Args:
        context: makes the values.Context for what a node sends.
        codec: ``values``, or what does the same faster.

    Attributes:
        refused: requests that weren't admitted, or came when too many waited.
    """

    def __init__(self, core, context, codec):
        # type: (Core, Callable[[int], Any], Any) -> None
        self.core = core
        self.context = context
        self.codec = codec
        self.served = {}  # type: Dict[str, Served]
        self.waiting = {}  # type: Dict[int, Any]        # sender -> its requests that no thread has looked at
        self.turns = compat.deque()  # type: Any         # senders that have some
        self.loads = {}  # type: Dict[int, List[int]]    # sender -> number and bytes of its requests that aren't answered
        self.bytes = 0
        self.changed = threading.Condition()
        self.threads = self.idle = self.queued = 0
        self.refused = 0
        self.closed = False

    def close(self):
        # type: () -> None
        """Let the threads end that have nothing to do, and the others when they are done."""
        with self.changed:
            self.closed = True
            self.served.clear()
            self.changed.notify_all()

    def add(self, name, thing, allow, **options):
        # type: (str, Any, Any, **Any) -> Served
        """Serve an object. Raises ValueError if that name is taken, or an option is wrong."""
        served = Served(name, thing, allow, **options)
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
            for jobs in [served.parked] + list(served.busy.values()):
                for job in jobs:
                    left += [job[0]] + served.twins.pop(bytes(job[0].body), [])
                jobs.clear()
        for message in left:
            self._refuse(message, self._unknown(name))

    # ------------------------------------------------------------------ taking requests

    def arrive(self, message):
        # type: (Message) -> None
        """Take a request. On whichever thread reads the link."""
        src, size = message.src, len(message.body)
        with self.changed:
            load = self.loads.setdefault(src, [0, 0])
            full = load[0] >= REQUESTS_MAX or load[0] and (load[1] + size > BYTES_MAX or self.bytes + size > BYTES_ALL_MAX)
            load[0] += 1
            load[1] += size
            self.bytes += size
            if not full:
                queue = self.waiting.setdefault(src, compat.deque())
                queue.append(message)
                if len(queue) == 1:
                    self.turns.append(src)
                self.queued += 1
                start = self.queued > self.idle and self.threads < THREADS_MAX
                self.threads += start
                self.changed.notify()
        if full:
            self._refuse(message, "too many requests of this node wait: ask again later")
        elif start:
            thread = threading.Thread(target=self._work, name="ramet-service")
            thread.daemon = True
            thread.start()

    def _next(self):
        # type: () -> Any
        """The next request, in turn from each sender. Under the lock; None if there is none."""
        if not self.turns:
            return None
        src = self.turns.popleft()
        queue = self.waiting[src]
        message = queue.popleft()
        self.queued -= 1
        if queue:
            self.turns.append(src)
        else:
            del self.waiting[src]
        return message

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
            job = self._admitted(message)
            while job:
                job = self._run(*job)

    def _admitted(self, message):
        # type: (Message) -> Any
        """What a request asks for, if it can run now: (message, its service, method, args, kwargs)."""
        try:
            asked = self.codec.decode(message.body, self.context(message.src))
            name, method, args, kwargs = asked
            served = self.served.get(name)
            if served is None or not served.admits(message, self.core):
                raise LookupError(self._unknown(name))      # who isn't admitted doesn't learn that there is one
            if method is None:
                self._reply([message], self.codec.encode(served.described()), 0)
                return None
            if method not in served.methods:
                raise LookupError("the service %s has no method %r" % (name, method))
        except LookupError as error:
            self._refuse(message, error.args[0])
        except Error as error:
            self._refuse(message, "%s" % error)
        except Exception:
            self._refuse(message, "malformed request for a service")
        else:
            job = message, served, method, args, kwargs
            with self.changed:
                return job if self._may_begin(job) else None
        return None

    def _may_begin(self, job):
        # type: (Any) -> bool
        """Whether a request begins now; else it is kept where it waits. Under the lock."""
        message, served, method = job[:3]
        if method in served.shared:
            twins = served.twins.get(bytes(message.body))
            if twins is not None:
                twins.append(message)
                return False
            served.twins[bytes(message.body)] = []
        return self._has_room(job)

    def _has_room(self, job):
        # type: (Any) -> bool
        served, method = job[1:3]
        lane = served.lanes.get(method)
        if lane in served.busy:
            served.busy[lane].append(job)
            return False
        if served.running >= served.threads:
            served.parked.append(job)
            return False
        served.running += 1
        if lane is not None:
            served.busy[lane] = compat.deque()
        return True

    # ------------------------------------------------------------------ running them

    def _run(self, message, served, method, args, kwargs):
        # type: (Message, Served, str, Any, Any) -> Any
        """Run one request, and answer it. Returns the next of that service that may begin, or None."""
        flags = 0
        try:
            chunks = self.codec.encode(served.methods[method](*args, **kwargs), self.context(message.src), "result")
        except BaseException:
            chunks, flags = failures.pack(sys.exc_info()[1]), ERROR
        with self.changed:
            twins = served.twins.pop(bytes(message.body), []) if method in served.shared else []
            following = self._following(served, served.lanes.get(method))
        self._reply([message] + twins, chunks, flags)
        return following

    def _following(self, served, lane):
        # type: (Served, Any) -> Any
        """What may begin in the place of a request that has ended. Under the lock."""
        if lane is not None:
            if served.busy[lane]:
                return served.busy[lane].popleft()
            del served.busy[lane]
        served.running -= 1
        while served.parked:
            job = served.parked.popleft()
            if self._has_room(job):
                return job
        return None

    def _reply(self, messages, chunks, flags):
        # type: (List[Message], List[Any], int) -> None
        for message in messages:
            with self.changed:
                load = self.loads[message.src]
                load[0] -= 1
                load[1] -= len(message.body)
                self.bytes -= len(message.body)
                if not load[0]:
                    del self.loads[message.src]
            try:
                self.core.reply(message, chunks, flags)
            except Error:       # larger than a message may be
                self.core.reply(message, failures.pack(sys.exc_info()[1]), ERROR)

    def _refuse(self, message, why):
        # type: (Message, str) -> None
        self.refused += 1
        self._reply([message], failures.pack(ServiceError(why)), ERROR)

    def _unknown(self, name):
        # type: (Any) -> str
        return "there is no service %.100r for that node here" % (name,)
