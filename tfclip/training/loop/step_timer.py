"""Measures how long a run waits for batches and how long it trains."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class StepTimer:
    """The times of the training loop in seconds, and the diagnosis from them.

    They are separate from the logs, which must not depend on times. The first step builds the graph
    and is not counted.
    """

    steps: int = 0
    waiting: float = 0.0
    training: float = 0.0
    diagnosis: str | None = None
    step: int = 0
    """The number of updates of the whole run, including those before an interruption."""
    last_step: int = 0
    _start: tuple[int, float] = field(default=(0, 0.0), repr=False)
    _unread: list[tuple[float, float]] = field(default_factory=list, repr=False)

    def begin(self, step: int, last_step: int) -> None:
        """Start or resume the loop after `step` of `last_step` updates."""
        self.step, self.last_step = step, last_step
        self._start = step, time.monotonic()

    def seconds_left(self) -> float:
        """Estimate the rest of the run from the speed so far, with evaluations and saving."""
        step, since = self._start
        if self.step <= step:
            return 0.0
        return (time.monotonic() - since) / (self.step - step) * (self.last_step - self.step)

    def add(self, waiting: float, training: float) -> None:
        """Add a step: the time of waiting for its batch, and of the call of its graph."""
        self._unread.append((waiting, training))

    def read(self, seconds: float) -> None:
        """Add the time of waiting for the results of the steps since the last read.

        On a GPU the call of a graph returns early, and the device may be busy while the host waits
        for a batch. Then each step took as long as the last, from its call to its result, but no
        longer than the mean; only in the rest of the time the device had no batch.
        """
        steps, self._unread = self._unread, []
        self.steps += len(steps)
        if self.steps == len(steps):
            steps = steps[1:]
        if not steps:
            return
        last_call = steps[-1][1]
        waiting = sum(wait for wait, _ in steps)
        whole = waiting + sum(call for _, call in steps) + seconds
        if seconds > last_call:
            busy = len(steps) * min(last_call + seconds, whole / len(steps))
            waiting = min(waiting, whole - busy)
        self.waiting += waiting
        self.training += whole - waiting

    @property
    def waiting_fraction(self) -> float:
        """Return the fraction of the time spent waiting for batches."""
        return self.waiting / max(self.waiting + self.training, 1e-9)

    def columns(self) -> dict[str, float]:
        """Return the time columns of the log file."""
        seconds = self.waiting + self.training
        return {
            "seconds": round(seconds, 3),
            "steps_per_second": round((self.steps - 1) / seconds, 3) if seconds else 0.0,
            "waiting": round(self.waiting_fraction, 4),
        }
