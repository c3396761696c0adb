import json
from collections import defaultdict
from pathlib import Path

import pytest

from tfclip.sources.coco import open_coco
from tfclip.sources.sample import Rejected, Sample, SourceOptions

CAPTIONS = [
    (9, "Men at a table."),
    (4, "A dog."),
    (9, " A meal\n"),
    (4, "A dog & a cät."),
]


def image(number, name=None):
    # The size is far from that of the file: it must not be believed.
    name = name or f"{number:012d}.jpg"
    return {"license": 1, "file_name": name, "height": 4000, "width": 3000, "id": number}


def annotations(captions):
    return [
        {"image_id": number, "id": k, "caption": text} for k, (number, text) in enumerate(captions)
    ]


def write_official(data, split, images, captions, **dump):
    path = data / f"annotations/captions_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"info": {"year": 2017}, "licenses": [{"id": 1}], "images": images}
    path.write_text(json.dumps({**content, "annotations": captions}, **dump), encoding="utf-8")
    return path


def read(data, split, **options):
    source = open_coco(data, SourceOptions(**options))
    items = list(source.read(split))
    assert len(items) == source.counts[split]
    return items


@pytest.fixture
def official(tmp_path, draw):
    for number in (4, 9):
        draw(tmp_path / f"val2017/{number:012d}.jpg")
    write_official(tmp_path, "val2017", [image(9), image(4)], annotations(CAPTIONS))
    return tmp_path


