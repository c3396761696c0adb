"""One record: the names of its features, how it is written and how it is parsed. Version 1."""

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
"""What every version of tfclip reads."""
SCORE = "image/caption/score"
ADDED = {SCORE: tf.float32}
"""Lists that came later: most sets have none of them, they are read by name alone, and versions
that do not know them pass over them. `SCORE` is the cosine of each caption with its picture."""


def image_id(key: str) -> int:
    """Return the id of a key: the upper 63 bits of the 8-byte BLAKE2b digest of its UTF-8 bytes,
    read big-endian. It never changes, and it is never negative."""
    return int.from_bytes(hashlib.blake2b(_utf8(key), digest_size=8).digest()) >> 1


def stripped(texts: Sequence[str]) -> list[str]:
    """Return the texts without white space around them, and without those that were only that."""
    return [text for text in map(str.strip, texts) if text]


def boxes(
    regions: Sequence[Region], width: float, height: float
) -> list[tuple[str, float, float, float, float]]:
    """Return (phrase, xmin, ymin, xmax, ymax) with 0..1 coordinates, clipped to the picture.

    Regions without a phrase, without an area within the picture, or with a coordinate that is no
    number are left out.

    Args:
        regions: boxes in pixels.
        width, height: the size of the picture that the pixels count in.
    """
    kept = []
    for region in regions:
        xmin, xmax = (_share(x, width) for x in (region.x, region.x + region.width))
        ymin, ymax = (_share(y, height) for y in (region.y, region.y + region.height))
        phrase = region.phrase.strip()
        if phrase and xmin < xmax and ymin < ymax:
            kept.append((phrase, xmin, ymin, xmax, ymax))
    return kept


def _share(at: float, length: float) -> float:
    return min(max(at / length, 0.0), 1.0) if at == at else float("nan")


def values(sample: Sample, picture: Checked) -> dict[str, list]:
    """Return what the record of a sample holds, keyed by the names of its features.

    Captions are stripped of the white space around them, and otherwise as found; see `boxes`.
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
    """Return the serialized `tf.train.Example` of `values`; equal content gives equal bytes.

    Lists without a value are not stored.
    """
    example = tf.train.Example()
    features = example.features.feature
    # Filled in place and told apart by identity: half the time of messages put into messages.
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
    """Encode; a lone surrogate (Python's stand-in for a byte that is no UTF-8) becomes "?"."""
    return text.encode("utf-8", "replace")


def parse(serialized: tf.Tensor, features: Sequence[str] = FEATURES) -> dict[str, tf.Tensor]:
    """Return the features of one record, keyed by their names; nothing is decoded.

    Args:
        serialized: () string, or (N,) string.
        features: which ones; fewer cost less. Those of `ADDED` must be named.

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
