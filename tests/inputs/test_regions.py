"""Regions as training shows them: what a crop contains, which phrases are used, what is turned."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfclip.inputs.examples import sample_example
from tfclip.inputs.regions import context_box, crop_box, phrases_kept, says_side
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.records import schema
from tfclip.records.check import check_picture
from tfclip.sources.sample import Region, Sample


def contains(outer, inner) -> bool:
    outer, inner = np.asarray(outer, np.float64), np.asarray(inner, np.float64)
    return bool((outer[:2] <= inner[:2] + 1e-6).all() and (outer[2:] >= inner[2:] - 1e-6).all())


@pytest.mark.parametrize("others", [0, 1, 2, 3, 8, 30])
def test_a_context_holds_the_region_and_half_of_the_others(others):
    rng = np.random.default_rng(others)
    starts = rng.uniform(0, 0.9, (others + 1, 2))
    stops = starts + rng.uniform(0.01, 1, (others + 1, 2)) * (1 - starts)
    boxes = np.concatenate([starts, stops], axis=1).astype(np.float32)
    draw = tf.function(context_box, autograph=False)
    found = {}
    for at in range(others + 1):
        for number in range(12):
            box = draw(tf.constant(boxes), tf.constant(at), tf.constant([0, number])).numpy()
            assert (box >= 0).all() and (box <= 1).all() and (box[2:] > box[:2]).all()
            assert contains(box, boxes[at])
            held = sum(contains(box, boxes[one]) for one in range(others + 1) if one != at)
            assert held >= others / 2
            found[at, number] = box.tobytes()
        assert len({found[at, number] for number in range(12)}) == 12, "another box each time"
    again = draw(tf.constant(boxes), tf.constant(0), tf.constant([0, 5])).numpy()
    assert again.tobytes() == found[0, 5]


def test_a_context_grows_no_more_than_it_must():
    """The least box around the region and the two nearest of four others, worked by hand."""
    boxes = [[0.4, 0.4, 0.5, 0.5], [0.4, 0.5, 0.5, 0.6], [0.3, 0.4, 0.4, 0.5]]
    boxes = tf.constant([*boxes, [0.0, 0.0, 0.1, 0.1], [0.9, 0.9, 1.0, 1.0]])
    draw = tf.function(lambda seed: context_box(boxes, 0, seed), autograph=False)
    drawn = np.stack([draw(tf.constant([1, number])).numpy() for number in range(200)])
    least = np.concatenate([drawn[:, :2].max(0), drawn[:, 2:].min(0)])
    np.testing.assert_allclose(least, [0.3, 0.4, 0.5, 0.6], atol=0.02)
    np.testing.assert_allclose(drawn[:, :2].min(0), 0, atol=0.02)
    np.testing.assert_allclose(drawn[:, 2:].max(0), 1, atol=0.02)
    # Each side is drawn evenly between the two.
    np.testing.assert_allclose(drawn.mean(0), [0.15, 0.2, 0.75, 0.8], atol=0.03)


def test_a_crop_has_a_margin_of_its_size_at_most():
    box = tf.constant([0.5, 0.4, 0.6, 0.8])
    for number in range(50):
        seeds = tf.unstack(tf.random.split([0, number], 2))
        found = crop_box(box, seeds, 1.0).numpy()
        assert contains(found, box)
        assert contains([0.4, 0.0, 0.7, 1.0], found)
    assert crop_box(box, seeds, 0.0).numpy().tolist() == box.numpy().tolist()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a man on the left", True),
        ("Left-handed\nbatter", True),
        ("the RIGHTMOST car", True),
        ("two dogs; right", True),
        ("leftovers on a bright plate", False),
        ("copyright", False),
        ("upright piano, lefty", False),
        ("", False),
    ],
)
def test_texts_that_say_a_side(text, says):
    assert bool(says_side(tf.constant(text))) == says
    assert bool(says_side(tf.constant(["a dog", text]))) == says


def test_the_phrases_of_a_run_are_drawn_by_its_seed_and_the_picture():
    phrases = tf.constant([str(at) for at in range(20)])
    draw = tf.function(
        lambda seed, picture: phrases_kept(seed, picture, phrases, 3), autograph=False
    )
    kept = {
        (seed, picture): tuple(draw(tf.constant(seed), tf.constant(picture, tf.int64)).numpy())
        for seed in (0, 1)
        for picture in range(1, 100_000_000, 999_983)
    }
    assert all(len(places) == 3 and list(places) == sorted(set(places)) for places in kept.values())
    assert len(set(kept.values())) > 75
    used = np.bincount(np.concatenate(list(kept.values())), minlength=20) / len(kept)
    np.testing.assert_allclose(used, 3 / 20, atol=0.07)
    few = phrases_kept(0, tf.constant(7, tf.int64), phrases[:2], 3)
    assert few.numpy().tolist() == [0, 1]


@pytest.fixture(scope="module")
def record():
    """A picture whose left third is red, the middle green, the right blue: a phrase for each."""
    pixels = np.zeros((30, 60, 3), np.uint8)
    for part in range(3):
        pixels[:, 20 * part : 20 * part + 20, part] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    names = ("red on the left", "green", "blue on the right")
    regions = tuple(Region(name, 20 * at, 0, 20, 30) for at, name in enumerate(names))
    sample = Sample("thirds/1", file.getvalue(), ("three colours",), regions)
    values = schema.values(sample, check_picture(sample.image))
    return schema.parse(tf.constant(schema.encode(values)))


def examples(record, count=60, **sampling):
    draw = tf.function(
        lambda seed: sample_example(record, seed, 18, SamplingOptions(**sampling)), autograph=False
    )
    found = [draw(tf.constant([0, number])) for number in range(count)]
    return [(e["caption"].numpy().decode(), e["image"].numpy(), int(e["image_id"])) for e in found]


def colors(image) -> list[bool]:
    """Which of red, green and blue are to be seen."""
    return [bool((image[..., part] > 150).mean() > 0.1) for part in range(3)]


def test_context_shows_the_region_and_a_neighbour(record):
    seen = set()
    for caption, image, image_id in examples(record, regions="context", region_share=1.0):
        at = ["red", "green", "blue"].index(caption.split()[0])
        assert colors(image)[at] and sum(colors(image)) >= 2
        assert image_id != int(record[schema.ID])
        seen.add((caption, sum(colors(image))))
    assert len(seen) >= 5


def test_mix_shows_whole_pictures_crops_and_contexts(record):
    found = examples(record, 240, regions="mix", region_share=2 / 3)
    whole = [image for _, image, image_id in found if image_id == int(record[schema.ID])]
    crops = [i for _, i, image_id in found if image_id != int(record[schema.ID])]
    alone = [image for image in crops if sum(colors(image)) == 1]
    assert 60 <= len(whole) <= 100 and all(sum(colors(image)) == 3 for image in whole)
    assert 50 <= len(alone) <= 110


def test_pictures_of_a_text_that_says_a_side_are_never_mirrored(record):
    mirrored = {"left": 0, "green": 0}
    for caption, image, _ in examples(record, 80, flip=True):
        is_mirrored = image[9, 2, 2] > 150  # blue on the left
        if "left" in caption or "right" in caption:
            assert not is_mirrored
        else:
            mirrored["green"] += is_mirrored
    assert 5 <= mirrored["green"] <= 35


def test_only_the_kept_phrases_are_seen_and_boxes_stay_theirs(record):
    kept = phrases_kept(0, record[schema.ID], record[schema.PHRASE], 1)
    expected = record[schema.PHRASE].numpy()[kept.numpy()[0]].decode()
    whole = {caption for caption, _, _ in examples(record, max_phrases=1)}
    assert whole == {"three colours", expected}
    for caption, image, _ in examples(record, regions="crop", region_share=1.0, max_phrases=1):
        assert caption == expected
        assert colors(image)[["red", "green", "blue"].index(caption.split()[0])]
