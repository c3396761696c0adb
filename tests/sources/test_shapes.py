"""Drawn shapes: what is written is what is seen, the same every time, and not solvable by bags."""

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score

from tfclip.sources.shapes import CLASS_NAMES, NEVER_TRAINED, PAIRS, TRAINED, compose, draw_shapes
from tfclip.sources.shapes.grammar import write_captions, write_regions
from tfclip.sources.shapes.scene import draw_scene

SMALL = {"visual_genome": 120, "flickr8k": (40, 20, 20), "coco": (20, 20), "voc": (100, 60, 60)}
# The vocabulary, written down a second time: word -> what it means.
COLOUR_OF = {
    **{word: "red" for word in ("red", "crimson", "scarlet")},
    **{word: "green" for word in ("green", "emerald")},
    **{word: "blue" for word in ("blue", "cobalt", "sapphire")},
    **{word: "yellow" for word in ("yellow", "golden", "lemon")},
    **{word: "purple" for word in ("purple", "violet")},
    **{word: "cyan" for word in ("cyan", "turquoise", "aqua")},
}
SHAPE_OF = {
    **{word: "circle" for word in ("circle", "disc", "disk", "round shape")},
    **{word: "square" for word in ("square", "box", "block")},
    **{word: "triangle" for word in ("triangle", "three-sided shape")},
    **{word: "star" for word in ("star", "five-pointed star")},
    **{word: "cross" for word in ("cross", "plus sign")},
    **{word: "ring" for word in ("ring", "hoop")},
}
NUMBER_OF = {"two": 2, "three": 3, "four": 4}
COLOUR = rf"(?P<colour>{'|'.join(COLOUR_OF)})"
SHAPE = rf"(?P<shape>{'|'.join(sorted(SHAPE_OF, key=len, reverse=True))})(?:es|s)?\b"
NOUN = re.compile(rf"(?:(?P<size>small|little|tiny|large|big) )?{COLOUR} {SHAPE}")
# Neighbours lie 45 degrees or more apart.
HUE = {"red": 0, "green": 128, "blue": 226, "yellow": 53, "purple": 284, "cyan": 181}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("shapes") / "drawn"
    draw_shapes(out, **SMALL, workers=1)
    return out


def nouns(text: str) -> list[tuple[str | None, str]]:
    found = NOUN.finditer(text.lower())
    return [(m["size"], f"{COLOUR_OF[m['colour']]} {SHAPE_OF[m['shape']]}") for m in found]


def pixels_of(picture: Path, colour: str) -> np.ndarray:
    """Where a picture is strongly coloured with this hue: (H, W) bool."""
    hsv = np.asarray(Image.open(picture).convert("HSV")).astype(int)
    distance = np.abs((hsv[..., 0] * 360 / 256 - HUE[colour] + 180) % 360 - 180)
    return (distance < 18) & (hsv[..., 1] > 110) & (hsv[..., 2] > 70)


def scenes(split: str, number: int):
    for index in range(number):
        rng = Random(f"scene {index}")
        pairs, difficult = compose(rng, split, index)
        yield rng, draw_scene(rng, pairs, 96, difficult)[1]


def texts_of(root: Path) -> list[str]:
    regions = json.loads((root / "visual_genome/region_descriptions.json").read_text())
    texts = [region["phrase"] for image in regions for region in image["regions"]]
    tokens = (root / "flickr8k/Flickr8k.token.txt").read_text().splitlines()
    texts += [line.split("\t")[1] for line in tokens]
    for split in ("train2017", "val2017"):
        captions = json.loads((root / f"coco/annotations/captions_{split}.json").read_text())
        texts += [annotation["caption"] for annotation in captions["annotations"]]
    return texts


def annotations(root: Path, split: str):
    devkit = root / "voc/VOCdevkit/VOC2007"
    for stem in (devkit / f"ImageSets/Main/{split}.txt").read_text().split():
        tree = ElementTree.parse(devkit / f"Annotations/{stem}.xml")
        objects = []
        for each in tree.findall("object"):
            edges = [int(each.find(f"bndbox/{k}").text) for k in ("xmin", "ymin", "xmax", "ymax")]
            objects.append((each.find("name").text, each.find("difficult").text == "1", edges))
        yield stem, devkit / f"JPEGImages/{stem}.jpg", objects


