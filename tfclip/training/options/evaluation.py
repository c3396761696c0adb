"""The options of evaluation during training: when, on what, and how the best model is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfclip.training.options.checks import above_zero, one_of

MONITORS = ("auto", "val_loss", "val_recall", "voc_map", "top1", "loss")


@dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated during training, and what the best model is chosen by."""

    evaluate_every: int = 500
    """Steps from one evaluation to the next."""
    monitor: str = "auto"
    """What the best model is chosen by: auto, val_loss, val_recall, voc_map, top1 or loss."""
    patience: int | None = None
    """End after so many evaluations without a better --monitor."""
    voc: str | None = None
    """Labelled records, DIR:SPLIT, for the zero-shot mean average precision while training."""
    class_folders: Path | None = None
    """A folder of class folders, for the zero-shot top-1 accuracy while training."""
    measure_average: bool = True
    """Measure and choose by the averaged weights, where there are any; or else by the others. Both
    are saved: RUN/best, and RUN/best-unaveraged or RUN/best-averaged, which evaluate, predict and
    export take in the place of RUN."""
    never_trained: tuple[str, ...] = ()
    """Class names known not to occur in the training data; evaluation reports them separately."""

    def __post_init__(self):
        one_of(self, "monitor", MONITORS)
        above_zero(self, "evaluate_every", "patience")
        needs = {"voc_map": ("--voc", self.voc), "top1": ("--class-folders", self.class_folders)}
        flag, value = needs.get(self.monitor, ("", self.monitor))
        if value is None:
            raise ValueError(f"--monitor {self.monitor} needs {flag}")
