"""python -m benchmarks.thresholds RUN: how near do fitted thresholds come to the oracle's?

For each seed new scenes are drawn: 2,000 to fit thresholds on (trainval) and 1,000 to measure on
(test). The oracle's thresholds are fitted on the test scenes themselves: a bound. The aim is a
macro F1 within 3 points of it, in the mean over the seeds. RUN is a model of the drawn shapes, as
`python -m tfclip.quickstart` trains it; no seed may be the one of its training.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import mean

AIM = 0.03
CALIBRATION, TEST = (1000, 1000), 1000


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code: 1 when the aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.thresholds", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, help="a run on drawn shapes")
    add("--work", type=Path, default=Path("runs/benchmark-thresholds"), help="what is drawn")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--tiles", default="1+4")
    add("--fusion", default="max")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)

    from tfclip.evaluation.datasets.multilabel_images import labelled_source
    from tfclip.evaluation.decisions.options import MultilabelOptions
    from tfclip.evaluation.embedding.cache import ModelEmbeddings
    from tfclip.evaluation.tasks.multilabel import evaluate_multilabel
    from tfclip.models.saving import load_model
    from tfclip.sources.registry import open_source
    from tfclip.sources.shapes import draw_shapes

    embeddings, rows = ModelEmbeddings(load_model(flags.run)), []
    for seed in flags.seeds:
        drawn = flags.work / f"drawn-{seed}"
        draw_shapes(
            drawn,
            seed=seed,
            visual_genome=1,
            flickr8k=(1, 1, 1),
            coco=(1, 1),
            voc=(*CALIBRATION, TEST),
        )
        source = open_source("voc", drawn / "voc" / "VOCdevkit" / "VOC2007")
        test, calibration = (labelled_source(source, split) for split in ("test", "trainval"))
        options = MultilabelOptions(tiles=flags.tiles, fusion=flags.fusion, seed=seed)
        figures = evaluate_multilabel(embeddings, test, calibration, options).figures
        errors = figures["probabilities"]["expected_calibration_error"]
        row = {
            "seed": seed,
            "map": figures["map"],
            "macro_f1": figures["macro"]["f1"],
            "oracle": figures["oracle"]["macro"]["f1"],
            "gap": figures["oracle"]["macro_f1_gap"],
            "softmax": figures["softmax"]["macro"]["f1"],
            "shrinkage": figures["shrinkage"],
            "calibration_errors": errors,
        }
        rows.append(row)
        told = ", ".join(f"{kind} {error:.3f}" for kind, error in errors.items())
        print(
            f"seed {seed}: mAP {row['map']:.3f}, macro F1 {row['macro_f1']:.3f}, oracle "
            f"{row['oracle']:.3f}, gap {row['gap']:.3f}, thresholded softmax {row['softmax']:.3f}, "
            f"shrinkage {row['shrinkage']:g}; calibration error {told}",
            file=sys.stderr,
        )
    gap = mean(row["gap"] for row in rows)
    print(f"mean gap {gap:.4f} (aim {AIM})", file=sys.stderr)
    if flags.json:
        print(json.dumps({"gap": gap, "aim": AIM, "seeds": rows}))
    return int(gap > AIM)


if __name__ == "__main__":
    sys.exit(main())
