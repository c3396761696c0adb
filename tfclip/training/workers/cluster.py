"""The workers that train together, and which of them is the chief.

They are read from `TF_CONFIG`, as in TensorFlow: each machine has the same addresses, and its own
index, {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from tfclip.inputs.input_shards import InputShard

VARIABLE = "TF_CONFIG"
# Set by `training.workers.launch` to its own process id, for the workers that it starts.
LAUNCHER = "TFCLIP_LAUNCHER"


@dataclass(frozen=True)
class Cluster:
    """The addresses of the workers, and the index of this one; () and 0 for a single process."""

    workers: tuple[str, ...] = ()
    index: int = 0

    @property
    def is_chief(self) -> bool:
        """Return whether this process writes the files of the run."""
        return self.index == 0

    @property
    def input_shard(self) -> InputShard:
        """Return this worker's part of each batch."""
        return InputShard(self.index, max(1, len(self.workers)))


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Return the cluster of `TF_CONFIG`; a single process if it is not set.

    Raises:
        ValueError: it is invalid.
    """
    text = environment.get(VARIABLE)
    if not text:
        return Cluster()
    try:
        config = json.loads(text)
        tasks, task = config["cluster"], config["task"]
        kinds = [kind for kind in ("chief", "worker") if kind in tasks]
        workers = [(kind, place) for kind in kinds for place in range(len(tasks[kind]))]
        index = workers.index((task["type"], int(task["index"])))
        addresses = tuple(str(address) for kind in kinds for address in tasks[kind])
        valid = set(tasks) <= {"chief", "worker"} and all(":" in one for one in addresses)
    except (LookupError, TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"{VARIABLE} must be "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": N}}, '
            f"with an index within the list; received {text}"
        )
    return Cluster(addresses, index) if len(addresses) > 1 else Cluster()
