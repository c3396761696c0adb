"""Measures retrieval between the pictures and captions of packed records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from tfclip.console import say
from tfclip.evaluation.datasets.views import record_views
from tfclip.evaluation.embedding.cache import RunEmbeddings
from tfclip.evaluation.embedding.embed import embed_pictures, embed_texts
from tfclip.evaluation.embedding.from_features import FrozenParts
from tfclip.evaluation.metrics.query_bank import SHARPNESS, WEIGHT, corrected
from tfclip.evaluation.metrics.retrieval import retrieval_metrics
from tfclip.evaluation.report.examples import jpeg_of, write_examples
from tfclip.evaluation.search.nearest import nearest_rows
from tfclip.inputs.batches import caption_id
from tfclip.inputs.view_sets import PIXELS_VERSION
from tfclip.models.saving import TrainedModel
from tfclip.records import schema
from tfclip.records.manifest import load_manifest, records_reference
from tfclip.records.reader import read_split

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
    directory, split, content = _split_of(reference)
    if query_bank is not None:
        bank = _split_of(query_bank)
        if bank[2] == content:
            raise ValueError(f"the query bank {query_bank} must be other records than {reference}")
    every, counts, embedded = _embedded_split(model, directory, split, content, images, frozen)
    pictures, texts = embedded["images"], embedded["texts"]
    image_of_text = np.repeat(np.arange(len(counts)), counts)
    text_id = caption_id(tf.constant(every, tf.string)).numpy()
    figures = retrieval_metrics(pictures, texts, image_of_text, text_id, chunk=chunk)
    _report_shared(_shared(image_of_text, text_id), len(every), content)
    if query_bank is not None:
        *_, others = _embedded_split(model, *bank, kept=False)
        both = corrected(pictures, texts, others["images"], others["texts"])
        figures["query_bank"] = {
            **retrieval_metrics(*both, image_of_text, text_id, chunk=chunk),
            "records": str(bank[0]),
            "split": bank[1],
            "sharpness": SHARPNESS,
            "weight": WEIGHT,
        }
    if examples is not None:
        query_rows = np.unique(np.linspace(0, len(texts) - 1, QUERIES).astype(int))
        hits = []
        for at in query_rows:
            caption = every[at].decode("utf-8", "replace")
            right = np.unique(image_of_text[text_id == text_id[at]])
            hits += _hits(pictures, texts[at], right, caption)
        write_examples(examples, _drawn(hits, directory, split))
    return {**figures, "records": str(directory), "split": split, "compute": model.compute}


def _split_of(reference: str) -> tuple[Path, str, str]:
    """Return the folder and the split of "DIR:SPLIT", or of "DIR" with one split; and what names
    their content, wherever the folder is."""
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
    return directory, split, f"{manifest.fingerprint()}:{split}"


def _embedded_split(
    model: TrainedModel | RunEmbeddings,
    directory: Path,
    split: str,
    content: str,
    images: int | None = None,
    frozen: FrozenParts | None = None,
    kept: bool = True,
) -> tuple[list[bytes], np.ndarray, dict[str, np.ndarray]]:
    """Return the M captions of N pictures, the number of each picture's, and `_embed`.

    Unless `kept`, the embeddings are not written to the cache of a run.
    """
    records = read_split(directory, split, features=(schema.CAPTION,)).take(_count(images))
    captions = [record[schema.CAPTION] for record in records.as_numpy_iterator()]
    counts = np.array([len(listed) for listed in captions])
    if not counts.any():
        raise ValueError(
            f"{directory}:{split} has no captions, which retrieval needs; region phrases describe "
            "a part of a picture"
        )
    every = [caption for listed in captions for caption in listed]
    if isinstance(model, RunEmbeddings):
        part = "" if images is None else f" first {images}"
        named = f"retrieval {content} {PIXELS_VERSION}{part}"
        embed = partial(_embed_run, model, directory, split, every, len(counts))
        return every, counts, model.arrays(named, embed) if kept else embed()
    return every, counts, _embed(model, directory, split, every, len(counts), frozen)


def _count(images: int | None) -> int:
    return -1 if images is None else images


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


def _embed(
    model: TrainedModel,
    directory: Path,
    split: str,
    captions: Sequence[bytes],
    total: int,
    frozen: FrozenParts | None = None,
) -> dict[str, np.ndarray]:
    """Embed the `total` pictures and the captions of a split: `images` (N,D), `texts` (M,D)."""
    images = None if frozen is None else frozen.pictures(total)
    texts = None if frozen is None else frozen.captions(total, len(captions))
    return {
        "images": _embed_pictures(model, directory, split, total) if images is None else images,
        "texts": embed_texts(model, captions) if texts is None else texts,
    }


def _embed_pictures(model: TrainedModel, directory: Path, split: str, total: int) -> np.ndarray:
    views = record_views(directory, split, model.config.picture_size).take(total)
    return embed_pictures(model, views, total=total)[1][:, 0]


def _embed_run(
    run: RunEmbeddings, directory: Path, split: str, captions: Sequence[bytes], total: int
) -> dict[str, np.ndarray]:
    """Embed like `_embed`; of frozen towers whose outputs are stored, only the heads run."""
    images = run.heads.pictures([(directory, split)], total)
    texts = run.heads.captions(directory, split, total, len(captions))
    if images is None:
        images = _embed_pictures(run.model, directory, split, total)
    return {"images": images, "texts": embed_texts(run.model, captions) if texts is None else texts}


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


def _drawn(hits: Sequence[dict], directory: Path, split: str) -> Iterator[dict]:
    """Yield the examples with their pictures, which are read in one pass."""
    wanted, pictures = {hit["row"] for hit in hits}, {}
    records = read_split(directory, split, features=(schema.KEY, schema.IMAGE))
    for row, record in enumerate(records.as_numpy_iterator()):
        if row in wanted:
            pixels = np.asarray(Image.open(BytesIO(record[schema.IMAGE])).convert("RGB"))
            pictures[row] = record[schema.KEY].decode(), jpeg_of(pixels)
    for hit in hits:
        key, jpeg = pictures[hit.pop("row")]
        yield {**hit, "key": key, "jpeg": jpeg}
