"""What follows from the options."""

import pytest

from tfclip.records.options import PackOptions, sampled_positions, shard_ends, shard_name


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"image_size": 0}, "received --image-size 0; allowed: 1 or more"),
        ({"max_images": -3}, "received --max-images -3"),
        ({"workers": 0}, "--workers"),
        ({"shards": 0}, "--shards"),
        ({"seed": -1}, "--seed"),
        ({"max_skipped": 1.5}, "received --max-skipped 1.5; allowed: 0 to 1"),
        ({"max_skipped": float("nan")}, "--max-skipped"),
    ],
)
def test_options_validate_themselves(options, told):
    with pytest.raises(ValueError, match=told):
        PackOptions(**options)


@pytest.mark.parametrize("count", [1, 2, 999, 1499, 1501, 6000, 80_003])
@pytest.mark.parametrize("shards", [None, 1, 7])
def test_shards_hold_every_item_once_and_are_even(count, shards):
    ends = shard_ends(count, shards)
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert ends[-1] == count
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    if shards is None:
        assert max(sizes) <= 1500
    else:
        assert len(ends) == min(shards, count)


def test_shard_names_sort_in_order():
    assert shard_name("train", 3, 16) == "train-00003-of-00016.tfrecord"


def test_drawn_subsets_depend_on_seed_and_split():
    some = PackOptions(max_images=10)
    assert sampled_positions("train", 10, some) is None
    assert sampled_positions("train", 1000, PackOptions()) is None
    first = sampled_positions("train", 1000, some)
    assert len(first) == 10 and max(first) < 1000
    assert first == sampled_positions("train", 1000, some)
    assert first != sampled_positions("val", 1000, some)
    assert first != sampled_positions("train", 1000, PackOptions(max_images=10, seed=1))
