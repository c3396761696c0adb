"""What a classifier says of one picture: rows for people, tables, CSV and JSON lines."""

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
    """What the numbers of a classifier are.

    Attributes:
        thresholds: the least cosine that predicts each label, or None: nothing is decided.
        is_calibrated: whether `probabilities` are calibrated ones, of each label by itself; else
            they are a softmax among the labels.
    """

    thresholds: tuple[float, ...] | None = None
    is_calibrated: bool = False

    def described(self, labels: int) -> str:
        """Return one sentence on what the columns mean."""
        parts = ["cosine: similarity of picture and label"]
        if self.thresholds is not None:
            parts.append("yes: cosine at or above the threshold of the label")
        if self.is_calibrated:
            parts.append("probability: calibrated for each label by itself")
        elif labels > 1:
            parts.append(
                f"softmax: share among these {labels} labels, 1 in all; no probability that a "
                "label is in the picture"
            )
        return "; ".join(parts)


def rows_of(outputs: Mapping[str, np.ndarray], scale: Scale) -> list[dict]:
    """Return the labels of one picture: decided ones first, then by probability or by cosine.

    Args:
        outputs: of the classifier, the row of the picture.
        scale: what they are.

    Returns:
        For each label `label`, `cosine`; where labels have thresholds `threshold` and `predicted`;
        `probability` where it is calibrated, or `softmax` among two labels or more.
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
    """Return the labels of a picture under its name."""
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
    """Return a picture in one line: what was decided, or the best label where nothing is."""
    if "predicted" in rows[0]:
        shown = [row for row in rows if row["predicted"]][:most]
        named = ", ".join(f"{row['label']} {_number(row)}" for row in shown)
        return f"{picture}: {named or 'none of the labels'}"
    return f"{picture}: best {rows[0]['label']} {rows[0]['cosine']:.3f} (cosine)"


def _number(row: Mapping) -> str:
    return f"{row['probability']:.2f}" if "probability" in row else f"{row['cosine']:.3f}"


class AnswerFiles:
    """Writes answers while they come, to files that are complete or not there.

    Args:
        csv_file: a line for each picture and label, and one with a reason for each reject.
        jsonl_file: a line for each picture.
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
            beside = self._open.enter_context(files.new_file(path))
            opened.append(self._open.enter_context(beside.open("w", encoding="utf-8", newline="")))
        csv_file, self._jsonl = opened
        self._csv = None
        if csv_file is not None:
            self._csv = csv.DictWriter(csv_file, (*COLUMNS, REASON), restval="")
            self._csv.writeheader()
        return self

    def __exit__(self, *error) -> bool | None:
        return self._open.__exit__(*error)

    def write(self, picture: str, rows: Sequence[Mapping] | None, reason: str | None) -> None:
        """Write what came of one picture."""
        # A file name need not be UTF-8; what is written must be.
        picture = picture.encode("utf-8", "replace").decode()
        if self._csv is not None:
            for row in rows or [{REASON: reason}]:
                self._csv.writerow({"picture": picture, **row})
        if self._jsonl is not None:
            answer = {"reason": reason} if rows is None else {"labels": list(rows)}
            self._jsonl.write(json.dumps({"picture": picture, **answer}, ensure_ascii=False) + "\n")
