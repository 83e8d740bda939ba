"""Spinning: a thread whose waits are short looks again and again for a moment, before it lets the system put it to sleep.

Between two processes of one machine a short call takes 20 us on each side. To be put to sleep and woken takes longer than that
where a processor has gone idle meanwhile, a virtual machine's above all; docs/decisions/0025-spinning.md has the figures. A
thread spins only as long as nobody is kept from anything by that:

- no other thread of this process waits for messages, which would want the interpreter when one comes;
- it has slept within the last two milliseconds, so that others, that want the interpreter, have had it;
- it has found something by it lately: who looks in vain soon looks but once in 256 waits.

Late part of the kernel.
"""
from ramet.kernel import compat

MYPY = False
if MYPY:
    from typing import Any, List, Optional, Set

# For how long a thread spins: about as long as it takes to sleep and be woken.
spin_s = 0.0001

# How often it looks meanwhile, at most, should the clock be set back, as 2.7's may be.
looks_max = 1000

# Each time in vain doubles the number of waits for which it doesn't spin; so often: 256 waits.
misses_max = 8

# When so much time has passed between two looks, others want the processor, or the interpreter.
gap_s = 0.00004

# For how long a thread that spins doesn't sleep, at most.
awake_s = 0.002

waiting = set()  # type: Set[Spinner]     # of all threads that wait just now


class Spinner(object):
    """Stands for a thread's poller. Only that thread waits with it.

    Args:
        poller: what the thread has waited with so far.
    """

    def __init__(self, poller):
        # type: (Any) -> None
        self.look = poller.poll
        self.register = poller.register
        self.unregister = poller.unregister
        self.awake = 0.0    # since when it is
        self.misses = 0     # how much oftener it has looked in vain than not
        self.skipped = 0    # how many waits to come it doesn't spin

    def poll(self, milliseconds=None):
        # type: (Optional[float]) -> List[Any]
        """As ``select.poll.poll``."""
        waiting.add(self)
        try:
            return self.spin(milliseconds) or self.sleep(milliseconds)
        finally:
            waiting.discard(self)

    def spin(self, milliseconds):
        # type: (Optional[float]) -> List[Any]
        """What is ready within a moment. Nothing, too, if this isn't the time to spin."""
        now = compat.monotonic()
        shortly = milliseconds is not None and milliseconds <= spin_s * 1000
        if shortly or now - self.awake > awake_s or len(waiting) > 1:
            return []
        if self.skipped:
            self.skipped -= 1
            return []
        end = now + spin_s
        for _ in range(looks_max):
            ready = self.look(0)
            if ready:
                self.misses = max(0, self.misses - 1)
                return ready  # type: ignore[no-any-return]
            before, now = now, compat.monotonic()
            if now > end or now - before > gap_s:
                break
        self.misses = min(self.misses + 1, misses_max)
        self.skipped = 1 << self.misses
        return []

    def sleep(self, milliseconds):
        # type: (Optional[float]) -> List[Any]
        """What is ready, as soon as something is."""
        ready = self.look(milliseconds)
        self.awake = compat.monotonic()
        return ready  # type: ignore[no-any-return]
