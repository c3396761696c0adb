"""Indexes the pictures of packed records, and searches them by text or picture."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from tfclip.evaluation.datasets.views import file_views, record_views
from tfclip.evaluation.embedding.embed import embed_batches, embed_pictures, embed_texts
from tfclip.evaluation.search.index import SearchIndex, nearest_rows, read_record, write_index
from tfclip.inputs.text import check_lengths
from tfclip.models.model_directory import model_fingerprint
from tfclip.models.saving import load_model
from tfclip.records import schema
from tfclip.records.contact_sheet import draw_sheet
from tfclip.records.manifest import load_manifest, records_reference


def index_records(run: Path, reference: str, out: Path) -> int:
    """Index all pictures of "DIR" or "DIR:SPLIT"; return their number.

    Raises:
        FileNotFoundError, ValueError: no model, no records, or no such split.
    """
    directory, split = records_reference(reference)
    manifest = load_manifest(directory)
    splits = list(manifest.splits) if split is None else [split]
    model = load_model(run)
    shards = [shard for name in splits for shard in manifest.shards_of(name)]
    size, total = model.config.picture_size, sum(shard.records for shard in shards)

    def embeddings():
        for name in splits:
            count = sum(shard.records for shard in manifest.shards_of(name))
            for _, batch in embed_batches(model, record_views(directory, name, size), total=count):
                yield batch[:, 0]

    write_index(
        out,
        embeddings(),
        model.config.embed_dim,
        total,
        run=run,
        model=model_fingerprint(run),
        records=directory,
        fingerprint=manifest.fingerprint(),
        shards=tuple(shard.file for shard in shards),
    )
    return total


def search(index: SearchIndex, query: str, *, top: int, chunk: int) -> list[dict]:
    """Return the pictures nearest to a text, or to the picture in a file.

    Returns:
        The hits, the nearest first: `key`, `cosine`, `captions`, `labels` and the `record`.

    Raises:
        ValueError: the records changed since indexing, the text is too long, or the file is no
            picture.
    """
    if load_manifest(index.records).fingerprint() != index.fingerprint:
        raise ValueError(
            f"the records at {index.records} were packed again; make the index again with: "
            f"python -m tfclip.search index {index.run} {index.records}"
        )
    model = load_model(index.run)
    if os.path.isfile(query):  # Path.is_file raises for a long text.
        _, embedded = embed_pictures(model, file_views([Path(query)], model.config.picture_size))
        embedding = embedded[0, 0]
    else:
        check_lengths([query], model.tokenizer)
        embedding = embed_texts(model, [query])[0]
    rows, cosines = nearest_rows(index.rows["embedding"], embedding, top, chunk)
    hits = []
    for row, cosine in zip(rows, cosines, strict=True):
        place = index.rows[row]
        data = read_record(index.records / index.shards[place["shard"]], int(place["offset"]))
        record = {name: value.numpy() for name, value in schema.parse(tf.constant(data)).items()}
        hits.append(
            {
                "key": record[schema.KEY].decode(),
                "cosine": float(cosine),
                "captions": [text.decode("utf-8", "replace") for text in record[schema.CAPTION]],
                "labels": [text.decode("utf-8", "replace") for text in record[schema.LABEL]],
                "record": record,
            }
        )
    return hits


def draw_hits(index: SearchIndex, hits: list[dict], out: Path) -> None:
    """Draw a contact sheet of the hits, the nearest first."""
    draw_sheet([hit["record"] for hit in hits], out, [f"{hit['cosine']:.3f}" for hit in hits])
