"""python -m benchmarks.pointing: does a heatmap point at the object? Pascal VOC's boxes.

The pointing game (Zhang et al. 2016, arXiv 1608.00507): for each picture and each class in it, a
hit where the highest place of the heatmap of that class lies within a box of it. Beside it the
middle of the picture, which is a good guess in photographs, and random places (the share of the
picture that the boxes cover). Intervals are 95 % bootstrap intervals over pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tfclip.evaluation.metrics.bootstrap import bootstrap_weights, interval

RESAMPLES = 2000


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pointing", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, help="a run, or a model folder")
    add("--data", type=Path, required=True, help="VOCdevkit/VOC2012")
    add("--split", default="val")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    result = measure(flags.run, flags.data, flags.split)
    for name in ("heatmap", "centre", "random", "gain"):
        low, high = result[f"{name}_interval"]
        print(
            f"{name}: {100 * result[name]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]",
            file=sys.stderr,
        )
    print(f"{result['pictures']} pictures, {result['pairs']} pairs of picture and class")
    if flags.json:
        print(json.dumps(result))
    return 0


def measure(run: Path, data: Path, split: str) -> dict:
    """The share of hits of each way to point."""
    from tfclip.evaluation.datasets.views import file_views
    from tfclip.evaluation.embedding.embed import embed_classes, embed_pictures
    from tfclip.evaluation.embedding.prompts import class_prompts
    from tfclip.models.saving import load_model
    from tfclip.serving.prediction.heatmap import highest_place, score_maps, window_boxes
    from tfclip.sources.registry import open_source
    from tfclip.sources.sample import SourceOptions

    source = open_source("voc", data, SourceOptions(splits=(split,)))
    samples = list(source.read(split))
    names = source.class_names
    model = load_model(run)
    classes = embed_classes(model, class_prompts(names, "single", {}))
    views = file_views([each.image for each in samples], model.config.picture_size, window_boxes())
    rows, embedded = embed_pictures(model, views, total=len(samples))
    hits, centre, chance, counts = [], [], [], []
    for row, windows in zip(rows, embedded, strict=True):
        maps = score_maps(windows @ classes.T)
        image = Path(samples[row].image)
        boxes = _boxes(data / "Annotations" / f"{image.stem}.xml")
        each = []
        for name, of_class in boxes.items():
            place = highest_place(maps[names.index(name)])
            each.append((_within(place, of_class), _within((0.5, 0.5), of_class), _area(of_class)))
        if each:
            for target, values in zip((hits, centre, chance), zip(*each, strict=True), strict=True):
                target.append(sum(values))
            counts.append(len(each))
    weights = bootstrap_weights(len(counts), RESAMPLES, 0).astype(np.float64)
    pairs = np.array(counts) @ weights
    shares = {
        "heatmap": np.array(hits, np.float64),
        "centre": np.array(centre, np.float64),
        "random": np.array(chance, np.float64),
    }
    shares["gain"] = shares["heatmap"] - shares["centre"]
    result: dict = {"pictures": len(counts), "pairs": int(sum(counts)), "split": split}
    for name, sums in shares.items():
        result[name] = float(sums.sum() / sum(counts))
        result[f"{name}_interval"] = interval(sums @ weights / pairs)
    return result


def _boxes(annotation: Path) -> dict[str, list[tuple[float, float, float, float]]]:
    """The boxes of each class, x0,y0,x1,y1 in shares of the sides; no difficult objects."""
    tree = ElementTree.parse(annotation)
    width, height = (float(tree.findtext(f"size/{side}") or 1) for side in ("width", "height"))
    found: dict[str, list] = {}
    for item in tree.iter("object"):
        if (item.findtext("difficult") or "0").strip() == "1":
            continue
        x0, y0, x1, y1 = (
            float(item.findtext(f"bndbox/{edge}") or 0) for edge in ("xmin", "ymin", "xmax", "ymax")
        )
        box = ((x0 - 1) / width, (y0 - 1) / height, x1 / width, y1 / height)
        found.setdefault(str(item.findtext("name")).strip(), []).append(box)
    return found


def _within(place: tuple[float, float], boxes: list) -> bool:
    x, y = place
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in boxes)


def _area(boxes: list) -> float:
    """The share of the picture that the boxes cover, on a fine grid."""
    places = (np.arange(100) + 0.5) / 100
    covered = np.zeros((100, 100), bool)
    for x0, y0, x1, y1 in boxes:
        covered |= ((places >= y0) & (places <= y1))[:, None] & (places >= x0) & (places <= x1)
    return float(covered.mean())


if __name__ == "__main__":
    sys.exit(main())
