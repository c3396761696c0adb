"""Time two ways of doing the same work in turns, and say how their speeds relate."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """One piece of work: so many items, the seconds it took, and the seconds of processor time.

    The latter are those of the process and of all that it started and has ended: on a machine with
    other work they vary less, and they tell whether speed was bought with more processors.
    """

    items: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.items / self.seconds

    @property
    def per_cpu_second(self) -> float:
        return self.items / self.cpu_seconds


def timed(work: Callable[[], int]) -> Timing:
    """Time `work`, which returns the number of items it did."""
    cpu, started = sum(os.times()[:4]), time.perf_counter()
    items = work()
    seconds = time.perf_counter() - started
    return Timing(items, seconds, sum(os.times()[:4]) - cpu)


def compared(ours: Sequence[Timing], theirs: Sequence[Timing]) -> dict:
    """Return the medians of both, and the ratio ours / theirs of every pair and its median.

    Args:
        ours, theirs: timings of the same length; those at one place were made one after the other.
    """
    ratios = [a.per_second / b.per_second for a, b in zip(ours, theirs, strict=True)]
    return {
        "ours": _medians(ours),
        "theirs": _medians(theirs),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
    }


def _medians(timings: Sequence[Timing]) -> dict:
    return {
        "images_per_second": round(statistics.median(t.per_second for t in timings), 1),
        "images_per_cpu_second": round(statistics.median(t.per_cpu_second for t in timings), 1),
        "seconds": round(statistics.median(t.seconds for t in timings), 2),
    }
