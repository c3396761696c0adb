"""The options of execution: checkpoints, devices, processes, callbacks."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from tfclip import plugins
from tfclip.training.interval import Interval
from tfclip.training.options.checks import above_zero, not_negative, one_of

JIT_COMPILE = ("auto", "on", "off")
MOST_STEPS = 10


@dataclass(frozen=True)
class ExecutionOptions:
    """Checkpoints, devices, processes, callbacks."""

    checkpoint_every: str = "auto"
    """Steps (500) or time (90s, 10m, 1h) between checkpoints; auto saves every minute, or less
    often so that saving takes at most 2% of the time."""
    replicas: int = 1
    """Logical CPU devices to train on, to try out replicas without several GPUs; 0 uses all
    GPUs."""
    jit_compile: str = "auto"
    """Compile training steps with XLA: on, off or auto, which is off. On a CPU it makes Mixers
    faster and convolutions much slower. Not with several replicas or --micro-batch."""
    steps_per_execution: int = 1
    """The most training steps that one call of TensorFlow computes, 1 to 10; more than 1 may be
    faster where a GPU computes a step in a few milliseconds. The result differs from that of
    single steps in the last digits. Not with several workers, or callbacks that see single
    steps."""
    workers: int = 1
    """Worker processes to start on this machine, to try out several machines on one; real ones are
    described by TF_CONFIG and need no flag."""
    callback: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Your own Keras callback as package.module:name: a class, a function that returns a callback,
    or an instance. Repeat the flag for more."""

    def __post_init__(self):
        for reference in self.callback:
            plugins.check_reference("--callback", reference)
        Interval.parse(self.checkpoint_every)
        one_of(self, "jit_compile", JIT_COMPILE)
        several = self.replicas != 1 or self.workers != 1
        if self.jit_compile == "on" and several:
            raise ValueError(
                "--jit-compile on needs a single replica, because XLA does not compile the "
                "exchange between replicas; omit it, or --replicas and --workers"
            )
        if not 1 <= self.steps_per_execution <= MOST_STEPS:
            raise ValueError(
                f"received --steps-per-execution {self.steps_per_execution}; allowed: 1 to "
                f"{MOST_STEPS}, because logs are read at least every {MOST_STEPS} steps"
            )
        if self.steps_per_execution > 1 and self.workers > 1:
            raise ValueError(
                f"received --steps-per-execution {self.steps_per_execution} with --workers "
                f"{self.workers}; omit one of them: workers ask each other after each step"
            )
        above_zero(self, "workers")
        not_negative(self, "replicas")
