"""``Node``: one interpreter of the tree, as the user holds it.

Must not know of frames or links. All methods are thread-safe and return at once, but for ``call`` and ``wait``.
"""

from __future__ import annotations

import collections
import concurrent.futures
import copy
import subprocess
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ramet import raw
from ramet.backlog import wait_for_room
from ramet.call import Call
from ramet.display import harmless
from ramet.grower import Grower
from ramet.kernel import services
from ramet.kernel.errors import ClosedError, ConnectError, Error, NodeLostError
from ramet.lasting import Lasting, Lasts
from ramet.modules.by_value import CodeContext
from ramet.pipeline import Pipeline
from ramet.process import RemoteProcess, checked
from ramet.retrying import Retry
from ramet.service import Service
from ramet.shelter import sheltered
from ramet.waiting import awaited, waitable

if TYPE_CHECKING:
    from ramet.kernel.core import Message
    from ramet.modules.closure import Closure
    from ramet.modules.server import ModuleServer
    from ramet.stream import Stream
    from ramet.tree import Tree

T = TypeVar("T")


class Node(Lasting, Grower):
    """One interpreter of a tree. It connects in the background: calls may be made at once.

    Attributes:
        id: its number in the tree; the controller is 0.
        name: unique in the tree.
        parent: the node that grew it; None if this program did.
        error: why it can't be used any more, or None.
    """

    def __init__(self, tree: Tree, id: int, name: str, parent: Node | None, what: str) -> None:
        self._tree = tree
        self.id = id
        self.name = name
        self.parent = parent
        self.what = what
        self._options: dict[str, Any] = {}
        self._state = State(tree.modules)
        self._state.context.unpack = tree._unpack
        self._levels = dict(tree._levels if parent is None else parent._levels)

    # ------------------------------------------------------------------ calling

    @sheltered
    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run a function over there and wait for its result. Raises what ``Call.result`` raises."""
        self._tree._check_open()
        call: Call[T] = self._tree._caller.start(self, fn, args, kwargs, wait=True)
        try:
            return call.result()
        except BaseException:
            if not call._answered:      # DeadlockError, say
                call.cancel()
            raise
        finally:
            call._give_back()
            del call    # as in ``Call.result``

    def start(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Call[T]:
        """Run a function over there.

        Args:
            fn: a function, class, method of a class or of a portable instance, builtin, or ``functools.partial`` of one. Its
                module goes along if it isn't over there. A lambda, an inner function, or what was typed in, goes itself,
                with what it uses as that is now.

        Returns:
            At once, a ``Call``: wait with ``result()``, or await it.

        Raises:
            ValueNotPortableError: the function or an argument can't travel.
            ModuleNotShippedError: the function's module can't be sent.
            BusyError, CallTimeout: too much waits to be sent to it; see ``ramet.backlog``.
        """
        self._tree._check_open()
        wait_for_room(self._tree._core, self)
        return self._tree._caller.start(self, fn, args, kwargs)

    def cast(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Run a function over there and forget about it: no result comes back. What it raises is printed by the node."""
        self._tree._check_open()
        wait_for_room(self._tree._core, self)
        self._tree._caller.cast(self, fn, args, kwargs)

    def stream(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """Run a generator over there, and iterate over its items here, with ``for`` or ``async for``.

        It starts at once, on a thread of its own over there (``options(lane=...)`` chooses another lane), and waits when this
        side doesn't take what it yields. Leave it early as you like: the generator is closed over there, its ``finally`` runs.

        Args:
            fn: a generator function, plain or asynchronous, or one that returns something else to iterate over.
                As for ``start``.

        Returns:
            At once, a ``Stream``.

        Raises:
            ValueNotPortableError, ModuleNotShippedError: as ``start``.
        """
        self._tree._check_open()
        wait_for_room(self._tree._core, self)
        return self._tree._caller.stream(self, fn, args, kwargs)

    def options(self, *, timeout: float | None = None, lane: str | None = None) -> Node:
        """The same node, with options for the calls that are made through what is returned.

        Args:
            timeout: seconds that the work may take, from the start of the call; then it is ended, with its subprocesses and
                the calls that it has made: ``CallTimeout``.
            lane: where calls run: in order on a thread of that name, or with ``ramet.ANY`` on a thread each, 256 at once.
                Without it they run in order on the node's main thread, coroutine functions on the node's asyncio loop.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        if lane is not None and (not isinstance(lane, str) or not lane):
            raise ValueError(f"lane must be a name or ramet.ANY, not {lane!r}")
        view = copy.copy(self)
        view._options = {key: value for key, value in (("timeout", timeout), ("lane", lane)) if value is not None}
        view._options = {**self._options, **view._options}
        return view

    # ------------------------------------------------------------------ programs

    def popen(self, args: Any, *, shell: bool = False, input: Any = None, env: dict[str, str] | None = None,
              add_env: dict[str, str | None] | None = None, cwd: str | None = None, merged: bool = False,
              text: bool = True) -> RemoteProcess[Any]:
        """Start a program over there. Its output comes as it is written; it ends with what is returned, at the latest.

        Args:
            args: the program and its arguments; with ``shell=True`` a command line for /bin/sh.
            input: for its stdin: text, bytes, or an iterator of such, which is asked for as fast as the program reads. What
                that raises ends the program, and is raised to whoever reads the output. None: nothing.
            env: all its environment; None: the node's.
            add_env: what is put on top of that; None as a value takes a name away.
            cwd: its working directory; default: the node's.
            merged: its stderr goes where its stdout goes.
            text: output is text: UTF-8, other bytes as surrogates. False: bytes.

        Returns at once, a ``RemoteProcess``. Raises TypeError or ValueError of what isn't a command.
        """
        words, data = checked(args, shell, input)
        options = {"shell": shell, "env": env, "add_env": add_env, "cwd": cwd, "merged": merged}
        return RemoteProcess(self, words, data, text, options)

    def run(self, args: Any, *, shell: bool = False, input: Any = None, env: dict[str, str] | None = None,
            add_env: dict[str, str | None] | None = None, cwd: str | None = None, merged: bool = False, text: bool = True,
            timeout: float | None = None, check: bool = False,
            on_output: Callable[[int, Any], Any] | None = None) -> subprocess.CompletedProcess[Any]:
        """Run a program over there and wait for its end, like ``subprocess.run``; its output is kept.

        Args:
            args, shell, input, env, add_env, cwd, merged, text: as for ``popen``.
            timeout: seconds that it may take; then it is ended, with all that it has started.
            check: raise ``subprocess.CalledProcessError`` if its status isn't 0.
            on_output: called with (1 or 2, line) as they are written, instead of keeping them.

        Returns:
            ``args``, ``returncode`` (minus the signal's number, if one ended it), ``stdout`` and ``stderr``.

        Raises:
            RemoteError: it could not be started, as by a FileNotFoundError, or its input failed. CallTimeout: it took too long.
        """
        node = self if timeout is None else self.options(timeout=timeout)
        with node.popen(args, shell=shell, input=input, env=env, add_env=add_env, cwd=cwd, merged=merged, text=text) as process:
            if on_output:
                for n, line in process:
                    on_output(n, line)
            done = process.result()
        if check:
            done.check_returncode()
        return done

    # ------------------------------------------------------------------ services

    def serve(self, name: str, thing: Any, allow: Any, **options: Any) -> Service:
        """Let nodes call methods of an object over there.

        Args:
            name: of the service, unique in the node.
            thing: a class or a function of no arguments, to be called over there (or a ``functools.partial``), or an instance
                of a dataclass or a registered class. Its methods without an underscore are exposed.
            allow: who may call them: "ancestors", "subtree" (what lies below the node), "anyone", a node, or several of these.
            methods: names of those to expose, instead of all.
            shared: names of methods of which equal requests that come while one runs get that one's result.
            lanes: a dict of method's name -> lane: requests of one lane run one after the other.
            threads: how many requests may run at a time, 1 to 16; default 8.

        Returns:
            The service, as it is seen from here.

        Raises:
            ValueError (as a RemoteError): that name is taken, or an option is wrong. RemoteError: ``thing`` could not be made.
        """
        self.call(services.serve_here, name, thing, {"allow": services.ids_of(allow), **options})
        return Service(self, name)

    def withdraw(self, name: str) -> None:
        """Serve it no longer: what runs ends as it would, what waits is refused. Raises KeyError (as a RemoteError)."""
        self.call(services.withdraw_here, name)

    def service(self, name: str) -> Service:
        """A service of this node. Asks nobody: whether it is there turns out at the first request."""
        return Service(self, name)

    def pipeline(self) -> Pipeline:
        """A ``with`` block whose calls are sent without waiting; when one fails, those behind it don't run."""
        return Pipeline(self)

    def raw(self, argv: Sequence[str], *, input: bytes | str = b"", timeout: float | None = None,
            keep_bytes: int = raw.KEEP_BYTES) -> raw.RawCall:
        """Run a command over this node's connector, whether or not there is a Python: to install one, say.

        The connector's program is started anew, from where the node grows, with the command in place of the interpreter; its
        questions are answered as ever. It needs a ``sh`` over there. The node itself may be connected, or have failed.

        Args:
            argv: the program and its arguments, which arrive exactly so, whatever shell the account has.
            input: for its stdin, which is closed behind it.
            timeout: seconds that the command may take; connecting has its own, ``connect_timeout_s``.
            keep_bytes: how much of each output is kept, from its end.

        Returns:
            At once, a ``RawCall``: ``result()`` or await gives a ``RawResult`` with status, stdout and stderr, whatever the
            status is. It raises ConnectError where the command can't be started, and CallTimeout.

        Raises:
            TypeError, ValueError: that isn't a command, or the connector can't be used so.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        if isinstance(keep_bytes, bool) or not isinstance(keep_bytes, int) or not 0 < keep_bytes <= raw.KEEP_BYTES_MAX:
            raise ValueError(f"keep_bytes is a number from 1 to {raw.KEEP_BYTES_MAX}, not {keep_bytes!r}")
        self._tree._check_open()
        data = input.encode() if isinstance(input, str) else bytes(input)
        return raw.start(self._tree, self, argv, data, timeout, keep_bytes)

    # ------------------------------------------------------------------ its life

    def wait(self, timeout: float | None = None) -> Node:
        """Block until it is connected.

        Args:
            timeout: seconds to wait at most; ``connect_timeout_s`` of the connector bounds the connecting itself.

        Raises:
            ConnectError: it can't be reached. TimeoutError: (``concurrent.futures.TimeoutError``) not yet.
        """
        if not self._state.connected.done():
            self._tree._core.may_wait(None)
        self._state.connected.result(waitable(timeout))
        return self

    def __await__(self) -> Generator[Any, None, Node]:
        yield from awaited(self._state.connected, self._tree._core)
        return self

    @property
    def facts(self) -> dict[str, Any]:
        """What the node told of itself: version, pid, host ... Waits until it is connected."""
        return dict(self.wait()._state.facts)

    @property
    def error(self) -> Error | None:
        """Why it can't be used any more, or None."""
        return self._state.failure(self.name) if self._state.ended else None

    def stats(self) -> dict[str, int]:
        """Counts: calls under way, those among them that were ended and haven't come to their end, and those of these that
        are stuck, as the node says; modules sent to it; and 1 if it is unresponsive, else 0."""
        ending = list(self._state.ending.values())
        return {"calls": self._state.calls, "ending": len(ending), "stuck": sum(call._stuck for call in ending),
                "modules": len(self._state.has), "unresponsive": int(self._state.silent)}

    def close(self) -> None:
        """End it and its descendants. Returns at once; output that was written is delivered first."""
        self._tree._close_node(self, kill=False)

    def kill(self) -> None:
        """End it without asking: its link is closed, and its guardian or ours kills what is left. Always works."""
        self._tree._close_node(self, kill=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and other.id == self.id and other._tree is self._tree

    def __hash__(self) -> int:
        return hash((self.id, id(self._tree)))

    def __repr__(self) -> str:
        state = self._state
        words = "connected" if state.up else "connecting"
        return f"<Node {self.id} {self.name}: {state.ended or words}>"


class State:
    """What all views of a node share.

    Attributes:
        context: how values from it are read: no code runs, only classes that the program itself knows.
        form: in which form it takes code; None until its interpreter is known.
        open: what is to be sent needn't be put into ``held`` any more, which is sent when the form is known.
        opening: a thread is sending what was held.
        held: what sends it, and how many bytes it holds; ``held_bytes`` of all of it that isn't sent.
        up: it has said HELLO.
        ended: "failed", "lost", "closed" or "detached", once it is.
        lasts: what is known of its life without this program.
        has: (form, name) of modules that were sent for it.
        cached: (form, name) of modules that it keeps, for itself or for descendants.
        followed: (form, name) of the kernel's parts that went behind the first call; in ``has`` once it is sure that they came.
        absent: how many names it was told that can't be had.
        installed: top-level names outside the standard library that can be imported there; None: not known yet.
        expected: what was installed there last time; None: never seen.
        offered: lists of what may be installed there, by the digests that the node was told.
        early: closures with libraries that calls asked for before it was known what is installed there.
        host: the digest of how it is reached; see ``hosts``.
        sure: ``form`` isn't a forecast.
        waits: nothing is running of it: it waits until it is its turn to connect, or for its next try.
        retry: how often it is tried again, and when.
        tried: how often it was.
        last_error: why the last try failed.
        next_try: begins the wait for its next try, once all that there was of it is gone; None if there is none.
        ending: reply handle -> call that was cancelled here, or timed out, and hasn't come to its end there.
        planned: makes its plan once more.
        silent: it is unresponsive.
        looks: it was told to look after its neighbours.
        steps: how long it took to get how far while it grew: "start", "answer", "python", "kernel", in seconds.
        requests: MODULE_REQUESTs that came from it, or through it, and wait for their answers.
    """

    def __init__(self, modules: ModuleServer) -> None:
        self.context: CodeContext = CodeContext(modules.coder, self, modules.find_class)
        self.connected: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.connected.set_running_or_notify_cancel()   # it is all waiters': one that is cancelled doesn't cancel it
        self.facts: dict[str, Any] = {}
        self.form: str | None = None
        self.open = self.opening = False
        self.held: list[tuple[Callable[[], None], int]] = []
        self.held_bytes = 0
        self.up = False
        self.ended = ""
        self.closing = False
        self.lasts = Lasts()
        self.reason = ""
        self.connect_error: ConnectError | None = None
        self.calls = 0
        self.has: set[tuple[str, str]] = set()
        self.cached: set[tuple[str, str]] = set()
        self.followed: set[tuple[str, str]] = set()
        self.absent = 0
        self.payloads: set[str] = set()
        self.installed: frozenset[str] | None = None
        self.expected: frozenset[str] | None = None
        self.offered: dict[bytes, frozenset[str]] = {}
        self.early: list[Closure] = []
        self.host = b""
        self.sure = False
        self.waits = True
        self.retry = Retry(0)
        self.tried = 0
        self.last_error: ConnectError | None = None
        self.next_try: Callable[[], Any] | None = None
        self.ending: dict[int, Call[Any]] = {}
        self.silent = self.looks = False
        self.steps: dict[str, float] = {}
        self.planned: Callable[[], dict[str, Any]] = dict
        self.requests: collections.deque[Message] = collections.deque()

    def failure(self, name: str) -> Error:
        """A new exception that says why the node can't be used."""
        if self.connect_error is not None:
            error = self.connect_error
            again = type(error)(harmless(str(error.args[0]), "\t\n"), error.stage, error.seen)
            again.__dict__.update(error.__dict__)
            return again
        if self.ended == "detached":
            return ClosedError(f"node {name} was detached by this program: attach({self.lasts.path!r}) reaches it")
        if self.ended == "closed" or self.closing:
            return ClosedError(f"node {name} was closed by this program")
        reason = harmless(self.reason.removeprefix(f"node {name}: "), "\t\n")
        return NodeLostError(f"node {name} was lost: {reason or 'the way to it is gone'}")
