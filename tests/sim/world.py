"""A world of simulated nodes: the kernel's pure parts, as they are, over links and clocks that are made up.

Each node has a real ``Core``, ``Routes``, ``Losses``, ``Nursery``, ``Streams``, the queues of its links (fair, with credit),
the real ``Calls.arrive``, the real keepalive (see ``silence``). What touches descriptors and threads is replaced: ``SimLoop``
for the loop, ``SimLink`` for links, ``SimCalls`` for the main thread. Time is virtual, and all that happens is an event in one
queue: the same seed, the same run.

After each event what must always hold is looked at, see ``World.check``; when nothing more happens, what must hold then.
"""
from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from ramet.kernel import calls, cancelling, compat, failures, feeds, importer, limits, nursery, streams, values
from ramet.kernel import limits_late as late
from ramet.kernel.core import CALL, CANCEL, GROW, KEEPALIVE, MODULE_REQUEST, MODULES, ROUTE, Core
from ramet.kernel.credit import CreditQueue
from ramet.kernel.descent import Losses
from ramet.kernel.faults import CallCancelled, ProtocolError
from ramet.kernel.flow import FairQueue
from ramet.kernel.fragments import whole
from ramet.kernel.frames import CONTROL, DEAD, ERROR, Parser
from sim import silence

PING = 900              # what any node answers any other
PIPE_BYTES = 1 << 18    # what the system holds of a link
MODULE_NAMES = [f"m{n}" for n in range(12)]
ABSENT = {"m10", "m11"}


class Broken(AssertionError):
    """What must hold doesn't."""


def require(true: Any, text: str, *args: Any) -> None:
    """Raise Broken otherwise."""
    if not true:
        raise Broken(text % args)


class NoLock:
    """One thread needs none."""

    def __enter__(self) -> NoLock:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    acquire = release = __exit__


class Event:
    """Something that is due. A timer, too."""

    __slots__ = ("args", "fn", "node")

    def __init__(self, node: Node | None, fn: Any, args: Any) -> None:
        self.node, self.fn, self.args = node, fn, args

    def cancel(self) -> None:
        """It won't happen."""
        self.fn = None


class SimLoop:
    """A node's loop: what it is asked to do becomes an event of the world."""

    thread = -1
    shareable = True
    lock = NoLock()

    def __init__(self, node: Node) -> None:
        self.node, self.world = node, node.world

    def now(self) -> float:
        return self.world.now

    def call_soon(self, fn: Any, *args: Any) -> None:
        self.world.at(0, self.node, fn, *args)

    def call_later(self, seconds: float, fn: Any, *args: Any) -> Event:
        return self.world.at(seconds, self.node, fn, *args)

    def on_error(self, error: BaseException) -> None:
        raise Broken(f"a handler failed: {error!r}") from error


class SimLink:
    """One end of a link. What is sent arrives after the latency and the time that its bytes take, or never.

    Attributes:
        swallows: half open: what is sent vanishes.
        local: between processes of one machine, which can't be half open.
    """

    read = write = None

    def __init__(self, node: Node, on_lost: Callable[[Any, str], Any], latency_s: float, bytes_s: float, local: bool) -> None:
        self.node, self.world, self.on_lost = node, node.world, on_lost
        self.latency_s, self.bytes_s, self.local = latency_s, bytes_s, local
        self.queue: Any = FairQueue()
        self.writing = NoLock()
        self.parser = Parser()
        self.peer: SimLink | None = None
        self.dead = self.swallows = False
        self.under_way = self.bytes_in = 0
        self.free_at = 0.0
        self.borrower = None
        node.links.append(self)

    @property
    def fd_in(self) -> int:
        """-1: it isn't open."""
        return 0 if self.peer and not self.dead else -1

    def send(self, flow: Any, flags: int, frame: Any, later: bool = False) -> None:
        if not self.dead:
            self.queue.push(flow, flags, frame)
            self.flush()

    def flush(self) -> None:
        while self.peer and not self.dead and self.under_way < PIPE_BYTES:
            data = self.queue.take(limits.write_bytes_max)
            if not data:
                return
            if not isinstance(data, bytes):
                data = b"".join(bytes(buffer) for buffer in data.buffers)
            self.under_way += len(data)
            if not self.swallows:
                self.free_at = max(self.free_at, self.world.now) + len(data) / self.bytes_s
                self.world.at(self.free_at - self.world.now + self.latency_s, self.peer.node, self.peer.arrive, data)

    def arrive(self, data: bytes) -> None:
        """The peer's bytes are here."""
        peer = self.peer
        if self.dead or peer is None:
            return
        self.bytes_in += len(data)
        for header, frame in self.parser.feed(data):
            self.node.core.on_frame(self, header, frame)  # type: ignore[arg-type]
        peer.under_way -= len(data)
        if not peer.dead:
            self.world.at(0, peer.node, peer.flush)

    def close(self, reason: str) -> None:
        """As the real one: it is lost a moment later."""
        if not self.dead:
            self.dead = True
            self.world.noticed += "(keepalive)" in reason
            self.world.at(0, self.node, self.lost, reason)

    def lost(self, reason: str) -> None:
        self.queue = FairQueue()
        if self in self.node.links:
            self.node.links.remove(self)
        if self.peer:       # the other end reads to the end of what came
            self.world.at(self.latency_s, self.peer.node, self.peer.close, "its link was closed")
        self.on_lost(self, reason)


