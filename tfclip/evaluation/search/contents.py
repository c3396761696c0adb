"""Reads and embeds what an index is made of: records, and encoded pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from tfclip.evaluation.embedding.embed import embed_encoded
from tfclip.evaluation.search.records_file import record_offsets
from tfclip.evaluation.search.sources import IndexSource
from tfclip.models.contrastive_model import MODALITIES
from tfclip.models.model_directory import model_fingerprint
from tfclip.models.saving import TrainedModel, load_model
from tfclip.records import schema
from tfclip.records.reader import read_split

Item = TypeVar("Item")


def read_records(source: IndexSource) -> Iterator[tuple[int, int, str, bytes]]:
    """Yield the shard number, byte offset, key and JPEG of every record, in order."""
    manifest, number = source.manifest(), 0
    for split in source.splits():
        shards = manifest.shards_of(split)
        places = (
            (number + at, offset)
            for at, shard in enumerate(shards)
            for offset in record_offsets(source.path / shard.file)
        )
        records = read_split(source.path, split, features=(schema.IMAGE, schema.KEY))
        for (shard, offset), record in zip(places, records.as_numpy_iterator(), strict=True):
            yield shard, offset, record[schema.KEY].decode("utf-8", "replace"), record[schema.IMAGE]
        number += len(shards)


_opened: dict[tuple[str, tuple[str, ...]], TrainedModel] = {}


def open_model(run: Path, compute: str, modalities: Sequence[str] = MODALITIES) -> TrainedModel:
    """Load the model of a run; the one that was loaded last is kept in memory.

    Args:
        run: the run.
        compute: see `models.compute`.
        modalities: what is embedded; the other tower may not be loaded.

    Raises:
        FileNotFoundError, ValueError: as `load_model`.
    """
    key = f"{model_fingerprint(run)} {compute}"
    whole = _opened.get((key, tuple(MODALITIES)))
    if whole is not None:
        return whole
    chosen = key, tuple(modalities)
    if chosen not in _opened:
        _opened.clear()
        _opened[chosen] = replace(load_model(run, modalities, compute), is_fixed=True)
    return _opened[chosen]


def embed_items(
    run: Path, items: Iterable[Item], content: Callable[[Item], bytes], tiles: str, compute: str
) -> Iterator[tuple[tuple[Item, ...], np.ndarray, np.ndarray]]:
    """Embed pictures with the model of a run, see `embed_encoded`."""
    return embed_encoded(open_model(run, compute, ("image",)), items, content, tiles)
