"""python -m benchmarks.evaluate: does evaluation keep an image tower busy?

Pictures per second of `embed_pictures` (records, decoded and resized on the way) beside the same
graph on pixels that lie in memory, both in turns. What is missing to 1 is what evaluation costs
beside the tower. Where all cores are busy that cannot be less than the processor time of reading,
decoding and resizing, which is measured too: tower / (tower + reading) is then the bound.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.timing import Timing, compared, timed

TOWERS = ("squeezenet", "efficientnet-b0")


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluate", description=__doc__)
    add = parser.add_argument
    add("--records", type=Path, required=True, help="packed records")
    add("--split", default="val")
    add("--towers", nargs="+", default=list(TOWERS))
    add("--pictures", type=int, default=960, help="of a round; a smaller split is repeated")
    add("--rounds", type=int, default=5)
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    result = {}
    for tower in flags.towers:
        result[tower] = found = measure(tower, flags)
        sides = " ".join(
            f"{name} {side['images_per_second']:.1f} images/s "
            f"({1e3 / side['images_per_cpu_second']:.2f} ms of processor time each),"
            for name, side in (("evaluation", found["ours"]), ("tower alone", found["theirs"]))
        )
        print(
            f"{tower}: {sides} reading {found['reading_ms']:.2f} ms; ratio {found['ratio']:.3f} "
            f"(round by round {' '.join(f'{ratio:.2f}' for ratio in found['ratios'])}), "
            f"bound {found['bound']:.3f}",
            file=sys.stderr,
        )
    if flags.json:
        print(json.dumps(result))
    return 0


def measure(tower: str, flags: argparse.Namespace) -> dict:
    """Evaluation (`ours`) beside the tower alone (`theirs`), as `timing.compared` says it."""
    evaluation, forward, reading = sides(tower, flags)
    evaluation(), forward(), reading()
    ours: list[Timing] = []
    theirs: list[Timing] = []
    read: list[Timing] = []
    for _ in range(flags.rounds):
        ours.append(timed(evaluation))
        theirs.append(timed(forward))
        read.append(timed(reading))
    found = compared(ours, theirs)
    of_tower, of_reading = (median(1 / t.per_cpu_second for t in each) for each in (theirs, read))
    bound = of_tower / (of_tower + of_reading)
    return found | {"reading_ms": 1e3 * of_reading, "bound": bound}


def sides(tower: str, flags: argparse.Namespace) -> tuple[Callable[[], int], ...]:
    """What is timed: evaluation, the tower alone, reading alone; each returns its pictures."""
    import numpy as np
    import tensorflow as tf

    from tfclip.evaluation.datasets.views import record_views
    from tfclip.evaluation.embedding.embed import (
        VIEWS_AT_ONCE,
        embed_pictures,
        view_batches,
        view_encoder,
    )
    from tfclip.inputs.text import WordPieceTokenizer
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saving import TrainedModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
    config = ModelConfig(
        image_tower=tower,
        text_tower="small-transformer",
        text_options={"width": 32, "blocks": 1, "heads": 2},
        vocabulary_size=len(words),
    )
    tokenizer = WordPieceTokenizer(words, config.context_length)
    model = TrainedModel(DualEncoder(config), tokenizer, is_fixed=True)
    batches = max(1, flags.pictures // VIEWS_AT_ONCE)
    count = batches * VIEWS_AT_ONCE
    views = record_views(flags.records, flags.split, config.image_size).repeat().take(count)
    shape = (VIEWS_AT_ONCE, 1, config.image_size, config.image_size, 3)
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    # The graph that evaluation runs, so that both sides compute the same.
    encode = view_encoder(model, "1")

    def evaluation() -> int:
        return len(embed_pictures(model, views)[0])

    def forward() -> int:
        for _ in range(batches):
            encode(pixels).numpy()
        return count

    def reading() -> int:
        return sum(len(rows) for rows, _ in view_batches(views))

    return evaluation, forward, reading


if __name__ == "__main__":
    sys.exit(main())