def test_same_bytes_for_any_number_of_workers(drawn, tmp_path):
    draw_shapes(tmp_path / "two", **SMALL, workers=2)
    files = sorted(path.relative_to(drawn) for path in drawn.rglob("*") if path.is_file())
    again = tmp_path / "two"
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for file in files:
        assert (drawn / file).read_bytes() == (again / file).read_bytes(), file


def test_another_seed_draws_something_else(drawn, tmp_path):
    few = {"visual_genome": 2, "flickr8k": (1, 1, 1), "coco": (1, 1), "voc": (1, 1, 1)}
    draw_shapes(tmp_path / "seed", seed=1, **few, workers=1)
    for name in ("1", "2"):
        file = f"visual_genome/VG_100K/{name}.jpg"
        assert (tmp_path / "seed" / file).read_bytes() != (drawn / file).read_bytes()


def test_twenty_classes_and_five_never_trained():
    assert len(set(CLASS_NAMES)) == 20 and set(NEVER_TRAINED) < set(CLASS_NAMES) <= set(PAIRS)
    never = [name.split() for name in NEVER_TRAINED]
    assert len({colour for colour, _ in never}) == len({shape for _, shape in never}) == 5
    for k, words in enumerate(zip(*(pair.split() for pair in PAIRS), strict=True)):
        for word in set(words):
            assert sum(name.split()[k] == word for name in TRAINED) >= 5
            assert sum(name.split()[k] == word for name in CLASS_NAMES) >= 3


def test_never_trained_pairs_are_in_no_training_text(drawn):
    texts = texts_of(drawn)
    said = Counter(name for text in texts for _, name in nouns(text))
    assert set(said) == set(TRAINED)
    assert len(texts) > 1000
    assert all(nouns(text) or re.search(rf"{SHAPE}|shapes", text) for text in texts)


def test_never_trained_pairs_are_in_no_training_picture():
    for split in ("visual_genome/train", "flickr8k/train", "flickr8k/test", "coco/val2017"):
        composed = (compose(Random(index), split, index) for index in range(1000))
        assert {pair for pairs, _ in composed for pair in pairs} == set(TRAINED)
    voc = (compose(Random(index), "voc/test", index)[0] for index in range(1000))
    assert {pair for pairs in voc for pair in pairs} == set(PAIRS)


def test_class_words_are_the_most_frequent(drawn):
    words = Counter(re.findall(r"[a-z-]+", " ".join(texts_of(drawn)).lower()))
    for meaning in (COLOUR_OF, {w: s for w, s in SHAPE_OF.items() if " " not in w}):
        for word, name in meaning.items():
            assert words[word] > 0 and words[name] >= words[word]


def test_every_text_is_true_of_its_scene():
    sizes = relations = counts = 0
    for rng, scene in scenes("flickr8k/train", 400):
        names = Counter(item.name for item in scene.items)
        diameters = {(item.name, item.diameter) for item in scene.items}
        for text in write_captions(rng, scene) + [
            phrase for phrase, _ in write_regions(rng, scene)
        ]:
            low = text.lower()
            for size, name in nouns(text):
                assert name in names, (text, names)
                sizes += size is not None
                fits = [
                    d <= 0.26 if size in ("small", "little", "tiny") else d >= 0.42
                    for n, d in diameters
                    if n == name
                ]
                assert size is None or any(fits), text
            for number, colour, shape in re.findall(
                rf"(two|three|four) (?:{COLOUR} )?{SHAPE}", low
            ):
                counts += 1
                there = [i for i in scene.items if i.shape == SHAPE_OF[shape]]
                there = [i for i in there if not colour or i.colour == COLOUR_OF[colour]]
                assert len(there) == NUMBER_OF[number], text
            for number, colour in re.findall(rf"(two|three|four) (?:{COLOUR} )?shapes\b", low):
                there = [i for i in scene.items if not colour or i.colour == COLOUR_OF[colour]]
                assert len(there) == NUMBER_OF[number], text
            found = re.search(r"left of|right of|above|higher than|below|under", low)
            if found:
                relations += 1
                (_, first), (_, second) = nouns(text)
                assert any(
                    holds(found[0], a.box, b.box)
                    for a, b in itertools.permutations(scene.items, 2)
                    if (a.name, b.name) == (first, second)
                ), text
    assert min(sizes, relations, counts) > 30


