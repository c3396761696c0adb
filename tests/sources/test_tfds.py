"""Data sets of TFDS: those it mocks, and one that it builds from real pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from tfclip.sources.registry import open_source
from tfclip.sources.sample import Region, SourceOptions

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))


@pytest.mark.parametrize(
    ("name", "label"),
    [("cifar10", "label"), ("voc/2007", "labels"), ("oxford_flowers102", "label")],
)
def test_mock_data_of_tfds(name, label, tmp_path):
    kept = {"image", label} | ({"labels_no_difficult"} if name == "voc/2007" else set())
    encoded = tfds.decode.PartialDecoding(
        dict.fromkeys(kept, True), {"image": tfds.decode.SkipDecoding()}
    )
    with tfds.testing.mock_data(num_examples=3):
        source = open_source(f"tfds:{name}", tmp_path)
        builder = tfds.builder(name)
        theirs = list(tfds.as_numpy(builder.as_dataset(split="train", decoders=encoded)))
        items = list(source.read("train"))
    assert source.name == f"tfds:{name}" and source.counts == {"train": 3}
    classes = builder.info.features[label]
    assert source.class_names == tuple(getattr(classes, "feature", classes).names)
    for number, (item, example) in enumerate(zip(items, theirs, strict=True)):
        assert item.key.startswith(f"tfds/{name}/{name.split('/')[0]}-train.tfrecord")
        assert item.key.endswith(f"__{number}")
        assert item.image == example["image"] and item.captions == ()
        named = {source.class_names[at] for at in np.ravel(example[label])}
        easy = {source.class_names[at] for at in np.ravel(example.get("labels_no_difficult", ()))}
        easy = easy if name == "voc/2007" else named
        assert set(item.labels) == named & easy and set(item.difficult) == named - easy
    assert any(item.labels for item in items)


def test_captions_of_coco_as_tfds_has_them(tmp_path):
    """TFDS's own random captions cannot be mocked beside encoded pictures: these are ours."""
    import tensorflow as tf

    def as_dataset(self, split, decoders=None, read_config=None, **options):
        kept = decoders.extract_features(self.info.features)
        assert set(kept) == {"image", "captions", "objects"} and set(kept["captions"].feature) == {
            "text"
        }
        return tf.data.Dataset.from_tensors(
            {
                "image": b"a jpeg",
                "captions": {"text": tf.constant(["A dog.", "Ein Hünd."])},
                "objects": {"label": tf.constant([16, 0, 16], tf.int64)},
                "tfds_id": b"coco_captions-train.tfrecord-00000-of-00001__0",
            }
        )

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        source = open_source("tfds:coco_captions", tmp_path, SourceOptions(splits=("train",)))
        (sample,) = source.read("train")
    assert sample.captions == ("A dog.", "Ein Hünd.") and sample.image == b"a jpeg"
    # Without its metadata TFDS has no names for COCO's classes.
    assert sample.labels == ("0", "16") and source.counts == {"train": 1}


class Captioned(tfds.core.GeneratorBasedBuilder):
    """A small data set as TFDS builds one."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        objects = {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        }
        features = {
            "image": tfds.features.Image(),
            "captions": tfds.features.Sequence(tfds.features.Text()),
            "filename": tfds.features.Text(),
            "objects": tfds.features.Sequence(objects),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), description="Small."
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(12), "validation": self._generate_examples(2)}

    def _generate_examples(self, count=0):
        for at in range(count):
            box = tfds.features.BBox(ymin=0.0, xmin=0.25, ymax=0.5, xmax=1.0)
            yield (
                at,
                {
                    "image": np.full((20, 30, 3), at, np.uint8),
                    "captions": [f"number {at}", "a picture"],
                    "filename": f"{at}.png",
                    "objects": [{"bbox": box, "label": at % 2}],
                },
            )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("importlib_resources")  # TFDS asks for it where it builds
    folder = tmp_path_factory.mktemp("built")
    Captioned(data_dir=folder).download_and_prepare()
    return folder


def test_a_data_set_that_tfds_built(built):
    options = SourceOptions(caption_template="a photo of a {}.", boxes_as_regions=True)
    source = open_source("tfds:captioned", built, options)
    assert source.counts == {"train": 12, "validation": 2}
    assert source.class_names == ("cat", "dog")
    seen = set()
    for item in source.read("train"):
        pixel = int(np.asarray(Image.open(io.BytesIO(item.image)))[0, 0, 0])
        name = ("cat", "dog")[pixel % 2]
        assert item.captions == (f"number {pixel}", "a picture", f"a photo of a {name}.")
        assert item.labels == (name,) and item.coordinates_size == (1, 1)
        assert item.regions == (Region(name, 0.25, 0.0, 0.75, 0.5),)
        seen.add(pixel)
    assert seen == set(range(12))
    again = [item.image for item in source.read("train")]
    assert again == [item.image for item in source.read("train")]


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("tfds:captoned", {}, "unknown TFDS data set 'captoned'"),
        ("tfds:captioned", {"splits": ("val",)}, "unknown split 'val'.*validation"),
        ("tfds:captioned", {"image_field": "img"}, "unknown feature of captioned 'img'.*image"),
        ("tfds:captioned", {"caption_template": "x"}, "one {}"),
        ("tfds:captioned", {"phrases_as_captions": True}, "takes no phrases_as_captions"),
    ],
)
def test_mistakes_are_told(built, name, options, told):
    with pytest.raises(ValueError, match=told):
        open_source(name, built, SourceOptions(**options))
