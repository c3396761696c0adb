import json

import pytest

from tfclip.sources.sample import Region, Rejected, Sample, SourceOptions
from tfclip.sources.visual_genome import open_visual_genome


def region(phrase, x=1, y=2, width=3, height=4, **more):
    box = {"width": width, "height": height, "y": y, "x": x}
    return {"region_id": 1, "image_id": 1, "phrase": phrase, **box, **more}


def write(data, entries, sizes=()):
    data.mkdir(exist_ok=True)
    descriptions = [{"regions": regions, "id": number} for number, regions in entries]
    (data / "region_descriptions.json").write_text(json.dumps(descriptions))
    if sizes:
        images = [
            {"width": width, "height": height, "url": "", "image_id": number, "coco_id": None}
            for number, width, height in sizes
        ]
        (data / "image_data.json").write_text(json.dumps(images))


def read(data, split, **options):
    source = open_visual_genome(data, SourceOptions(**options))
    items = list(source.read(split))
    assert len(items) == source.counts[split]
    return items


@pytest.fixture
def genome(tmp_path, draw):
    draw(tmp_path / "VG_100K/1.jpg")
    draw(tmp_path / "VG_100K_2/71.jpg")
    entries = [
        (71, [region("a dog", 0.5), region("a dog", 5), region("The dög's ear")]),
        (1, [region("sky")]),
    ]
    write(tmp_path, entries, [(1, 800, 600)])
    return tmp_path


def test_every_region_is_kept_with_its_box(genome):
    dog, sky = read(genome, "train")
    assert dog == Sample(
        "visual_genome/71",
        genome / "VG_100K_2/71.jpg",
        regions=(
            Region("a dog", 0.5, 2, 3, 4),
            Region("a dog", 5, 2, 3, 4),
            Region("The dög's ear", 1, 2, 3, 4),
        ),
    )
    assert sky.image == genome / "VG_100K/1.jpg"
    assert sky.coordinates_size == (800, 600)  # only this one is in image_data.json


def test_phrases_can_be_captions_too(genome):
    plain, asked = read(genome, "train"), read(genome, "train", phrases_as_captions=True)
    assert [sample.captions for sample in asked] == [("a dog", "The dög's ear"), ("sky",)]
    assert [sample.regions for sample in asked] == [sample.regions for sample in plain]


def test_what_is_wrong_is_told(genome, draw):
    for number in (2, 3, 4):
        draw(genome / f"VG_100K/{number}.jpg")
    bad = [
        region(""),
        region(None),
        region("a", width=0),
        region("a", height=-1),
        region("a", x="1"),
        region("a", y=None),
        region("a", x=float("nan")),
        region("a", width=1e300),
        "no object",
    ]
    entries = [(1, [*bad, region("sky")]), (2, bad[:2]), (3, None), (404, [region("lost")])]
    write(genome, [*entries, (1, [region("again")]), ("../1", [region("out")])])
    (genome / "ids.txt").write_text("1\n2\n3\n404\n5\n04\n../1\n1\n")
    first, *rejected = read(genome, "some", id_lists={"some": genome / "ids.txt"})
    assert first.regions == (Region("sky", 1, 2, 3, 4),)
    assert first.dropped == (
        "region 1: empty",
        "region 2: not a string: None",
        "region 3: no area: 0 x 4",
        "region 4: no area: 3 x -1",
        "region 5: box ['1', 2, 3, 4]",
        "region 6: box [1, None, 3, 4]",
        "region 7: box [nan, 2, 3, 4]",
        "region 8: box [1, 2, 1e+300, 4]",
        "region 9: not an object",
    )
    assert [(item.key, item.reason) for item in rejected] == [
        ("visual_genome/2", "no region; region 1: empty; region 2: not a string: None"),
        ("visual_genome/3", "no list of regions"),
        ("visual_genome/404", "no such file: '404.jpg'"),
        ("visual_genome/5", "no such id in the descriptions"),
        ("visual_genome/04", "no such id in the descriptions"),
        ("visual_genome/../1", "no such id in the descriptions"),
        ("visual_genome/1", "listed twice: ids.txt line 1 and ids.txt line 8"),
    ]
    items = [
        item
        for split in open_visual_genome(genome, SourceOptions()).counts
        for item in read(genome, split)
    ]
    assert sum(isinstance(item, Sample) for item in items) == 1
    assert {item.reason for item in items if isinstance(item, Rejected)} == {
        *(item.reason for item in rejected[:3]),
        "duplicate id: entries 0 and 4",
        "entry 5 has no id",
    }


