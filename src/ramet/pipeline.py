"""``Pipeline``: calls that are sent back to back, and stop at the first failure. Used by one thread at a time."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ramet.call import Call
from ramet.chains import ASYNCIO, options_for
from ramet.kernel.errors import CallCancelled, RemoteError
from ramet.kernel.facade import ANY
from ramet.many import end_all

if TYPE_CHECKING:
    from ramet.node import Node

T = TypeVar("T")


class Pipeline:
    """Calls that are sent back to back, the later ones skipped when an earlier one fails. Made by ``Node.pipeline``."""

    _numbers = itertools.count(1)

    def __init__(self, node: Node) -> None:
        self.node = copy.copy(node)
        self.node._options = {**node._options, "pipeline": next(self._numbers)}
        self.calls: list[Call[Any]] = []

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Call[T]:
        """Append a call. Its result is there when the block has ended, or by waiting.

        Raises:
            ValueError: of its lane no call waits for another one, so it couldn't be skipped.
        """
        if options_for(fn, self.node._options).get("lane") in (ANY, ASYNCIO):
            raise ValueError("a pipeline's calls run one after the other: in the main lane, or a named one. "
                             "Coroutine functions and calls of ramet.ANY run side by side")
        call = self.node.start(fn, *args, **kwargs)
        self.calls.append(call)
        return call

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Wait for all. Raises the error of the call that failed first, if one did and nothing was raised in the block."""
        if error is not None:
            end_all(self.calls)
            return
        try:
            # The last one first: what interrupts this wait ends that one, and none may begin whose step before it was ended.
            failures = [call.exception() for call in reversed(self.calls)]
        except BaseException:   # Ctrl-C, say
            end_all(self.calls)
            raise
        for failure in reversed(failures):
            if failure is not None and (not isinstance(failure, CallCancelled) or isinstance(failure, RemoteError)):
                raise failure
