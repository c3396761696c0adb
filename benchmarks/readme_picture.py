"""python -m benchmarks.readme_picture: what the quickstart's export finds in drawn test pictures.

Run `make demo` first. Writes docs/images/predictions.png, the picture of the README.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tfclip.console import Command, run, say

RIGHT, WRONG, MISSED = "#1a7f37", "#c0392b", "#7a7a7a"


@dataclass(frozen=True)
class PictureFlags:
    """Draw pictures with the labels that an export predicts, and what it misses."""

    exported: Path = Path("exported")
    """What `make demo` exported."""
    data: Path = Path("drawn/voc")
    """The drawn pictures in the format of Pascal VOC."""
    out: Path = Path("docs/images/predictions.png")
    """The picture to write."""
    pictures: int = 8
    """How many, with three or more shapes each."""


def draw(flags: PictureFlags) -> dict:
    """Predict, and draw a grid: green is right, red is wrong, grey was missed, * was never
    trained."""
    from matplotlib.figure import Figure

    from tfclip.serving.saved_model import load_signatures
    from tfclip.sources.registry import open_source
    from tfclip.sources.shapes import NEVER_TRAINED

    source = open_source("voc", flags.data)
    samples = []
    for sample in source.read("test"):
        if len(getattr(sample, "labels", ())) >= 3:
            samples.append(sample)
        if len(samples) == flags.pictures:
            break
    encoded = [
        one.image if isinstance(one.image, bytes) else Path(one.image).read_bytes()
        for one in samples
    ]
    version = max(flags.exported.iterdir(), key=lambda path: int(path.name))
    import tensorflow as tf

    answer = load_signatures(version)["classify"](image_bytes=tf.constant(encoded))
    names = [name.decode() for name in answer["labels"].numpy()[0]]
    columns = 4
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(2.5 * columns, 3.35 * rows), dpi=120)
    for at, (sample, data) in enumerate(zip(samples, encoded, strict=True)):
        axes = figure.add_subplot(rows, columns, at + 1)
        axes.imshow(Image.open(io.BytesIO(data)))
        axes.set_axis_off()
        predicted = {names[c] for c in np.flatnonzero(answer["predicted"].numpy()[at])}
        lines = [("✓ " + name, RIGHT) for name in sorted(predicted & set(sample.labels))]
        lines += [("✗ " + name, WRONG) for name in sorted(predicted - set(sample.labels))]
        lines += [("missed: " + name, MISSED) for name in sorted(set(sample.labels) - predicted)]
        for row, (text, colour) in enumerate(lines):
            never = any(name in text for name in NEVER_TRAINED)
            axes.text(
                *(0.0, -0.04 - 0.1 * row, text + (" *" if never else "")),
                transform=axes.transAxes,
                va="top",
                fontsize=10,
                color=colour,
            )
    figure.subplots_adjust(left=0.02, right=0.98, top=0.99, bottom=0.14, hspace=0.42, wspace=0.08)
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, facecolor="white")
    # 256 colours: a quarter of the bytes.
    Image.open(drawn).convert("RGB").quantize(256).save(flags.out, optimize=True)
    say(f"{flags.out}: {len(samples)} pictures")
    return {"out": flags.out, "pictures": len(samples)}


if __name__ == "__main__":
    sys.exit(run("benchmarks.readme_picture", Command(PictureFlags, draw)))
