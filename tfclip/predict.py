"""python -m tfclip.predict MODEL picture.jpg --labels ...: what is in these pictures?"""

import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, progress, run
from tfclip.evaluation.decisions.fusion import check_fusion
from tfclip.inputs.tiles import tile_groups
from tfclip.models.model_directory import holds_model
from tfclip.serving.classifier import check_labels
from tfclip.serving.signatures import LABELS, PREDICTED, PROBABILITIES, SCORES, VALID

PICTURES_AT_ONCE = 16


@dataclass(frozen=True)
class PredictFlags:
    """Score pictures against texts, or against the classes whose thresholds were fitted."""

    model: Positional[Path]
    """A run directory, a model folder, or an exported model."""
    pictures: Positional[tuple[Path, ...]] = ()
    """JPEG, PNG, GIF, BMP or WebP files."""
    labels: tuple[str, ...] = ()
    """Texts as a caption would have them: "a dog" "a cat". When not given: the classes that were
    fitted or exported, with their decisions."""
    tiles: str | None = None
    """With --labels on a run: the views of a picture, 1, 1+4, 1+9 or 1+4+9; 1 when not given.
    Fitted thresholds and exports bring theirs."""
    fusion: str | None = None
    """With --labels on a run: how the scores of the views become one: max, mean or logsumexp; max
    when not given."""

    def __post_init__(self):
        if not self.model.exists():
            raise FileNotFoundError(
                f"no model at {self.model}; train one with python -m tfclip.fit, or make one with "
                "python -m tfclip.quickstart"
            )
        if not self.pictures:
            raise ValueError(
                "no picture was given; run: python -m tfclip.predict RUN picture.jpg --labels "
                '"a dog" "a cat"'
            )
        for picture in self.pictures:
            if not picture.is_file():
                raise FileNotFoundError(f"no picture at {picture}")
        if self.labels:
            check_labels(self.labels, "--labels")
        for flag in ("tiles", "fusion"):
            if getattr(self, flag) is not None and not (self.labels and holds_model(self.model)):
                raise ValueError(
                    f"received --{flag} {getattr(self, flag)}, which needs --labels and a run: "
                    f"fitted thresholds and exports bring the {flag} they were made with"
                )
        tile_groups(self.tiles or "1")
        check_fusion(self.fusion or "max")


def predict(flags: PredictFlags) -> dict:
    """Print a table for each picture and return the same figures."""
    from tfclip.serving.open_classifier import open_classifier

    views = (flags.tiles or "1", flags.fusion or "max")
    classify = open_classifier(flags.model, flags.labels, *views)
    answers, undecoded = [], []
    starts = range(0, len(flags.pictures), PICTURES_AT_ONCE)
    for start in progress(starts, total=len(starts), what="reading pictures"):
        pictures = flags.pictures[start : start + PICTURES_AT_ONCE]
        answer = classify([picture.read_bytes() for picture in pictures])
        for row, picture in enumerate(pictures):
            if answer[VALID][row]:
                answers.append({"picture": str(picture), "labels": _rows(answer, row)})
            else:
                undecoded.append(str(picture))
    if undecoded:
        raise ValueError(
            f"{', '.join(undecoded)}: no picture that decodes; allowed: JPEG, PNG, GIF, BMP, WebP"
        )
    for picture_answer in answers:
        print(_table(picture_answer))
    return {"pictures": answers}


def _rows(answer, row: int) -> list[dict]:
    """The labels of one picture, the highest score first."""
    decided = answer.get(PREDICTED)
    rows = [
        {
            "label": label.decode(),
            "cosine": float(answer[SCORES][row, at]),
            "probability": float(answer[PROBABILITIES][row, at]),
            **({} if decided is None else {"predicted": bool(decided[row, at])}),
        }
        for at, label in enumerate(answer[LABELS][row])
    ]
    return sorted(rows, key=lambda one: -one["cosine"])


def _table(answer: dict) -> str:
    rows = answer["labels"]
    width = max(5, *(len(row["label"]) for row in rows))
    decided = "predicted" in rows[0]
    lines = [answer["picture"], f"  {'label':{width}}  cosine  probability{'  decision' * decided}"]
    for row in rows:
        line = f"  {row['label']:{width}}  {row['cosine']:6.3f}  {row['probability']:11.3f}"
        lines.append(f"{line}  {'yes' if row['predicted'] else 'no'}" if decided else line)
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.predict", Command(PredictFlags, predict), argv)


if __name__ == "__main__":
    sys.exit(main())
