"""Draws a grid of retrievals: some captions, each with the pictures that the model ranks first."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from tfclip.evaluation.embedding.features.feature_cache import ImageFeatures, TextFeatures
from tfclip.evaluation.embedding.from_features import text_rows
from tfclip.inputs.images import decode_record_jpeg, resize_picture
from tfclip.models.saving import TrainedModel
from tfclip.records import schema
from tfclip.records.reader import read_split

PICTURES, CAPTIONS, FOUND = 48, 6, 5
SIDE, ROOM, TEXT_WIDTH = 96, 6, 240
RIGHT, WRONG = (40, 160, 60), (200, 200, 200)


class RetrievalGrid:
    """Retrieval among the first pictures of a split, with captions of some of them.

    Args:
        trained: the model; its current weights are used.
        records, split: the records with the pictures.
        embed_images: returns (N, D) embeddings of the first N pictures of the split; by default
            runs the image tower.
        embed_texts: returns (M, D) embeddings of the first texts of M pictures of the split, by
            their numbers; by default runs the text tower.
    """

    def __init__(
        self,
        trained: TrainedModel,
        records: Path,
        split: str,
        embed_images: Callable[[int], tf.Tensor] | None = None,
        embed_texts: Callable[[Sequence[int]], tf.Tensor] | None = None,
    ):
        self._trained = trained
        size = trained.config.picture_size
        kept = read_split(
            records,
            split,
            features=(schema.IMAGE, schema.CAPTION, schema.PHRASE),
            then=lambda record: {
                "image": resize_picture(decode_record_jpeg(record[schema.IMAGE]), size),
                "texts": tf.concat([record[schema.CAPTION], record[schema.PHRASE]], 0)[:1],
            },
        )
        kept = list(kept.take(PICTURES).as_numpy_iterator())
        self._pictures = np.stack([record["image"] for record in kept])
        pairs = [
            (place, record["texts"][0].decode("utf-8", "replace"))
            for place, record in enumerate(kept)
            if len(record["texts"])
        ]
        self._queries = pairs[:: max(1, len(pairs) // CAPTIONS)][:CAPTIONS]
        self._embed_images = embed_images or self._run_image_tower
        self._embed_texts = embed_texts or self._run_text_tower

    def png(self) -> bytes:
        """Return a PNG with one caption per row; its own picture, if ranked, has a green frame."""
        if not self._queries:
            return _png(Image.new("RGB", (SIDE, SIDE), "white"))
        texts = self._embed_texts([place for place, _ in self._queries])
        images = self._embed_images(len(self._pictures))
        cosine = tf.matmul(texts, images, transpose_b=True).numpy()
        best = np.argsort(-cosine, axis=1, kind="stable")[:, :FOUND]
        return _png(self._drawn(best))

    def _run_image_tower(self, count: int) -> tf.Tensor:
        return self._trained.dual_encoder.encode_image(tf.constant(self._pictures[:count]))

    def _run_text_tower(self, places: Sequence[int]) -> tf.Tensor:
        tokens = self._trained.tokenizer([text for _, text in self._queries])
        return self._trained.dual_encoder.encode_text(tokens["token_ids"], tokens["text_mask"])

    def _drawn(self, best: np.ndarray) -> Image.Image:
        step = SIDE + 2 * ROOM
        grid = Image.new("RGB", (TEXT_WIDTH + step * best.shape[1], step * len(best)), "white")
        draw, font = ImageDraw.Draw(grid), ImageFont.load_default(13)
        for row, (own, text) in enumerate(self._queries):
            lines = _lines(text, draw, font)
            draw.multiline_text((ROOM, row * step + ROOM), lines, fill="black", font=font)
            for column, place in enumerate(best[row]):
                left, top = TEXT_WIDTH + column * step, row * step
                frame = RIGHT if place == own else WRONG
                draw.rectangle((left + 2, top + 2, left + step - 3, top + step - 3), fill=frame)
                picture = Image.fromarray(self._pictures[place]).resize((SIDE, SIDE))
                grid.paste(picture, (left + ROOM, top + ROOM))
        return grid


def embed_stored(
    trained: TrainedModel, image: ImageFeatures | None, text: TextFeatures | None
) -> dict[str, Callable]:
    """Return the functions of `RetrievalGrid` that run the heads alone, on stored outputs of frozen
    towers; none where they are not stored."""
    functions: dict[str, Callable] = {}
    model = trained.dual_encoder
    if image is not None:
        features = image.features
        functions["embed_images"] = lambda count: model.embed_image_features(
            tf.constant(features[:count, 0])
        )
    if text is not None:
        stored = text

        def embed_texts(places: Sequence[int]) -> tf.Tensor:
            features, mask = text_rows(stored, stored.text_starts[np.asarray(places)])
            return model.embed_text_features(tf.constant(features), tf.constant(mask))

        functions["embed_texts"] = embed_texts
    return functions


def _lines(text: str, draw: ImageDraw.ImageDraw, font) -> str:
    """Wrap a text to the width of the text column."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= TEXT_WIDTH - 2 * ROOM:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:6])


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
