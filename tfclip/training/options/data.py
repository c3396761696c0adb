"""The options of the training records: their weights, damaged records, overlap with --val."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DataOptions:
    """Weights of the training records, damaged records, overlap with --val."""

    record_weights: tuple[float, ...] = ()
    """Sampling weight of each of several --records; by default its number of pictures."""
    skip_damaged: bool = False
    """Skip and count the damaged records of --records. All shards are read once before training;
    the intact records of damaged shards are copied to RUN.salvaged."""
    val_in_training: bool = False
    """Allow validation on a split that is trained on; its metrics then measure memorisation."""

    def __post_init__(self):
        if not all(0 < weight < math.inf for weight in self.record_weights):
            received = " ".join(map(str, self.record_weights))
            raise ValueError(f"--record-weights must be above 0; received {received}")

    def check_records(self, records: tuple[str, ...]) -> None:
        """Require that each set is given once, with one weight for each if there are weights.

        Raises:
            ValueError: a set is given twice, or the number of weights differs.
        """
        for at, reference in enumerate(records):
            if reference in records[:at]:
                raise ValueError(
                    f"--records names {reference} twice; name it once, and use --record-weights "
                    "to sample it more often"
                )
        if self.record_weights and len(self.record_weights) != len(records):
            raise ValueError(
                f"--record-weights has {len(self.record_weights)} numbers for {len(records)} "
                "--records; give one for each, or none"
            )
