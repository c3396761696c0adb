"""Packing as TFDS's builder and a script in the manner of the TF Model Garden do it: one process.

For benchmarks.records; webdataset's writer is in webdataset_side. Every one decodes each picture
completely as its check, with the decoder that is at hand there, and stores bytes, captions and
labels. With an image size, each shrinks pictures with a longer short side by Pillow (antialiased,
bicubic) and stores a JPEG of quality 95, as tfclip does.
"""

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from benchmarks.shrinking import shrunk
from benchmarks.timing import Timing, timed
from tfclip.sources.sample import Sample


def pack_model_garden(
    samples: Sequence[Sample], out: Path, shards: int, image_size: int | None
) -> Timing:
    """As official/vision/data/create_coco_tf_record.py: one tf.train.Example after the other."""
    out.mkdir(exist_ok=True)

    def work() -> int:
        writers = [tf.io.TFRecordWriter(str(out / f"{k:05d}.tfrecord")) for k in range(shards)]
        for at, sample in enumerate(samples):
            encoded = sample.image.read_bytes()
            if image_size is None:
                height, width, _ = tf.io.decode_jpeg(encoded).shape
            else:
                encoded = shrunk(encoded, image_size)
                width, height = Image.open(BytesIO(encoded)).size
            feature = {
                "image/height": _int64(height),
                "image/width": _int64(width),
                "image/filename": _bytes([sample.image.name.encode()]),
                "image/source_id": _bytes([sample.key.encode()]),
                "image/key/sha256": _bytes([hashlib.sha256(encoded).hexdigest().encode()]),
                "image/encoded": _bytes([encoded]),
                "image/format": _bytes([b"jpeg"]),
                "image/caption": _bytes([caption.encode() for caption in sample.captions]),
                "image/object/class/text": _bytes([label.encode() for label in sample.labels]),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writers[at % shards].write(example.SerializeToString())
        for writer in writers:
            writer.close()
        return len(samples)

    return timed(work)


def _int64(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _bytes(values: list[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


class Captioned(tfds.core.GeneratorBasedBuilder):
    """Captioned pictures as they come."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, samples: Sequence[Sample], image_size: int | None, **options):
        self._samples, self._image_size = samples, image_size
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        texts = tfds.features.Sequence(tfds.features.Text())
        picture = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        features = {"image": picture, "captions": texts, "labels": texts}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, manager: object) -> dict[str, Iterator]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        for at, sample in enumerate(self._samples):
            data = shrunk(sample.image.read_bytes(), self._image_size)
            texts = {"captions": list(sample.captions), "labels": list(sample.labels)}
            yield at, {"image": BytesIO(data), **texts}


def pack_tfds(samples: Sequence[Sample], out: Path, shards: int, image_size: int | None) -> Timing:
    """A GeneratorBasedBuilder, not shuffled; TFDS writes, hashes and makes its metadata."""
    shutil.rmtree(out, ignore_errors=True)  # it would find its work done

    def work() -> int:
        with contextlib.redirect_stdout(sys.stderr):
            builder = Captioned(samples, image_size, data_dir=out)
            config = tfds.download.DownloadConfig(num_shards=shards, try_download_gcs=False)
            builder.download_and_prepare(download_config=config, file_format="tfrecord")
        return builder.info.splits["train"].num_examples

    return timed(work)
