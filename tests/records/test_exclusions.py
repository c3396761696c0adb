"""What is kept out of records: listed ids, test pictures by perceptual hash, duplicates."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from tfclip.make_records import main
from tfclip.records.duplicates import find_duplicates
from tfclip.records.exclusions import exclude
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions


def picture(seed: int, quality: int = 90, size: int = 90) -> bytes:
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(rough).resize((size, 60), Image.Resampling.BICUBIC).save(
        out, "JPEG", quality=quality
    )
    return out.getvalue()


def source_of(**splits) -> Source:
    """Splits of (name, picture, captions...)."""
    samples = {
        split: [
            Sample(f"made/{name}", image, tuple(said), split=split) for name, image, *said in rows
        ]
        for split, rows in splits.items()
    }
    counts = {split: len(rows) for split, rows in samples.items()}
    return Source("made", counts, lambda split: iter(samples[split]))


def kept(source: Source) -> dict[str, list[str]]:
    return {s: [item.key.split("/")[1] for item in source.read(s)] for s in source.counts}


def test_duplicates_stay_where_they_are_not_trained_on():
    source = source_of(
        train=[
            ("a", picture(1), "A dog.", "two"),
            ("b", picture(1), "the same file"),
            ("c", picture(1, 50), "alike"),
            ("d", picture(2, 60, 120), "also in test"),
            ("e", picture(3), "other"),
            ("both", picture(4), "in both splits by intention"),
        ],
        test=[("d2", picture(2), "said"), ("both", picture(4), "in both splits by intention")],
    )
    found = exclude(source, SourceOptions(deduplicate=True), 2)
    assert kept(found) == {"train": ["a", "e", "both"], "test": ["d2", "both"]}
    assert found.counts == {"train": 3, "test": 2}
    reasons = {line["key"]: line["reason"] for line in found.exclusions()}
    assert reasons == {
        "made/b": "the same file as made/a",
        "made/c": "near-duplicate of made/a",
        "made/d": "near-duplicate of made/d2",
    }


def test_captions_said_before_are_dropped_but_no_picture_is_lost_for_that():
    source = source_of(
        train=[
            ("a", picture(1), "A dog.", "a  DOG", "Two."),
            ("b", picture(2), "a dog", "three"),
            ("c", picture(3), "A dog", "two"),
            ("d", picture(3), "said by a picture that is left out"),
            ("e", picture(5), "said by a picture that is left out"),
        ]
    )
    found = exclude(source, SourceOptions(deduplicate=True), 1)
    items = list(found.read("train"))
    assert [item.captions for item in items] == [
        ("A dog.", "Two."),
        ("three",),
        ("A dog",),
        ("said by a picture that is left out",),
    ]
    assert [len(item.dropped) for item in items] == [1, 1, 1, 0]


def test_ids_are_keys_or_what_follows_the_source_and_other_sets_keys(tmp_path):
    listed = tmp_path / "ids.txt"
    listed.write_text("b\n\nmade/c\ncoco/7\nunheard-of\n")
    samples = [Sample(f"made/{name}", b"", ("x",)) for name in "abc"]
    samples += [Sample("made/d", b"", ("x",), other_keys=("coco/7",)), Rejected("made/e", "", "")]
    source = Source("made", {"train": 5}, lambda split: iter(samples))
    found = exclude(source, SourceOptions(exclude_ids=listed), 1)
    assert kept(found) == {"train": ["a", "e"]} and found.counts == {"train": 2}
    assert {line["reason"] for line in found.exclusions()} == {f"listed in {listed}"}
    listed.write_text("nothing\n")
    with pytest.raises(ValueError, match="none of the 1 ids in .* like made/a"):
        exclude(source, SourceOptions(exclude_ids=listed), 1)


def test_visual_genome_without_the_pictures_of_coco(tmp_path):
    folder = tmp_path / "vg"
    (folder / "VG_100K").mkdir(parents=True)
    for number in (1, 2, 3):
        (folder / f"VG_100K/{number}.jpg").write_bytes(picture(number))
    regions = [{"phrase": "x", "x": 1, "y": 1, "width": 9, "height": 9}]
    entries = [{"id": number, "regions": regions} for number in (1, 2, 3)]
    (folder / "region_descriptions.json").write_text(json.dumps(entries))
    data = [
        {"image_id": n, "width": 90, "height": 60, "coco_id": c} for n, c in [(1, None), (2, 77)]
    ]
    (folder / "image_data.json").write_text(json.dumps(data))
    (tmp_path / "ids.txt").write_text("coco/77\n")
    source = open_source("visual_genome", folder)
    found = exclude(source, SourceOptions(exclude_ids=tmp_path / "ids.txt"), 1)
    assert sorted(sum(kept(found).values(), [])) == ["1", "3"]


def test_what_looks_like_a_test_picture_is_left_out(tmp_path):
    (tmp_path / "test/deep").mkdir(parents=True)
    (tmp_path / "test/deep/t.jpg").write_bytes(picture(2, 70, 200))
    (tmp_path / "test/broken.png").write_bytes(b"no picture")
    rows = [("a", picture(1), "x"), ("b", picture(2), "y"), ("c", picture(2), "z")]
    options = SourceOptions(exclude_images=tmp_path / "test")
    found = exclude(source_of(train=rows), options, 2)
    assert kept(found) == {"train": ["a"]}
    assert {line["reason"] for line in found.exclusions()} == {
        f"near-duplicate of {tmp_path / 'test/deep/t.jpg'}"
    }
    with pytest.raises(FileNotFoundError, match="--exclude-images takes a folder"):
        exclude(source_of(train=rows), SourceOptions(exclude_images=tmp_path / "none"), 1)


def test_nothing_depends_on_the_number_of_threads():
    rows = [(str(at), picture(at % 70, 90 - at % 3), f"said {at % 30}") for at in range(150)]
    lines = [
        list(exclude(source_of(train=rows), SourceOptions(deduplicate=True), n).exclusions())
        for n in (1, 3)
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 80


def test_the_command_packs_what_is_left_lists_the_rest_and_finds_it_in_records(tmp_path, capsys):
    for at, seed in enumerate((1, 2, 1, 3)):
        path = tmp_path / f"data/{('cat', 'dog')[at % 2]}/{at}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed))
    words = ["image_folder", "--data", str(tmp_path / "data"), "--caption-template", "a {}"]
    assert main([*words, "--out", str(tmp_path / "all")]) == 0
    assert main(["duplicates", str(tmp_path / "all"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "pictures": 4,
        "same_file": 1,
        "alike": 0,
        "captions": 4,
        "repeated_captions": 0,
    }
    out = tmp_path / "unique"
    assert main([*words, "--out", str(out), "--deduplicate", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["splits"]["train"]["images"] == 3
    assert "train: excluded 1 same file" in captured.err
    (line,) = (out / "left_out.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "split": "train",
        "key": "image_folder/cat/2.jpg",
        "reason": "the same file as image_folder/cat/0.jpg",
    }
    assert main(["verify", str(out)]) == 0
    assert main([*words, "--out", str(out), "--overwrite"]) == 0
    assert not (out / "left_out.jsonl").exists()


def test_sets_are_compared_with_each_other(tmp_path):
    one = source_of(train=[("a", picture(1), "x"), ("b", picture(2), "y")])
    two = source_of(val=[("c", picture(2, 50), "x"), ("d", picture(3), "z")])
    pack(one, tmp_path / "one", PackOptions(workers=1))
    pack(two, tmp_path / "two", PackOptions(workers=1))
    result, entries = find_duplicates([str(tmp_path / "one"), f"{tmp_path / 'two'}:val"])
    assert (result["pictures"], result["alike"], result["same_file"]) == (4, 1, 0)
    (entry,) = entries
    assert entry["key"] == "made/c" and entry["reason"].startswith("near-duplicate of made/b in ")
