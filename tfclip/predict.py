"""python -m tfclip.predict MODEL PICTURES --labels ...: score pictures against labels."""

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from tfclip.console import Command, run, say
from tfclip.evaluation.decisions.fusion import check_fusion
from tfclip.evaluation.decisions.thresholds import parse_objective
from tfclip.evaluation.embedding.prompts import templates_by_name
from tfclip.inputs.tiles import tile_groups
from tfclip.models.model_directory import holds_model
from tfclip.serving.label_words import check_class_words, label_class_words
from tfclip.serving.labels import FITTED, Labels, read_label_words
from tfclip.serving.prediction.picture_files import PictureFiles, find_pictures
from tfclip.text_repair import fix_text, repair_note

# Tracing the graph of a tower takes as long as so many pictures without one.
FEW = 4


@dataclass(frozen=True)
class PredictFlags:
    """Score pictures against texts, or against the classes with fitted thresholds."""

    model: Positional[Path]
    """A run directory, a model folder, or an exported model."""
    pictures: Positional[tuple[str, ...]] = ()
    """JPEG, PNG, GIF, BMP or WebP files, folders with all pictures below them, and globs."""
    list_file: Annotated[Path | None, tyro.conf.arg(name="list")] = None
    """A text file with one picture file per line."""
    labels: tuple[str, ...] = (FITTED,)
    """Texts, used as typed, such as "a dog" "a cat"; or class names, a text file with one per line
    or voc (the 20 classes), with the prompt "a photo of a {}."; or fitted: the fitted or exported
    classes with their thresholds."""
    templates: str | None = None
    """Other prompts for --labels: single, voc, openai, short ({}), region; or a text file with one
    prompt per line and {} for the label."""
    class_words: str | None = None
    """For class names: a text file with lines CLASS: word, word, not word; or auto or others, as in
    evaluate. Fitted classes have their own words."""
    fix_text: bool = False
    """Repair wrongly decoded --labels (ftfy) and HTML entities, as the tokenizers of OpenAI's CLIP
    and open_clip do."""
    threshold: float | None = None
    """Cosine at or above which a label is predicted, for texts or instead of fitted thresholds."""
    objective: str | None = None
    """For fitted classes of a run: fit thresholds again for f1, accuracy, youden or sensitivity:0.9
    (or specificity, precision), on the calibration scores stored in the run."""
    tiles: str | None = None
    """For texts and a run: the views of a picture, 1 (default), 1+4, 1+9, 1+4+9 or dense. Fitted
    thresholds and exports have their own."""
    fusion: str | None = None
    """For texts and a run: the fusion of the scores of the views, max (default) or logsumexp."""
    csv: Path | None = None
    """Write one line per picture and label to this CSV file; an existing file is replaced."""
    jsonl: Path | None = None
    """Write one line of JSON per picture to this file; an existing file is replaced."""
    sheet: Path | None = None
    """Draw the pictures with their labels to this file, NAME.png; an existing file is replaced."""
    heatmap: Path | None = None
    """Draw heatmaps of the predicted labels (at most three, or the best label if none) of each
    picture to this folder. Each picture takes 74 times as long."""

    def __post_init__(self):
        if not self.model.exists():
            raise FileNotFoundError(
                f"no model at {self.model}; train one with python -m tfclip.fit, or make one with "
                "python -m tfclip.quickstart"
            )
        self.files()
        labels = self.texts()
        needs_run = bool(labels) and holds_model(self.model)
        for flag in ("tiles", "fusion"):
            if getattr(self, flag) is not None and not needs_run:
                raise ValueError(
                    f"received --{flag} {getattr(self, flag)}, which needs --labels and a run: "
                    f"fitted thresholds and exports have their own {flag}"
                )
        if self.fix_text and not labels:
            raise ValueError("received --fix-text without --labels, which are the texts to repair")
        if self.templates is not None and not labels:
            raise ValueError(
                f"received --templates {self.templates}, which needs --labels: fitted classes "
                "have their own prompts"
            )
        check_class_words(self.class_words, labels, self.model)
        tile_groups(self.tiles or "1")
        check_fusion(self.fusion or "max")
        templates_by_name(self.templates or "short")
        self._check_decision(bool(labels))
        if self.sheet is not None and self.sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise ValueError(f"received --sheet {self.sheet}; allowed: NAME.png or NAME.jpg")

    def _check_decision(self, has_texts: bool) -> None:
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"received --threshold {self.threshold}; allowed: a finite cosine")
        if self.objective is None:
            return
        parse_objective(self.objective)
        if self.threshold is not None:
            raise ValueError("received --threshold and --objective; give only one of them")
        if has_texts or not holds_model(self.model):
            raise ValueError(
                f"received --objective {self.objective}, which needs a run with fitted thresholds "
                "and no --labels; give --threshold for texts, or: python -m tfclip.export RUN "
                f"--objective {self.objective}"
            )

    def files(self) -> PictureFiles:
        """Return the picture files of the flags."""
        return find_pictures(self.pictures, self.list_file)

    def texts(self) -> Labels | None:
        """Return the labels to score; None for the fitted or exported ones."""
        if self.labels == (FITTED,):
            return None
        labels = read_label_words(self.labels, self.templates)
        if self.fix_text:
            labels = replace(labels, names=tuple(map(fix_text, labels.names)))
        return labels


def predict(flags: PredictFlags) -> dict:
    """Print and return the scores and decisions for each picture."""
    from tfclip.serving.open_classifier import Question, open_classifier
    from tfclip.serving.prediction.predict import Outputs, predict_files

    labels = flags.texts()
    words = label_class_words(flags.class_words, labels, flags.model)
    question = Question(
        () if labels is None else labels.names,
        None if labels is None else labels.templates,
        words,
        flags.tiles or "1",
        flags.fusion or "max",
        flags.threshold,
        flags.objective,
    )
    files = flags.files()
    few = len(files.paths) <= FEW and flags.heatmap is None
    opened = open_classifier(flags.model, question, few)
    if labels is not None:
        if flags.fix_text:
            given = read_label_words(flags.labels, flags.templates).names
            say(repair_note(zip(given, labels.names, strict=True)))
        say(labels.described())
    outputs = Outputs(flags.csv, flags.jsonl, flags.sheet, flags.heatmap)
    return predict_files(opened, files, outputs)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.predict", Command(PredictFlags, predict), argv)


if __name__ == "__main__":
    sys.exit(main())
