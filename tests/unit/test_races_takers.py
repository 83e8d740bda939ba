"""Several threads that take from one stream. Without processes."""

from __future__ import annotations

import threading

from ramet.kernel import loop_late, readers, streams
from ramet.kernel.core import Core
from ramet.kernel.loop import Loop
from support.eventually import until


def test_what_one_thread_has_taken_for_all_wakes_the_others() -> None:
    """They looked whether a message is there, which the quickest had taken: items lay there till the next message came."""
    loop = Loop(lambda error: None)
    ours = streams.of(Core(0, [], loop))
    intake = streams.Intake(ours, 5, 2, None)
    reader = readers.Taker(intake)
    got: list[object] = []
    slow = threading.Thread(target=lambda: got.append(next(reader)), daemon=True)
    slow.start()
    until(lambda: intake.waiting, "it doesn't wait")

    def quick() -> None:
        """Another thread that waits, and is the first to look."""
        intake.waiting.remove(quick)
        got.extend(reader.look() or ())
    intake.waiting.insert(0, quick)
    body = streams.HEAD.pack(0xdd, 4, 0xce, 2, 0) + b"\x01\x02"
    intake.arrived(body, 2, 2, 0)
    slow.join(3)
    left = list(reader.items)
    intake.end()
    loop_late.close(loop)
    assert got == [1, 2] and not left
