import os

import pytest

from tfclip.sources.image_folder import open_image_folder
from tfclip.sources.sample import Rejected, Sample, SourceOptions


def listed(source):
    return [(s.split, s.key, s.labels, s.captions) for n in source.counts for s in source.read(n)]


def test_class_folders_are_labels(tmp_path, draw):
    for path in ("sea_lion/b.jpg", "sea_lion/deep/a.JPG", "cat/1.png", "empty/note.txt"):
        draw(tmp_path / path)
    draw(tmp_path / ".hidden/1.jpg")
    source = open_image_folder(tmp_path, SourceOptions(caption_template="a photo of a {}."))
    assert (source.counts, source.class_names) == ({"train": 3}, ("cat", "empty", "sea_lion"))
    cat, lion = ("a photo of a cat.",), ("a photo of a sea lion.",)
    assert listed(source) == [
        ("train", "image_folder/cat/1.png", ("cat",), cat),
        ("train", "image_folder/sea_lion/b.jpg", ("sea_lion",), lion),
        ("train", "image_folder/sea_lion/deep/a.JPG", ("sea_lion",), lion),
    ]


def test_folders_named_like_splits_are_splits(tmp_path, draw):
    for path in ("train/cat/1.jpg", "val/cat/1.jpg", "val/dog/2.jpg"):
        draw(tmp_path / path)
    source = open_image_folder(tmp_path, SourceOptions())
    assert source.counts == {"train": 1, "val": 2} and source.class_names == ("cat", "dog")
    assert [key for _, key, _, _ in listed(source)] == [
        "image_folder/train/cat/1.jpg",
        "image_folder/val/cat/1.jpg",
        "image_folder/val/dog/2.jpg",
    ]
    only = open_image_folder(tmp_path, SourceOptions(splits=("val",)))
    assert only.counts == {"val": 2}


def test_links_out_and_unreadable_names_are_listed_not_read(tmp_path, draw):
    secret = draw(tmp_path / "outside/secret.jpg")
    root = tmp_path / "data"
    draw(root / "cat/1.jpg")
    (root / "cat/2.jpg").symlink_to(secret)
    (root / "cat/loop.jpg").symlink_to("loop.jpg")
    (root / "cat/circle").symlink_to(root)
    os.mkfifo(root / "cat/pipe.jpg")
    open(os.fsencode(root / "cat") + b"/\xff.jpg", "wb").close()
    items = list(open_image_folder(root, SourceOptions()).read("train"))
    assert [type(item) for item in items].count(Sample) == 1
    reasons = " ".join(item.reason for item in items if isinstance(item, Rejected))
    for reason in ("a link out of the data folder", "no such file", "not a file", "invalid UTF-8"):
        assert reason in reasons
    assert len(items) == 5


@pytest.mark.parametrize("make", ["", "data/", "data/empty/", "data/loose.jpg"])
def test_no_picture_in_class_folders(tmp_path, draw, make):
    if make.endswith(".jpg"):
        draw(tmp_path / make)
    elif make:
        (tmp_path / make).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="expected: DIR/<class name>"):
        open_image_folder(tmp_path / "data", SourceOptions())


def test_a_template_needs_a_place_for_the_class(tmp_path, draw):
    draw(tmp_path / "cat/1.jpg")
    with pytest.raises(ValueError, match="a text with exactly one {}"):
        open_image_folder(tmp_path, SourceOptions(caption_template="a photo"))


def test_real_class_folders(real_data):
    root = real_data / "cls/cifar10_test_jpg"
    source = open_image_folder(root, SourceOptions())
    assert source.counts == {"train": len(list(root.glob("*/*.jpg")))} == {"train": 2000}
    assert source.class_names == tuple(sorted(os.listdir(root)))
    assert all(isinstance(item, Sample) for item in source.read("train"))
