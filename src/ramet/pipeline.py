"""``Pipeline``: calls that are sent back to back, and stop at the first failure. Used by one thread at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ramet.call import Call
from ramet.kernel.errors import CallCancelled, RemoteError

if TYPE_CHECKING:
    from ramet.node import Node

T = TypeVar("T")


class Pipeline:
    """Calls that are sent back to back, the later ones skipped when an earlier one fails. Made by ``Node.pipeline``."""

    _count = 0

    def __init__(self, node: Node) -> None:
        Pipeline._count += 1
        self.node = copy.copy(node)
        self.node._options = {**node._options, "pipeline": Pipeline._count}
        self.calls: list[Call[Any]] = []

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Call[T]:
        """Append a call. Its result is there when the block has ended, or by waiting."""
        call = self.node.start(fn, *args, **kwargs)
        self.calls.append(call)
        return call

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Wait for all. Raises the error of the call that failed first, if one did and nothing was raised in the block."""
        if error is not None:
            for call in self.calls:
                call.cancel()
            return
        for call in self.calls:
            failure = call.exception()
            if failure is not None and (not isinstance(failure, CallCancelled) or isinstance(failure, RemoteError)):
                raise failure
