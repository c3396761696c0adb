"""The machines that train together: who they are, and which of them is the chief.

Read from `TF_CONFIG`, as TensorFlow does: on each machine the same addresses, and its own place
among them, {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from tfclip.inputs.input_shards import InputShard

VARIABLE = "TF_CONFIG"
# Set by `training.workers.launch` to its own process number, for the workers that it starts.
LAUNCHER = "TFCLIP_LAUNCHER"


@dataclass(frozen=True)
class Cluster:
    """The workers by address, and which of them this process is; () and 0 where there is one."""

    workers: tuple[str, ...] = ()
    index: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.index == 0

    @property
    def share(self) -> InputShard:
        """This worker's part of each batch."""
        return InputShard(self.index, max(1, len(self.workers)))


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """The cluster of `TF_CONFIG`; of one process where it is not set.

    Raises:
        ValueError: it is not understood.
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
