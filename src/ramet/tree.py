"""``Tree``: all the interpreters that a program grows, and what is done with many of them at once.

Its loop runs on one thread, the keeper, however many nodes there are. All methods are thread-safe.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from ramet import codec, forgetting
from ramet.bootstrap import packing
from ramet.calling import Caller
from ramet.display import Display
from ramet.forking import Templates
from ramet.gates import CONNECTING_MAX
from ramet.grower import Grower
from ramet.growing import Gardener
from ramet.hosts import Hosts
from ramet.kernel import channels, limits, loop_late, nursery, proxies, services, streams
from ramet.kernel import core as kernel_core
from ramet.kernel.channels import Channel
from ramet.kernel.core import Message
from ramet.kernel.errors import ClosedError, ProtocolError
from ramet.kernel.frames import CONTROL, DEAD
from ramet.kernel.handles import REFUSED, SILENT, STUCK
from ramet.kernel.importer import ModuleCache
from ramet.kernel.nursery import Nursery
from ramet.kernel.values import Context
from ramet.listening import Listening
from ramet.lookout import Lookout, OnUnresponsive, checked
from ramet.many import Each, map_over
from ramet.modules.server import ModuleServer
from ramet.node import Node
from ramet.refusals import WatchfulCore
from ramet.retrying import Retry
from ramet.service import loop_of_caller
from ramet.shelter import ShelteredChannel, ShelteredLoop, sheltered
from ramet.shipping import Shipper
from ramet.told import Told

T = TypeVar("T")

_TREES: weakref.WeakSet[Tree] = weakref.WeakSet()


class Tree(Grower):
    """The root of all. Use it in a ``with`` or ``async with`` block: at its end nothing of the tree is left anywhere.

    Args:
        on_output: called with (node, stream, text) for each line that a node writes to stdout (stream 1) or stderr (2);
            default: to this program's own stdout and stderr, behind "[name] ". Called by a thread for that, one line at a
            time. It may take its time, and use nodes: meanwhile those that write wait when 256 KiB of theirs are under way.
        log_level: log records below this level aren't made by nodes. The others go to the logger "ramet.node.NAME" here, on
            the thread that calls ``on_output``. ``set_log_level`` changes it.
        modules: who may have which modules: a ``ModuleServer`` of this tree's own (``ModuleServer(Policy(strict=True))``, say).
        remember: keep in your cache directory what was installed on which host, so that next time all that a first call
            needs goes along with it. Hosts are kept by a digest. False: nothing is read or written there.
        connecting_max: how many nodes connect at a time from this program, and from each node that grows others; the rest
            wait for their turn. Calls may be made on all of them.
        one_way: nodes talk up and down the tree only: messages from one branch to another are refused on the way, by the
            nearest node that both have above them. Without it, siblings can use each other's services and channels.
        keepalive_s: how often each node looks whether something has come from its neighbours in the tree. From whom nothing
            has is asked, and if nothing comes until the next look, it is *unresponsive*. Calls go on. None: nobody looks.
        lost_after_s: a neighbour is lost from which there was no sign of life for so many seconds: it is stopped, or the way to
            it is gone. At least twice ``keepalive_s``. A node that is busy gives such signs, also in C code that holds the
            interpreter's lock. None: never.
        on_unresponsive: called with (node, True) when a node is unresponsive, and with (node, False) when it no longer is.
            Called by the keeper; must not block.
        close_grace_s: seconds that nodes may take to end when they or the tree are closed, before they are killed: to run their
            exit handlers, and to deliver what they had written.
    """

    @sheltered
    def __init__(self, *, on_output: Callable[[Node, int, str], None] | None = None,
                 log_level: int = logging.INFO, modules: ModuleServer | None = None, remember: bool = True,
                 connecting_max: int = CONNECTING_MAX, one_way: bool = False, keepalive_s: float | None = 30.0,
                 lost_after_s: float | None = 600.0, on_unresponsive: OnUnresponsive | None = None,
                 close_grace_s: float = limits.close_grace_s) -> None:
        if not 0 <= close_grace_s <= 1e6:
            raise ValueError(f"close_grace_s must be a number of seconds from 0 to a million, not {close_grace_s!r}")
        if isinstance(connecting_max, bool) or not isinstance(connecting_max, int) or connecting_max < 1:
            raise ValueError(f"connecting_max must be a whole number, 1 or more, not {connecting_max!r}")
        watched = checked(keepalive_s, lost_after_s)
        self.id = 0
        self._tree = self
        self._close_grace_s = close_grace_s
        self._levels = {"": logging.Logger("", log_level).level}
        self._closed = False
        self._lock = threading.Lock()
        self._nodes: dict[int, Node] = {}
        self._loop = ShelteredLoop(self._on_error)
        loop_late.use_kqueue(self._loop)
        self._core = WatchfulCore(self._loop, self._nodes)
        self._core.routes.one_way = one_way
        self._core.longs()
        self._nursery = Nursery(self._core, ModuleCache(), packing.Payloads(), self._on_lost)
        self._nursery.close_grace_s = close_grace_s
        self.modules = modules or ModuleServer()
        self._listening = Listening(self)
        self._display = Display(self._nodes, on_output, self._on_error, self._listening.shown)
        self._streams = streams.of(self._core, codec)
        self._channels = channels.of(self._core, codec, self.modules.find_class)
        self._channels.made_of = ShelteredChannel
        self._shipper = Shipper(self._core, self.modules, self._first_hop)
        hosts = Hosts(on_disk=remember)
        self._told = told = Told(self, hosts)
        self._gardener = Gardener(self, hosts, connecting_max)
        self._caller = Caller(self)
        self._lookout = Lookout(self, watched, on_unresponsive)
        self._templates = Templates(self)
        self._core.handlers.update({
            kernel_core.HELLO: told.on_hello, kernel_core.INSTALLED: told.on_installed,
            kernel_core.MODULE_REQUEST: lambda message: self._shipper.on_request(message, self._nodes),
            kernel_core.OUTPUT: self._display.take, kernel_core.LOG: self._display.take,
            kernel_core.WISH: told.on_wish, kernel_core.CALL: self._refuse,
            nursery.SECRET: self._gardener.desk.on_question, SILENT: self._lookout.on_message,
            REFUSED: self._core.on_told,
            kernel_core.KEEPALIVE: lambda message: self._core.reply(message, [], CONTROL),
            STUCK: lambda message: self._caller.on_stuck(message, self._nodes)})
        self._keeper = threading.Thread(target=self._keep, name="ramet-keeper", daemon=True)
        self._keeper.start()
        _TREES.add(self)

    # ------------------------------------------------------------------ many nodes

    def each(self, nodes: Iterable[Node], fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Each[T]:
        """Run a function on each node at once.

        Returns:
            An iterable, for ``for`` and ``async for``, of (node, Outcome) as they complete. One that fails spoils nothing.
            What interrupts the wait for the next one ends all that is under way; a ``break`` doesn't.
        """
        return Each(list(nodes), fn, args, kwargs)

    def map(self, fn: Callable[..., T], items: Iterable[Any], nodes: Iterable[Node]) -> Iterator[T]:
        """Run a function once for each item, spread over the nodes: each gets the next item when it is free.

        Returns:
            The results in the order of the items. A failed item raises when its turn comes, and the others go on. Leaving the
            loop early, or what interrupts it, ends what is under way; no further items are begun.
        """
        return map_over(fn, list(items), list(nodes))

    # ------------------------------------------------------------------ services

    def serve(self, name: str, thing: object, allow: Any, **options: Any) -> None:
        """Let nodes call methods of an object of this program: ``ramet.here().controller.service(name)`` over there.

        What they send is data only; who may send is ``allow``: "subtree" or "anyone", a node, or several of these.
        Options as for ``Node.serve``. Methods run on threads of their own, up to ``threads`` at a time; coroutines on the event
        loop that runs where this is called. When nobody waits for a method any more, it isn't interrupted, as in nodes: only
        what it has started in nodes is ended.

        Raises:
            ValueError: that name is taken, or an option is wrong.
        """
        self._check_open()
        services.of(self._core, self._context_of, codec).add(name, thing, services.ids_of(allow), loop_of_caller(), **options)

    def withdraw(self, name: str) -> None:
        """Serve it no longer: what runs ends as it would, what waits is refused. Raises KeyError."""
        services.of(self._core, self._context_of, codec).remove(name)

    def _context_of(self, id: int) -> Context:
        return self._nodes[id]._state.context

    def channel(self, size: int = 1000) -> Channel:
        """Make a channel: a bounded queue, held by this program, that any node sends into and receives from.

        Args:
            size: how many items it holds before who sends waits.
        """
        self._check_open()
        return self._channels.open(size)

    def node(self, id: int) -> Node:
        """The node with that number. Raises KeyError."""
        return self._nodes[id]

    @property
    def nodes(self) -> list[Node]:
        """All nodes that were grown and are not gone, oldest first."""
        return [node for node in list(self._nodes.values()) if not node._state.ended]

    def stats(self) -> dict[str, int]:
        """Counts: nodes, those of them that connect, wait for their turn, or are unresponsive; and since the start bytes and
        messages over the controller's links, modules sent, frames refused."""
        connecting, waiting = self._gardener.gates.counts()
        return {
            "nodes": len(self.nodes), "connecting": connecting, "waiting": waiting,
            "unresponsive": sum(node._state.silent for node in self.nodes),
            "bytes_out": self._gardener.bytes_total("bytes_out"),
            "bytes_in": self._gardener.bytes_total("bytes_in"), "messages_out": self._core.messages_out,
            "messages_in": self._core.messages_in, "modules_sent": self._shipper.sent,
            "module_requests": self._shipper.requests, "refused": self._core.refused}

    # ------------------------------------------------------------------ the end

    def _keep(self) -> None:
        """Be the keeper until the tree is closed. It gives back itself what it waits with: ``close`` may not wait so long."""
        self._loop.run()
        self._loop.running = True       # for who is left, and those that wait for them: nobody else would tell them
        stop = functools.partial(loop_late.stop, self._loop)
        self._loop.call_soon(self._nursery.give_up, stop)
        self._loop.call_later(1, stop)
        self._loop.run()
        loop_late.close(self._loop)
        self._core.let_go()

    @sheltered
    def close(self) -> None:
        """End all nodes and wait for that, no longer than twice ``close_grace_s``; then cut off what is left. Idempotent.

        Calls under way raise ``ClosedError``, and the tree's channels are closed. In a process forked from the one that made
        the tree it does nothing.
        """
        if self._core.forgotten:    # before the lock: a thread that isn't here may hold it
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for node in self.nodes:
            node._state.closing = True
        self._gardener.close_waiting()
        gone, may_wait = threading.Event(), self._core.can_wait()
        stop = functools.partial(loop_late.stop, self._loop)
        self._loop.call_soon(self._nursery.end_all, gone.set if may_wait else stop)
        self.modules.save()
        if proxies.SERVICE in self._core.handlers:
            services.of(self._core, self._context_of, codec).close()
        try:
            if may_wait:
                gone.wait(self._close_grace_s * 2 + 1)
                stop()
                self._keeper.join(2)
            else:       # it can't wait for itself
                self._loop.call_later(self._close_grace_s * 2 + 1, stop)
        except BaseException:       # Ctrl-C again and again
            for id in list(self._nursery.children):
                self._nursery.end(id)
            self._loop.call_later(1, stop)
            raise
        finally:
            for spread in list(self._gardener.spreads):
                spread.over()
            self._channels.close()
            self._gardener.desk.close()
            for node in list(self._nodes.values()):
                self._display.flush(node)
            self._display.finish()
            self._gardener.hosts.save()

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Tree:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        import asyncio
        one = ThreadPoolExecutor(1)     # not the loop's own: all threads of that may wait for nodes of this tree
        try:
            await asyncio.get_running_loop().run_in_executor(one, self.close)
        finally:
            one.shutdown(False)

    def __repr__(self) -> str:
        return f"<Tree: {len(self.nodes)} nodes{', closed' if self._closed else ''}>"

    # ------------------------------------------------------------------ for nodes and calls

    def _unpack(self, kind: str, items: list[Any]) -> Any:
        """What a node sent is a reference."""
        if kind != "K":
            raise ProtocolError(f"unknown kind of value: {kind!r}")
        return channels.made(self._channels, items)

    def _check_open(self) -> None:
        self._core.check_here()
        if self._closed:
            raise ClosedError("the tree is closed")

    @sheltered
    def _grow(self, parent: Grower, plan: dict[str, Any], retry: Retry) -> Node:
        self._check_open()
        return self._gardener.grow(parent if isinstance(parent, Node) else None, plan, retry)

    @sheltered
    def _close_node(self, node: Node, kill: bool) -> None:
        if self._closed or self._core.forgotten or node._state.ended:
            return
        self._gardener.close(node, kill)

    def _first_hop(self, node: Node) -> Node:
        while node.parent is not None:
            node = node.parent
        return node

    def _refuse(self, message: Message) -> None:
        """Code in a node called into this program."""
        self._core.refused += 1
        self._core.reply(message, [b"calls go down the tree only: no node may call functions in the program"], DEAD)

    def _on_lost(self, ids: list[int], reason: str) -> None:
        for id in sorted(ids):      # ancestors first
            node = self._nodes.get(id)
            if node is not None:
                self._gardener.lost(node, reason)

    def _on_error(self, error: BaseException) -> None:
        """A callback of the loop failed: a bug in ramet or in the user's ``on_output``. Any thread, which has to go on."""
        import sys
        try:
            sys.excepthook(type(error), error, error.__traceback__)
        except BaseException as raised:     # the program's own, which ends it by sys.exit(), say
            sys.__excepthook__(type(raised), raised, raised.__traceback__)

    def _forget(self) -> None:
        """In a forked child: let go of the descriptors, so that this copy keeps no node alive."""
        self._core.forgotten = True
        for end in [*self._channels.ends.values(), *self._channels.held.values()]:
            end.here = ()       # the parent gives it, too
        if self._loop.wake_r >= 0:      # else their numbers may stand for others by now
            forgetting.let_go(self)


def _close_all() -> None:
    for tree in list(_TREES):
        tree.close()


def _forget_all() -> None:
    for tree in list(_TREES):
        tree._forget()
    forgetting.renew_locks()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
