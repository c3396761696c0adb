import re

import pytest

from tfclip.sources.sample import Rejected, Sample, SourceOptions
from tfclip.sources.voc import CLASS_NAMES, open_voc

OBJECT = """
    <object>
        <name>{}</name>
        <difficult>{}</difficult>
        <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>
        <part><name>head</name></part>
    </object>"""


def write_annotation(path, *objects):
    path.parent.mkdir(parents=True, exist_ok=True)
    things = "".join(OBJECT.format(name, difficult) for name, difficult in objects)
    path.write_text(f"<annotation>\n<filename>../../etc/passwd</filename>{things}\n</annotation>\n")


@pytest.fixture
def devkit(tmp_path, draw):
    root = tmp_path / "VOCdevkit/VOC2007"
    scenes = {
        "000005": [("person", 0), ("dog", 1), ("dog", 0), ("cat", 1)],
        "000007": [("car", 1), ("car", 1)],
        "000009": [],
    }
    for name, objects in scenes.items():
        draw(root / f"JPEGImages/{name}.jpg")
        write_annotation(root / f"Annotations/{name}.xml", *objects)
    main = root / "ImageSets/Main"
    main.mkdir(parents=True)
    (main / "train.txt").write_text("000005\n000007\n")
    (main / "val.txt").write_text("000009\n")
    (main / "trainval.txt").write_text("000005\n000007\n000009\n")
    (main / "dog_train.txt").write_text("000005  1\n000007 -1\n")
    (main / "train_train.txt").write_text("000005 -1\n000007 -1\n")
    return root


def read(root, split, **options):
    source = open_voc(root, SourceOptions(**options))
    items = list(source.read(split))
    assert len(items) == source.counts[split]
    return items


def test_labels_are_classes_with_an_object_that_is_not_difficult(devkit):
    source = open_voc(devkit, SourceOptions())
    assert source.counts == {"train": 2, "trainval": 3, "val": 1}
    assert source.class_names == CLASS_NAMES and len(CLASS_NAMES) == 20
    assert read(devkit, "train") == [
        Sample(
            "voc/000005",
            devkit / "JPEGImages/000005.jpg",
            labels=("dog", "person"),
            difficult=("cat",),
            split="train",
        ),
        Sample("voc/000007", devkit / "JPEGImages/000007.jpg", difficult=("car",), split="train"),
    ]
    assert read(devkit, "val") == [
        Sample("voc/000009", devkit / "JPEGImages/000009.jpg", split="val")
    ]


def test_the_devkit_is_found_from_above_when_it_is_the_only_one(devkit, tmp_path):
    for data in (devkit.parent, tmp_path):
        assert open_voc(data, SourceOptions(splits=("val",))).counts == {"val": 1}
    (devkit.parent / "VOC2012/ImageSets/Main").mkdir(parents=True)
    with pytest.raises(ValueError, match="2 devkits; give one of them: .*VOC2007, .*VOC2012"):
        open_voc(tmp_path, SourceOptions())


def test_other_classes_come_from_the_files_per_class(devkit):
    write_annotation(devkit / "Annotations/000009.xml", ("red square", 0))
    with pytest.raises(ValueError, match=r"000009\.xml: unknown class 'red square'; known"):
        read(devkit, "val")
    for name in ("red square", "blue_ring"):
        (devkit / f"ImageSets/Main/{name}_trainval.txt").write_text("000009  1\n")
    source = open_voc(devkit, SourceOptions())
    assert source.class_names == ("blue_ring", "dog", "red square", "train")
    assert [sample.labels for sample in source.read("val")] == [("red square",)]


def test_what_is_wrong_with_a_picture_is_told(devkit, draw, tmp_path):
    main = devkit / "ImageSets/Main"
    names = ["000005", "no_xml", "no_jpg", "000005", "../../escape", "laughs", "nameless", "odd"]
    (main / "train.txt").write_text("\n".join(names))
    for name in ("no_xml", "laughs", "nameless", "odd"):
        draw(devkit / f"JPEGImages/{name}.jpg")
    draw(tmp_path / "escape.jpg")
    write_annotation(devkit / "Annotations/no_jpg.xml")
    write_annotation(devkit / "Annotations/nameless.xml", ("", 0))
    write_annotation(devkit / "Annotations/odd.xml", ("dog", "perhaps"))
    (devkit / "Annotations/laughs.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    sample, *rejected = read(devkit, "train")
    assert isinstance(sample, Sample)
    assert [(item.key.removeprefix("voc/"), item.reason) for item in rejected] == [
        ("no_xml", "no such file: 'no_xml.xml'"),
        ("no_jpg", "no such file: 'no_jpg.jpg'"),
        ("000005", "listed twice: lines 1 and 4 of train.txt"),
        ("../../escape", "not a plain file name: '../../escape.jpg'"),
        ("laughs", "XML with a document type (entities) is refused"),
        ("nameless", "an object with name '' and difficult '0'"),
        ("odd", "an object with name 'dog' and difficult 'perhaps'"),
    ]
    assert all(isinstance(item, Rejected) and item.split == "train" for item in rejected)


def test_a_split_without_annotations_is_refused(devkit, draw):
    draw(devkit / "JPEGImages/000011.jpg")
    (devkit / "ImageSets/Main/test.txt").write_text("000011\n")
    with pytest.raises(ValueError, match="the split test has no annotations"):
        open_voc(devkit, SourceOptions())
    assert len(read(devkit, "train", splits=("train",))) == 2


@pytest.mark.parametrize(
    "content, error, message",
    [
        ("", ValueError, "lists no picture"),
        (
            "000404\n",
            FileNotFoundError,
            r"test\.txt lists is in .* expected: VOCdevkit",
        ),
    ],
)
def test_a_split_without_pictures_is_refused(devkit, content, error, message):
    (devkit / "ImageSets/Main/test.txt").write_text(content)
    with pytest.raises(error, match=message):
        open_voc(devkit, SourceOptions())


def test_a_missing_folder_is_told_with_the_expected_tree(tmp_path):
    for data in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match=f"missing: {data}.*expected: VOCdevkit"):
            open_voc(data, SourceOptions())


def test_real_labels_equal_an_independent_reading_of_the_xml(real_data):
    source = open_voc(real_data / "voc", SourceOptions())
    assert source.counts == {"train": 311, "trainval": 471, "val": 160}
    for sample in source.read("trainval"):
        xml = sample.image.parents[1].joinpath(f"Annotations/{sample.image.stem}.xml").read_text()
        found = re.findall(r"<object>\s*<name>(\w+).*?<difficult>(\d)", xml, re.DOTALL)
        assert set(sample.labels) == {name for name, difficult in found if difficult == "0"}
        assert set(sample.difficult) == {name for name, _ in found} - set(sample.labels)