def test_an_id_that_is_there_twice_is_rejected_with_both_places(genome):
    write(genome, [(1, [region("sky")]), (71, [region("a dog")]), (1, [region("again")])])
    items = read(genome, "train")
    assert Rejected("visual_genome/1", "duplicate id: entries 0 and 2", "train") in items
    assert len(items) == 3


def test_images_are_drawn_by_seed_ten_to_one(tmp_path, draw):
    draw(tmp_path / "VG_100K/1.jpg")
    write(tmp_path, [(number, [region("x")]) for number in range(1, 111)])

    def val(seed):
        source = open_visual_genome(tmp_path, SourceOptions(seed=seed))
        assert source.counts == {"train": 100, "val": 10}
        keys = {split: {item.key for item in source.read(split)} for split in source.counts}
        assert len(keys["train"] | keys["val"]) == 110
        return keys["val"]

    assert val(0) == val(0) != val(1)


def test_of_a_large_set_80000_and_8000_are_drawn(tmp_path, draw):
    draw(tmp_path / "VG_100K/1.jpg")
    text = ",".join(f'{{"regions":[],"id":{number}}}' for number in range(1, 88_101))
    (tmp_path / "region_descriptions.json").write_text(f"[{text}]")
    source = open_visual_genome(tmp_path, SourceOptions())
    assert source.counts == {"train": 80_000, "val": 8_000}


def test_descriptions_without_pictures_are_one_error(genome):
    write(genome, [(number, [region("x")]) for number in range(100, 200)])
    message = r"region_descriptions\.json lists is in .*VG_100K_2 .*; expected: DIR/region"
    with pytest.raises(FileNotFoundError, match=message):
        open_visual_genome(genome, SourceOptions())


def test_damaged_descriptions_are_one_error(genome):
    path = genome / "region_descriptions.json"
    text = path.read_text()
    for damaged, message in [(text[:-40], "is truncated"), ("[]", "lists no image")]:
        path.write_text(damaged)
        with pytest.raises(ValueError, match=rf"region_descriptions\.json.*{message}"):
            open_visual_genome(genome, SourceOptions())
    path.write_text(text)
    (genome / "image_data.json").write_text("[{")
    with pytest.raises(ValueError, match=r"image_data\.json, byte 1: the file is truncated"):
        open_visual_genome(genome, SourceOptions())


def test_a_missing_file_is_told_with_the_expected_tree(tmp_path):
    for data in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match=f"missing: {data}.*expected: DIR/region_des"):
            open_visual_genome(data, SourceOptions())


def test_the_real_descriptions_without_a_picture_are_one_error(real_data):
    with pytest.raises(FileNotFoundError, match="none of the pictures"):
        open_visual_genome(real_data / "vg", SourceOptions())


def test_the_real_regions_are_read_exactly(real_data, tmp_path, draw):
    with open(real_data / "vg/region_descriptions.json", encoding="utf-8") as file:
        entries = json.load(file)[:2000]
    write(tmp_path, [(entry["id"], entry["regions"]) for entry in entries])
    picture = draw(tmp_path / "VG_100K/picture.jpg")
    for entry in entries:
        picture.with_name(f"{entry['id']}.jpg").hardlink_to(picture)
    source = open_visual_genome(tmp_path, SourceOptions())
    found = {item.key: item.regions for split in source.counts for item in source.read(split)}
    assert found == {
        f"visual_genome/{entry['id']}": tuple(
            (region["phrase"], region["x"], region["y"], region["width"], region["height"])
            for region in entry["regions"]
        )
        for entry in entries
    }
