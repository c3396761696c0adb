"""Where the time of a run goes: waiting for batches, or training on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Where the time of the loop goes, in seconds, and what is wrong with it.

    Apart from the logs, which must not depend on times. The first step builds the graph, and does
    not count.
    """

    steps: int = 0
    waiting: float = 0.0
    training: float = 0.0
    diagnosis: str | None = None

    def add(self, waiting: float, training: float) -> None:
        """Count a step: the wait for its batch, and the update."""
        self.steps += 1
        if self.steps > 1:
            self.waiting += waiting
            self.training += training

    @property
    def share_waiting(self) -> float:
        """The share of the time that passed waiting for batches."""
        return self.waiting / max(self.waiting + self.training, 1e-9)

    def told(self) -> dict[str, float]:
        """The columns of times of the log."""
        seconds = self.waiting + self.training
        return {
            "seconds": round(seconds, 3),
            "steps_per_second": round((self.steps - 1) / seconds, 3) if seconds else 0.0,
            "waiting": round(self.share_waiting, 4),
        }
