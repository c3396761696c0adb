"""python -m benchmarks.export: how much of the model's own speed is left when it is served.

`classify` of an export, from the bytes of pictures, beside the Python model's forward pass on
pictures that are decoded already: pictures per second at batches of 1, 16 and 64, both sides in
turns. The towers have fresh weights, which take the same time as trained ones.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from benchmarks.timing import compared, timed

BATCHES = (1, 16, 64)
# Of the model's own speed at a batch of 16, for EfficientNetB0.
AIM = 0.7


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    add = parser.add_argument
    add("--data", default=os.environ.get("TFCLIP_DATA"), help="the folder that holds voc")
    add("--image-tower", default="efficientnet-b0")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=2.0, help="least time of one measurement")
    add("--batches", type=int, nargs="+", default=list(BATCHES))
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    if flags.data is None or not Path(flags.data).is_dir():
        print("error: give --data, or set TFCLIP_DATA to a folder of voc", file=sys.stderr)
        return 2
    result = measure(flags)
    for batch, row in result["batches"].items():
        print(
            f"batch {batch}: {row['ratio']:.2f} of the forward pass "
            f"({row['ours']['images_per_second']} of {row['theirs']['images_per_second']} "
            f"images/s; rounds {' '.join(map(str, row['ratios']))})"
        )
    if flags.json:
        print(json.dumps(result))
    return 0


def measure(flags: argparse.Namespace) -> dict:
    """Export a model with this tower and 20 labels, and time it beside the model itself."""
    import tensorflow as tf

    from tfclip.inputs.images import decode_valid
    from tfclip.inputs.text import WordPieceTokenizer
    from tfclip.inputs.tiles import tile_boxes
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saving import TrainedModel
    from tfclip.serving.classifier import Classifier
    from tfclip.serving.saved_model import load_signatures, write_saved_model
    from tfclip.serving.signatures import Variant
    from tfclip.sources.voc import CLASS_NAMES

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz.", "##a"]
    config = ModelConfig(
        image_tower=flags.image_tower,
        text_tower="small-transformer",
        text_options={"width": 32, "blocks": 1, "heads": 2},
        vocabulary_size=len(vocabulary),
    )
    encoder = DualEncoder(config)
    model = TrainedModel(encoder, WordPieceTokenizer(vocabulary, config.context_length))
    classifier = Classifier.from_texts(CLASS_NAMES, templates="single")
    with tempfile.TemporaryDirectory() as folder:
        version = write_saved_model(model, Path(folder), classifier, Variant(("image",)))
        classify = load_signatures(version)["classify"]
    size = config.image_size
    forward = tf.function(
        encoder.encode_image, input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)]
    )
    paths = sorted(Path(flags.data).glob("voc/VOCdevkit/*/JPEGImages/*.jpg"))
    rows = {}
    for batch in flags.batches:
        contents = [path.read_bytes() for path in islice(cycle(paths), batch)]
        data = tf.constant(contents)
        pixels, _ = decode_valid(data, tile_boxes("1"), size)
        pixels = tf.constant(pixels[:, 0].numpy())
        served = repeated(lambda data=data: classify(image_bytes=data)["scores"].numpy(), batch)
        plain = repeated(lambda pixels=pixels: forward(pixels).numpy(), batch)
        ours, theirs = [], []
        for _ in range(flags.rounds):
            ours.append(timed(partial(served, flags.seconds)))
            theirs.append(timed(partial(plain, flags.seconds)))
        rows[batch] = compared(ours, theirs)
    return {"image_tower": flags.image_tower, "pictures": len(paths), "batches": rows}


def repeated(work, batch: int):
    """A function that does `work` for so many seconds and returns the number of pictures."""
    work()

    def run(seconds: float) -> int:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            work()
            count += batch
        return count

    return run


if __name__ == "__main__":
    sys.exit(main())
