"""python -m benchmarks.tiles RUN... --records DIR:SPLIT...: what do crops of pictures gain?

Zero-shot mean average precision over all pictures of the given labelled records together (their
classes are joined by name), with one prompt, for one view, for the layouts of `--tiles`, and for
four crops of other sizes. Every gain is the difference to one view on the same bootstrap resamples
of the pictures, with its 95 % interval; with several runs, so is the mean of their gains. The
embeddings are kept beside the run. `--time N` measures the seconds per picture of each layout, on N
pictures of the first records, the best of three turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
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
from tfclip.models.compute import FLOAT32
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
    add("--compute", default=FLOAT32, help="the format of the image tower; dense needs float32")
    add("--time", type=int, default=0, metavar="N", help="time the layouts on N pictures")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    result: dict = {}
    resampled: dict[str, list[np.ndarray]] = {}
    for run in flags.runs:
        found = measure(run, flags, resampled)
        result[str(run)] = dict(found)
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
        if flags.time:
            result[str(run)]["milliseconds"] = costs = time_layouts(run, flags)
            one_view = costs["1"]
            listed = (f"{each} {cost:.1f} ({cost / one_view:.2f}x)" for each, cost in costs.items())
            print(f"  milliseconds per picture: {', '.join(listed)}", flush=True)
    for name, each in resampled.items() if len(flags.runs) > 1 else ():
        gains = [result[str(run)][name]["gain"] for run in flags.runs]
        low, high = recentred_bootstrap_interval(np.mean(gains), np.mean(each, axis=0))
        print(
            f"mean of {len(gains)} runs, {name}: gain {100 * np.mean(gains):+.1f} "
            f"[{100 * low:+.1f}, {100 * high:+.1f}], lowest {100 * min(gains):+.1f}"
        )
        result[f"mean {name}"] = {"gain": float(np.mean(gains)), "interval": [low, high]}
    if flags.json:
        print(json.dumps(result))
    return 0


def measure(
    run: Path, flags: argparse.Namespace, resampled_gains: dict[str, list[np.ndarray]]
) -> dict:
    """Return the mean average precision by views and fusion, with the gain over one view; add the
    gains on the resamples to `resampled_gains`."""
    embeddings = RunEmbeddings(run, flags.compute)
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
            resampled_gains.setdefault(f"{tiles} {fusion}", []).append(again - resampled)
            result[f"{tiles} {fusion}"] = {
                "map": found,
                "gain": found - once,
                "interval": recentred_bootstrap_interval(found - once, again - resampled),
            }
    return result


def time_layouts(run: Path, flags: argparse.Namespace) -> dict[str, float]:
    """Return the milliseconds per picture of each layout, from encoded pictures to embeddings."""
    from tfclip.evaluation.embedding.embed import embed_encoded
    from tfclip.models.saving import load_model
    from tfclip.records import schema
    from tfclip.records.reader import read_split

    directory, split = records_reference(flags.records[0])
    records = read_split(directory, str(split), features=(schema.IMAGE,)).take(flags.time)
    pictures = [record[schema.IMAGE] for record in records.as_numpy_iterator()]
    model = replace(load_model(run, ("image",), flags.compute), is_fixed=True)
    best: dict[str, float] = {}
    for turn in range(4):  # The first one traces the graphs.
        for tiles in ("1", *flags.tiles):
            started = time.perf_counter()
            for _ in embed_encoded(model, pictures, bytes, tiles):
                pass
            taken = 1000 * (time.perf_counter() - started) / len(pictures)
            if turn:
                best[tiles] = min(taken, best.get(tiles, taken))
    return best


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

        model = embeddings.model.whole
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