class SimLanes:
    """Other lanes than the main one: each call runs by itself."""

    tasks = None

    def __init__(self, owner: SimCalls) -> None:
        self.owner = owner
        self.jobs: dict[Any, Event] = {}

    def drain(self) -> None:
        owner = self.owner
        while owner.aside:
            message = owner.aside.popleft()
            key = message.src, message.reply_to
            if key in owner.early:
                owner.early.pop(key)
                cancelling.refuse(owner, message)
            else:
                self.jobs[key] = owner.begin(message, lambda key=key: self.jobs.pop(key, None))

    def end(self, key: Any) -> bool:
        event = self.jobs.pop(key, None)
        if event:
            event.args[-1](True)
        return event is not None


class SimCalls(calls.Calls):
    """Calls whose functions take time and nothing else."""

    def __init__(self, node: Node) -> None:
        self.node, self.core = node, node.core
        self.waiting, self.aside, self.cancels = compat.deque(), compat.deque(), compat.deque()
        self.lanes: Any = SimLanes(self)
        self.early: Any = {}
        self.lock = NoLock()
        self.current: Any = None
        self.job_event: Event | None = None
        self.waiter = self

    def wake(self) -> None:
        self.node.loop.call_soon(self.work)

    def work(self) -> None:
        """The main lane takes its next call."""
        if self.current is None and self.waiting:
            self.current = self.waiting.popleft()
            self.job_event = self.begin(self.current, self.over)

    def over(self) -> None:
        self.current = self.job_event = None
        self.wake()

    def begin(self, message: Any, over: Callable[[], Any]) -> Event:
        """Run a function: [milliseconds, bytes of the result, token] or a stream's [.., number, items, bytes of each]."""
        node = self.node
        true = message.authority in node.true_ancestors()
        require(true, "node %d runs a call by authority of %d", node.id, message.authority)
        _, args, _, _ = values.decode(message.body)
        self.node.world.ran.add(args[2])

        producer: list[Producer] = []

        def done(cancelled: bool = False) -> None:
            event.cancel()
            over()
            for one in producer:
                one.end()
            if cancelled:
                self.core.reply(message, failures.pack(CallCancelled("cancelled while it ran")), ERROR)
            else:
                self.core.reply(message, values.encode([args[2], b"r" * args[1]]))
        if len(args) > 4:       # it ends with its stream
            event = Event(node, None, (done,))
            producer.append(Producer(node, message.src, *args[4:], done))
        else:
            event = node.world.at(args[0] / 1000, node, lambda _done: done(), done)
        return event

    def cancel(self, message: Any) -> None:
        """As the real one, without its thread."""
        if not self.core.routes.commands(message.authority):
            self.core.refused += 1
            return
        key = message.src, values.decode(message.body)[0]
        if self.current and (self.current.src, self.current.reply_to) == key:
            if self.job_event:
                self.job_event.args[-1](True)
        else:
            self.cancels.append(message)
            cancelling.take(self, message)


