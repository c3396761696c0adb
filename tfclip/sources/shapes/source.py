"""Coloured shapes drawn to disk in the formats of Visual Genome, Flickr8k, COCO and Pascal VOC.

The 36 pairs of six colours and six shapes are the objects. Twenty of them are the classes of the
VOC set. Five of these never occur in the pictures, captions and phrases of the other three sets, so
that they measure zero-shot recognition. The other sixteen pairs occur everywhere but are not
annotated in the VOC set.
"""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random

from tfclip import files
from tfclip.console import progress
from tfclip.sources.shapes import formats
from tfclip.sources.shapes.grammar import write_captions, write_regions
from tfclip.sources.shapes.scene import COLOURS, SHAPES, choose_pairs, draw_scene

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

# Raise it when the same parameters give different scenes; folders of older versions are refused.
DRAWING_VERSION = 3


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

    A finished folder with the same parameters (recorded in `drawn.json`) is kept. The folder
    appears under its name when everything is drawn. The same parameters give the same bytes with
    the same version of Pillow, whatever the number of workers.

    Args:
        out: the folder to create.
        seed: seed of all scenes and texts.
        visual_genome: the number of pictures, with about two phrases per shape.
        flickr8k: the numbers of pictures for train, dev and test, with five captions each.
        coco: the numbers of pictures for train2017 and val2017, with five captions each.
        voc: the numbers of pictures for train, val and test; trainval is the union of the first
            two.
        image_size: side of the square JPEG files in pixels.
        workers: the number of processes; None for one per core, at most eight.

    Raises:
        ValueError: a number is out of range.
        FileExistsError: `out` was drawn with other parameters, or is not such a folder.
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
    out = Path(out).resolve()
    if _finished(out, parameters):
        return
    counts = {
        "visual_genome": {"train": visual_genome},
        "flickr8k": dict(zip(("train", "dev", "test"), flickr8k, strict=True)),
        "coco": dict(zip(("train2017", "val2017"), coco, strict=True)),
        "voc": dict(zip(("train", "val", "test"), voc, strict=True)),
    }
    files.remove_unfinished(out.parent, out.name)
    with files.new_folder(out) as root:
        tasks = list(_tasks(root, counts, seed, image_size))
        done = _draw_all(tasks, workers or min(8, os.cpu_count() or 1))
        drawn: dict[str, dict[str, list[formats.Drawn]]] = {
            name: {split: [] for split in splits} for name, splits in counts.items()
        }
        pairs = zip(tasks, done, strict=True)
        for task, picture in progress(pairs, total=len(tasks), what="drawing shapes"):
            name, split = task.split.split("/")
            drawn[name][split].append(picture)
        formats.write_visual_genome(root, drawn["visual_genome"]["train"])
        formats.write_flickr8k(root, drawn["flickr8k"])
        formats.write_coco(root, drawn["coco"])
        formats.write_voc(root, drawn["voc"], CLASS_NAMES, f"tfclip shapes, seed {seed}")
        (root / "drawn.json").write_text(json.dumps(parameters, indent=1), encoding="utf-8")


def _check(parameters: dict, workers: int | None) -> None:
    for name, length in (("flickr8k", 3), ("coco", 2), ("voc", 3)):
        if len(parameters[name]) != length:
            raise ValueError(f"received {name} {parameters[name]}; allowed: {length} numbers")
    numbers = [parameters["visual_genome"]]
    for name in ("flickr8k", "coco", "voc"):
        numbers += parameters[name]
    if min(numbers) < 1 or max(numbers) > 99_999:
        raise ValueError(f"received {numbers} pictures; allowed: 1 to 99999 for each split")
    if not 64 <= parameters["image_size"] <= 512:
        raise ValueError(f"received image_size {parameters['image_size']}; allowed: 64 to 512")
    if workers is not None and workers < 1:
        raise ValueError(f"received workers {workers}; allowed: 1 or more")


def _finished(out: Path, parameters: dict) -> bool:
    """Return whether `out` already holds these pictures; raise when it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    advice = "choose another folder or remove this one"
    if not (out / "drawn.json").is_file():
        raise FileExistsError(f"{out} exists without the drawn.json of drawn shapes; {advice}")
    existing = json.loads((out / "drawn.json").read_text(encoding="utf-8"))
    differing = [
        f"{name} {existing.get(name)} instead of {value}"
        for name, value in parameters.items()
        if existing.get(name) != value
    ]
    if differing:
        raise FileExistsError(f"{out} was drawn with {', '.join(differing)}; {advice}")
    return True


def _tasks(root: Path, counts: dict[str, dict[str, int]], seed: int, size: int) -> Iterator[_Task]:
    for name, splits in counts.items():
        number = 0
        for split, count in splits.items():
            for index in range(count):
                number += 1
                path = _path(name, split, number, seed)
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                yield _Task(f"{name}/{split}", index, str(root), path, seed, size)


def _path(name: str, split: str, number: int, seed: int) -> str:
    if name == "visual_genome":
        return f"visual_genome/VG_100K/{number}.jpg"
    if name == "flickr8k":
        digest = hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()
        return f"flickr8k/Flicker8k_Dataset/{int(digest[:8], 16)}_{digest[8:18]}.jpg"
    if name == "coco":
        return f"coco/{split}/{number:012d}.jpg"
    return f"{formats.VOC_DEVKIT}/JPEGImages/{number:06d}.jpg"


def _draw_all(tasks: list[_Task], workers: int) -> Iterator[formats.Drawn]:
    if workers == 1 or len(tasks) < 64:
        yield from map(_draw, tasks)
        return
    # Spawned, because the calling process may have TensorFlow's threads, which a fork breaks.
    # The calling process handles Ctrl-C.
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield from pool.map(_draw, tasks, chunksize=32)
    finally:
        pool.shutdown(cancel_futures=True)


def compose(rng: Random, split: str, index: int) -> tuple[list[str], str | None]:
    """Choose the content of picture `index` of a split: its pairs, and for some VOC pictures a
    difficult one.

    The first pair cycles through all pairs, so that they are about equally frequent in every split.
    In VOC it cycles through the classes, so that every picture has a label.
    """
    number = rng.choices((1, 2, 3, 4), (25, 35, 25, 15))[0]
    if not split.startswith("voc/"):
        return choose_pairs(rng, TRAINED[index % len(TRAINED)], number, TRAINED), None
    pairs = choose_pairs(rng, CLASS_NAMES[index % len(CLASS_NAMES)], number, PAIRS)
    if number == 4 or rng.random() < 0.75:
        return pairs, None
    return pairs, rng.choice(CLASS_NAMES)


def _draw(task: _Task) -> formats.Drawn:
    """Draw one picture; its content depends on the task alone."""
    rng = Random(f"{task.seed}/{task.split}/{task.index}")
    pairs, difficult = compose(rng, task.split, task.index)
    picture, scene = draw_scene(rng, pairs, task.size, difficult)
    picture.save(Path(task.root, task.path), quality=92)
    name = task.split.split("/")[0]
    captions = tuple(write_captions(rng, scene)) if name in ("flickr8k", "coco") else ()
    regions = tuple(write_regions(rng, scene)) if name == "visual_genome" else ()
    return formats.Drawn(task.path, scene, captions, regions)
