"""The schema of a record, version 1: the names of its features, encoding and parsing."""

import hashlib
from collections.abc import Sequence

import tensorflow as tf

from tfclip.records.check import Checked
from tfclip.sources.sample import Region, Sample

IMAGE = "image/encoded"
KEY = "image/key"
ID = "image/id"
HEIGHT = "image/height"
WIDTH = "image/width"
CAPTION = "image/caption"
PHRASE = "image/region/phrase"
XMIN = "image/region/bbox/xmin"
YMIN = "image/region/bbox/ymin"
XMAX = "image/region/bbox/xmax"
YMAX = "image/region/bbox/ymax"
LABEL = "image/object/class/text"
DIFFICULT = "image/object/difficult/text"

BOX = (XMIN, YMIN, XMAX, YMAX)
SINGLE = {IMAGE: tf.string, KEY: tf.string, ID: tf.int64, HEIGHT: tf.int64, WIDTH: tf.int64}
"""Features with exactly one value, and their type."""
LISTS = {
    CAPTION: tf.string,
    PHRASE: tf.string,
    **dict.fromkeys(BOX, tf.float32),
    LABEL: tf.string,
    DIFFICULT: tf.string,
}
"""Features with any number of values, none included, and their type."""
FEATURES = (*SINGLE, *LISTS)
"""The features that every version of tfclip reads."""
SCORE = "image/caption/score"
AGREEMENT = "image/caption/agreement"
ADDED = {SCORE: tf.float32, AGREEMENT: tf.float32}
"""Lists added after version 1. Most sets have none of them, they are read only when named, and
older versions of tfclip ignore them. `SCORE` is the cosine of each caption with its picture,
`AGREEMENT` its mean cosine with the other captions of the picture."""


def image_id(key: str) -> int:
    """Return the id of a key: the upper 63 bits of the 8-byte BLAKE2b digest of its UTF-8 bytes,
    read as a big-endian integer. It never changes, and it is never negative.

    >>> image_id("coco/391895")
    3446950272663428293
    """
    return int.from_bytes(hashlib.blake2b(_utf8(key), digest_size=8).digest()) >> 1


def stripped(texts: Sequence[str]) -> list[str]:
    """Strip white space from the ends of the texts, and drop the texts that become empty."""
    return [text for text in map(str.strip, texts) if text]


def boxes(
    regions: Sequence[Region], width: float, height: float
) -> list[tuple[str, float, float, float, float]]:
    """Return (phrase, xmin, ymin, xmax, ymax) with coordinates from 0 to 1, clipped to the picture.

    Regions without a phrase, without an area within the picture, or with a NaN coordinate are
    dropped.

    Args:
        regions: boxes in pixels.
        width: the width of the picture that the boxes refer to, in pixels.
        height: its height.

    >>> boxes([Region("a dog", 50, 0, 100, 60)], width=100, height=120)
    [('a dog', 0.5, 0.0, 1.0, 0.5)]
    """
    kept = []
    for region in regions:
        xmin, xmax = (_fraction(x, width) for x in (region.x, region.x + region.width))
        ymin, ymax = (_fraction(y, height) for y in (region.y, region.y + region.height))
        phrase = region.phrase.strip()
        if phrase and xmin < xmax and ymin < ymax:
            kept.append((phrase, xmin, ymin, xmax, ymax))
    return kept


def _fraction(at: float, length: float) -> float:
    return min(max(at / length, 0.0), 1.0) if at == at else float("nan")


def values(sample: Sample, picture: Checked) -> dict[str, list]:
    """Return the values of the record of a sample, keyed by feature name.

    Captions are stripped and otherwise unchanged; regions become `boxes`.
    """
    size = sample.coordinates_size or (picture.original_width, picture.original_height)
    regions = boxes(sample.regions, *size)
    return {
        IMAGE: [picture.jpeg],
        KEY: [sample.key],
        ID: [image_id(sample.key)],
        HEIGHT: [picture.height],
        WIDTH: [picture.width],
        CAPTION: stripped(sample.captions),
        PHRASE: [region[0] for region in regions],
        **{name: [region[1 + at] for region in regions] for at, name in enumerate(BOX)},
        LABEL: list(sample.labels),
        DIFFICULT: list(sample.difficult),
    }


def encode(content: dict[str, list]) -> bytes:
    """Return the serialized `tf.train.Example` of the values; equal values give equal bytes.

    Empty lists are not stored.
    """
    example = tf.train.Example()
    features = example.features.feature
    # Filling the lists in place takes half the time of building a message for each.
    for name, listed in content.items():
        if not listed:
            continue
        kind = SINGLE.get(name) or LISTS[name]
        if kind is tf.int64:
            features[name].int64_list.value.extend(listed)
        elif kind is tf.float32:
            features[name].float_list.value.extend(listed)
        else:
            texts = (value if isinstance(value, bytes) else _utf8(value) for value in listed)
            features[name].bytes_list.value.extend(texts)
    return example.SerializeToString(deterministic=True)


def _utf8(text: str) -> bytes:
    """Encode a text; a lone surrogate, which stands for an invalid UTF-8 byte, becomes "?"."""
    return text.encode("utf-8", "replace")


def parse(serialized: tf.Tensor, features: Sequence[str] = FEATURES) -> dict[str, tf.Tensor]:
    """Return the features of one record or a batch, keyed by name; pictures stay encoded.

    Args:
        serialized: () string, or (N,) string.
        features: the features to parse; fewer are faster. Those of `ADDED` must be named.

    Returns:
        For one record: () tensors, and (n,) tensors for the lists. For N records: (N,) tensors, and
        (N, None) ragged ones. Strings, int64 and float32 as in `SINGLE` and `LISTS`.
    """
    spec = {
        name: tf.io.FixedLenFeature((), SINGLE[name])
        if name in SINGLE
        else tf.io.RaggedFeature(LISTS.get(name) or ADDED[name])
        for name in features
    }
    return tf.io.parse_example(serialized, spec)
