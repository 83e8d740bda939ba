"""A stream that ends for two reasons at once. Without processes."""

from __future__ import annotations

import threading
from typing import Any

from ramet.kernel import loop_late, streams
from ramet.kernel.core import Core
from ramet.kernel.loop import Loop


def test_the_end_of_a_stream_is_told_once() -> None:
    """Its last message was handled by one thread, another stopped it: TypeError came out of `close`, or it was told twice."""
    class Intake(streams.Intake):
        looked = False

        @property
        def on_end(self) -> Any:  # type: ignore[override]
            found = self.__dict__.get("end_")
            if found and not self.looked:
                self.looked = True
                other.start()
                other.join(0.3)     # it has gone past, or waits
            return found

        @on_end.setter
        def on_end(self, call: Any) -> None:
            self.__dict__["end_"] = call
    loop = Loop(lambda error: None)
    intake = Intake(streams.of(Core(0, [], loop)), 5, 2, None)
    told: list[int] = []
    intake.on_end = lambda: told.append(1)
    other = threading.Thread(target=intake.stop)
    try:
        intake.end()
        other.join()
    finally:
        loop_late.close(loop)
    assert told == [1]
