"""python -m benchmarks.learning_gate: does training learn, and does a broken part show?

A small model trains 300 steps on drawn shapes, and its zero-shot mAP on other pictures is compared
with a bound. Each fault below leaves code that runs, losses that fall or look plausible, and a
model that has not learnt. The command measures healthy runs and every fault on several seeds.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from tfclip.records.manifest import VOCABULARY
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.sources.sample import Region, Sample, Source
from tfclip.training.options.recipes import RECIPES
from tfclip.training.run import train

# Measured with this command: see tests/training/test_learning_gate.py.
BOUND = 0.75

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220)}
COLOURS["yellow"] = (235, 215, 30)
SHAPES = ("circle", "square", "triangle")
CLASSES = tuple(f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES))
SIDE, TRAINED, MEASURED = 40, 960, 240
RECIPE = dataclasses.replace(
    RECIPES["shapes"],
    image_options={"widths": (16, 32, 64), "stem": 2},
    text_options={"width": 48, "blocks": 1},
)
SMALL = {
    "image_size": 32,
    "embed_dim": 32,
    "batch_size": 48,
    "region_share": 0.95,
    "region_margin": 0.4,
}
FLAGS = {
    **SMALL,
    "learning_rate": 3e-3,
    "steps": 300,
    "evaluate_every": 300,
    "warmup_steps": 60,
}


def make_records(folder: Path) -> Path:
    """Pack pictures of one shape each, class after class, as image folders are."""

    def read(split: str) -> Iterator[Sample]:
        number = {"train": TRAINED, "test": MEASURED}[split]
        for at in range(number):
            yield _sample(split, at, CLASSES[at * len(CLASSES) // number])

    counts = {"train": TRAINED, "test": MEASURED}
    pack(Source("gate", counts, read, CLASSES), folder, PackOptions(workers=1))
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", ".", *COLOURS, *SHAPES)
    (folder / VOCABULARY).write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


def _sample(split: str, at: int, name: str) -> Sample:
    rng = Random(f"{split}/{at}")
    noise = np.random.default_rng(rng.randrange(2**32))
    grey = noise.normal(rng.randint(90, 200), 15, (SIDE, SIDE))
    picture = Image.fromarray(np.clip(grey, 0, 255).astype("uint8")).convert("RGB")
    size = rng.randint(13, 18)
    # At the top right or the bottom left.
    near, far = rng.randint(1, 4), SIDE - size - rng.randint(1, 4)
    x, y = rng.choice([(far, near), (near, far)])
    _draw(ImageDraw.Draw(picture), name, x, y, size)
    # As the prompts of zero-shot evaluation are.
    text = f"a photo of a {name}."
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=92)
    return Sample(
        f"gate/{split}/{at}",
        encoded.getvalue(),
        captions=(text,),
        regions=(Region(text, x, y, size, size),),
        labels=(name,),
        split=split,
    )


def _draw(canvas: ImageDraw.ImageDraw, name: str, x: int, y: int, size: int) -> None:
    colour, shape = name.split()
    box = (x, y, x + size - 1, y + size - 1)
    if shape == "circle":
        canvas.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        canvas.rectangle(box, fill=COLOURS[colour])
    else:
        corners = [(x + size // 2, y), (x, y + size - 1), (x + size - 1, y + size - 1)]
        canvas.polygon(corners, fill=COLOURS[colour])


def measure(records: Path, run: Path, seed: int) -> float:
    """Train, and return the zero-shot mAP on the pictures that were not trained on."""
    given = {"records": (f"{records}:train",), "voc": f"{records}:test", "monitor": "voc_map"}
    return train("shapes", RECIPE.flags(**FLAGS, **given, run=run, seed=seed), variant=RECIPE)[
        "best_value"
    ]


def _loss(original):
    """Every picture's positive is the text of the picture before it."""

    def train_step(self, batch):
        texts = ("token_ids", "text_mask", "caption_id")
        rolled = {name: tf.roll(batch[name], 1, axis=0) for name in texts}
        return original(self, {**batch, **rolled})

    return train_step


def _schedule(original):
    """The warm-up counts epochs, not steps: the rate stays that of the first step."""
    return lambda self, step: original(self, tf.ones_like(step))


def _augmentation(original):
    """The boxes of regions are read as x, y where they are y, x."""
    return lambda image, box, size: original(image, tf.gather(box, [1, 0, 3, 2]), size)


def _shuffle(original):
    """Records are read in the order in which they were packed."""
    return lambda *args, **options: original(*args, **{**options, "shuffle_block": 1})


# What is replaced, and by what.
FAULTS = {
    "loss": ("tfclip.models.dual_encoder:DualEncoder.train_step", _loss),
    "schedule": ("keras:optimizers.schedules.CosineDecay.__call__", _schedule),
    "augmentation": ("tfclip.inputs.examples:crop_region", _augmentation),
    "shuffle": ("tfclip.inputs.mixture:endless_shards", _shuffle),
}


@contextlib.contextmanager
def broken(fault: str | None) -> Iterator[None]:
    """Train with this part broken, or with none."""
    if fault is None:
        yield
        return
    path, replacement = FAULTS[fault]
    module, _, names = path.partition(":")
    *owners, name = names.split(".")
    owner = import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    with mock.patch.object(owner, name, replacement(getattr(owner, name))):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="healthy runs")
    parser.add_argument("--broken-seeds", type=int, default=3, help="runs with each fault")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        records = make_records(Path(folder) / "records")
        rows = [(None, seed) for seed in range(options.seeds)]
        rows += [(fault, seed) for fault in FAULTS for seed in range(options.broken_seeds)]
        for fault, seed in rows:
            started = time.monotonic()
            with broken(fault):
                found = measure(records, Path(folder) / f"{fault}-{seed}", seed)
            row = {"fault": fault, "seed": seed, "map": round(found, 3), "bound": BOUND}
            row["passes"] = found > BOUND
            print(json.dumps({**row, "seconds": round(time.monotonic() - started, 1)}), flush=True)


if __name__ == "__main__":
    main()
