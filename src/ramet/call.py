"""What the user holds while a function runs elsewhere: ``Call``; and ``Outcome``, what came of it.

Must not know of links or frames. A ``Call`` is completed by whichever thread reads its reply.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Generator
from concurrent.futures import TimeoutError as WaitTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ramet import chains, functions
from ramet.kernel.errors import CallCancelled, CallTimeout, DeadlockError
from ramet.shelter import sheltered
from ramet.waiting import awaited, waitable

if TYPE_CHECKING:
    from ramet.node import Node

T = TypeVar("T")

# Guards the making of a call's rarer attributes. One for all: it is held for as long as an attribute takes. Meanwhile garbage
# may be collected, and a destructor, or a signal's handler, may look at a call, too.
_MAKING = threading.RLock()


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of one call among several.

    Attributes:
        value: what the function returned; None if it failed.
        error: the exception, or None.
    """

    value: T | None = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Whether the function returned."""
        return self.error is None


class _OnDemand:
    """An attribute of ``Future`` that is made when it is first asked for: most calls never need it.

    They are waited for by reading the link. Making it takes longer than all the rest of a call, and keeps the garbage
    collector busy: with ten thousand calls under way it took half of the time.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, call: Call[Any] | None, owner: type) -> Any:
        if call is None:
            return self
        with _MAKING:
            call._watched = True
            return call.__dict__.setdefault(self.name, self.make())


