"""A far link: runs a program and passes its stdin and stdout on, each half a round trip late.

    far.py ROUND_TRIP_MS WINDOW PROGRAM ARG ...

WINDOW is "open", or "tcp": then each direction sends as a fresh TCP connection does, ten segments of 1,460 bytes before it
has heard anything, and for each byte that is acknowledged two more. Nothing is lost, and the rate isn't limited.
"""

from __future__ import annotations

import collections
import os
import select
import subprocess
import sys
import time

FIRST_WINDOW = 14_600
READ_MAX = 1 << 18


class Way:
    """One direction.

    Attributes:
        under_way: (when it is there, bytes, when that is known at the near end), in order.
    """

    def __init__(self, source: int, target: int, delay_s: float, window: int) -> None:
        self.source, self.target, self.delay_s, self.window = source, target, delay_s, window
        self.under_way: collections.deque[tuple[float, bytes]] = collections.deque()
        self.unheard: collections.deque[tuple[float, int]] = collections.deque()
        self.in_flight = 0

    def room(self) -> int:
        return min(READ_MAX, self.window - self.in_flight)

    def take(self, now: float) -> bool:
        """Read what there is; False at the end."""
        data = os.read(self.source, self.room())
        self.under_way.append((now + self.delay_s, data))
        self.unheard.append((now + 2 * self.delay_s, len(data)))
        self.in_flight += len(data)
        return bool(data)

    def deliver(self, now: float) -> bool:
        """Write what has arrived; False when the end has."""
        while self.unheard and self.unheard[0][0] <= now:
            count = self.unheard.popleft()[1]
            self.in_flight -= count
            self.window += count
        while self.under_way and self.under_way[0][0] <= now:
            data = self.under_way.popleft()[1]
            if not data:
                return False
            while data:
                data = data[os.write(self.target, data):]
        return True

    def due(self) -> list[float]:
        return [queue[0][0] for queue in (self.under_way, self.unheard) if queue]


def main(round_trip_ms: str, window: str, *program: str) -> int:
    child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin and child.stdout
    first = FIRST_WINDOW if window == "tcp" else 1 << 60
    ways = [Way(0, child.stdin.fileno(), float(round_trip_ms) / 2000, first),
            Way(child.stdout.fileno(), 1, float(round_trip_ms) / 2000, first)]  # fmt: skip
    reading = list(ways)
    while True:
        due = [when for way in ways for when in way.due()]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        ready = select.select([way.source for way in reading if way.room() > 0], [], [], timeout)[0]
        now = time.monotonic()
        reading = [way for way in reading if way.source not in ready or way.take(now)]
        if not all(way.deliver(time.monotonic()) for way in ways):
            child.stdin.close()
            return child.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