def holds(relation: str, first, second) -> bool:
    across = first[0] + first[2] - second[0] - second[2]
    down = first[1] + first[3] - second[1] - second[3]
    return {
        "left of": across < 0,
        "right of": across > 0,
        "above": down < 0,
        "higher than": down < 0,
        "below": down > 0,
        "under": down > 0,
    }[relation]


def test_boxes_hold_the_pixels_of_their_object(drawn):
    for split in ("train", "val", "test"):
        for stem, picture, objects in annotations(drawn, split):
            for name, difficult, (left, top, right, bottom) in objects:
                assert 1 <= left < right <= 128 and 1 <= top < bottom <= 128
                inside = pixels_of(picture, name.split()[0])[top - 1 : bottom, left - 1 : right]
                if difficult:
                    assert inside.sum() < 0.05 * 128**2, (stem, name)
                else:
                    # A star fills its box least, and up to a quarter of any object is covered.
                    assert inside.mean() > 0.2, (stem, name)


def test_boxes_are_tight_around_a_lone_object(drawn):
    lone = 0
    descriptions = json.loads((drawn / "visual_genome/region_descriptions.json").read_text())
    for each in descriptions:
        boxes = {
            tuple(region[k] for k in ("x", "y", "width", "height")) for region in each["regions"]
        }
        if len(boxes) == 1:
            lone += 1
            x, y, width, height = boxes.pop()
            [(_, name), *_] = nouns(each["regions"][0]["phrase"])
            mask = pixels_of(drawn / f"visual_genome/VG_100K/{each['id']}.jpg", name.split()[0])
            rows, columns = np.nonzero(mask)
            edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert np.abs(edges - (x, y, x + width, y + height)).max() <= 2, each["id"]
    assert lone > 5


def test_region_boxes_lie_on_the_object_they_name(drawn):
    descriptions = json.loads((drawn / "visual_genome/region_descriptions.json").read_text())
    images = json.loads((drawn / "visual_genome/image_data.json").read_text())
    assert [image["image_id"] for image in images] == [each["id"] for each in descriptions]
    for each in descriptions:
        picture = drawn / f"visual_genome/VG_100K/{each['id']}.jpg"
        assert {region["image_id"] for region in each["regions"]} == {each["id"]}
        for region in each["regions"]:
            for _, name in nouns(region["phrase"]):
                box = np.s_[
                    region["y"] : region["y"] + region["height"],
                    region["x"] : region["x"] + region["width"],
                ]
                share = pixels_of(picture, name.split()[0])[box].mean()
                assert share > (0.2 if len(nouns(region["phrase"])) == 1 else 0.01), region


def test_voc_lists_agree_with_the_annotations(drawn):
    main = drawn / "voc/VOCdevkit/VOC2007/ImageSets/Main"
    lists = {
        split: (main / f"{split}.txt").read_text().split() for split in ("train", "val", "test")
    }
    assert [len(stems) for stems in lists.values()] == [100, 60, 60]
    assert len(set(itertools.chain(*lists.values()))) == 220
    assert (main / "trainval.txt").read_text().split() == lists["train"] + lists["val"]
    difficult_only = 0
    for split in ("train", "val", "trainval", "test"):
        expected = {name: [] for name in CLASS_NAMES}
        for stem, _, objects in annotations(drawn, split):
            assert objects and {name for name, _, _ in objects} <= set(CLASS_NAMES)
            for name in CLASS_NAMES:
                seen = [difficult for other, difficult, _ in objects if other == name]
                value = -1 if not seen else 0 if all(seen) else 1
                difficult_only += value == 0
                expected[name].append(f"{stem} {value:2d}")
        for name, lines in expected.items():
            assert (main / f"{name}_{split}.txt").read_text().splitlines() == lines
    assert difficult_only > 5


