"""Coloured shapes drawn to disk in the formats of Visual Genome, Flickr8k, COCO and Pascal VOC.

The 36 pairs of six colours and six shapes take the part of objects. Twenty of them are the classes
of the VOC set; five of these never occur in a picture, caption or phrase of the other three sets,
so that they measure zero-shot recognition. The other sixteen occur everywhere without annotation.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tfclip.console import progress
from tfclip.sources import shapes_formats as formats
from tfclip.sources.shapes_grammar import write_captions, write_regions
from tfclip.sources.shapes_scene import COLOURS, SHAPES, choose_pairs, draw_scene

NEVER_TRAINED = ("red star", "green circle", "blue triangle", "yellow cross", "purple square")
CLASS_NAMES = tuple(
    sorted(
        NEVER_TRAINED
        + ("red circle", "red cross", "green square", "green triangle", "green ring")
        + ("blue circle", "blue star", "blue cross", "yellow triangle", "yellow ring")
        + ("purple star", "purple ring", "cyan square", "cyan triangle", "cyan cross")
    )
)
PAIRS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
TRAINED = tuple(pair for pair in PAIRS if pair not in NEVER_TRAINED)

# Raise it when the same parameters give other scenes: folders of before are then refused.
DRAWING_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Task:
    split: str
    index: int
    root: str
    path: str
    seed: int
    size: int


def draw_shapes(
    out: Path,
    *,
    seed: int = 0,
    visual_genome: int = 6000,
    flickr8k: tuple[int, int, int] = (600, 200, 200),
    coco: tuple[int, int] = (200, 100),
    voc: tuple[int, int, int] = (1000, 1000, 1000),
    image_size: int = 128,
    workers: int | None = None,
) -> None:
    """Draw the four sets below `out`: visual_genome/, flickr8k/, coco/, voc/VOCdevkit/VOC2007/.

    The numbers are pictures per split: Flickr8k train, dev, test; COCO train, val; VOC train, val,
    test. The same parameters give the same bytes, whatever the number of `workers` (processes, by
    default one per core). A finished folder of the same parameters is kept; `drawn.json` in it
    holds them. The folder appears under its name only when everything is drawn.

    Raises ValueError for a number that is out of range and FileExistsError for a folder with other
    parameters or other content.
    """
    parameters = {
        "version": DRAWING_VERSION,
        "seed": seed,
        "visual_genome": visual_genome,
        "flickr8k": list(flickr8k),
        "coco": list(coco),
        "voc": list(voc),
        "image_size": image_size,
    }
    _check(parameters, workers)
    out = Path(out)
    if _finished(out, parameters):
        return
    with _renamed_when_done(out) as root:
        counts = _counts(visual_genome, flickr8k, coco, voc)
        tasks = [
            task for split in counts for task in _tasks(split, counts[split], root, parameters)
        ]
        drawn: dict[str, list[formats.Drawn]] = {split: [] for split in counts}
        done = _draw_all(tasks, workers or min(8, os.cpu_count() or 1))
        done = progress(done, total=len(tasks), what="drawing shapes")
        for task, picture in zip(tasks, done, strict=True):
            drawn[task.split].append(picture)
        flickr = {split: drawn[f"flickr8k/{split}"] for split in ("train", "dev", "test")}
        formats.write_visual_genome(root, drawn["visual_genome/train"])
        formats.write_flickr8k(root, flickr)
        formats.write_coco(root, {s: drawn[f"coco/{s}"] for s in ("train2017", "val2017")})
        devkit = {split: drawn[f"voc/{split}"] for split in ("train", "val", "test")}
        formats.write_voc(root, devkit, CLASS_NAMES, f"tfclip shapes, seed {seed}")
        (root / "drawn.json").write_text(json.dumps(parameters, indent=1), encoding="utf-8")


def _counts(visual_genome, flickr8k, coco, voc) -> dict[str, int]:
    counts = {"visual_genome/train": visual_genome}
    counts |= dict(zip(("flickr8k/train", "flickr8k/dev", "flickr8k/test"), flickr8k, strict=True))
    counts |= dict(zip(("coco/train2017", "coco/val2017"), coco, strict=True))
    return counts | dict(zip(("voc/train", "voc/val", "voc/test"), voc, strict=True))


def _check(parameters: dict, workers: int | None) -> None:
    for name, length in (("flickr8k", 3), ("coco", 2), ("voc", 3)):
        if len(parameters[name]) != length:
            raise ValueError(f"{name} takes {length} numbers, received {parameters[name]}.")
    numbers = [parameters["visual_genome"]]
    for name in ("flickr8k", "coco", "voc"):
        numbers += parameters[name]
    if min(numbers) < 1 or max(numbers) > 99_999:
        raise ValueError(f"Every split takes 1 to 99999 pictures, received {numbers}.")
    if not 64 <= parameters["image_size"] <= 512:
        raise ValueError(f"image_size is 64 to 512, received {parameters['image_size']}.")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is 1 or more, received {workers}.")


def _finished(out: Path, parameters: dict) -> bool:
    """Whether `out` already holds these pictures; anything else in it is refused."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    advice = "Choose another folder or remove this one."
    if not (out / "drawn.json").is_file():
        raise FileExistsError(f"{out} exists and holds no drawn.json of finished shapes. {advice}")
    found = json.loads((out / "drawn.json").read_text(encoding="utf-8"))
    differing = [
        f"{name} {found.get(name)} there, {value} asked for"
        for name, value in parameters.items()
        if found.get(name) != value
    ]
    if differing:
        raise FileExistsError(f"{out} was drawn otherwise: {'; '.join(differing)}. {advice}")
    return True