@pytest.mark.parametrize("folder", ["val2017", "images/val2017"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_the_official_files(official, folder, ascii_only):
    if folder != "val2017":
        (official / "images").mkdir()
        (official / "val2017").rename(official / folder)
    images = [image(9), image(4)]
    write_official(
        official, "val2017", images, annotations(CAPTIONS), ensure_ascii=ascii_only, indent=1
    )
    expected = [
        Sample(
            f"coco/{number}",
            official / folder / f"{number:012d}.jpg",
            captions=tuple(text for of, text in CAPTIONS if of == number),
            split="val2017",
        )
        for number in (9, 4)
    ]
    assert read(official, "val2017") == expected
    assert read(official / "annotations", "val2017") == expected


def test_the_splits_are_the_files_there_are(official, draw):
    for split in ("train2014", "val2014"):
        name = f"COCO_{split}_000000000007.jpg"
        draw(official / split / name)
        write_official(official, split, [image(7, name)], annotations([(7, "Rain.")]))
    counts = {"train2014": 1, "val2014": 1, "val2017": 2}
    assert open_coco(official, SourceOptions()).counts == counts
    # Annotations of train2017 alone, without its pictures, do not stop who asks for others.
    write_official(official, "train2017", [image(7)], annotations([(7, "Rain.")]))
    with pytest.raises(FileNotFoundError, match=r"captions_train2017\.json lists is in"):
        open_coco(official, SourceOptions())
    assert open_coco(official, SourceOptions(splits=("val2014",))).counts == {"val2014": 1}


def test_what_is_wrong_with_a_picture_is_told(official, draw):
    for number in (5, 6):
        draw(official / f"val2017/{number:012d}.jpg")
    draw(official / "secret.jpg")
    images = [
        image(4),
        image(5),
        image(6),
        image(404),
        image(8, "../secret.jpg"),
        image(10, "/etc/passwd"),
        image(4, "other.jpg"),
        {"file_name": "nameless.jpg"},
        "no object",
        image(11, 11),
    ]
    captions = annotations(
        [(4, "A dog."), (6, ""), (6, None), (4, "\ud800"), (404, "Lost."), (12, "Where?")]
    )
    path = write_official(official, "val2017", images, [*captions, {"caption": "Whose?"}])
    sample, *rejected = read(official, "val2017")
    assert sample.captions == ("A dog.",)
    assert sample.dropped == (
        "caption 2: invalid Unicode: bytes that are not UTF-8, or half of a surrogate pair",
    )
    text = path.read_text()
    places = [text.index('{"file_name": "nameless'), text.index('"no object"')]
    nameless = [
        f"the id of an image is not a whole number: {told}, at byte {p:,} of {path.name}"
        for p, told in zip(places, ("None", "'no object'"), strict=True)
    ]
    unnamed = text.index('{"caption": "Whose?"}')
    assert [(item.key, item.reason) for item in rejected] == [
        ("coco/5", "no caption"),
        ("coco/6", "no caption; caption 1: empty; caption 2: not a string: None"),
        ("coco/404", "no such file: '000000000404.jpg'"),
        ("coco/8", "not a plain file name: '../secret.jpg'"),
        ("coco/10", "no such file: 'passwd'"),
        ("coco/4", "duplicate id: '000000000004.jpg' and 'other.jpg'"),
        ("coco/-1", nameless[0]),
        ("coco/-1", nameless[1]),
        ("coco/11", "not a plain file name: 11"),
        ("coco/12", "captions of an image that is not listed"),
        (
            f"coco/caption at byte {unnamed}",
            "the image_id of a caption is not a whole number: None",
        ),
    ]
    assert all(isinstance(item, Rejected) and item.split == "val2017" for item in rejected)


def karpathy(number, split, folder="val2014", **more):
    sentences = [{"tokens": ["a"], "raw": f"Sentence {k} .", "imgid": 0} for k in range(2)]
    return {
        "filepath": folder,
        "sentids": [1, 2],
        "filename": f"COCO_{folder}_{number:012d}.jpg",
        "imgid": 0,
        "split": split,
        "sentences": sentences,
        "cocoid": number,
        **more,
    }


def write_karpathy(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))


def test_karpathys_file_of_another_set_names_its_source(tmp_path):
    (tmp_path / "dataset_flickr8k.json").write_text('{"images": []}')
    with pytest.raises(FileNotFoundError, match="make_records flickr8k --data"):
        open_coco(tmp_path, SourceOptions())


def test_karpathys_file(tmp_path, draw):
    images = [
        karpathy(1, "test"),
        karpathy(2, "train", "train2014"),
        karpathy(3, "restval"),
        karpathy(1, "train"),
        karpathy(5, "train", filepath=".."),
        karpathy(6, "train", sentences=["no object"]),
        karpathy(7, "train", sentences=None),
    ]
    write_karpathy(tmp_path / "dataset_coco.json", images)
    for entry in images:
        draw(tmp_path / entry["filepath"] / entry["filename"])
    source = open_coco(tmp_path, SourceOptions())
    assert source.counts == {"train": 5, "restval": 1, "test": 1}
    sample, *rejected = source.read("train")
    assert sample == Sample(
        "coco/2",
        tmp_path / "train2014/COCO_train2014_000000000002.jpg",
        captions=("Sentence 0 .", "Sentence 1 ."),
        split="train",
    )
    name = "'COCO_val2014_000000000001.jpg'"
    assert [(item.key, item.reason) for item in rejected] == [
        ("coco/1", f"duplicate id: {name} and {name}"),
        ("coco/5", "not a plain file name: '..'"),
        ("coco/6", "no caption; caption 1: not a string: None"),
        ("coco/7", "no caption"),
    ]
    assert read(tmp_path / "dataset_coco.json", "test")[0].key == "coco/1"


def test_both_kinds_of_annotations_want_a_choice(official, draw):
    path = official / "annotations/dataset_coco.json"
    write_karpathy(path, [karpathy(1, "test")])
    draw(official / "val2014/COCO_val2014_000000000001.jpg")
    with pytest.raises(ValueError, match=f"two kinds of annotations; name {path} .*annotations"):
        open_coco(official, SourceOptions())
    assert open_coco(path, SourceOptions()).counts == {"test": 1}
    assert open_coco(official / "annotations", SourceOptions()).counts == {"val2017": 2}


def test_an_unknown_split_in_karpathys_file_is_refused(tmp_path):
    write_karpathy(tmp_path / "dataset_coco.json", [karpathy(1, "dev")])
    with pytest.raises(
        ValueError, match="byte 12: an image whose split is 'dev'; allowed: train, restval"
    ):
        open_coco(tmp_path, SourceOptions())


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda text: text[:-30], ValueError, "the file is truncated"),
        (lambda text: "{}", ValueError, "lists no image"),
        (lambda text: '{"images": [], "annotations": []}', ValueError, "lists no image"),
        (
            lambda text: text.replace(".jpg", ".gif"),
            FileNotFoundError,
            "lists is in .*the first: no such file",
        ),
    ],
)
def test_damaged_or_useless_annotations_are_one_error(official, change, error, message):
    path = official / "annotations/captions_val2017.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(error, match=rf"captions_val2017\.json.*{message}"):
        open_coco(official, SourceOptions())


def test_missing_annotations_are_told_with_the_expected_tree(tmp_path):
    for data in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match=f"missing: {data}.*expected: DIR/annotations"):
            open_coco(data, SourceOptions())


def test_the_real_set_is_read_completely(real_data: Path):
    source = open_coco(real_data / "coco", SourceOptions())
    assert source.counts == {"train2017": 130, "val2017": 331}
    total = 0
    for split in source.counts:
        content = json.loads(
            (real_data / f"coco/annotations/captions_{split}.json").read_text(encoding="utf-8")
        )
        expected = defaultdict(list)
        for annotation in content["annotations"]:
            expected[f"coco/{annotation['image_id']}"].append(annotation["caption"])
        found = {sample.key: list(sample.captions) for sample in source.read(split)}
        assert found == expected
        total += sum(map(len, found.values()))
    assert total == 2306
