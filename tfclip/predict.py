"""python -m tfclip.predict MODEL PICTURES --labels ...: what is in these pictures?"""

import math
import sys
from dataclasses import dataclass
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
from tfclip.serving.labels import FITTED, Labels, read_label_words
from tfclip.serving.prediction.picture_files import PictureFiles, find_pictures


@dataclass(frozen=True)
class PredictFlags:
    """Score pictures against texts, or against the classes whose thresholds were fitted."""

    model: Positional[Path]
    """A run directory, a model folder, or an exported model."""
    pictures: Positional[tuple[str, ...]] = ()
    """JPEG, PNG, GIF, BMP or WebP files; folders, for every picture below them; and globs."""
    list_file: Annotated[Path | None, tyro.conf.arg(name="list")] = None
    """A text file with one picture file a line."""
    labels: tuple[str, ...] = (FITTED,)
    """Texts, which are used as typed: "a dog" "a cat"; or a text file with a class a line, or voc
    (the 20 classes), which become "a photo of a {}."; or fitted: the classes that were fitted or
    exported, with their decisions."""
    templates: str | None = None
    """Other prompts for --labels, by name: single, voc, openai, short ({}), region; or a text file
    with one prompt a line, {} for the label."""
    threshold: float | None = None
    """A label is predicted at this cosine or above: of texts, or in place of fitted ones."""
    objective: str | None = None
    """Of a run's fitted classes: thresholds for f1, accuracy, youden, sensitivity:0.9 (specificity
    and precision alike), fitted anew on the calibration scores that the run keeps."""
    tiles: str | None = None
    """With texts on a run: the views of a picture, 1, 1+4, 1+9 or 1+4+9; 1 when not given.
    Fitted thresholds and exports bring theirs."""
    fusion: str | None = None
    """With texts on a run: how the scores of the views become one: max or logsumexp; max when not
    given."""
    csv: Path | None = None
    """Write a line for each picture and label to this file; it is replaced."""
    jsonl: Path | None = None
    """Write a line of JSON for each picture to this file; it is replaced."""
    sheet: Path | None = None
    """Draw the pictures with their labels into this file, NAME.png; it is replaced."""
    heatmap: Path | None = None
    """Of a run: draw where in each picture its predicted labels (three at most, or else the first
    label) score, into this folder. Each picture takes as long as 74 others."""

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
                    f"fitted thresholds and exports bring the {flag} they were made with"
                )
        if self.templates is not None and not labels:
            raise ValueError(
                f"received --templates {self.templates}, which needs --labels: fitted classes "
                "bring the prompts they were fitted with"
            )
        tile_groups(self.tiles or "1")
        check_fusion(self.fusion or "max")
        templates_by_name(self.templates or "short")
        self._check_decision(bool(labels))
        if self.heatmap is not None and not holds_model(self.model):
            raise ValueError(
                f"received --heatmap {self.heatmap}, which needs a run: an export does not embed "
                "parts of pictures"
            )
        if self.sheet is not None and self.sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise ValueError(f"received --sheet {self.sheet}; allowed: NAME.png or NAME.jpg")

    def _check_decision(self, has_texts: bool) -> None:
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"received --threshold {self.threshold}; allowed: a finite cosine")
        if self.objective is None:
            return
        parse_objective(self.objective)
        if self.threshold is not None:
            raise ValueError("received --threshold and --objective, which both decide; give one")
        if has_texts or not holds_model(self.model):
            raise ValueError(
                f"received --objective {self.objective}, which needs a run with fitted thresholds "
                "and no --labels; give --threshold for texts, or: python -m tfclip.export RUN "
                f"--objective {self.objective}"
            )

    def files(self) -> PictureFiles:
        """Return the picture files that are meant."""
        return find_pictures(self.pictures, self.list_file)

    def texts(self) -> Labels | None:
        """Return the labels to score; None for those that were fitted or exported."""
        if self.labels == (FITTED,):
            return None
        return read_label_words(self.labels, self.templates)


def predict(flags: PredictFlags) -> dict:
    """Print what is in each picture, and return the same figures."""
    from tfclip.serving.open_classifier import Question, open_classifier
    from tfclip.serving.prediction.predict import Outputs, predict_files

    labels = flags.texts()
    question = Question(
        () if labels is None else labels.names,
        None if labels is None else labels.templates,
        flags.tiles or "1",
        flags.fusion or "max",
        flags.threshold,
        flags.objective,
    )
    opened = open_classifier(flags.model, question)
    if labels is not None:
        say(labels.described())
    outputs = Outputs(flags.csv, flags.jsonl, flags.sheet, flags.heatmap)
    return predict_files(opened, flags.files(), outputs)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.predict", Command(PredictFlags, predict), argv)


if __name__ == "__main__":
    sys.exit(main())
