"""From ``Node.start`` to the CALL message, and from the reply to the ``Call``.

Must not know of links or frames. ``start`` runs in the caller's thread, what it holds back in another; ``answer`` in any.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import isasyncgenfunction
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ramet import codec, functions
from ramet.call import Call
from ramet.chains import ASYNCIO, flow_of, options_for, tell_chain
from ramet.display import harmless
from ramet.inputs import Pulled, is_iterator
from ramet.kernel import circles, compat, limits, remote_errors, values
from ramet.kernel.core import CALL, CANCEL, Core, Message
from ramet.kernel.errors import CallCancelled, CallTimeout, Error, ProtocolError, ServiceError, ValueNotPortableError
from ramet.kernel.facade import ANY
from ramet.kernel.frames import DEAD, ERROR
from ramet.kernel.proxies import NONE, SERVICE
from ramet.kernel.refusing import overran
from ramet.modules.by_value import RECORD, Needs
from ramet.modules.pack import BYTECODE_FORM
from ramet.node import Node, State
from ramet.parts import CANCELLING, KERNEL, LANES, OWN, RARE, STREAMS
from ramet.service import RequestCall, Service, ends_with, within
from ramet.shelter import sheltered
from ramet.stream import Stream
from ramet.told import reason_in

if TYPE_CHECKING:
    from ramet.tree import Tree

RARE_LAST = KERNEL + RARE[-1]
# Types of arguments that are certainly no iterators, and of those that hold no large byte strings either.
PLAIN_ARGUMENTS = frozenset({str, int, float, bool, type(None), bytes, list, tuple, dict, set})
SCALARS = frozenset({str, int, float, bool, type(None)})
# From so many calls on that a node has under way, further ones are gathered: nobody waits for the first of them alone.
GATHERED_FROM = 4
# What users call places in a CALL message, and in a request for a service.
PLAIN = ("arguments[0]", "the function"), ("arguments[1]", "arguments"), ("arguments[2]", "arguments")
REQUEST = ("arguments[2]", "arguments"), ("arguments[3]", "arguments")
# And in a CALL that makes a stream, where they are arguments of ``produce``.
INSIDE = ("arguments[1][4]", "the function"), ("arguments[1][5]", "arguments"), ("arguments[1][6]", "arguments")
# What is taken of a text in which a node tells why a call is stuck.
TEXT_MAX = 200


class Caller:
    """Makes the calls of one tree."""

    def __init__(self, tree: Tree) -> None:
        self.core = tree._core
        self.loop = tree._loop
        self.modules = tree.modules
        self.shipper = tree._shipper
        self.gardener = tree._gardener
        self.unknown: dict[int, int] = {}   # by node: how often it told that a call is stuck of which nothing is known here

    @sheltered
    def start(self, node: Node, fn: Callable[..., Any], args: Any, kwargs: Any, wait: bool = False,
              stream: Stream[Any] | None = None) -> Call[Any]:
        """Send a call, or keep it until the node's interpreter is known.

        Args:
            wait: the caller will wait for it at once, so it takes the link before it sends: then the keeper isn't woken.
                Whoever sets this calls ``call._give_back()`` when it is done waiting.
            stream: gets the items of what the function returns.
        """
        state, options = node._state, options_for(fn, node._options)
        job = getattr(self.core.threads, "job", None)
        if job:     # a method of a service of this program makes this call
            if wait and options.get("lane") != ANY:
                circles.check_cycle(job.chain, node.id, flow_of(options))
            options = within(job, node, options, wait)
        pulled: list[Pulled] = []
        if kwargs or not PLAIN_ARGUMENTS.issuperset(map(type, args)):
            args, kwargs, pulled = self._pulled(node, args, kwargs)
        try:
            chunks, module, needs = self._encode(node, fn, args, kwargs, options, stream)
            ready = _is_ready(state, module, options, needs) and not pulled
            if not ready:
                self._check(state, module, needs)
        except BaseException:
            for one in pulled:
                one.end()
            raise
        call: Call[Any] = Call(node, fn)
        state.calls += 1
        if job:
            call._chain = options.get("chain", [])
            ends_with(job, call)
        if ready:
            self._send(call, chunks, 0, wait)
            return call
        for one in pulled:
            call.add_done_callback(one.end)
        self._bound(call, options)
        self._when_known(call, chunks, module, needs, options, wait, bool(stream or pulled))
        if wait:
            self.look_ahead(call)
        return call

    def look_ahead(self, call: Call[Any]) -> None:
        """Find what a call will need while its node connects. For threads that will wait for the answer anyway."""
        module = "" if call.node._state.open else functions.describe(call._fn)[1]
        if module and not module.startswith((RECORD, KERNEL)):
            try:
                self.modules.closure(module)    # which is remembered
            except Exception as error:      # who sends the call meets it as well, and tells
                logging.getLogger(__name__).debug("nothing was found out ahead of a call: %r", error)

    def _when_known(self, call: Call[Any], chunks: Any, module: str, needs: Needs | None, options: dict[str, Any], wait: bool,
                    streams: bool) -> None:
        """Send a call, and before it what it needs, as soon as the node's interpreter is known."""
        node, thread = call.node, compat.thread_id()

        def send() -> None:
            try:
                self._prepare(node, module, options, needs)
                if streams:
                    self.shipper.kernel_parts(node, STREAMS)
            except Exception as error:      # a held call is sent by the keeper: it must reach the caller
                call._settle(None, error)
            self._send(call, chunks, flow_of(options), wait and compat.thread_id() == thread)   # else nobody reads the link
        self.gardener.when_known(node, send, lambda: call._reply(DEAD, b""), chunks)

    @sheltered
    def stream(self, node: Node, fn: Callable[..., Any], args: Any, kwargs: Any) -> Stream[Any]:
        """Send a call whose items come one by one. Unless another lane was asked for, it gets a thread of its own.

        Asynchronous generators run in the asyncio lane.
        """
        if "lane" not in node._options:
            node = node.options(lane=ASYNCIO if isasyncgenfunction(fn) else ANY)
        stream: Stream[Any] = Stream(node, flow_of(node._options))
        try:
            stream._begun(self.start(node, fn, args, kwargs, stream=stream))
        except BaseException:
            stream._intake.end()
            raise
        return stream

    @sheltered
    def cast(self, node: Node, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Send a call that wants no answer."""
        state, options = node._state, options_for(fn, node._options)
        if (kwargs or not PLAIN_ARGUMENTS.issuperset(map(type, args))) and any(map(is_iterator, (*args, *kwargs.values()))):
            raise ValueNotPortableError("an iterator can't be an argument of a cast, whose end nobody hears of: use start()")
        chunks, module, needs = self._encode(node, fn, args, kwargs, options)
        if _is_ready(state, module, options, needs) and len(chunks) == 1 and len(chunks[0]) <= limits.plain_bytes_max:
            Core.send(self.core, node.id, CALL, chunks, 0, 0, 0, True)      # sheltered as it is
            return
        self._check(state, module, needs)

        def send() -> None:
            self._prepare(node, module, options, needs)
            self.shipper.before_long(node, chunks)
            self.core.send(node.id, CALL, chunks, flow=flow_of(options), later=True)
        self.gardener.when_known(node, send, lambda: None, chunks)

    @sheltered
    def request(self, node: Node, service: str, method: Any, args: Any, kwargs: Any) -> Call[Any]:
        """Ask a service of a node for something: a method of it, or None for what it is like."""
        state, name = node._state, None if method is None else method.__name__
        job = getattr(self.core.threads, "job", None)
        options = within(job, node, node._options, True) if job else node._options
        said = {key: options[key] for key in ("timeout", "chain") if key in options}
        chunks = encoded([service, name, list(args), kwargs, said], state.context, REQUEST)
        needs = self.modules.coder.take_needs() if state.context.rare else None
        self._check(state, "", needs)
        call = RequestCall(node, method or Service.__dir__, options.get("timeout"))
        state.calls += 1
        self._bound(call, options)
        if job:
            call._chain = job.chain
            ends_with(job, call)

        def send() -> None:
            try:
                self._prepare(node, "", {}, needs)
            except Exception as error:
                call._settle(None, error)
            self._send(call, chunks, 0, False, SERVICE)
        self.gardener.when_known(node, send, lambda: call._reply(DEAD, b""), chunks)
        return call

    def _pulled(self, node: Node, args: Any, kwargs: Any) -> tuple[Any, Any, list[Pulled]]:
        """The arguments, with iterators replaced by what travels in their place."""
        pulled: list[Pulled] = []
        if not any(map(is_iterator, args)) and not any(map(is_iterator, kwargs.values())):
            return args, kwargs, pulled

        def encode(item: Any) -> list[Any]:
            context = node._state.context
            try:
                chunks = codec.encode(item, context, "item")
            finally:
                needs = self.modules.coder.take_needs() if context.rare else None
            if context.rare:
                self._prepare(node, "", {}, needs)
            self.shipper.before_long(node, chunks)
            return chunks

        def replaced(value: Any) -> Any:
            if is_iterator(value):
                value = Pulled(node, value, flow_of(node._options), encode)
                pulled.append(value)
            return value
        return [replaced(arg) for arg in args], {key: replaced(value) for key, value in kwargs.items()}, pulled

    def _encode(self, node: Node, fn: Callable[..., Any], args: Any, kwargs: Any,
                options: dict[str, Any], stream: Stream[Any] | None = None) -> tuple[Any, str, Needs | None]:
        """A CALL's body, the module that must be over there ("": none), and what else must be, if the body carries code."""
        context = node._state.context
        target, module = functions.describe(fn)
        if not module and type(target) is FunctionType:
            target, module = context.kept_target(target) or (target, "")
        message = [target, list(args), kwargs, options]
        try:
            if stream:
                chunks = encoded(stream._message(message), context, INSIDE)
            else:
                small = not kwargs and type(target) is str and SCALARS.issuperset(map(type, args))
                chunks = encoded(message, context, PLAIN, small)
        except Exception:
            self.modules.coder.take_needs()     # of what it had met before
            raise
        return chunks, module, self.modules.coder.take_needs() if context.rare else None

    def _check(self, state: State, module: str, needs: Needs | None) -> None:
        """Raises ModuleNotShippedError if what a call needs may not be sent."""
        if module and not module.startswith((RECORD, KERNEL)):
            self.modules.check(module)
        for other in needs.modules_for(state.form or BYTECODE_FORM) if needs else ():
            self.modules.check(other)

    def _prepare(self, node: Node, module: str, options: dict[str, Any], needs: Needs | None) -> None:
        """See to it that the node has what the call needs."""
        if module.startswith(KERNEL):
            self.shipper.kernel_parts(node, OWN[module.removeprefix(KERNEL)])
        elif module and not module.startswith(RECORD):
            self.shipper.for_call(node, module)
        if needs:
            self.shipper.for_values(node, needs.modules_for(node._state.form or "source"), needs.records)
        if "lane" in options or (needs and needs.coroutines):
            self.shipper.kernel_parts(node, LANES)
        if node._state.context.rare:
            self.shipper.kernel_parts(node, RARE)

    def _send(self, call: Call[Any], chunks: Any, flow: int, wait: bool, handle: int = CALL) -> None:
        if len(chunks) > 1 or len(chunks[0]) > limits.plain_bytes_max:
            try:
                self.shipper.before_long(call.node, chunks)
            except (OSError, ImportError) as error:     # too many open files, to read it from
                call._settle(None, error)
        if call._answered:      # cancelled before it could be sent
            call.node._state.calls -= 1
            return
        if wait:
            call._borrow()
        later = not wait and call.node._state.calls > GATHERED_FROM
        try:
            call._handle = Core.ask(self.core, call.node.id, handle, chunks, call._reply, 0, flow, later)
            if call._answered:      # by a cancel meanwhile
                self.stop(call)
            elif call._job is not None:
                tell_chain(call)
        except BaseException:       # no memory, say: nobody will wait for it, so nobody else would give the link back
            call._give_back()
            raise

    def tell(self, call: Call[Any], chain: list[Any], flow: int) -> None:
        """Tell the node of a call who waits for it."""
        self.shipper.kernel_parts(call.node, CANCELLING)
        self.core.send(call.node.id, CANCEL, values.encode([call._handle, chain]), flow=flow)

    def _bound(self, call: Call[Any], options: dict[str, Any]) -> None:
        if "timeout" in options:
            timer = self.loop.call_later(options["timeout"], call._expire, options["timeout"])
            call.add_done_callback(lambda _: timer.cancel())

    @sheltered
    def stop(self, call: Call[Any]) -> None:
        """A call was cancelled or timed out here: end the work over there. It counts until the node says that it has ended."""
        if self.core.forgotten:     # it is the parent's, and a thread that isn't here may hold the tree's locks
            return
        node = call.node
        if call._handle in self.core.pending:
            node._state.ending[call._handle] = call
            try:
                self.shipper.kernel_parts(node, CANCELLING)
            except (OSError, ImportError):      # too many open files, to read these from
                self.loop.call_later(0.1, self.stop, call)
                return
            self.core.tell(node.id, CANCEL, [call._handle])
            if call._handle not in self.core.pending:   # answered meanwhile
                node._state.ending.pop(call._handle, None)

    def on_stuck(self, message: Message, nodes: dict[int, Node]) -> None:
        """A node tells that a call which it was to end goes on: [who called, reply handle, lane, why]."""
        node = nodes.get(message.src)
        try:
            source, handle, lane, why = codec.decode(message.body)
            lane, why = harmless(lane[:TEXT_MAX] + ""), harmless(why[:TEXT_MAX] + "")
            call = node._state.ending.get(handle) if node and source == 0 else None
        except (TypeError, ValueError, ProtocolError):
            node = None
        if node is None:
            self.core.refused += 1
            return
        name = "a call"
        if call is None or call._stuck:     # another node has ended it, say. It needn't be true, nor the last of these
            count = self.unknown[node.id] = self.unknown.get(node.id, 0) + 1
            overran(message)
            if count & (count - 1):
                return
        else:
            name, call._stuck = call.name, True
            if isinstance(call._exception, CallTimeout | CallCancelled):
                call._exception.stuck = f"lane {lane}: {why}"
        logging.getLogger(f"ramet.node.{node.name}").warning(
            "%s was ended, but is stuck in lane %s of node %s: %s. kill() ends the node", name, lane, node.name, why)

    def answer(self, call: Call[Any], flags: int, body: Any) -> None:
        """Complete a call with what came back."""
        node, state = call.node, call.node._state
        state.calls -= 1
        if call._answered:
            state.ending.pop(call._handle, None)    # it was ended from here: only now it has come to its end
            return
        try:
            if flags & DEAD:
                reason = reason_in(body)
                if body == NONE:
                    raise ServiceError(f"node {node.name} serves nothing")
                if reason.startswith("refused: "):      # the node lives, but doesn't take this
                    raise ProtocolError(f"node {node.name} {reason}")
                if not state.ended and not state.closing:
                    state.reason = reason
                call._settle(None, state.failure(node.name))
            elif flags & ERROR:
                description = values.decode(body, state.context)
                call._settle(None, remote_errors.unpack(description, node.name, self.modules.source_line,
                                                         self.modules.find_class))
            else:
                call._settle(codec.decode(body, state.context))
        except Error as error:
            call._settle(None, error)
        except Exception as error:
            call._settle(None, ProtocolError(f"node {node.name} sent a result that can't be read: {error!r}"))


def encoded(message: list[Any], context: values.Context, names: tuple[tuple[str, str], ...], small: bool = False) -> Any:
    """A call's body.

    Args:
        names: what the user calls what errors name by its place in the message.
        small: see ``codec.encode``.

    Raises:
        ValueNotPortableError: something in it can't travel: its text names the path as the user knows it.
    """
    try:
        chunks = codec.encode(message, context, "arguments", small)
    except ValueNotPortableError as error:
        path = error.args[0]
        for ours, theirs in names:
            if path.startswith(ours):
                raise ValueNotPortableError(theirs + path.removeprefix(ours)) from None
        raise
    if (len(chunks[0]) if len(chunks) == 1 else sum(map(len, chunks))) > limits.message_bytes_max:
        raise ValueNotPortableError(f"arguments: a message of {sum(map(len, chunks))} bytes is over the limit of "
                                    f"{limits.message_bytes_max}: send it in parts")
    return chunks


def _is_ready(state: State, module: str, options: dict[str, Any], needs: Needs | None) -> bool:
    """Whether a plain call of a function in that module can be sent as it is: the usual case."""
    return (state.open and (state.form, module) in state.has and not (options or state.ended or needs)
            and (not state.context.rare or (state.form, RARE_LAST) in state.has))