def test_classes_are_equally_frequent_and_difficult_ones_hard_to_see():
    found, difficult = Counter(), []
    for index in range(2000):
        found.update(set(compose(Random(index), "voc/test", index)[0]))
    counts = [found[name] for name in CLASS_NAMES]
    assert min(counts) > 0.75 * max(counts) and min(found[pair] for pair in PAIRS) > 50
    for _, scene in scenes("voc/test", 400):
        difficult += [item for item in scene.items if item.difficult]
        assert 1 <= sum(not item.difficult for item in scene.items) <= 4
    assert len(difficult) > 40
    tiny = sum(item.diameter < 0.12 for item in difficult)
    assert 0.3 < tiny / len(difficult) < 0.9
    assert all(item.diameter < 0.12 or 0.19 < item.diameter < 0.36 for item in difficult)


def test_a_bag_of_colours_and_shapes_is_not_enough():
    """Even one that reads every colour and every shape without error fails to pair them."""

    def bags(split, number):
        composed = [compose(Random(f"{split} {k}"), split, k)[0] for k in range(number)]
        composed = [pairs for pairs in composed if len(pairs) > 1]
        words = sorted({word for pair in PAIRS for word in pair.split()})
        bag = [[any(word in pair for pair in pairs) for word in words] for pairs in composed]
        return np.array(bag), np.array(
            [[name in pairs for name in CLASS_NAMES] for pairs in composed]
        )

    (bag, truth), (test_bag, test_truth) = bags("voc/trainval", 2000), bags("voc/test", 1000)
    forest = RandomForestClassifier(50, min_samples_leaf=3, random_state=0).fit(bag, truth)
    scores = np.stack([share[:, 1] for share in forest.predict_proba(test_bag)], axis=1)
    assert 0.3 < average_precision_score(test_truth, scores) < 0.75


def test_flickr8k_and_coco_have_five_captions_per_picture(drawn):
    lines = (drawn / "flickr8k/Flickr8k.token.txt").read_text().splitlines()
    numbers = Counter(line.split("#")[0] for line in lines)
    assert set(numbers.values()) == {5} and len(set(lines)) == len(lines) == 400
    listed = []
    for split, count in zip(("train", "dev", "test"), SMALL["flickr8k"], strict=True):
        names = (drawn / f"flickr8k/Flickr_8k.{split}Images.txt").read_text().split()
        assert len(names) == count
        listed += names
    folder = drawn / "flickr8k/Flicker8k_Dataset"
    assert sorted(listed) == sorted(numbers) == sorted(path.name for path in folder.iterdir())
    for split in ("train2017", "val2017"):
        content = json.loads((drawn / f"coco/annotations/captions_{split}.json").read_text())
        assert Counter(a["image_id"] for a in content["annotations"]) == {
            image["id"]: 5 for image in content["images"]
        }
        for image in content["images"]:
            with Image.open(drawn / "coco" / split / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"]) == (128, 128)


def test_a_finished_folder_is_kept_and_another_refused(drawn, tmp_path):
    before = (drawn / "drawn.json").stat().st_mtime_ns
    draw_shapes(drawn, **SMALL, workers=2)
    assert (drawn / "drawn.json").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="seed 0 instead of 3"):
        draw_shapes(drawn, **SMALL, seed=3)
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="drawn.json"):
        draw_shapes(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("tfclip.sources.shapes.formats.write_coco", full_disk)
    few = {"visual_genome": 2, "flickr8k": (1, 1, 1), "coco": (1, 1), "voc": (1, 1, 1)}
    with pytest.raises(OSError, match="No space"):
        draw_shapes(tmp_path / "drawn", **few, workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"visual_genome": 0}, "1 to 99999"),
        ({"voc": (1, 1)}, "voc .1, 1.; allowed: 3 numbers"),
        ({"image_size": 16}, "image_size 16; allowed: 64 to 512"),
        ({"workers": 0}, "workers"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        draw_shapes(tmp_path / "drawn", **wrong)
    assert not (tmp_path / "drawn").exists()
