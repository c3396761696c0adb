"""The same with webdataset, Pillow and PyTorch, for benchmarks.records: without TensorFlow."""

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import webdataset
from PIL import Image

from benchmarks.shrinking import shrunk
from benchmarks.timing import Timing, timed
from tfclip.sources.sample import Sample


def pack_tars(
    samples: Sequence[Sample], out: Path, shards: int, image_size: int | None, workers: int
) -> Timing:
    """Pack into `out`; `workers` processes check, this one writes; with 0 it does all."""
    out.mkdir(exist_ok=True)
    checked = partial(_checked, image_size)

    def work() -> int:
        if not workers:
            _write(samples, (checked(sample.image) for sample in samples), out, shards)
            return len(samples)
        with get_context("fork").Pool(workers) as pool:
            paths = (sample.image for sample in samples)
            _write(samples, pool.imap(checked, paths, chunksize=16), out, shards)
            pool.close()
            pool.join()
        return len(samples)

    return timed(work)


def _checked(image_size: int | None, path: Path) -> bytes:
    return shrunk(path.read_bytes(), image_size)


def _write(samples: Sequence[Sample], checked: Iterator[bytes], out: Path, shards: int) -> None:
    most = -(-len(samples) // shards)
    with webdataset.ShardWriter(str(out / "%05d.tar"), maxcount=most, verbose=0) as writer:
        for sample, jpeg in zip(samples, checked, strict=True):
            labels = {"captions": sample.captions, "labels": sample.labels}
            writer.write({"__key__": sample.key, "jpg": jpeg, "json": json.dumps(labels)})


def read_tars(tars: Path, size: int, batch_size: int, workers: int, lean: bool) -> Timing:
    """Read batches of resized pictures in `workers` processes.

    Args:
        tars, size, batch_size, workers: what to read, and how.
        lean: decode without webdataset's `decode("pil")`, which copies every picture twice, and
            resize with Pillow's bilinear filter in place of its default, the bicubic one, which is
            CLIP's too. Both antialias.
    """
    loader = torch.utils.data.DataLoader(
        _batches(tars, size, batch_size, lean),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork",
    )
    return timed(lambda: sum(len(pictures) for _, pictures in loader))


def first_pictures(tars: Path, size: int, count: int, lean: bool) -> dict[str, np.ndarray]:
    """Return the first resized pictures of the set by their keys, (size,size,3) uint8."""
    keys, pictures = next(iter(_batches(tars, size, count, lean)))
    return dict(zip(keys, np.asarray(pictures), strict=True))


def _batches(tars: Path, size: int, batch_size: int, lean: bool) -> webdataset.WebDataset:
    filter = Image.Resampling.BILINEAR if lean else Image.Resampling.BICUBIC

    def resized(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(picture.resize((size, size), filter)))

    files = sorted(os.fspath(path) for path in tars.glob("*.tar"))
    read = webdataset.WebDataset(files, shardshuffle=False)
    read = read.map(_decoded) if lean else read.decode("pil", only="jpg")
    return read.to_tuple("__key__", "jpg").map_tuple(str, resized).batched(batch_size)


def _decoded(sample: dict) -> dict:
    picture = Image.open(BytesIO(sample["jpg"]))
    return {**sample, "jpg": picture if picture.mode == "RGB" else picture.convert("RGB")}