@contextmanager
def _renamed_when_done(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out` that takes its name at the end, or goes on failure."""
    root = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    try:
        yield root
        os.replace(root, out)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _tasks(split: str, count: int, root: Path, parameters: dict) -> Iterator[_Task]:
    seed, size = parameters["seed"], parameters["image_size"]
    before = {"voc/val": parameters["voc"][0], "voc/test": sum(parameters["voc"][:2])}
    before = before.get(split, 100_000 if split == "coco/val2017" else 0)
    paths = [_path(split, before + index + 1, seed) for index in range(count)]
    (root / paths[0]).parent.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        yield _Task(split, index, str(root), path, seed, size)


def _path(split: str, number: int, seed: int) -> str:
    name = split.split("/")[0]
    if name == "visual_genome":
        return f"visual_genome/VG_100K/{number}.jpg"
    if name == "flickr8k":
        digest = hashlib.sha256(f"{seed}/{split}/{number}".encode()).hexdigest()
        return f"flickr8k/Flicker8k_Dataset/{int(digest[:8], 16)}_{digest[8:18]}.jpg"
    if name == "coco":
        return f"{split}/{number:012d}.jpg"
    return f"{formats.VOC_DEVKIT}/JPEGImages/{number:06d}.jpg"


def _draw_all(tasks: list[_Task], workers: int) -> Iterable[formats.Drawn]:
    if workers == 1 or len(tasks) < 64:
        yield from map(_draw, tasks)
        return
    # Spawned, because the calling process may hold TensorFlow's threads, which a fork breaks.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_draw, tasks, chunksize=32)


def _draw(task: _Task) -> formats.Drawn:
    """Draw one picture; nothing but the task decides what it shows."""
    rng = Random(f"{task.seed}/{task.split}/{task.index}")
    name = task.split.split("/")[0]
    voc = name == "voc"
    number = rng.choices((1, 2, 3, 4), (15, 30, 30, 25))[0]
    first = CLASS_NAMES if voc else TRAINED
    pairs = choose_pairs(rng, first[task.index % len(first)], number, PAIRS if voc else TRAINED)
    difficult = rng.choice(CLASS_NAMES) if voc and number < 4 and rng.random() < 0.25 else None
    picture, scene = draw_scene(rng, pairs, task.size, difficult)
    picture.save(Path(task.root, task.path), quality=92)
    captions = tuple(write_captions(rng, scene)) if name in ("flickr8k", "coco") else ()
    regions = tuple(write_regions(rng, scene)) if name == "visual_genome" else ()
    return formats.Drawn(task.path, scene, captions, regions)
