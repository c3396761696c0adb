"""Measures retrieval between the pictures and captions of packed records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from tfclip.console import say
from tfclip.evaluation.embedding.cache import RunEmbeddings
from tfclip.evaluation.embedding.kept_arrays import bytes_at, joined_bytes
from tfclip.evaluation.metrics.query_bank import SHARPNESS, WEIGHT, corrected
from tfclip.evaluation.metrics.retrieval import retrieval_metrics
from tfclip.evaluation.report.examples import jpeg_of, write_examples
from tfclip.evaluation.search.nearest import nearest_rows
from tfclip.inputs.view_sets import PIXELS_VERSION
from tfclip.records.manifest import load_manifest, records_reference

# TensorFlow is imported only when something is not cached: without it, results take seconds.
if TYPE_CHECKING:
    from tfclip.evaluation.embedding.from_features import FrozenParts
    from tfclip.models.saving import TrainedModel

QUERIES, HITS = 6, 4
"""The number of example captions on the report page, and of pictures for each."""
# Splits whose shared captions were reported in this process.
_reported: set[str] = set()


def evaluate_retrieval(
    model: TrainedModel | RunEmbeddings,
    reference: str,
    *,
    chunk: int = 1024,
    examples: Path | None = None,
    images: int | None = None,
    frozen: FrozenParts | None = None,
    query_bank: str | None = None,
) -> dict:
    """Measure both directions over every picture and all captions of a split.

    Args:
        model: a trained model, or a run, whose embeddings are cached in it.
        reference: "DIR:SPLIT"; the split may be omitted if there is only one.
        chunk: rows of the similarity matrix in memory at a time; the figures do not depend on it.
        examples: a file to write some captions with their nearest pictures to.
        images: only the first so many pictures and their captions; None for all.
        frozen: stored outputs of frozen towers of `model`, of which only the heads then run.
        query_bank: "DIR:SPLIT" of other pictures with captions, with which the figures are also
            measured corrected for hubs, see `query_bank.corrected`.

    Returns:
        The figures of `retrieval.retrieval_metrics`, with `records`, `split` and `compute`, and
        the corrected ones as `query_bank`.

    Raises:
        ValueError: no captions, an unknown split, several splits and none given, or the query bank
            is the measured split.
        FileNotFoundError: no records at the path.
    """
    at = _split_of(reference)
    if query_bank is not None:
        bank = _split_of(query_bank)
        if bank.content == at.content:
            raise ValueError(f"the query bank {query_bank} must be other records than {reference}")
    part = "" if images is None else f" first {images}"
    named = f"captioned pictures {at.content} {PIXELS_VERSION}{part}"
    kept = _kept(model, named, partial(_embedded, model, at, images, frozen))
    pictures, texts, text_id = kept["images"], kept["texts"], kept["text_id"]
    image_of_text = np.repeat(np.arange(len(pictures)), kept["counts"])
    figures = retrieval_metrics(pictures, texts, image_of_text, text_id, chunk=chunk)
    _report_shared(_shared(image_of_text, text_id), len(texts), at.content)
    if query_bank is not None:
        others = _embedded(model, bank)
        both = corrected(pictures, texts, others["images"], others["texts"])
        figures["query_bank"] = {
            **retrieval_metrics(*both, image_of_text, text_id, chunk=chunk),
            "records": str(bank.directory),
            "split": bank.split,
            "sharpness": SHARPNESS,
            "weight": WEIGHT,
        }
    if examples is not None:
        hits = []
        for row in np.unique(np.linspace(0, len(texts) - 1, QUERIES).astype(int)):
            caption = bytes_at(kept["captions"], kept["caption_ends"], row)
            right = np.unique(image_of_text[text_id == text_id[row]])
            hits += _hits(pictures, texts[row], right, caption.decode("utf-8", "replace"))
        write_examples(examples, _drawn(model, hits, at))
    return {
        **figures,
        "records": str(at.directory),
        "split": at.split,
        "compute": model.compute,
    }


class _Split(NamedTuple):
    """A split of records, and what names its content, wherever the folder is."""

    directory: Path
    split: str
    content: str


def _split_of(reference: str) -> _Split:
    """Return the split of "DIR:SPLIT", or of "DIR" with one split."""
    directory, split = records_reference(reference)
    manifest = load_manifest(directory)
    splits = manifest.splits
    if split is None:
        if len(splits) > 1:
            raise ValueError(
                f"{directory} has several splits; give one of {', '.join(splits)} "
                f"as {directory}:SPLIT"
            )
        (split,) = splits
    return _Split(directory, split, f"{manifest.fingerprint()}:{split}")


def _embedded(
    model: TrainedModel | RunEmbeddings,
    at: _Split,
    images: int | None = None,
    frozen: FrozenParts | None = None,
) -> dict[str, np.ndarray]:
    """Embed a split, see `captioned_split.embed_split`."""
    from tfclip.evaluation.embedding.captioned_split import embed_split

    return embed_split(model, at.directory, at.split, images=images, frozen=frozen)


def _kept(
    model: TrainedModel | RunEmbeddings, named: str, compute: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return arrays; with a run they are computed once and cached in it."""
    return model.arrays(named, compute) if isinstance(model, RunEmbeddings) else compute()


