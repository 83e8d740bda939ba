"""How figures are measured: contenders in turn, round by round, in one run; medians and their ratios to a floor.

On a shared machine absolute times drift by a factor of two from hour to hour. So nothing here is compared with a figure
of another run, and no figure is an assertion.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Figure:
    """One row of the table: what was measured, for each contender.

    Attributes:
        unit: of the samples: "ms", "us" or "/s".
        floor: the contender with which the others are compared.
        aim: what DESIGN section 12 asks of ramet.
    """

    name: str
    unit: str
    floor: str
    aim: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    def median(self, contender: str) -> float:
        return statistics.median(self.samples[contender])

    def ratio(self, contender: str, to: str = "") -> float:
        """The median of the pairs' ratios: each round is compared in itself."""
        pairs = zip(self.samples[contender], self.samples[to or self.floor], strict=True)
        return statistics.median(one / other for one, other in pairs)


def compare(figure: Figure, contenders: dict[str, Callable[[], float]], rounds: int, warm_up: int = 1) -> Figure:
    """Measure every contender in each round, one after the other.

    Args:
        contenders: name -> function that does it once and returns the sample, in the figure's unit.
    """
    for _ in range(warm_up):
        for measure in contenders.values():
            measure()
    figure.samples = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            figure.samples[name].append(measure())
    return figure


class Watch:
    seconds = 0.0


@contextmanager
def watch() -> Iterator[Watch]:
    """``with watch() as w: ...`` and then ``w.seconds``."""
    found = Watch()
    began = time.perf_counter()
    yield found
    found.seconds = time.perf_counter() - began
