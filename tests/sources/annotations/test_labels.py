"""Labels of COCO's instances and of Open Images, against what is written by hand."""

import json

import pytest

from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, SourceOptions


def items(source, split):
    found = list(source.read(split))
    assert len(found) == source.counts[split]
    return found


@pytest.fixture
def coco(tmp_path, draw):
    for n in range(1, 5):
        draw(tmp_path / f"val2017/{n}.jpg")
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(1, 5)]
    names = {18: "dog", 1: "person", "3": "car"}
    categories = [{"id": number, "name": name} for number, name in names.items()]
    objects = [(1, 18, 0), (1, 1, 1), (1, 18, 1), (2, 1, 1), (2, "3", 0), (4, 99, 0), ("x", 1, 0)]
    fields = ("image_id", "category_id", "iscrowd")
    annotations = [dict(zip(fields, one, strict=True)) for one in objects]
    folder = tmp_path / "annotations"
    folder.mkdir()
    told = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "instances_val2017.json").write_text(json.dumps(told))
    return tmp_path


def test_instances_are_labels_and_crowds_difficult(coco, capsys):
    source = open_source("coco", coco)
    assert source.class_names == ("person", "car", "dog")
    found = items(source, "val2017")
    assert [(item.labels, item.difficult) for item in found[:3]] == [
        (("dog",), ("person",)),
        (("car",), ("person",)),
        ((), ()),
    ]
    assert found[3].reason == "an object of the undefined category 99"
    assert "1 objects without an image or category" in capsys.readouterr().err


def test_captions_and_labels_together_when_asked_for(coco):
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(1, 4)]
    told = [{"image_id": n, "caption": f"caption {n}"} for n in (1, 2)]
    path = coco / "annotations/captions_val2017.json"
    path.write_text(json.dumps({"images": images, "annotations": told}))
    plain = open_source("coco", coco)
    assert plain.class_names == () and isinstance(items(plain, "val2017")[2], Rejected)
    both = items(open_source("coco", coco, SourceOptions(labels=True)), "val2017")
    assert [(item.captions, item.labels) for item in both] == [
        (("caption 1",), ("dog",)),
        (("caption 2",), ("car",)),
        ((), ()),
    ]


def test_open_images(tmp_path, draw, capsys):
    for name in ("aa", "bb"):
        draw(tmp_path / f"validation/{name}.jpg")
    (tmp_path / "class-descriptions.csv").write_text('/m/1,Cat\n/m/2,"Dog, small"\n')
    (tmp_path / "validation-annotations-human-imagelabels.csv").write_text(
        "ImageID,Source,LabelName,Confidence\naa,v,/m/1,1\naa,v,/m/2,0\nbb,v,/m/2,1\ncc,v,/m/1,1\n"
    )
    (tmp_path / "validation-annotations-bbox.csv").write_text(
        "ImageID,Source,LabelName,Confidence,IsGroupOf\naa,x,/m/3,1,1\nbb,x,/m/2,1,1\n"
    )
    source = open_source("open_images", tmp_path)
    assert source.class_names == ("/m/3", "Cat", "Dog, small")
    found = {item.key: item for item in items(source, "validation")}
    assert (found["open_images/aa"].labels, found["open_images/aa"].difficult) == (
        ("Cat",),
        ("/m/3",),
    )
    assert found["open_images/bb"].labels == ("Dog, small",)
    assert found["open_images/cc"].reason == "no such file: 'cc.jpg'"
    told = capsys.readouterr().err
    assert "was not verified" in told and "1 classes have no name" in told
    given = SourceOptions(class_names=("Dog, small", "Cat", "/m/3"))
    assert open_source("open_images", tmp_path, given).class_names == given.class_names
