"""The options of the execution: devices, processes, checkpoints, callbacks."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from tfclip import plugins
from tfclip.training.interval import Interval
from tfclip.training.options.checks import above_zero, not_negative


@dataclass(frozen=True)
class ExecutionOptions:
    """Checkpoints, devices, processes, callbacks."""

    checkpoint_every: str = "auto"
    """Steps (500) or time (90s, 10m, 1h) from one checkpoint to the next; auto is every minute or
    more, such that saving takes 2 % of the time at most."""
    replicas: int = 1
    """Logical CPU devices to train on, for trials without several GPUs; 0 takes all GPUs."""
    workers: int = 1
    """Processes to start on this machine, for trials without several machines; those read
    TF_CONFIG, and need no flag."""
    callback: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A Keras callback of your own, package.module:name, of a class, a function that makes one, or
    one that is made; give the flag again for each further one."""

    def __post_init__(self):
        for reference in self.callback:
            plugins.check_reference("--callback", reference)
        Interval.parse(self.checkpoint_every)
        above_zero(self, "workers")
        not_negative(self, "replicas")
