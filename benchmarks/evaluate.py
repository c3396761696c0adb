"""python -m benchmarks.evaluate: does evaluation keep an image tower busy?

Pictures per second of `embed_pictures` (records, decoded and resized on the way) beside the same
graph on pixels that lie in memory, both in turns. What is missing to 1 is what evaluation costs
beside the tower.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

TOWERS = ("squeezenet", "efficientnet-b0")


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluate", description=__doc__)
    add = parser.add_argument
    add("--records", type=Path, required=True, help="packed records")
    add("--split", default="val")
    add("--towers", nargs="+", default=list(TOWERS))
    add("--pictures", type=int, default=320)
    add("--rounds", type=int, default=3)
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    result = {}
    for tower in flags.towers:
        result[tower] = rounds = measure(tower, flags)
        ratios = [evaluation / forward for evaluation, forward in rounds]
        print(
            f"{tower}: evaluation {median(e for e, _ in rounds):.1f} images/s, tower alone "
            f"{median(f for _, f in rounds):.1f}, ratio {median(ratios):.3f} (round by round "
            f"{' '.join(f'{ratio:.2f}' for ratio in ratios)})",
            file=sys.stderr,
        )
    if flags.json:
        print(json.dumps(result))
    return 0


def measure(tower: str, flags: argparse.Namespace) -> list[tuple[float, float]]:
    """Images per second of evaluation and of the tower alone, round by round."""
    import numpy as np
    import tensorflow as tf

    from tfclip.evaluation.zero_shot import VIEWS_AT_ONCE, _graphs, embed_pictures, record_views
    from tfclip.inputs.text import WordPieceTokenizer
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saved import TrainedModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
    config = ModelConfig(
        image_tower=tower,
        text_tower="small-transformer",
        text_options={"width": 32, "blocks": 1, "heads": 2},
        vocabulary_size=len(words),
    )
    model = TrainedModel(DualEncoder(config), WordPieceTokenizer(words, config.context_length))
    views = record_views(flags.records, flags.split, config.image_size).take(flags.pictures)
    shape = (VIEWS_AT_ONCE, 1, config.image_size, config.image_size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    batches = flags.pictures // VIEWS_AT_ONCE

    def rate(dataset) -> float:
        started = time.perf_counter()
        rows, _ = embed_pictures(model, dataset)
        return len(rows) / (time.perf_counter() - started)

    # The graph that evaluation runs, so that both sides compute the same.
    encode, _ = _graphs(model.dual_encoder)
    batch = tf.constant(pixels)

    def forward() -> float:
        started = time.perf_counter()
        for _ in range(batches):
            encode(batch).numpy()
        return batches * VIEWS_AT_ONCE / (time.perf_counter() - started)

    rate(views.take(VIEWS_AT_ONCE))
    forward()
    return [(rate(views), forward()) for _ in range(flags.rounds)]


if __name__ == "__main__":
    sys.exit(main())
