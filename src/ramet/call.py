"""What the user holds while a function runs elsewhere: ``Call``; and ``Outcome``, what came of it.

Must not know of links or frames. A ``Call`` is completed by whichever thread reads its reply.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ramet.kernel.errors import CallCancelled, CallTimeout

if TYPE_CHECKING:
    from ramet.node import Node

T = TypeVar("T")


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


class Call(concurrent.futures.Future[T]):
    """One run of a function in a node: a ``concurrent.futures.Future`` that can be awaited, too.

    ``concurrent.futures.wait``, ``as_completed`` and ``asyncio.wrap_future`` take it. All methods are thread-safe.

    Attributes:
        node: where it runs.
        name: the function's name.
    """

    def __init__(self, node: Node, name: str) -> None:
        super().__init__()
        self.node = node
        self.name = name
        self._answered = False
        self._waiter: Any = None
        self._stop: Callable[[], None] | None = None    # tells the node to stop the work

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result.

        Args:
            timeout: seconds to wait at most. It bounds the wait only: ``options(timeout=)`` bounds the work.

        Raises:
            RemoteError: the function raised; also an instance of that exception's builtin type.
            NodeLostError, ConnectError, ClosedError: the node can't answer any more.
            CallCancelled, CallTimeout: the work was ended.
            TimeoutError: (``concurrent.futures.TimeoutError``) the wait took too long; the work goes on.
        """
        timeout = self._wait(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Like ``result``, but return what it would raise, or None."""
        timeout = self._wait(timeout)
        return super().exception(timeout)

    def cancel(self) -> bool:
        """Stop the work, over there too. ``result`` raises ``CallCancelled`` then.

        Returns:
            False if the call was answered already.
        """
        return self._end(CallCancelled(f"{self.name} in {self.node.name} was cancelled"))

    def outcome(self, timeout: float | None = None) -> Outcome[T]:
        """Wait, and return what came of it instead of raising it."""
        error = self.exception(timeout)
        return Outcome(error=error) if error is not None else Outcome(value=super().result(0))

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        state = "running" if not self._answered else "failed" if self._exception else "done"
        return f"<Call {self.name} in {self.node.name}: {state}>"

    # ------------------------------------------------------------------ for the tree

    def _wait(self, timeout: float | None) -> float | None:
        """Wait by reading the link ourselves where that is possible: two thread switches less."""
        if self._answered:
            return timeout
        core = self.node._tree._core
        waiter = core.waiter()
        if self._waiter is not None or core.loop.thread == waiter.thread:
            return timeout      # another thread has that place: wait on the future's condition
        self._waiter = waiter
        try:
            core.wait(lambda: self._answered, core.routes.link_to(self.node.id), timeout)
        finally:
            self._waiter = None
        return timeout if timeout is None else 0

    def _settle(self, value: Any, error: BaseException | None = None) -> bool:
        """Complete the call, unless it is complete. Any thread."""
        try:
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)
        except concurrent.futures.InvalidStateError:
            return False
        self._answered = True
        waiter = self._waiter
        if waiter is not None:
            waiter.wake()
        return True

    def _end(self, error: BaseException) -> bool:
        ended = self._settle(None, error)
        if ended and self._stop is not None:
            self._stop()
        return ended

    def _expire(self, seconds: float) -> None:
        self._end(CallTimeout(f"{self.name} in {self.node.name} took longer than its timeout of {seconds:g} s and was ended"))