class Producer:
    """What a generator's call does: items, as far as there is credit."""

    def __init__(self, node: Node, reader: int, number: int, count: int, size: int, done: Callable[[], Any]) -> None:
        self.done = done
        self.feed = feeds.Feed(node.streams(), reader, number, 0, (streams.WINDOW_BYTES, streams.WINDOW_ITEMS))
        self.left, self.size = count, size
        self.feed.on_room = self.feed.on_stop = self.go_on
        self.busy = self.over = False
        node.loop.call_soon(self.go_on)

    def end(self) -> None:
        """It was ended, or has come to its end."""
        self.over = True
        self.feed.on_room = self.feed.on_stop = None
        if not self.feed.stopped:
            self.feed.end(streams.ENDS, values.encode(None))
        self.feed.forget()

    def go_on(self) -> None:
        feed = self.feed
        if self.busy or self.over:
            return
        self.busy = True
        chunks = values.encode(b"i" * self.size)
        size = sum(map(len, chunks))
        while self.left and not feed.stopped and feed.room(size):
            self.left -= 1
            feed.put(chunks, size)
        under_way = feed.bytes - feed.taken_bytes
        require(under_way <= max(feed.window_bytes, size), "a stream has %d bytes under way", under_way)
        if self.left and not feed.stopped:
            feed.want()
        self.busy = False
        if feed.stopped or not self.left:
            self.done()


class Node:
    """One simulated node."""

    def __init__(self, world: World, id: int, parent: Node | None) -> None:
        self.world, self.id, self.parent = world, id, parent
        self.children: set[int] = set()     # in truth, whatever anybody believes
        self.links: list[SimLink] = []
        self.alive, self.stopped, self.busy = True, False, False
        self.away_since = self.back_at = self.wakes_at = 0.0
        self.watch: Any = None
        self.config: dict[str, Any] = {}
        self.frozen: list[Event] = []
        self.loop = SimLoop(self)
        ancestors = (parent.id, *parent.core.routes.ancestors) if parent else ()
        self.core = Core(id, ancestors, self.loop)  # type: ignore[arg-type]
        self.core.handlers = Delivered(self, self.core.handlers)
        self.nursery: Any = None
        self.cache = importer.ModuleCache()
        self._streams: Any = None
        if parent:
            self.calls = SimCalls(self)
            self.core.handlers.update({CALL: self.calls.arrive, CANCEL: self.calls.cancel, GROW: self.on_grow,
                                       MODULES: self.on_modules, MODULE_REQUEST: lambda message: self.family().handle(message),
                                       KEEPALIVE: lambda message: silence.on_keepalive(self, message)})
        # Whoever is asked by siblings hears of their loss, as with services, channels and ``ramet.here()``: before they ask.
        Losses(self.core)
        self.core.handlers[PING] = lambda message: self.core.reply(message, [bytes(message.body)])

    def true_ancestors(self) -> list[int]:
        """Ids from the parent up: what it was born with can't change."""
        return [] if self.parent is None else [self.parent.id, *self.parent.true_ancestors()]

    def streams(self) -> Any:
        if self._streams is None:
            self._streams = streams.Streams(self.core, values)
        return self._streams

    def family(self) -> Any:
        if self.nursery is None:
            self.nursery = nursery.Nursery(self.core, self.cache, {}, self.world.on_lost if self.parent is None else None)
        return self.nursery

    # ------------------------------------------------------------------ growing

    def on_grow(self, message: Any) -> None:
        """A GROW of the controller: [id]."""
        if not self.core.routes.commands(message.authority):
            self.core.refused += 1
            return
        id, = values.decode(message.body)
        self.bear(id, lambda: self.core.reply(message, values.encode(id), CONTROL))

    def bear(self, id: int, up: Callable[[], Any]) -> None:
        """Begin to grow a child: what is sent to it waits until it is up."""
        world, family = self.world, self.family()
        link = SimLink(self, family._lost, *world.speed(), world.rng.random() < 0.3)
        family.children[id] = nursery.Child(id, f"n{id}", link)
        family.losses.descendants.add(id, link, self.id)
        self.children.add(id)

        def born() -> None:
            if link.dead:
                return
            child = world.nodes[id] = Node(world, id, self)
            below = SimLink(child, child.orphan, link.latency_s, link.bytes_s, link.local)
            child.core.routes.parent = below
            child.config = world.settings(link.local)
            family.children[id].process = silence.SimProcess(child, link.local)
            link.peer, below.peer = below, link
            link.flush()
            up()
        world.at(world.rng.uniform(0.01, 0.5), self, born)

    def on_modules(self, message: Any) -> None:
        """As ``start.Self`` does it."""
        if message.src not in self.core.routes.ancestors:
            self.core.refused += 1
            return
        target, form, names, records, absent = values.decode(message.body)
        mine = target == self.id
        self.cache.add(form, records, absent if mine else {})
        if not mine:
            self.family().pass_on(target, form, names, absent)

    # ------------------------------------------------------------------ the end

    def orphan(self, _: Any, reason: str) -> None:
        """The parent is gone."""
        self.world.at(self.world.rng.uniform(0, 1.0), self, self.die)

    def die(self) -> None:
        """All at once, as by SIGKILL: the other ends of its links hear of it."""
        if self.alive:
            self.alive = False
            self.world.lose(self.id)
            for link in self.links:
                link.dead = True
                if link.peer:
                    self.world.at(link.latency_s, link.peer.node, link.peer.close, "its link was closed")
                else:       # a child that was being started
                    self.world.lose(*[id for id in self.children if id not in self.world.nodes])

    @property
    def away(self) -> bool:
        """Whether it does nothing at all, though it lives."""
        return self.stopped or self.busy

    def stop(self) -> None:
        """As by SIGSTOP. After a while its neighbours take it for lost."""
        if self.alive and not self.away:
            self.stopped = True
            self._leave()

    def hold(self) -> None:
        """It is in C code that holds the GIL: it runs, but nothing comes from it."""
        if self.alive and not self.away:
            self.busy = True
            self._leave()

    def _leave(self) -> None:
        self.away_since, self.wakes_at = self.world.now, 0.0
        if self.config:
            silence.silent(self)

    def resume(self) -> None:
        """It goes on."""
        if self.away:
            self.stopped = self.busy = False
            self.back_at = self.world.now
            frozen, self.frozen = self.frozen, []
            for event in frozen:
                self.world.at(0, self, event.fn, *event.args)

    def resume_in(self, seconds: float) -> None:
        """It goes on then, unless it does before."""
        since = self.away_since
        self.wakes_at = self.world.now + seconds
        self.world.at(seconds, None, lambda: self.away_since == since and self.resume())


