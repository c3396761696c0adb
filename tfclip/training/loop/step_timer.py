"""Where the time of a run goes: waiting for batches, or training on them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class StepTimer:
    """Where the time of the loop goes, in seconds, and what is wrong with it.

    Apart from the logs, which must not depend on times. The first step builds the graph, and does
    not count.
    """

    steps: int = 0
    waiting: float = 0.0
    training: float = 0.0
    diagnosis: str | None = None
    step: int = 0
    """Updates of the whole run, also of its parts before it was interrupted."""
    last_step: int = 0
    _begun: tuple[int, float] = field(default=(0, 0.0), repr=False)

    def begin(self, step: int, last_step: int) -> None:
        """The loop begins, or goes on, after `step` of `last_step` updates."""
        self.step, self.last_step = step, last_step
        self._begun = step, time.monotonic()

    def seconds_left(self) -> float:
        """What the rest of the run takes at the speed so far, evaluations and saving included."""
        step, since = self._begun
        if self.step <= step:
            return 0.0
        return (time.monotonic() - since) / (self.step - step) * (self.last_step - self.step)

    def add(self, waiting: float, training: float) -> None:
        """Count a step: the wait for its batch, and the update."""
        self.steps += 1
        if self.steps > 1:
            self.waiting += waiting
            self.training += training

    @property
    def waiting_fraction(self) -> float:
        """The share of the time that passed waiting for batches."""
        return self.waiting / max(self.waiting + self.training, 1e-9)

    def columns(self) -> dict[str, float]:
        """The columns of times of the log."""
        seconds = self.waiting + self.training
        return {
            "seconds": round(seconds, 3),
            "steps_per_second": round((self.steps - 1) / seconds, 3) if seconds else 0.0,
            "waiting": round(self.waiting_fraction, 4),
        }
