"""Runs `tfclip.predict`: answers many files, and prints, writes and draws the answers."""

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
"""The largest number of pictures with a table each; with more, each has a line."""
REJECTS_SHOWN = 20
MOST_RETURNED = 1000


@dataclass(frozen=True)
class Outputs:
    """The files and folders to write answers to, in addition to standard output."""

    csv: Path | None = None
    jsonl: Path | None = None
    sheet: Path | None = None
    heatmap: Path | None = None


def predict_files(opened: OpenedClassifier, pictures: PictureFiles, outputs: Outputs) -> dict:
    """Answer all files, and return the answers for --json.

    Returns:
        `answered` and `rejected`, the numbers of files; `rejects`, each with `picture` and
        `reason`; and for at most `MOST_RETURNED` files `pictures`, each with `picture` and its
        `labels`. More files need no more memory.

    Raises:
        ValueError: no file could be answered, or an output cannot be written.
    """
    paths = pictures.paths
    _say_skipped(pictures)
    is_few = len(paths) <= TABLES
    prints = is_few or not (outputs.csv or outputs.jsonl)
    kept: list[dict] = []
    rejects: list[dict] = []
    answered = rejected = 0
    sheet = Sheet() if outputs.sheet else None
    heatmaps = None
    if outputs.heatmap is not None:
        heatmaps = Heatmaps(opened, outputs.heatmap)
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
        left_out = f" (without {sheet.left_out:,} more)" if sheet.left_out else ""
        written.append(f"{outputs.sheet}: {drawn} pictures{left_out}")
    if heatmaps is not None:
        written.append(f"{outputs.heatmap}: {heatmaps.count} heatmaps")
    if written or not is_few:
        say("; ".join([f"{answered:,} pictures classified", *written]))
    result = {"answered": answered, "rejected": rejected, "rejects": rejects}
    if len(paths) <= MOST_RETURNED:
        result["pictures"] = kept
    elif not outputs.jsonl:
        say(f"more than {MOST_RETURNED:,} pictures; use --jsonl FILE to write all answers")
    return result


def _listed(rejects: Sequence[dict], count: int) -> str:
    shown = "; ".join(f"{one['picture']} {one['reason']}" for one in rejects[:REJECTS_SHOWN])
    more = count - min(count, REJECTS_SHOWN)
    return f"{shown}; and {more:,} more" if more else shown


def _say_skipped(pictures: PictureFiles) -> None:
    if pictures.duplicates:
        say(f"{pictures.duplicates:,} repeated files are classified only once")
    if pictures.skipped:
        kinds = ", ".join(
            f"{ending} {count:,}" for ending, count in pictures.skipped.most_common(8)
        )
        total = sum(pictures.skipped.values())
        say(f"skipped {total:,} files in folders without a picture extension: {kinds}")