class Delivered(dict):  # type: ignore[type-arg]
    """A core's handlers; nothing gets to one on false authority."""

    def __init__(self, node: Node, handlers: Any) -> None:
        super().__init__(handlers)
        self.node = node

    def __getitem__(self, handle: int) -> Any:
        found = super().__getitem__(handle)

        def deliver(message: Any) -> Any:
            node, came = self.node, message.link.peer.node
            for id in message.src, message.authority:
                path = self.node.world.path.get(id, ())     # of whom it says that it is, up to the root
                if came is node.parent:
                    true = node.id not in path and id != node.id
                else:
                    true = came.id == id or came.id in path
                require(true, "node %d took a message as from %d over its link to %d", node.id, id, came.id)
            return found(message)
        return deliver


class World:
    """All nodes, the clock, what is due.

    Args:
        seed: of all that is random here: speeds and delays.
        keepalive: whether nodes look after their neighbours. Something happens for ever then: see ``Keeping.rest``.

    Attributes:
        now: seconds since it began.
        path: id -> ids of its ancestors, in truth.
        losable: ids of nodes that were lost or cut off, or might take themselves for that: only their calls may end so.
        waits: what was asked of anybody and isn't answered.
        noticed: how many links were closed since nothing came over them.
    """

    def __init__(self, seed: Any, keepalive: bool = False) -> None:
        self.rng = random.Random(f"world:{seed}")
        self.now = 0.0
        self.steps = 0
        self.due: list[tuple[float, int, Event]] = []
        self.order = 0
        self.path: dict[int, tuple[int, ...]] = {0: ()}
        self.losable: set[int] = set()
        self.waits: dict[int, str] = {}
        self.ran: set[int] = set()
        self.outcomes = {"value": 0, "dead": 0, "cancelled": 0, "refused": 0}
        self.most_queued = self.noticed = 0
        self.cancelled = False
        self.nodes: dict[int, Node] = {}
        self.root = self.nodes[0] = Node(self, 0, None)
        self.root.family()
        self.root.core.longs()
        self.root.core.handlers[MODULE_REQUEST] = self.on_module_request
        self.ids = self.tokens = 0
        self.keeping = silence.Keeping(self) if keepalive else None
        for name in MODULE_NAMES:
            if name not in ABSENT:
                self.root.cache.add("source", [[name, 0, "ramet:/m.py", b"#" * 3000]], {})

    # ------------------------------------------------------------------ time

    def at(self, seconds: float, node: Node | None, fn: Any, *args: Any) -> Event:
        """Have something happen."""
        event = Event(node, fn, args)
        self.order += 1
        heapq.heappush(self.due, (self.now + seconds, self.order, event))
        return event

    def step(self) -> bool:
        """The next event. False: nothing is due."""
        if not self.due:
            return False
        self.now, _, event = heapq.heappop(self.due)
        node = event.node
        if event.fn is None or (node is not None and not node.alive):
            return True
        if node is not None and node.away:
            node.frozen.append(event)
            return True
        if self.keeping and self.keeping.holds(event):
            return True
        self.steps += 1
        event.fn(*event.args)
        if node is not None:
            self.check(node)
        return True

    def run(self, until: float | None = None, steps_max: int = 5_000_000) -> None:
        """Until then, or until nothing more happens."""
        last = self.steps + steps_max
        while self.due and (until is None or self.due[0][0] <= until):
            self.step()
            require(self.steps < last, "it goes on and on: %d steps", self.steps)
        if until is not None:
            self.now = max(self.now, until)

    def speed(self) -> tuple[float, float]:
        """A link's latency in seconds and bytes per second."""
        return self.rng.choice([0.0001, 0.001, 0.02, 0.1, 2.0 if self.keeping else 0.1]), self.rng.choice([1e6, 1e7, 1e9])

    def settings(self, local: bool) -> dict[str, Any]:
        """Of a node's CONFIG."""
        return {"keepalive": [silence.KEEPALIVE_S, silence.LOST_AFTER_S, local]} if self.keeping else {}

    def rest(self) -> None:
        """Until nothing happens any more."""
        if self.keeping:
            self.keeping.rest()
        else:
            self.run()

    # ------------------------------------------------------------------ what may be done

    def grow(self, parent: Node) -> int:
        """Grow a node, as the controller does. Returns its id."""
        self.ids += 1
        id = self.ids
        self.path[id] = (parent.id, *self.path[parent.id])
        if parent is self.root:
            parent.bear(id, lambda: self.up(id))
            return id
        core = self.root.core
        link = core.routes.link_to(parent.id)
        if link is None:
            return id
        self.root.family().losses.descendants.add(id, link, parent.id)
        for above in self.path[parent.id][:-1]:
            core.tell(above, ROUTE, [id, parent.id])

        def answered(flags: int, body: Any) -> None:
            if flags & DEAD:
                self.lose(id)
                self.root.family().losses.lose([id], link, "its parent is gone")
            else:
                self.up(id)
        self.ask(self.root, parent.id, GROW, [id], answered, CONTROL)
        return id

    def up(self, id: int) -> None:
        """The controller hears that a node is up."""
        if self.keeping:
            self.keeping.new.append(id)

    def ask(self, node: Node, dst: int, handle: int, value: Any, then: Any, flags: int = 0, flow: int = 0) -> int:
        """Ask somebody for something. Whatever happens, it must be answered once, while who asked lives."""
        self.tokens += 1
        token, what = self.tokens, f"node {node.id} asked {dst} for {handle} at {self.now:.3f}"
        self.waits[token] = what

        def answered(flags: int, body: Any) -> None:
            require(self.waits.pop(token, None), "answered twice: %s", what)
            if flags & DEAD:
                text = bytes(body).decode()
                known = self.may_be_lost(dst) or self.may_be_lost(node.id) or text.startswith("refused")
                require(known, "a false death: %s: %s", what, text)
            then(flags, body)
        chunks = value if isinstance(value, list) and value and isinstance(value[0], memoryview) else values.encode(value)
        return node.core.ask(dst, handle, chunks, answered, flags, flow)

    def call(self, dst: int, work_ms: int, result: int, argument: int, flow: int = 0, caller: Node | None = None,
             stream: list[int] | None = None) -> int:
        """Call a function. Returns the reply handle."""
        self.tokens += 1
        token = self.tokens
        caller = caller or self.root

        def answered(flags: int, body: Any) -> None:
            if flags & DEAD:
                self.outcomes["refused" if bytes(body).startswith(b"refused") else "dead"] += 1
            elif flags & ERROR:
                self.outcomes["cancelled"] += 1
            else:
                said = values.decode(body)
                require(said == [token, b"r" * result], "a wrong result of node %d", dst)
                self.outcomes["value"] += 1
        return self.ask(caller, dst, CALL, ["f", [work_ms, result, token, b"a" * argument, *(stream or ())], {}, {}], answered,
                        0, flow)

    def stream(self, dst: int, count: int, size: int, pause_s: float, stop_at: int) -> None:
        """Call a generator, and take its items with pauses; stop early, or never."""
        root = self.root
        number = root.streams().number(False)
        intake = streams.Intake(root.streams(), dst, number, None)
        taken: list[int] = [0]

        def ready() -> None:
            self.at(pause_s, root, take)

        def take() -> None:
            require(intake.bytes - intake.taken_bytes <= max(streams.WINDOW_BYTES_MAX, size + 9), "an intake holds too much")
            items = intake.take()
            if items:
                require(all(item == b"i" * size for item in items), "items are mixed up")
                taken[0] += len(items)
                if 0 < stop_at <= taken[0]:
                    intake.stop()
                    return
            if not intake.ended or intake.bodies:
                intake.on_ready(ready)
            elif not intake.error and not self.cancelled:
                require(taken[0] == count, "a stream has %d of %d items", taken[0], count)
            self.root.streams().flush()
        intake.on_ready(ready)
        handle = self.call(dst, 1, 1, 1, 0, None, [number, count, size])
        told, callback = root.core.pending.get(handle, (0, None))
        if callback is None:
            intake.end(None, ProtocolError("no way"))
            return

        def answered(flags: int, body: Any) -> None:
            callback(flags, body)
            if flags & (DEAD | ERROR):
                intake.end(None, ProtocolError("gone"))
        root.core.pending[handle] = told, answered

    def fetch(self, node: Node, name: str) -> None:
        """Import a module in a node."""
        def answered(flags: int, body: Any) -> None:
            if not flags & DEAD:
                known = node.cache.get("source", name) or name in node.cache.reasons
                require(known, "node %d has an answer, but not module %s", node.id, name)
        self.ask(node, node.core.routes.ancestors[0], MODULE_REQUEST, ["source", [name], node.id], answered, CONTROL)

    def on_module_request(self, message: Any) -> None:
        """The controller's module server, in short."""
        form, names, target = values.decode(message.body)
        if self.root.core.routes.down.get(target) is not message.link:
            self.root.core.refused += 1
            self.root.core.reply(message, values.encode(None), CONTROL)
        elif message.reply_to:
            absent = {name: "absent" for name in names if name in ABSENT}
            self.root.family().pass_on(target, form, names, absent)
            self.root.core.reply(message, values.encode([names, absent]), CONTROL)

    def ping(self, node: Node, dst: int, size: int) -> None:
        """Ask any node from any other."""

        def answered(flags: int, body: Any) -> None:
            require(flags & DEAD or values.decode(body) == b"p" * size, "a wrong answer")
        self.ask(node, dst, PING, b"p" * size, answered)

    def forge(self, node: Node, src: int, authority: int, dst: int, handle: int, flags: int, value: Any) -> None:
        """A node writes a frame of its own making on its link upwards."""
        link = node.core.routes.parent
        if link and not link.dead:
            chunks = values.encode(value)
            link.send((src, dst, 1), flags & CONTROL, whole(flags, 1, dst, src, authority, handle, 0, chunks))

    def cut(self, link: SimLink, silent: bool) -> None:
        """A link breaks; silent: it is half open, and neither end hears of it."""
        if not link.peer or link.dead or link.peer.dead or link.swallows:
            return
        if silent and (link.local or not link.node.watch or not link.peer.node.watch):
            return      # who wasn't told to look after its neighbours yet doesn't
        self.lose(link.node.id if link.node.parent is link.peer.node else link.peer.node.id)
        for end in link, link.peer:
            end.swallows = True
            if not silent:
                self.at(self.rng.uniform(0, 0.2), end.node, end.close, "connection reset")
        if silent:
            silence.half_open(link)

    def lose(self, *ids: int) -> None:
        """These may be taken for lost from now on, and all below them."""
        self.losable.update(ids)

    def may_be_lost(self, id: int) -> bool:
        """Whether anything has happened to that node, or to one above it."""
        return id in self.losable or not self.losable.isdisjoint(self.path.get(id, ()))

    def on_lost(self, ids: list[int], reason: str) -> None:
        """The controller hears of it."""
        require(all(map(self.may_be_lost, ids)), "a false loss: %s, %s", ids, reason)

    # ------------------------------------------------------------------ what must hold

    def check(self, node: Node) -> None:
        """What must hold after each step of a node: its queues' accounts, and how much waits of others' in it."""
        for link in node.links:
            queue = link.queue
            self.most_queued = max(self.most_queued, queue.size)
            if isinstance(queue, CreditQueue):
                flows = queue.flows.values()
                require(queue.under_way == sum(flow.window.under_way for flow in flows) >= 0, "under way: a wrong account")
                require(queue.begun == sum(flow.open for flow in flows) == sum(queue.open.values()), "begun: a wrong account")
                require(queue.stops == sum(flow.stopped for flow in flows), "stopped: a wrong account")
                waits = sum(len(frame) for flow in flows for frame in flow.frames) + sum(map(len, queue.control))
                require(queue.size == waits + queue.stops, "a queue of %d bytes says %d", waits, queue.size)    # see ``stop``
                passing = sum(len(frame) for flow in flows if flow.key[0] != node.id for frame in flow.frames)
                require(passing <= late.unstopped_bytes_max, "%d bytes pass through node %d", passing, node.id)
        long = node.core.long
        if long:
            held = long.assembler.pools
            require(all(0 < size <= pool[1] for pool, size in held.items()), "unasked: %r", held)

    def check_quiet(self) -> None:
        """What must hold when nothing happens any more: nobody waits, routes are as the tree is, nothing is left in queues."""
        alive = {id: node for id, node in self.nodes.items() if node.alive}
        left = [what for what in self.waits.values() if int(what.split()[1]) in alive]
        require(not left, "%d wait without end: %s", len(left), left[:3])
        for id, node in alive.items():
            require(not node.core.pending, "node %d has %d pending", id, len(node.core.pending))
            below = {other for other in alive if id in self.path[other]}
            known = set(node.core.routes.down)
            require(known == below, "node %d: routes to %s too many, %s missing", id, sorted(known - below)[:5],
                    sorted(below - known)[:5])
            for link in node.links:
                require(not link.queue.size and not link.under_way, "node %d: %d bytes wait for ever", id, link.queue.size)
                if isinstance(link.queue, CreditQueue):
                    require(not link.queue.under_way and not link.queue.flows, "node %d: credit is never given back", id)
            if node.core.long:
                require(not node.core.long.assembler.partial, "node %d: unfinished messages", id)
            if node._streams:
                require(not node._streams.feeds and not node._streams.intakes, "node %d: streams that never end", id)

    def close(self) -> None:
        """The controller ends all: nothing may be left in it."""
        if self.keeping:
            self.root.watch.over = True
        for node in self.nodes.values():
            node.resume()
        for link in list(self.root.links):
            self.lose(*[id for id, path in self.path.items() if path])
            link.close("the tree is closed")
        self.run()
        core = self.root.core
        require(not [node for node in self.nodes.values() if node.alive and node is not self.root], "nodes outlive their tree")
        left = core.routes.down, core.descendants.parents, core.descendants.talkers, core.pending, self.root.links
        require(not any(left), "left at the end: %r", left)
        require(not core.long.neighbours and not core.long.assembler.partial, "long messages are left")
