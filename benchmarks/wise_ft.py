"""python -m benchmarks.wise_ft: does a mix keep the old task and most of what fine-tuning gains?

A small model is pretrained on drawn shapes of all 20 pairs of colour and shape, on light grounds,
and tuned on 8 of the pairs on dark, noisy grounds. `soup` measures the mixes (1 - alpha) before +
alpha after: the mAP of the 20 pairs on light grounds (old), and of the 8 on dark ones (new). The
aim (WiSE-FT, Wortsman et al. 2022): for each seed some alpha keeps 95 % of the old mAP and 90 % of
the gain on the new one. alpha = 1 is plain fine-tuning.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.learning_gate import RECIPE, SIDE, SMALL
from tfclip.records.manifest import VOCABULARY
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.soup import main as soup
from tfclip.sources.sample import Region, Sample, Source
from tfclip.training.run import train

KEPT, GAINED = 0.95, 0.90
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 170, 60),
    "blue": (40, 60, 220),
    "yellow": (235, 215, 30),
    "purple": (150, 40, 180),
}
SHAPES = ("circle", "square", "triangle", "cross")
PAIRS = tuple(f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES))
# Two shapes of each of four colours.
TUNED = tuple(
    PAIRS[4 * colour + shape]
    for colour, shape in ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 0))
)
TRAINED, MEASURED = 80, 20
# A vision transformer has no batch statistics, which follow the new pictures at any learning rate.
TOWERS = {
    "convolutional": RECIPE,
    "transformer": dataclasses.replace(
        RECIPE,
        defaults={**RECIPE.defaults, "image_tower": "clip-vit"},
        image_options={"patch_size": 4, "width": 64, "blocks": 3, "heads": 4},
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Print a table for each seed, and whether the aim is reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wise_ft", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--tower", choices=TOWERS, default="convolutional")
    add("--steps", type=int, default=200, help="of pretraining")
    add("--pretraining-rate", type=float, default=3e-3)
    add("--grounds", choices=("light", "dark"), default="dark", help="of the 8 pairs")
    add("--tune-steps", type=int, default=60)
    add("--learning-rate", type=float, default=1e-3, help="of tuning")
    add("--layer-decay", type=float, default=0.75, help="of tuning")
    add("--freeze", choices=("none", "text"), default="none", help="in tuning")
    add("--warmup-steps", type=int, default=50, help="of tuning")
    flags = parser.parse_args(argv)
    reached = []
    print(
        "| seed | alpha | old mAP | of before | new mAP | of the gain |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        light = make_records(Path(folder) / "light", PAIRS, dark=False)
        dark = make_records(Path(folder) / "tuned", TUNED, dark=flags.grounds == "dark")
        for seed in flags.seeds:
            started = time.monotonic()
            rows = measure(Path(folder) / str(seed), light, dark, seed, flags)
            reached.append(any(row["kept"] >= KEPT and row["gained"] >= GAINED for row in rows))
            for row in rows:
                good = row["kept"] >= KEPT and row["gained"] >= GAINED
                print(
                    f"| {seed} | {row['alpha']:.1f} | {100 * row['old']:.1f} | "
                    f"{100 * row['kept']:.1f} % | {100 * row['new']:.1f} | "
                    f"{100 * row['gained']:.1f} %{' (both)' if good else ''} |"
                )
            print(f"seed {seed}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(
        f"{sum(reached)} of {len(flags.seeds)} seeds have an alpha with {KEPT:.0%} of the old mAP "
        f"and {GAINED:.0%} of the gain"
    )
    return 0 if all(reached) else 1


def measure(folder: Path, light: Path, dark: Path, seed: int, flags) -> list[dict]:
    """Pretrain, tune, and measure the mixes; return a row for each alpha."""
    before, after, mix = folder / "before", folder / "after", folder / "mix"
    given = {**SMALL, "seed": seed}
    recipe = TOWERS[flags.tower]
    train(
        "shapes",
        recipe.flags(
            **given,
            records=(f"{light}:train",),
            run=before,
            learning_rate=flags.pretraining_rate,
            warmup_steps=50,
            steps=flags.steps,
            evaluate_every=flags.steps,
        ),
        variant=recipe,
    )
    train(
        "shapes",
        recipe.flags(
            **given,
            records=(f"{dark}:train",),
            run=after,
            init=before,
            learning_rate=flags.learning_rate,
            layer_decay=flags.layer_decay,
            freeze=flags.freeze,
            cache_features=False,
            warmup_steps=flags.warmup_steps,
            steps=flags.tune_steps,
            evaluate_every=flags.tune_steps,
        ),
        variant=recipe,
    )
    names = [f"voc={light}:test", f"voc={dark}:test"]
    if soup([str(before), str(after), "--run", str(mix), "--measure", *names]):
        sys.exit("soup failed")
    rows = json.loads((mix / "soup.json").read_text())["rows"]
    old, new = ([row[name] for row in rows] for name in names)
    gain = new[-1] - new[0]
    return [
        {
            "alpha": row["alpha"],
            "old": old[at],
            "new": new[at],
            "kept": old[at] / old[0],
            "gained": (new[at] - new[0]) / gain if gain > 0 else float("nan"),
        }
        for at, row in enumerate(rows)
    ]


def make_records(folder: Path, pairs: tuple[str, ...], dark: bool) -> Path:
    """Pack pictures of one shape each."""

    def read(split: str) -> Iterator[Sample]:
        for name in pairs:
            for at in range({"train": TRAINED, "test": MEASURED}[split]):
                yield _sample(split, at, name, dark)

    counts = {"train": TRAINED * len(pairs), "test": MEASURED * len(pairs)}
    pack(Source("wise", counts, read, pairs), folder, PackOptions(workers=1))
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", ".", *COLOURS, *SHAPES)
    (folder / VOCABULARY).write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


def _sample(split: str, at: int, name: str, dark: bool) -> Sample:
    rng = Random(f"{split}/{name}/{at}/{dark}")
    noise = np.random.default_rng(rng.randrange(2**32))
    level, spread = (rng.randint(10, 60), 35) if dark else (rng.randint(120, 220), 12)
    ground = noise.normal(level, spread, (SIDE, SIDE))
    picture = Image.fromarray(np.clip(ground, 0, 255).astype("uint8")).convert("RGB")
    size = rng.randint(13, 20)
    x, y = (rng.randint(1, SIDE - size - 1) for _ in range(2))
    _draw(ImageDraw.Draw(picture), name, x, y, size, 0.45 if dark else 1.0)
    text = f"a photo of a {name}."
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=92)
    return Sample(
        f"wise/{split}/{name}/{at}",
        encoded.getvalue(),
        captions=(text,),
        regions=(Region(text, x, y, size, size),),
        labels=(name,),
        split=split,
    )


def _draw(canvas: ImageDraw.ImageDraw, name: str, x: int, y: int, size: int, light: float) -> None:
    colour, shape = name.split()
    fill = tuple(int(light * part) for part in COLOURS[colour])
    end = (x + size - 1, y + size - 1)
    if shape == "circle":
        canvas.ellipse((x, y, *end), fill=fill)
    elif shape == "square":
        canvas.rectangle((x, y, *end), fill=fill)
    elif shape == "triangle":
        canvas.polygon([(x + size // 2, y), (x, end[1]), end], fill=fill)
    else:
        third = size // 3
        canvas.rectangle((x + third, y, end[0] - third, end[1]), fill=fill)
        canvas.rectangle((x, y + third, end[0], end[1] - third), fill=fill)


if __name__ == "__main__":
    sys.exit(main())
