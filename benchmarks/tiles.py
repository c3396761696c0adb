"""python -m benchmarks.tiles RUN... --records DIR:SPLIT...: what do crops of pictures gain?

Zero-shot mean average precision over all pictures of the given labelled records together (their
classes are joined by name), with one prompt, for one view, for the layouts of `--tiles`, and for
four crops of other sizes. Every gain is the difference to one view on the same bootstrap resamples
of the pictures, with its 95 % interval. The embeddings are kept beside the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfclip.evaluation.datasets.multilabel_images import LabelledPictures
from tfclip.evaluation.decisions.fusion import Fusion, fuse
from tfclip.evaluation.embedding.cache import RunEmbeddings, class_embeddings_of
from tfclip.evaluation.embedding.prompts import class_prompts
from tfclip.evaluation.metrics.bootstrap import bootstrap_weights, recentred_bootstrap_interval
from tfclip.evaluation.metrics.multilabel import average_precision, mean_defined
from tfclip.evaluation.tasks.few_labels import labelled_split
from tfclip.inputs.tiles import tile_groups
from tfclip.records.manifest import records_reference

RESAMPLES = 500
WHOLE_AND_BEST = "mean of whole and best"
"""Not a choice of --fusion: the mean of the score of the whole picture and of the best crop."""


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiles", description=__doc__)
    add = parser.add_argument
    add("runs", type=Path, nargs="+", help="runs, or model folders")
    add("--records", nargs="+", required=True, help="labelled records, DIR:SPLIT or DIR:train+val")
    add("--tiles", nargs="+", default=["1+4", "1+9", "1+4+9"])
    add("--sides", type=float, nargs="*", default=[], help="sizes of four other crops, 0.5 to 0.9")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    result = {}
    for run in flags.runs:
        result[str(run)] = found = measure(run, flags)
        one = found.pop("1")
        print(
            f"{run}: {found.pop('pictures')} pictures, one view {100 * one['map']:.1f} "
            f"[{100 * one['interval'][0]:.1f}, {100 * one['interval'][1]:.1f}]"
        )
        for name, each in found.items():
            low, high = each["interval"]
            print(
                f"  {name}: {100 * each['map']:.1f}, gain {100 * each['gain']:+.1f} "
                f"[{100 * low:+.1f}, {100 * high:+.1f}]",
                flush=True,
            )
    if flags.json:
        print(json.dumps(result))
    return 0


def measure(run: Path, flags: argparse.Namespace) -> dict:
    """Return the mean average precision by views and fusion, with the gain over one view."""
    embeddings = RunEmbeddings(run)
    sets = [_labelled(embeddings, reference) for reference in flags.records]
    names = list(dict.fromkeys(name for each in sets for name in each.class_names))
    classes = class_embeddings_of(embeddings, class_prompts(names, "single", {}))
    present = np.concatenate([_present(embeddings, each, names) for each in sets])
    scale = embeddings.logit_scale
    weights = bootstrap_weights(len(present), RESAMPLES, 0)

    def score(tiles: str) -> np.ndarray:
        views = [embeddings.views(each, tiles)[1] for each in sets]
        return np.concatenate(views) @ classes.T

    one = score("1")[:, 0]
    once, resampled = _map(one, present), _map(one, present, weights)
    result: dict = {
        "pictures": len(present),
        "1": {"map": once, "interval": recentred_bootstrap_interval(once, resampled)},
    }
    scored = [(tiles, score(tiles), tile_groups(tiles)) for tiles in flags.tiles]
    for side in flags.sides:
        crops = [_crops(embeddings, each, side) @ classes.T for each in sets]
        together = np.concatenate([one[:, None], np.concatenate(crops)], axis=1)
        scored.append((f"1+4 of {side:.0%}", together, (1, 4)))
    for tiles, views, groups in scored:
        for fusion, fused in _fused(views, groups, scale):
            found, again = _map(fused, present), _map(fused, present, weights)
            result[f"{tiles} {fusion}"] = {
                "map": found,
                "gain": found - once,
                "interval": recentred_bootstrap_interval(found - once, again - resampled),
            }
    return result


def _labelled(embeddings: RunEmbeddings, reference: str) -> LabelledPictures:
    directory, split = records_reference(reference)
    if split is None:
        raise SystemExit(f"{reference} names no split; give DIR:SPLIT")
    return labelled_split(embeddings, directory, split)


def _present(embeddings: RunEmbeddings, pictures: LabelledPictures, names: list[str]) -> np.ndarray:
    """Return the labels (N,C) of the readable pictures; classes of other sets are absent."""
    rows = embeddings.views(pictures, "1")[0]
    found = np.zeros((len(rows), len(names)), bool)
    found[:, [names.index(name) for name in pictures.class_names]] = pictures.present[rows]
    return found


def _crops(embeddings: RunEmbeddings, pictures: LabelledPictures, side: float) -> np.ndarray:
    """Return the embeddings (N,4,D) of the four corners of a size."""
    start = round(1 - side, 6)
    corners = [(y, x) for y in (0.0, start) for x in (0.0, start)]
    boxes = np.array([(y, x, y + side, x + side) for y, x in corners], np.float32)

    def embed() -> dict[str, np.ndarray]:
        from tfclip.evaluation.embedding.embed import embed_pictures

        model = embeddings.model
        views = pictures.views(model.config.picture_size, np.minimum(boxes, 1))
        return {"crops": embed_pictures(model, views, total=len(pictures.keys))[1]}

    return embeddings.arrays(f"four crops of {side} of {pictures.reference}", embed)["crops"]


def _fused(
    views: np.ndarray, groups: tuple[int, ...], scale: float
) -> Iterator[tuple[str, np.ndarray]]:
    yield "max", fuse(views, Fusion(), groups)
    yield "logsumexp", fuse(views, Fusion("logsumexp", sharpness=scale), groups)
    yield WHOLE_AND_BEST, (views[:, 0] + views[:, 1:].max(axis=1)) / 2


def _map(scores: np.ndarray, present: np.ndarray, weights: np.ndarray | None = None):
    """Return the mean average precision, of each resample with weights."""
    found = mean_defined(average_precision(scores, present, weights=weights))
    return float(found) if weights is None else found


if __name__ == "__main__":
    sys.exit(main())
