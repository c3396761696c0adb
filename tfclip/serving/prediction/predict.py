"""The work of `tfclip.predict`: answers for many files, printed, written and drawn as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfclip.console import say
from tfclip.serving.open_classifier import OpenedClassifier
from tfclip.serving.prediction.answers import AnswerFiles, line, rows_of, table
from tfclip.serving.prediction.batches import answer_files
from tfclip.serving.prediction.heatmaps import Heatmaps
from tfclip.serving.prediction.picture_files import PictureFiles
from tfclip.serving.prediction.sheet import Sheet

TABLES = 10
"""So many pictures get a table each; more get a line each."""
REJECTS_SHOWN = 20
MOST_RETURNED = 1000


@dataclass(frozen=True)
class Outputs:
    """Where answers are written beside standard output."""

    csv: Path | None = None
    jsonl: Path | None = None
    sheet: Path | None = None
    heatmap: Path | None = None


def predict_files(opened: OpenedClassifier, found: PictureFiles, outputs: Outputs) -> dict:
    """Answer every file, and return the answers, for --json.

    Returns:
        `answered` and `rejected`, how many; `rejects`, each with `picture` and `reason`; and
        `pictures`, each with `picture` and its `labels`, where they are not more than
        `MOST_RETURNED`. Memory does not grow beyond those.

    Raises:
        ValueError: no file could be answered, or one cannot be written.
    """
    paths = found.paths
    _say_passed_over(found)
    is_few = len(paths) <= TABLES
    prints = is_few or not (outputs.csv or outputs.jsonl)
    kept: list[dict] = []
    rejects: list[dict] = []
    answered = rejected = 0
    sheet = Sheet() if outputs.sheet else None
    heatmaps = None
    if outputs.heatmap is not None and opened.served is not None:
        heatmaps = Heatmaps(opened.served, opened.labels, outputs.heatmap)
    say(opened.scale.described(len(opened.labels)))
    with AnswerFiles(outputs.csv, outputs.jsonl) as writer:
        for each in answer_files(opened, paths):
            rows = None if each.outputs is None else rows_of(each.outputs, opened.scale)
            writer.write(each.path, rows, each.reason)
            if rows is None:
                rejected += 1
                if len(rejects) < MOST_RETURNED:
                    rejects.append({"picture": each.path, "reason": each.reason})
                continue
            answered += 1
            if prints:
                print(table(each.path, rows) if is_few else line(each.path, rows))
            if sheet is not None:
                sheet.add(each.path, each.content, rows)
            if heatmaps is not None:
                heatmaps.draw(each.path, each.content, rows)
            if len(paths) <= MOST_RETURNED:
                kept.append({"picture": each.path, "labels": rows})
        if not answered:
            raise ValueError(_listed(rejects, rejected))
    if rejected:
        say(f"{rejected:,} of {len(paths):,} rejected: {_listed(rejects, rejected)}")
    written = [str(path) for path in (outputs.csv, outputs.jsonl) if path]
    if sheet is not None and outputs.sheet is not None:
        drawn = sheet.write(outputs.sheet)
        left_out = f" ({sheet.left_out:,} more are not on it)" if sheet.left_out else ""
        written.append(f"{outputs.sheet}: {drawn} pictures{left_out}")
    if heatmaps is not None:
        written.append(f"{outputs.heatmap}: {heatmaps.count} heatmaps")
    if written or not is_few:
        say("; ".join([f"{answered:,} pictures answered", *written]))
    result = {"answered": answered, "rejected": rejected, "rejects": rejects}
    if len(paths) <= MOST_RETURNED:
        result["pictures"] = kept
    elif not outputs.jsonl:
        say(f"more than {MOST_RETURNED:,} pictures: --jsonl FILE keeps every answer")
    return result


def _listed(rejects: Sequence[dict], count: int) -> str:
    shown = "; ".join(f"{one['picture']} {one['reason']}" for one in rejects[:REJECTS_SHOWN])
    more = count - min(count, REJECTS_SHOWN)
    return f"{shown}; and {more:,} more" if more else shown


def _say_passed_over(found: PictureFiles) -> None:
    if found.duplicates:
        say(f"{found.duplicates:,} files are named more than once, and answered once")
    if found.passed_over:
        kinds = ", ".join(
            f"{ending} {count:,}" for ending, count in found.passed_over.most_common(8)
        )
        total = sum(found.passed_over.values())
        say(f"{total:,} files of the folders are no pictures by their ending: {kinds}")
