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
        """Add a step: the time of waiting for its batch, and of the update."""
        self.steps += 1
        if self.steps > 1:
            self.waiting += waiting
            self.training += training

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
