"""The answers of a classifier for one picture, as rows, tables, CSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from tfclip import files
from tfclip.serving.signatures import LABELS, PREDICTED, PROBABILITIES, SCORES

COLUMNS = ("picture", "label", "cosine", "threshold", "probability", "softmax", "predicted")
REASON = "reason"


@dataclass(frozen=True)
class Scale:
    """The meaning of the outputs of a classifier.

    Attributes:
        thresholds: the lowest cosine at which each label is predicted; None for no decisions.
        is_calibrated: whether `probabilities` are calibrated separately for each label; otherwise
            they are a softmax over the labels.
    """

    thresholds: tuple[float, ...] | None = None
    is_calibrated: bool = False

    def described(self, labels: int) -> str:
        """Return a sentence about the meaning of the columns."""
        parts = ["cosine: similarity of picture and label"]
        if self.thresholds is not None:
            parts.append("yes: cosine at or above the threshold of the label")
        if self.is_calibrated:
            parts.append("probability: calibrated separately for each label")
        elif labels > 1:
            parts.append(
                f"softmax: relative score among these {labels} labels, with sum 1; not the "
                "probability that a label is in the picture"
            )
        return "; ".join(parts)


def rows_of(outputs: Mapping[str, np.ndarray], scale: Scale) -> list[dict]:
    """Return the labels of one picture: predicted ones first, then by probability or cosine.

    Args:
        outputs: the outputs of the classifier for the picture.
        scale: their meaning.

    Returns:
        For each label `label` and `cosine`; with thresholds also `threshold` and `predicted`; with
        calibration `probability`, or else `softmax` if there are several labels.
    """
    labels = [label.decode() for label in outputs[LABELS]]
    rows = []
    for at, label in enumerate(labels):
        row: dict = {"label": label, "cosine": float(outputs[SCORES][at])}
        if scale.thresholds is not None:
            row["threshold"] = float(scale.thresholds[at])
        if scale.is_calibrated:
            row["probability"] = float(outputs[PROBABILITIES][at])
        elif len(labels) > 1:
            row["softmax"] = float(outputs[PROBABILITIES][at])
        if scale.thresholds is not None:
            row["predicted"] = bool(outputs[PREDICTED][at])
        rows.append(row)
    likely = "probability" if scale.is_calibrated else "cosine"
    return sorted(rows, key=lambda row: (not row.get("predicted", False), -row[likely]))


def table(picture: str, rows: Sequence[Mapping]) -> str:
    """Return a table of the labels of a picture, with its name as the heading."""
    width = max(5, *(len(row["label"]) for row in rows))
    columns = [name for name in COLUMNS[2:-1] if name in rows[0]]
    is_decided = "predicted" in rows[0]
    heading = "  ".join(f"{name:>{max(len(name), 6)}}" for name in columns)
    lines = [picture, f"  {'label':{width}}  {heading}{'  decision' * is_decided}"]
    for row in rows:
        numbers = "  ".join(f"{row[name]:{max(len(name), 6)}.3f}" for name in columns)
        decision = ("  yes" if row["predicted"] else "  no") if is_decided else ""
        lines.append(f"  {row['label']:{width}}  {numbers}{decision}")
    return "\n".join(lines)


def line(picture: str, rows: Sequence[Mapping], most: int = 5) -> str:
    """Return a line with the predicted labels of a picture, or the best one without thresholds."""
    if "predicted" in rows[0]:
        shown = [row for row in rows if row["predicted"]][:most]
        named = ", ".join(f"{row['label']} {_number(row)}" for row in shown)
        return f"{picture}: {named or 'none of the labels'}"
    return f"{picture}: best {rows[0]['label']} {rows[0]['cosine']:.3f} (cosine)"


def _number(row: Mapping) -> str:
    return f"{row['probability']:.2f}" if "probability" in row else f"{row['cosine']:.3f}"


class AnswerFiles:
    """Writes answers one by one to files that appear when they are complete.

    Args:
        csv_file: one line per picture and label, or with the reason of a reject.
        jsonl_file: one line per picture.
    """

    def __init__(self, csv_file: Path | None, jsonl_file: Path | None):
        self._paths = csv_file, jsonl_file
        self._open = ExitStack()

    def __enter__(self) -> AnswerFiles:
        opened: list[TextIO | None] = []
        for path in self._paths:
            if path is None:
                opened.append(None)
                continue
            temporary = self._open.enter_context(files.new_file(path))
            file = temporary.open("w", encoding="utf-8", newline="")
            opened.append(self._open.enter_context(file))
        csv_file, self._jsonl = opened
        self._csv = None
        if csv_file is not None:
            self._csv = csv.DictWriter(csv_file, (*COLUMNS, REASON), restval="")
            self._csv.writeheader()
        return self

    def __exit__(self, *error) -> bool | None:
        return self._open.__exit__(*error)

    def write(self, picture: str, rows: Sequence[Mapping] | None, reason: str | None) -> None:
        """Write the answer for one picture."""
        # File names may be invalid UTF-8, the output must not.
        picture = picture.encode("utf-8", "replace").decode()
        if self._csv is not None:
            for row in rows or [{REASON: reason}]:
                self._csv.writerow({"picture": picture, **row})
        if self._jsonl is not None:
            answer = {"reason": reason} if rows is None else {"labels": list(rows)}
            self._jsonl.write(json.dumps({"picture": picture, **answer}, ensure_ascii=False) + "\n")
