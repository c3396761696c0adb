"""The options of the training data beside how examples are sampled from it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DataOptions:
    """Which records are trained on, and how often each set of them is used."""

    record_weights: tuple[float, ...] = ()
    """How often each of several --records is used; by default as often as it has pictures."""
    skip_damaged: bool = False
    """Train without the damaged records of --records, and count them. Reads all shards once before
    training; the sound records of damaged shards are copied to RUN.salvaged."""
    val_in_training: bool = False
    """Allow --val to be a split that is trained on: its figures then measure memorisation."""

    def __post_init__(self):
        if not all(0 < weight < math.inf for weight in self.record_weights):
            received = " ".join(map(str, self.record_weights))
            raise ValueError(f"--record-weights must be above 0; received {received}")

    def check_records(self, records: tuple[str, ...]) -> None:
        """Check that every set is named once, and the weights against the sets.

        Raises:
            ValueError: a set is named twice, or there is not one weight for each.
        """
        for at, reference in enumerate(records):
            if reference in records[:at]:
                raise ValueError(
                    f"--records names {reference} twice; --record-weights says how often"
                )
        if self.record_weights and len(self.record_weights) != len(records):
            raise ValueError(
                f"--record-weights has {len(self.record_weights)} numbers for {len(records)} "
                "--records; give one for each, or none"
            )