class Call(concurrent.futures.Future[T]):
    """One run of a function in a node: a ``concurrent.futures.Future`` that can be awaited, too.

    ``concurrent.futures.wait``, ``as_completed`` and ``asyncio.wrap_future`` take it. All methods are thread-safe.

    Attributes:
        node: where it runs.
    """

    # What Future.__init__ sets.
    _state = "PENDING"
    _result: Any = None
    _exception: BaseException | None = None
    _condition: Any = _OnDemand(threading.Condition)
    _waiters: Any = _OnDemand(list)
    _done_callbacks: Any = _OnDemand(list)

    _stuck = False              # it was ended here, and goes on over there
    _watched = False            # has anybody looked at it as a Future?
    _answered = False
    _link: Any = None           # borrowed from the keeper, for as long as the caller waits
    _waiter: Any = None
    _handle = 0                 # at which its reply is expected
    _job: Any = None            # a method of a service of this program that waits for it
    _task: Any = None           # the task that awaits it, if that isn't the method's own
    _is_request = False
    _chain: Any = None          # the lanes that wait for it, as far as its node was told

    def __init__(self, node: Node, fn: Callable[..., T]) -> None:
        self.node = node
        self._fn = fn

    @property
    def name(self) -> str:
        """The function's name."""
        return functions.short_name(self._fn)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result. What interrupts the program meanwhile, Ctrl-C say, ends the work, as ``cancel`` does.

        Args:
            timeout: seconds to wait at most. It bounds the wait only: ``options(timeout=)`` bounds the work.

        Raises:
            RemoteError: the function raised; also an instance of that exception's builtin type.
            NodeLostError, ConnectError, ClosedError: the node can't answer any more.
            CallCancelled, CallTimeout: the work was ended.
            TimeoutError: (``concurrent.futures.TimeoutError``) the wait took too long; the work goes on.
            DeadlockError: in a method of a service of this program: the call's lane waits for that method.
        """
        if timeout is not None:
            timeout = waitable(timeout)
        bounded = False     # by `timeout`, from here on
        try:
            if not self._answered:
                timeout = self._wait(timeout)
            if self._answered and self._exception is None:
                return self._result  # type: ignore[no-any-return]
            bounded = timeout is not None
            return super().result(timeout)
        except BaseException as error:
            self._end_if_interrupted(error, bounded)
            raise
        finally:
            del self    # the error's traceback holds this frame: no circle, so that what else the caller held goes with it

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Like ``result``, but return what it would raise, or None."""
        timeout = waitable(timeout)
        bounded = False
        try:
            timeout = self._wait(timeout)
            bounded = timeout is not None
            return super().exception(timeout)
        except BaseException as error:
            self._end_if_interrupted(error, bounded)
            raise

    def cancel(self) -> bool:
        """Stop the work, over there too, with its subprocesses and the calls that it has made. ``result`` raises
        ``CallCancelled`` at once; should the work not stop, the error's ``stuck`` says so when the node has told.

        Returns:
            False if the call was answered already.
        """
        return self._end(CallCancelled(f"{self.name} in {self.node.name} was cancelled"))

    def outcome(self, timeout: float | None = None) -> Outcome[T]:
        """Wait, and return what came of it instead of raising it."""
        error = self.exception(timeout)
        return Outcome(error=error) if error is not None else Outcome(value=super().result(0))

    def __await__(self) -> Generator[Any, None, T]:
        if not self._answered:
            chains.check_await(self)
        return awaited(self, self.node._tree._core)

    def __repr__(self) -> str:
        state = "running" if not self._answered else "failed" if self._exception else "done"
        return f"<Call {self.name} in {self.node.name}: {state}>"

    # ------------------------------------------------------------------ for the tree

    def _pass_on(self) -> None:
        """Tell its node who waits for it, if that isn't known there. Any thread."""
        chains.tell_chain(self)

    def _reply(self, flags: int, body: Any) -> None:
        """The reply is there, or can't come any more. Any thread."""
        self.node._tree._caller.answer(self, flags, body)

    def _borrow(self) -> None:
        """Read the node's link from now on, if it is free and this thread will wait for the answer."""
        core = self.node._tree._core
        link, waiter = core.routes.link_to(self.node.id), core.waiter()
        if link is not None and link.borrow(waiter):
            self._link = link

    @sheltered
    def _give_back(self) -> None:
        if self._link is not None:
            self._link.give_back(self.node._tree._core.waiter())

    @sheltered
    def _wait(self, timeout: float | None) -> float | None:
        """Wait by reading the link ourselves where that is possible: two thread switches less."""
        if self._answered or self._state == "FINISHED":     # the latter: its callbacks are being called, one of which asks
            return timeout
        core = self.node._tree._core
        job = chains.request_that_waits(core)
        if job and timeout != 0:    # a method of a service of this program waits
            chains.check_wait(job, self, timeout is None)
        waiter = core.waiter()
        with _MAKING:       # another thread may begin to wait just now
            before = self._waiter
            reads = before in (None, waiter) and core.loop.thread != waiter.thread
            if reads:
                self._waiter = waiter
        if not reads:
            if timeout != 0:
                core.may_wait(None)
            return timeout      # another thread has that place: wait on the future's condition
        try:
            if self._link is not None:      # borrowed for this call alone: it needs no loan
                core.wait(lambda: self._answered, self._link, timeout, False)
            else:
                core.wait(lambda: self._answered, core.routes.link_to(self.node.id), timeout)
        finally:
            self._waiter = before
        return timeout if timeout is None else 0

    def _end_if_interrupted(self, error: BaseException, bounded: bool) -> None:
        """A wait has raised that. If neither the call nor the wait itself did, it was something else: Ctrl-C, say.

        Args:
            bounded: the wait raises TimeoutError when its time is up; so do some programs' handlers of SIGALRM.
        """
        if self._state == "FINISHED" or isinstance(error, DeadlockError) or (bounded and isinstance(error, WaitTimeout)):
            return
        self.cancel()

    def _settle(self, value: Any, error: BaseException | None = None) -> bool:
        """Complete the call, unless it is complete. Any thread."""
        with _MAKING:
            unwatched = not self._watched and not self._answered
            if unwatched:
                self._result, self._exception, self._state = value, error, "FINISHED"
                self._answered = True
        if not unwatched:
            try:
                if error is None:
                    self.set_result(value)
                else:
                    self.set_exception(error)
            except concurrent.futures.InvalidStateError:
                return False
            finally:        # whatever a callback of the program's has raised
                self._answered = True
                self._wake()
        self._wake()
        return True

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            waiter.wake()

    @sheltered
    def _end(self, error: BaseException) -> bool:
        ended = self._settle(None, error)
        if ended and self._handle:
            self.node._tree._caller.stop(self)
        return ended

    def _expire(self, seconds: float) -> None:
        self._end(CallTimeout(f"{self.name} in {self.node.name} took longer than its timeout of {seconds:g} s and was ended"))
