"""python -m benchmarks.onnx_int8 ONNX RUN: what int8 would gain and lose for an ONNX export.

ONNX is the folder of `export --onnx RUN`. onnxruntime quantises the weights of both towers to int8
(dynamically: activations at run time; the image tower also statically, calibrated on training
pictures, because dynamic quantisation leaves its convolutions slow). Measured with one prompt and
one view: R@10 of captioned pictures in both directions, mAP of Pascal VOC, and the time of each
tower at a batch of 1. int8 is worth offering if it loses at most 1.0 of both and gains 1.3.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

LARGEST_LOSS, LEAST_GAIN = 1.0, 1.3
BATCH = 16


def main(argv: list[str] | None = None) -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx_int8", description=__doc__)
    add = parser.add_argument
    add("onnx", type=Path)
    add("run", type=Path)
    add("--captions", required=True, help="packed captioned pictures, DIR:SPLIT")
    add("--voc", required=True, help="packed Pascal VOC, DIR:SPLIT")
    add("--count", type=int, default=500, help="pictures of each set")
    flags = parser.parse_args(argv)
    import numpy as np

    from tfclip.models.saving import load_model
    from tfclip.serving.formats.onnx_folder import OnnxEncoder, normalize

    model = load_model(flags.run)
    pictures, captions = _captioned(flags.captions, model, flags.count)
    voc, labels, prompts = _voc(flags.voc, model, flags.count)
    ids = model.tokenizer([*captions, *prompts])["token_ids"].numpy()
    pixels, voc_pixels = normalize(model, pictures), normalize(model, voc)
    with tempfile.TemporaryDirectory() as work:
        files = _quantised(flags.onnx, Path(work), pixels[:32])
        figures = {}
        for name, (visual, textual) in files.items():
            image, text = OnnxEncoder(visual), OnnxEncoder(textual)
            embedded = _embed(image, "image", pixels), _embed(image, "image", voc_pixels)
            texts = _embed(text, "text", ids)
            per_picture = len(captions) // len(pictures)
            recall = _recall(embedded[0], texts[: len(captions)], per_picture)
            scores = embedded[1] @ texts[len(captions) :].T
            mean_ap = 100 * float(np.mean(_average_precisions(scores, labels)))
            times = [_milliseconds(image, "image", pixels), _milliseconds(text, "text", ids)]
            size = (visual.stat().st_size + textual.stat().st_size) / 1e6
            figures[name] = (*recall, mean_ap, *times, size)
    print(
        "| | R@10 i2t | R@10 t2i | mAP | image, ms | text, ms | MB |\n|---|---|---|---|---|---|---|"
    )
    for name, row in figures.items():
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in row) + " |")
    base = figures["float32"]
    for name, row in list(figures.items())[1:]:
        loss = max(old - new for old, new in zip(base[:3], row[:3], strict=True))
        gains = base[3] / row[3], base[4] / row[4]
        good = loss <= LARGEST_LOSS and min(gains) >= LEAST_GAIN
        print(
            f"{name}: loses at most {loss:.1f}, image {gains[0]:.2f}x, text {gains[1]:.2f}x: "
            f"{'worth offering' if good else 'not worth offering'}"
        )
    return 0


def _quantised(onnx: Path, work: Path, pixels) -> dict[str, tuple[Path, Path]]:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        quantize_dynamic,
        quantize_static,
    )

    visual, textual = onnx / "visual" / "model.onnx", onnx / "textual" / "model.onnx"
    dynamic = work / "visual.onnx", work / "textual.onnx"
    for source, target in zip((visual, textual), dynamic, strict=True):
        quantize_dynamic(source, target, per_channel=True)

    class Pictures(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(pixels)

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"image": row[None]}

    static = work / "static.onnx"
    quantize_static(visual, static, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True)
    return {
        "float32": (visual, textual),
        "int8, dynamic": dynamic,
        "int8, image static": (static, dynamic[1]),
    }


def _records(reference: str, model, count: int, texts: str):
    """Return the pictures of a split, and the texts of one feature of each."""
    import numpy as np
    import tensorflow as tf

    from tfclip.inputs.images import decode_record_jpeg, resize_picture
    from tfclip.records import schema
    from tfclip.records.reader import read_shards, split_files

    directory, _, split = reference.rpartition(":")
    records = read_shards(split_files(directory, split), features=(schema.IMAGE, texts))
    pictures, listed = [], []
    for record in records.take(count).as_numpy_iterator():
        image = decode_record_jpeg(tf.constant(record[schema.IMAGE]))
        pictures.append(resize_picture(image, model.config.picture_size).numpy())
        listed.append([text.decode() for text in record[texts]])
    return np.stack(pictures), listed


def _captioned(reference: str, model, count: int):
    """Pictures and their captions, the same number for each picture."""
    from tfclip.records import schema

    pictures, captions = _records(reference, model, count, schema.CAPTION)
    least = min(map(len, captions))
    return pictures, [text for texts in captions for text in texts[:least]]


def _voc(reference: str, model, count: int):
    """Pictures, (N, 20) which classes are in them, and one prompt for each class."""
    import numpy as np

    from tfclip.evaluation.embedding.prompts import READABLE
    from tfclip.records import schema
    from tfclip.sources.voc import CLASS_NAMES

    pictures, listed = _records(reference, model, count, schema.LABEL)
    labels = np.array([[name in names for name in CLASS_NAMES] for names in listed])
    return pictures, labels, [f"a photo of a {READABLE.get(name, name)}." for name in CLASS_NAMES]


def _embed(encoder, name: str, rows):
    import numpy as np

    parts = [encoder(**{name: rows[at : at + BATCH]}) for at in range(0, len(rows), BATCH)]
    return np.concatenate(parts)


def _recall(pictures, texts, per_picture: int) -> tuple[float, float]:
    import numpy as np

    scores = pictures @ texts.T
    owner = np.arange(len(texts)) // per_picture
    top = np.argsort(-scores, axis=1)[:, :10]
    to_text = np.mean([(owner[row] == at).any() for at, row in enumerate(top)])
    top = np.argsort(-scores.T, axis=1)[:, :10]
    to_picture = np.mean([(row == owner[at]).any() for at, row in enumerate(top)])
    return 100 * float(to_text), 100 * float(to_picture)


def _average_precisions(scores, labels) -> list[float]:
    from sklearn.metrics import average_precision_score

    columns = [at for at in range(labels.shape[1]) if labels[:, at].any()]
    return [average_precision_score(labels[:, at], scores[:, at]) for at in columns]


def _milliseconds(encoder, name: str, rows) -> float:
    times = []
    for at in range(30):
        started = time.monotonic()
        encoder(**{name: rows[at : at + 1]})
        times.append(time.monotonic() - started)
    return 1000 * statistics.median(times[5:])


if __name__ == "__main__":
    sys.exit(main())
