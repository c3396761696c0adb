"""The parts of the report page on retrieval, classification and sentence similarity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tfclip.evaluation.report.examples import RETRIEVAL_EXAMPLES, read_examples
from tfclip.evaluation.report.text_tables import sts_table


def retrieval_section(run: Path, figures: Mapping) -> dict:
    """Return the recalls of both directions, and captions with their nearest pictures."""
    keys = ("r1", "r5", "r10", "median_rank")
    rows = [
        [direction.replace("_", " "), *(figures[direction][key] for key in keys)]
        for direction in ("image_to_text", "text_to_image")
    ]
    queries: dict[str, list[dict]] = {}
    for example in read_examples(run / RETRIEVAL_EXAMPLES):
        lines = [("", f"cosine {example['score']:.3f}")]
        if example["right"]:
            # A rank is given where the caption's own picture is not among the first.
            missed = "rank" in example
            text = f"○ missed: its picture, rank {example['rank']}" if missed else "✓ its picture"
            lines.insert(0, ("missed" if missed else "found", text))
        shown = {"jpeg": example["jpeg"], "description": example["key"], "lines": lines}
        queries.setdefault(example["query"], []).append(shown)
    return {
        "template": "retrieval.html",
        "rows": rows,
        "counted": f"{figures['images']} pictures, {figures['captions']} captions of "
        f"{figures['records']}:{figures['split']}",
        "queries": queries,
    }


def classification_section(run: Path, figures: Mapping) -> dict:
    """Return the top-k accuracies."""
    return {
        "template": "classification.html",
        "key_figures": [
            ("top_k", f"top-{k} accuracy", figures[f"top{k}"], None) for k in (1, 5, 10)
        ],
        "counted": f"{figures['images']} pictures, {figures['classes']} classes; templates "
        f"{figures['templates']}",
    }


def sentences_section(run: Path, figures: Mapping) -> dict:
    """Return the table of correlations that the command prints."""
    return {"template": "sentences.html", "table": sts_table(figures)}
