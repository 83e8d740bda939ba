"""The children of a node: growing them, passing modules on to them, ending them. Late part of the kernel.

In the controller and in nodes alike. ``handle``, ``pass_on`` and ``grow`` run on whichever thread reads the link, the rest
on the keeper.
"""
import zlib

from ramet.kernel import descent, failures, grow, limits, main_thread, refusing, relaying, stub, values
from ramet.kernel.core import END, MODULE_REQUEST
from ramet.kernel.diagnosis import connect_error
from ramet.kernel.faults import ProtocolError
from ramet.kernel.frames import CONTROL, DEAD, ERROR
from ramet.kernel.handles import LINK, REFUSED

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional, Set, Tuple

    from ramet.kernel.core import Core, Message
    from ramet.kernel.links import Link
    from ramet.kernel.start import Self

# A question for a secret, to the controller. Well known, though not in ``core``: only who grows children needs it.
SECRET = 25


# How long a node that outlives its link has to send what it has said before that is closed.
leave_within_s = 2.0

# How long a program may outlive its link when all are to end: less than its parent has for that.
linger_s = 0.5


def make(node):
    # type: (Self) -> Nursery
    """A node's own. What the node was made of is what its children of the same form are made of."""
    main_thread.look_out()
    form, kernel = node.kernel
    made = Nursery(node.core, node.cache, {form: stub.HEAD + zlib.compress(kernel)})
    made.close_grace_s = node.config.get("close_grace_s", limits.close_grace_s)
    node.core.handlers[REFUSED] = made.on_blamed
    return made


class Child(object):
    """What a parent keeps of one child."""

    def __init__(self, id, name, link):
        # type: (int, str, Any) -> None
        self.id = id
        self.name = name
        self.link = link
        self.growth = None  # type: Optional[Any]
        self.process = None  # type: Optional[Any]
        self.cut = False        # it is to end: also if it has just come up, so that its growth can't be aborted any more
        self.leads = False      # its process only leads to the node, whose guardian doesn't end that; and it can't be kept
        self.left = ""          # why it was asked to let its link go, if it was
        self.steps = {}  # type: Dict[str, float]   # of its growth, and how long it took to get there, in seconds
        self.given = set()  # type: Set[Tuple[str, str]]      # (form, module): what it has from us


def _drained(link):
    # type: (Link) -> List[Any]
    """Take what may be sent of what waits for a link that isn't open."""
    with link.writing:
        data = link.queue.take(1 << 40)
    return [data] if isinstance(data, bytes) else list(data.buffers)


