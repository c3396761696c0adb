"""One line for each evaluation during training: the step, the metrics, the time left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import keras

from tfclip.console import say
from tfclip.training.loop.step_timer import StepTimer

PERCENT = {
    "val_recall": "mean recall",
    "voc_map": "mAP",
    "top1": "top-1",
}


def evaluation_line(
    step: int, steps: int, logs: Mapping[str, float], monitor: str, best: bool, left: float
) -> str:
    """Return "step 96/192 · loss 1.85 · R@10 i2t 61.2 t2i 55.0 · mAP 46.1 (best) · 2 min left".

    Metrics are in percent, losses are not. The monitored metric is always shown, and marked if it
    is the best so far. All metrics are in `log.csv`.

    Args:
        step: the number of updates so far, of `steps`.
        logs: the logs of the epoch.
        monitor: the metric that chooses the best model.
        best: whether this evaluation is the best so far.
        left: estimated seconds until the end of the run; 0 at its end.
    """
    mark = " (best)" if best else ""
    parts = [f"step {step:,}/{steps:,}", f"loss {logs['loss']:.3g}"]
    if monitor == "loss":
        parts[1] += mark
    if "val_loss" in logs:
        parts.append(f"val loss {logs['val_loss']:.3g}" + mark * (monitor == "val_loss"))
    if "val_i2t_r10" in logs:
        i2t, t2i = _percent(logs["val_i2t_r10"]), _percent(logs["val_t2i_r10"])
        parts.append(f"R@10 i2t {i2t} t2i {t2i}")
    for name, label in PERCENT.items():
        if name in logs and (name != "val_recall" or name == monitor):
            parts.append(f"{label} {_percent(logs[name])}" + mark * (monitor == name))
    if left:
        parts.append(f"{duration(left)} left")
    return " · ".join(parts)


def _percent(value: float) -> str:
    return "none" if math.isnan(value) else f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Format a duration: "40 s", "2 min", "3 h 5 min", "2 d 4 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


class EvaluationLine(keras.callbacks.Callback):
    """Prints the line at the end of each epoch; it must come after `KeepBest`.

    Args:
        step_timer: the timer of the loop, which counts the steps.
        monitor: the metric that chooses the best model.
        best_epoch: returns the epoch of the best model so far.
    """

    def __init__(self, step_timer: StepTimer, monitor: str, best_epoch: Callable[[], int | None]):
        super().__init__()
        self.step_timer, self.monitor, self.best_epoch = step_timer, monitor, best_epoch

    def on_epoch_end(self, epoch, logs=None):
        """Print the line."""
        best = self.best_epoch() == epoch
        left = self.step_timer.seconds_left()
        say(
            evaluation_line(
                self.step_timer.step, self.step_timer.last_step, logs, self.monitor, best, left
            )
        )
