"""Pictures of one class each: class folders, TFDS' mock data, CIFAR-10, and what is refused."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfclip.evaluation.datasets.class_folders import tfds_reference
from tfclip.evaluation.datasets.class_images import (
    LabelledClasses,
    labelled_folders,
    labelled_tfds,
    named_classes,
)

needs_tfds = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_datasets") is None, reason="needs tensorflow-datasets"
)


def classes(*names):
    return LabelledClasses(names, np.zeros(1, int), lambda size: None, "some data")


@needs_tfds
@pytest.mark.parametrize(
    ("given", "name", "split"),
    [
        ("cifar10", "cifar10", "test"),
        ("cifar10:train", "cifar10", "train"),
        ("imagenette/160px:validation", "imagenette/160px", "validation"),
        ("cifar10:3.0.2", "cifar10:3.0.2", "test"),
        ("cifar10:3.0.2:train[:10%]", "cifar10:3.0.2", "train[:10%]"),
        ("stl10:test[50:100]", "stl10", "test[50:100]"),
    ],
)
def test_names_versions_and_splits_are_told_apart(given, name, split):
    assert tfds_reference(given) == (name, split)


@pytest.mark.parametrize("given", ["", ":test", "cifar10:", "cifar10:test:train", "a[b:test"])
def test_what_is_no_reference_is_refused(given):
    with pytest.raises(ValueError, match="allowed: NAME or NAME:SPLIT"):
        tfds_reference(given)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[datasets\]'"):
        tfds_reference("cifar10")


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    found = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(found.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    return found


def test_the_stream_is_what_tfds_itself_decodes(tfds):
    with tfds.testing.mock_data(num_examples=9):
        ours = labelled_tfds("horses_or_humans")
        theirs = list(tfds.as_numpy(tfds.builder("horses_or_humans").as_dataset(split="test")))
        read = list(ours.views(300).as_numpy_iterator())
    assert ours.class_names == ("horses", "humans")
    assert [int(place) for place, _ in read] == list(range(9))
    assert ours.truth.tolist() == [example["label"] for example in theirs]
    for (_, views), example in zip(read, theirs, strict=True):
        np.testing.assert_array_equal(views, example["image"][None])


def test_grey_pictures_become_rgb_of_the_size_asked_for(tfds):
    with tfds.testing.mock_data(num_examples=2):
        spec = labelled_tfds("mnist").views(20).element_spec[1]
        views = [views for _, views in labelled_tfds("mnist").views(20).as_numpy_iterator()]
    assert spec.shape == (1, 20, 20, 3) and spec.dtype == tf.uint8
    assert np.ptp(views[0], axis=-1).max() == 0


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("cifar11", "unknown TFDS data set 'cifar11'; known, nearest first: cifar10"),
        ("coco/2017", "coco has 0 features of kind ClassLabel"),
    ],
)
def test_what_has_no_labelled_pictures_is_told_in_one_line(tfds, reference, told):
    with tfds.testing.mock_data(num_examples=1), pytest.raises(ValueError, match=told) as raised:
        labelled_tfds(reference)
    assert "\n" not in str(raised.value)


def test_pictures_without_a_label_are_refused(tfds):
    def unlabelled(builder, split, **options):
        return tf.data.Dataset.from_tensors({"image": b"", "label": np.int64(-1)}).repeat(3)

    with (
        tfds.testing.mock_data(as_dataset_fn=unlabelled),
        pytest.raises(ValueError, match="3 of 3 pictures of cifar10:test have no label"),
    ):
        labelled_tfds("cifar10")


def test_a_data_set_that_cannot_be_fetched_says_what_to_put_where(tfds, monkeypatch):
    def refused(self, **options):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refused)
    with pytest.raises(FileNotFoundError) as raised:
        labelled_tfds("imagenette/160px")
    line = str(raised.value)
    assert "no route to host" in line and "\n" not in line
    assert "tfds build imagenette/160px," in line
    assert os.path.join("tfds", "imagenette", "160px") in line and "TFDS_DATA_DIR" in line


def test_names_come_from_the_data_or_from_a_file(tmp_path, capsys):
    assert named_classes(classes("sports_car", "dog"), None) == ("sports car", "dog")
    assert named_classes(classes("0", "1"), None) == ("0", "1")
    assert "unless they are digits, give --class-names" in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("tench\nEnglish springer\n")
    synsets = classes("n01440764", "n02102040")
    assert named_classes(synsets, tmp_path / "names.txt") == ("tench", "English springer")
    with pytest.raises(ValueError, match="give --class-names FILE"):
        named_classes(synsets, None)
    for wrong in ("tench\n", "tench\n\nspringer\n", "tench\n \n"):
        (tmp_path / "names.txt").write_text(wrong)
        with pytest.raises(ValueError, match="needed: 2, one name on each"):
            named_classes(synsets, tmp_path / "names.txt")


def test_folders_are_classes_and_broken_files_are_left_out(tmp_path):
    for folder in ("b_two", "a one"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (9, 7)).save(tmp_path / folder / "1.png")
    (tmp_path / "a one" / "0.jpg").write_bytes(b"broken")
    found = labelled_folders(tmp_path)
    assert found.class_names == ("a one", "b_two") and found.truth.tolist() == [0, 0, 1]
    assert [int(place) for place, _ in found.views(8)] == [1, 2]


@pytest.mark.skipif("TFCLIP_DATA" not in os.environ, reason="needs TFCLIP_DATA")
def test_cifar10_folders_are_read_whole():
    data = Path(os.environ["TFCLIP_DATA"]) / "cls" / "cifar10_test_jpg"
    if not data.is_dir():
        pytest.skip(f"TFCLIP_DATA holds no {data.name}")
    found = labelled_folders(data)
    assert len(found.class_names) == 10 and found.class_names[0] == "airplane"
    files = sorted(data.glob("*/*.jpg"))
    assert len(files) == len(found.truth) == 2000
    counts = np.bincount(found.truth)
    assert counts.tolist() == [len(list((data / name).iterdir())) for name in found.class_names]
    places, means = [], []
    for place, views in found.views(32):
        places.append(int(place))
        means.append(views.numpy().mean())
    assert places == list(range(2000))
    for at in (0, 777, 1999):
        assert means[at] == pytest.approx(np.asarray(Image.open(files[at])).mean(), abs=0.2)
