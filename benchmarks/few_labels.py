"""python -m benchmarks.few_labels: what a few labelled pictures are worth, beside other methods.

From kept embeddings of a run: for 1, 2, 4, 8, 16 and all labelled pictures a class, the mean
average precision and macro F1 on other pictures of zero-shot classification, `tfclip.adapt`,
Tip-Adapter without training (Zhang et al. 2022, arXiv 2111.03930; alpha 1, beta 5.5) and a linear
probe (logistic regression a class, its strength by cross-validation, no texts). Several draws of
the labelled pictures; 95 % bootstrap intervals over pictures and draws of the gain over zero-shot.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfclip.evaluation.datasets.multilabel_images import joined, labelled_records
from tfclip.evaluation.decisions.few_labels import fit_few_labels
from tfclip.evaluation.decisions.scored_images import embed_labelled
from tfclip.evaluation.decisions.thresholds import fit_thresholds
from tfclip.evaluation.embedding.cache import RunEmbeddings, class_embeddings_of
from tfclip.evaluation.embedding.prompts import class_prompts
from tfclip.evaluation.metrics.bootstrap import bootstrap_weights, interval
from tfclip.evaluation.metrics.multilabel import (
    average_precision,
    confusion,
    macro,
    mean_defined,
)
from tfclip.evaluation.tasks.few_labels import TEMPLATES_TRIED

COUNTS = (1, 2, 4, 8, 16, None)
RESAMPLES = 200
METHODS = ("zero-shot", "adapt", "Tip-Adapter", "linear probe")


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_labels", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, help="a run with kept embeddings, or a model folder")
    add("--records", type=Path, required=True, help="packed records with labels")
    add("--train", default="train", help="the split whose labels are used")
    add("--test", nargs="+", default=["val"], help="the splits that are measured on")
    add("--draws", type=int, default=5)
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    embeddings = RunEmbeddings(flags.run)
    train = labelled_records(flags.records, flags.train)
    test = joined([labelled_records(flags.records, split) for split in flags.test])
    result = compare(embeddings, train, test, flags.draws)
    if flags.json:
        print(json.dumps(result))
    return 0


def compare(embeddings: RunEmbeddings, train, test, draws: int) -> dict:
    """All methods at all counts; each row has the figures of one count."""
    names = train.class_names
    texts = {
        templates: class_embeddings_of(embeddings, class_prompts(names, templates, {}))
        for templates in TEMPLATES_TRIED
    }
    sides = [embed_labelled(embeddings, part) for part in (train, test)]
    (x, present, difficult), (tx, tpresent, tdifficult) = (
        (part.views[:, 0], part.pictures.present[part.rows], part.pictures.difficult[part.rows])
        for part in sides
    )
    weights = bootstrap_weights(len(tx), RESAMPLES, 0)
    first = next(iter(texts.values()))
    rows = []
    for count in COUNTS:
        figures = {name: [] for name in METHODS}
        resampled = {name: [] for name in METHODS}
        seconds = []
        for draw in range(draws if count else 1):
            order = np.random.default_rng(draw).permutation(len(x))
            kept = order if count is None else balanced(present, count, order)
            part = x[kept], present[kept], difficult[kept]
            started = time.perf_counter()
            learnt = fit_few_labels(*part, texts, seed=draw)
            seconds.append(time.perf_counter() - started)
            scored = {
                "zero-shot": (x[kept] @ first.T, tx @ first.T),
                "adapt": (learnt.held_out, tx @ learnt.classes.T),
                "Tip-Adapter": (None, tip_adapter(tx, *part[:2], first, embeddings.logit_scale)),
                "linear probe": (None, linear_probe(*part, tx)),
            }
            for name, (on_train, on_test) in scored.items():
                ap = mean_defined(average_precision(on_test, tpresent))
                f1 = np.nan
                if on_train is not None:
                    fitted = fit_thresholds(on_train, part[1] & ~part[2], "f1", part[2])
                    predicted = on_test >= fitted.per_class
                    f1 = macro(confusion(predicted, tpresent & ~tdifficult, tdifficult))["f1"]
                figures[name].append((float(ap), float(f1)))
                each = average_precision(on_test, tpresent, weights=weights)
                resampled[name].append(mean_defined(each))
        row = {
            "count": count or "all",
            "pictures": len(kept),
            "seconds": max(seconds),
            "setting": str(learnt.setting),
        }
        for name in METHODS:
            ap, f1 = np.mean(figures[name], axis=0)
            gain = np.mean(resampled[name], axis=0) - np.mean(resampled["zero-shot"], axis=0)
            row[name] = {"map": float(ap), "macro_f1": float(f1), "gain": interval(gain)}
            row[name]["draws"] = [round(100 * each[0], 1) for each in figures[name]]
        rows.append(row)
        print(_line(row), file=sys.stderr, flush=True)
    return {"test_pictures": len(tx), "classes": len(names), "rows": rows}


def balanced(present: np.ndarray, count: int, order: Sequence[int]) -> list[int]:
    """Pictures, in this order, until every class has `count` of them, or all that there are."""
    have = np.zeros(present.shape[1], int)
    chosen = []
    for row in order:
        if (present[row] & (have < count)).any():
            chosen.append(int(row))
            have += present[row]
    return chosen


def tip_adapter(pictures, images, present, texts, logit_scale, sharpness=5.5, weight=1.0):
    """Tip-Adapter's scores (M,C): the texts' logits plus the labels of near pictures."""
    affinity = np.exp(-sharpness * (1 - pictures @ images.T))
    return logit_scale * pictures @ texts.T + weight * affinity @ present.astype(np.float64)


def linear_probe(images, present, difficult, pictures) -> np.ndarray:
    """A logistic regression for each class, on embeddings alone: scores (M,C)."""
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

    known = present & ~difficult
    scores = np.zeros((len(pictures), present.shape[1]))
    warnings.simplefilter("ignore")
    for c in range(present.shape[1]):
        cells = ~difficult[:, c]
        truth = known[cells, c]
        if truth.all() or not truth.any():
            continue
        folds = min(3, int(truth.sum()), int((~truth).sum()))
        if folds < 3:
            model = LogisticRegression(C=100.0, max_iter=500)
        else:
            model = LogisticRegressionCV(
                Cs=[1.0, 10.0, 100.0, 1000.0], cv=folds, scoring="average_precision", max_iter=500
            )
        scores[:, c] = model.fit(images[cells], truth).decision_function(pictures)
    return scores


def _line(row: dict) -> str:
    shown = []
    for name in METHODS:
        low, high = (100 * each for each in row[name]["gain"])
        interval_text = "" if name == "zero-shot" else f" [{low:+.1f}, {high:+.1f}]"
        f1 = row[name]["macro_f1"]
        f1_text = "" if np.isnan(f1) else f", F1 {100 * f1:.1f}"
        shown.append(f"{name} {100 * row[name]['map']:.1f}{interval_text}{f1_text}")
    return (
        f"{row['count']} a class ({row['pictures']} pictures, {row['seconds']:.1f} s): "
        f"mAP {'; '.join(shown)}; {row['setting']}"
    )


if __name__ == "__main__":
    sys.exit(main())