class Nursery(object):
    """Grows and keeps the children of one node.

    Args:
        payloads: form -> loader and kernel, ready to send.
        on_lost: called with (ids, reason) when descendants are lost.

    Attributes:
        close_grace_s: how long children have to end when they are asked to.
    """

    close_grace_s = limits.close_grace_s

    def __init__(self, core, cache, payloads, on_lost=None):
        # type: (Core, Any, Dict[str, bytes], Optional[Callable[..., Any]]) -> None
        self.core = core
        self.cache = cache
        self.payloads = payloads
        self.losses = descent.Losses(core, on_lost)
        self.children = {}  # type: Dict[int, Child]    # by id
        self.runs = {}  # type: Dict[int, Any]      # commands under way, by id
        self.lingering = set()  # type: Set[Any]    # processes that lead to nodes, and have outlived their links
        self.ended = None  # type: Optional[Callable[[], Any]]
        self.modules = relaying.ModuleRelay(core, cache, self.children)
        self.pass_on = self.modules.pass_on

    def handle(self, message):
        # type: (Message) -> None
        """Take a message about children that has come over a link."""
        try:
            if message.handle == MODULE_REQUEST:
                self.modules.request(message)
            elif not self.core.routes.commands(message.authority):
                self.core.refused += 1
            else:
                self._grow(message)
        except ProtocolError:
            self.core.refused += 1

    def on_blamed(self, message):
        # type: (Message) -> None
        """[child]: an ancestor has refused too much of what that one sends."""
        if not self.core.routes.commands(message.authority):
            self.core.refused += 1
            return
        id, = values.decode(message.body)
        if id in self.children:
            self.children[id].link.watcher.slow_down()

    # ------------------------------------------------------------------ growing

    def grow(self, id, plan, config, done, on_form=None, on_question=None):
        # type: (int, Dict[str, Any], bytes, Callable[[Any], Any], Optional[Callable[[str], Any]], Any) -> Link
        """Start a child. What is sent to it from now on waits and follows the kernel at once. Thread-safe.

        Args:
            plan: from a connector.
            config: the CONFIG frame.
            done: called with None when it is up, or with a ConnectError when it can't be.
            on_form: called when its interpreter is known, before anything is sent to it.
            on_question: who is asked for secrets that the plan doesn't have; see ``questions``.

        Returns:
            The link to it, which isn't open yet.
        """
        link = refusing.ChildLink(self.core, id, self._lost)
        child = Child(id, plan["name"], link)
        child.leads = plan["shape"] in ("pipes", "pipes+tty")

        def started(form):
            # type: (str) -> bytes
            if on_form:
                on_form(form)
            behind = b"".join([config] + _drained(link))
            link.bytes_out += len(self._payload(form)) + len(behind)
            return behind

        def up(process, fd_in, fd_out, data, behind=b""):
            # type: (Any, int, int, bytes, bytes) -> None
            child.steps = child.growth.steps  # type: ignore[union-attr]
            child.growth = None
            child.process = process
            link.tail = behind      # what its growth hasn't sent
            link.bytes_out -= len(behind)
            link.open(fd_in, fd_out, data)
            done(None)
            if child.cut and not process.lent:
                self._end(child)
            elif child.cut:     # it was kept before it was attached, and is kept
                link.close("it was closed while it connected")

        def failed(error):
            # type: (Any) -> None
            child.growth = None
            done(error)
            link.close(error.args[0])
        kind = grow.Growth  # type: Any
        if plan["shape"] == "fork":
            from ramet.kernel import template
            kind = template.Fork
        elif plan["shape"] == "kept":
            from ramet.kernel import coming_back
            kind = coming_back.Attachment
        child.growth = kind(self.core.loop, plan, self._payload, started, up, failed, on_question)
        self.losses.descendants.add(id, link, self.core.id)     # first: who loses it takes that out
        self.children[id] = child   # not before: who ends it, ends its growth
        self.core.loop.call_soon(self._begin, child)
        return link

    def _begin(self, child):
        # type: (Child) -> None
        """Start a child's program, unless all were to end meanwhile."""
        if self.ended:
            self._end(child)
        elif child.growth:      # else it was ended before its turn, and that is over already
            child.growth.start()

    def run(self, id, plan, data, timeout_s, keep_bytes, done, on_question):
        # type: (int, Dict[str, Any], bytes, Any, int, Callable[[Any, Any], Any], Any) -> None
        """Run a command over a connector; see ``raw.RawRun``. Thread-safe."""
        from ramet.kernel import raw

        def over(error, result):
            # type: (Any, Any) -> None
            self.runs.pop(id, None)
            done(error, result)
            self._if_none_is_left()
        run = self.runs[id] = raw.RawRun(self.core.loop, plan, data, timeout_s, keep_bytes, over, on_question)
        if self.ended:      # before this one was here to be ended, too
            run.abort("it was closed")
        self.core.loop.call_soon(run.start)

    def _payload(self, form):
        # type: (str) -> bytes
        try:
            return self.payloads[form]
        except KeyError:
            return self.payloads["source"]

    def _grow(self, message):
        # type: (Message) -> None
        id, plan, config, payloads = values.decode(message.body)
        if config is None:      # no node: a command
            data, timeout_s, keep_bytes = payloads
            self.run(id, plan, data, timeout_s, keep_bytes, lambda error, result: self.core.reply(
                message, failures.pack(error) if error else values.encode(result), CONTROL | (error and ERROR or 0)),
                self.asker(id))
            return
        self.payloads.update(payloads)

        def done(error):
            # type: (Any) -> None
            if error is None:
                self.core.reply(message, values.encode(self.children[id].steps if id in self.children else {}), CONTROL)
            else:
                self.core.reply(message, failures.pack(error), CONTROL | ERROR)
        self.grow(id, plan, config, done, None, self.asker(id))

    def asker(self, id):
        # type: (int) -> Callable[..., Any]
        """Asks the controller for the secrets of what is started here under this id, when they are asked for."""
        def ask(name, attempt, text, answer):
            # type: (str, int, str, Callable[..., Any]) -> None
            def answered(flags, body):
                # type: (int, Any) -> None
                value, why = (None, bytes(body).decode("utf-8", "replace")) if flags & DEAD else values.decode(body)
                answer(value, why)
            self.core.ask(0, SECRET, values.encode([id, name, attempt, text]), answered, CONTROL)
        return ask

    # ------------------------------------------------------------------ losing and ending

    def _lost(self, link, reason):
        # type: (Link, str) -> None
        """A child's link is closed. Give its process a moment, to say why."""
        child = [child for child in list(self.children.values()) if child.link is link][0]
        process, reason = child.process, child.left or reason
        if process is None or process.lent or process.poll() is not None:
            self._bury(child, reason)
        else:
            process.on_exit(lambda *_: self._bury(child, reason))
            self.core.loop.call_later(0.2, self._bury, child, reason)
            self.core.loop.call_later(linger_s if self.ended and child.leads else limits.close_grace_s, process.kill)
            if child.leads:
                self.lingering.add(process)
                process.on_exit(lambda *_: self._lingered(process))

    def _lingered(self, process):
        # type: (Any) -> None
        self.lingering.discard(process)
        self._if_none_is_left()

    def _bury(self, child, reason):
        # type: (Child, str) -> None
        if child.id not in self.children:
            return
        process = child.process
        reason = "node %s: %s" % (child.name, reason)   # those behind it are lost for the same reason
        if process is not None:
            status = process.poll()
            if status is not None:
                reason += "; its process %d %s" % (
                    process.pid, "was ended by signal %d" % -status if status < 0 else "ended with status %d" % status)
            tail = process.stderr_tail().strip()
            if tail:
                reason += "; last lines: " + tail[-limits.reason_chars_max // 2:]
        self.children.pop(child.id, None)
        self.losses.link_lost(child.link, reason)
        self._if_none_is_left()

    def end(self, id):
        # type: (Any) -> None
        """End a child without asking it: its link is closed, the guardian over there does the rest. Or [id]: let that child go,
        which outlives its link from now on. Thread-safe."""
        if isinstance(id, list):
            child = self.children.get(id[0])
            if child and child.process:
                self.core.loop.call_soon(self._let_go, child)
            return
        child, run = self.children.get(id), self.runs.get(id)
        if child:
            self.core.loop.call_soon(self._end, child)
        if run:
            run.abort("it was closed")

    def _end(self, child):
        # type: (Child) -> None
        child.cut = True
        if child.growth:
            child.growth.abort("it was closed while it connected")      # `failed` closes the link when all is cleaned up
        else:
            child.link.close("it was closed")
            if child.process:       # else its growth has just failed, and it is about to be buried
                child.process.kill()

    def _let_go(self, child):
        # type: (Child) -> None
        if not child.process.lent:      # type: ignore[union-attr]
            child.process.lend()        # type: ignore[union-attr]
        self._leave(child, "it was detached")

    def _leave(self, child, reason):
        # type: (Child, str) -> None
        """Have a node that outlives its link let that go, when what it has said so far is sent. A door has said nothing."""
        child.left = reason
        if child.process.pid:   # type: ignore[union-attr]
            self.core.tell(child.id, END, [LINK])
            self.core.loop.call_later(leave_within_s, child.link.close, reason)
        else:
            child.link.close(reason)

    def end_all(self, then):
        # type: (Callable[[], Any]) -> None
        """Ask all children to end; those that don't within ``close_grace_s`` are ended. Those that were attached are left.
        Calls ``then`` when there is none any more."""
        self.ended = then
        for child in list(self.children.values()):
            if child.process is None:
                self._end(child)
            elif child.process.lent:        # it was attached, and waits for the next program
                self._leave(child, "its program has ended")
            else:
                self.core.tell(child.id, END, [])
                self.core.loop.call_later(self.close_grace_s, self.end, child.id)
        for process in self.lingering:
            self.core.loop.call_later(linger_s, process.kill)
        for run in list(self.runs.values()):
            run.abort("it was closed")
        self._if_none_is_left()

    def give_up(self, then):
        # type: (Callable[[], Any]) -> None
        """Wait no longer for those that were to end: cut what there is of them, and tell who waits for them. On the keeper."""
        self.ended = then
        for child in list(self.children.values()):
            if child.process is None or not child.process.lent:
                self._end(child)
            child.link.close("it was closed")       # also of a growth whose program can't be killed
        for run in list(self.runs.values()):
            run.abort("it was closed")
            self.core.loop.call_soon(run._report, connect_error(run.plan, {"text": "it was closed"}))
        for process in self.lingering:
            process.kill()
        self._if_none_is_left()

    def _if_none_is_left(self):
        # type: () -> None
        if self.ended and not (self.children or self.runs or self.lingering):
            self.ended()
