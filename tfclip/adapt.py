"""python -m tfclip.adapt RUN --records DIR --split train: fit classes to labelled pictures."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, run, say
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.embedding.prompts import templates_by_name
from tfclip.evaluation.tasks.multilabel_flags import check_run
from tfclip.models.model_directory import model_directory
from tfclip.naming import unknown
from tfclip.records.manifest import load_manifest

AUTO = "auto"


@dataclass(frozen=True)
class AdaptFlags:
    """Fit classes to labelled pictures, starting from their names, without changing the model.

    Thresholds and probabilities are fitted too, on cross-validated scores of the pictures. predict,
    export and evaluate RUN multilabel --adapted use the classes like texts.
    """

    run: Positional[Path]
    """A run directory, or a model folder."""
    records: Path
    """A directory of packed records with labels."""
    split: str = "train"
    """The split with the labels to use; several as train+val."""
    name: str = "own"
    """Name of the classes, for RUN/adapted/NAME.npz; an existing file is replaced."""
    class_names: Path | None = None
    """A text file with the classes to fit, one per line; by default all classes of the records."""
    templates: str = AUTO
    """Prompts to start from: a name, a text file, or auto, which chooses among single, openai,
    short and region by cross-validation."""
    objective: str = "f1"
    """Objective of the thresholds: f1, accuracy, youden, or sensitivity:0.9 (or specificity,
    precision)."""
    shrink: bool = True
    """Shrink thresholds of classes with few positives towards the global one."""
    probabilities: str = "platt"
    """Calibration of probabilities: platt or isotonic."""
    seed: int = 0
    """Random seed of the folds of the cross-validation."""

    def __post_init__(self):
        check_run(self.run)
        model_directory(self.run)
        splits = load_manifest(self.records).splits
        for split in self.split.split("+"):
            if split not in splits:
                raise unknown(f"split of {self.records}", split, splits)
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(f"received --name {self.name!r}; allowed: letters, digits, _ . -")
        if self.templates != AUTO:
            templates_by_name(self.templates)
        self.decisions()
        self.classes()

    def decisions(self) -> MultilabelOptions:
        """Return the options of thresholds and probabilities; ValueError for invalid ones."""
        return MultilabelOptions(
            objective=self.objective,
            shrink=self.shrink,
            probabilities=self.probabilities,
            seed=self.seed,
        )

    def classes(self) -> tuple[str, ...] | None:
        """Return the classes to fit, None for all."""
        if self.class_names is None:
            return None
        from tfclip.serving.classifier import read_labels

        return read_labels(self.class_names)


def adapt(flags: AdaptFlags) -> dict:
    """Fit and write the classes, and print the chosen settings."""
    from tfclip.evaluation.tasks.few_labels import TEMPLATES_TRIED, AdaptOptions, adapt_run

    templates = TEMPLATES_TRIED if flags.templates == AUTO else (flags.templates,)
    figures = adapt_run(
        flags.run,
        flags.records,
        flags.split,
        flags.name,
        AdaptOptions(templates, flags.decisions()),
        flags.classes(),
    )
    rare = [name for name, count in figures["positives"].items() if count < 2]
    if rare:
        say(f"classes with fewer than 2 pictures: {', '.join(rare)}")
    if figures["strength"] is None:
        chosen = f"zero-shot, prompts {figures['templates']}: the labels do not improve it"
    else:
        chosen = (
            f"prompts {figures['templates']}, text weight {figures['text_weight']:g}, strength "
            f"{figures['strength']:g}"
        )
    say(f"{figures['pictures']} pictures, {figures['classes']} classes: {chosen}")
    compared = figures["cross_validated_classes"]
    if compared:
        zero_shot, own = (100 * figures[name] for name in ("zero_shot_map", "cross_validated_map"))
        say(
            f"cross-validated mAP of {compared} classes with at least 5 pictures: {own:.1f}; "
            f"zero-shot: {zero_shot:.1f}"
        )
    if 2 * compared < figures["classes"]:
        say(
            "fewer than half of the classes have 5 pictures: default settings are used instead of "
            "cross-validation"
        )
    say(f"use them with: python -m tfclip.predict {flags.run} PICTURES, or python -m tfclip.export")
    return figures


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.adapt", Command(AdaptFlags, adapt), argv)


if __name__ == "__main__":
    sys.exit(main())