def _report_shared(shared: int, captions: int, records: str) -> None:
    """Say how many captions belong to several pictures, once for each split in a process: a
    training run measures the same split after every epoch."""
    if shared and records not in _reported:
        _reported.add(records)
        say(
            f"{shared:,} of {captions:,} captions belong to several pictures; each of these "
            "pictures counts as correct"
        )


def _shared(image_of_text: np.ndarray, text_id: np.ndarray) -> int:
    """Return how many captions say what a caption of another picture says."""
    pairs = np.unique(np.stack([text_id, image_of_text], 1), axis=0)
    texts, pictures = np.unique(pairs[:, 0], return_counts=True)
    return int(np.isin(text_id, texts[pictures > 1]).sum())


def _hits(images: np.ndarray, text: np.ndarray, right: np.ndarray, caption: str) -> list[dict]:
    """Return the nearest pictures of a caption, and its nearest own picture if it is not there.

    `right` are the rows of the caption's own pictures.
    """
    right = np.atleast_1d(right)
    rows, cosines = nearest_rows(images, text, HITS)
    hits = [
        {"query": caption, "row": int(row), "score": float(cosine), "right": bool(row in right)}
        for row, cosine in zip(rows, cosines, strict=True)
    ]
    if not np.isin(right, rows).any():
        every = images @ text
        nearest = right[np.argmax(every[right])]
        own = float(every[nearest])
        # As in the recalls, ties rank ahead of it.
        rank = int((np.delete(every, right) >= own).sum()) + 1
        hits.append(
            {"query": caption, "row": int(nearest), "score": own, "right": True, "rank": rank}
        )
    return hits


def _drawn(model: TrainedModel | RunEmbeddings, hits: Sequence[dict], at: _Split) -> Iterator[dict]:
    """Yield the examples with their pictures, which are read in one pass, or once for a run."""

    def small() -> dict[str, np.ndarray]:
        from tfclip.records import schema
        from tfclip.records.reader import read_split

        wanted, read = {hit["row"] for hit in hits}, []
        records = read_split(at.directory, at.split, features=(schema.KEY, schema.IMAGE))
        for row, record in enumerate(records.as_numpy_iterator()):
            if row in wanted:
                pixels = np.asarray(Image.open(BytesIO(record[schema.IMAGE])).convert("RGB"))
                read.append((row, record[schema.KEY].decode(), jpeg_of(pixels)))
        rows, keys, jpegs = zip(*read, strict=True)
        joined, ends = joined_bytes(jpegs)
        names = np.array(keys, str)
        return {"rows": np.array(rows), "keys": names, "jpegs": joined, "ends": ends}

    kept = _kept(model, f"retrieval examples {QUERIES} {HITS} {at.content}", small)
    place = {int(row): number for number, row in enumerate(kept["rows"])}
    for hit in hits:
        number = place[hit.pop("row")]
        yield {
            **hit,
            "key": str(kept["keys"][number]),
            "jpeg": bytes_at(kept["jpegs"], kept["ends"], number),
        }
