"""The options of evaluation during training: when, on what, and how the best model is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfclip.training.options.checks import above_zero, one_of

MONITORS = ("auto", "val_loss", "val_recall", "voc_map", "top1", "loss")


@dataclass(frozen=True)
class EvaluationOptions:
    """Evaluation during training, and the choice of the best model."""

    evaluate_every: int = 500
    """Steps between evaluations."""
    val_images: int | None = None
    """Measure loss and recall on the first so many pictures of --val instead of all. The recall of
    fewer pictures is higher: compare only runs with the same number."""
    monitor: str = "auto"
    """Metric that chooses the best model: auto, val_loss, val_recall, voc_map, top1 or loss."""
    patience: int | None = None
    """Stop after this many evaluations without improvement of --monitor."""
    voc: str | None = None
    """Labelled records, DIR:SPLIT, for zero-shot mean average precision during training."""
    class_folders: Path | None = None
    """A folder of class folders, for zero-shot top-1 accuracy during training."""
    measure_average: bool = True
    """With --average, evaluate the averaged weights and choose the best model by them; otherwise
    by the unaveraged ones. Both are saved: RUN/best, and RUN/best-unaveraged or RUN/best-averaged,
    which evaluate, predict and export accept in place of RUN."""
    never_trained: tuple[str, ...] = ()
    """Class names known not to occur in the training data; evaluation reports them separately."""

    def __post_init__(self):
        one_of(self, "monitor", MONITORS)
        above_zero(self, "evaluate_every", "patience", "val_images")
        needs = {"voc_map": ("--voc", self.voc), "top1": ("--class-folders", self.class_folders)}
        flag, value = needs.get(self.monitor, ("", self.monitor))
        if value is None:
            raise ValueError(f"--monitor {self.monitor} needs {flag}")
