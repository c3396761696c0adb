import random

import pytest

from tfclip.sources.index import Index
from tfclip.sources.splits import SplitLists, choose_splits, count_lines, sample_splits


def test_drawn_splits_have_their_sizes_and_share_nothing():
    drawn = sample_splits(range(100), {"train": 70, "val": 20, "none": 0}, seed=1)
    assert {split: len(chosen) for split, chosen in drawn.items()} == {"train": 70, "val": 20}
    everything = [*drawn["train"], *drawn["val"]]
    assert len(set(everything)) == 90
    assert all(list(chosen) == sorted(chosen) for chosen in drawn.values())


def test_the_seed_and_the_name_alone_decide():
    names = list(range(500))
    shuffled = random.Random(0).sample(names, 500)

    def train(order, seed):
        return {order[p] for p in sample_splits(order, {"train": 250, "val": 250}, seed)["train"]}

    assert train(names, 3) == train(shuffled, 3) != train(names, 4)
    # Half of another half: 125 expected, 99 % of draws within 125 +- 15.
    assert 100 < len(train(names, 3) & train(names, 4)) < 150
    assert sample_splits("abcdef", {"a": 2, "b": 4}, 0)["a"].tolist() == [3, 5]  # on every machine


def test_splits_are_chosen_by_name():
    assert choose_splits({"a": 1, "b": 2}, ()) == ("a", "b")
    assert choose_splits({"a": 1, "b": 2}, ("b", "b")) == ("b",)
    with pytest.raises(ValueError, match="unknown split 'test'; known, nearest first: "):
        choose_splits(["train", "val"], ("test",))


def test_a_name_that_is_listed_twice_is_told_with_both_places(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("a\n\n b \r\na\n")
    two.write_text("c\nb")
    listed = SplitLists({"one": one, "two": two})
    again = "listed twice: one.txt line"
    assert list(listed.of("one")) == [("a", ""), ("b", ""), ("a", f"{again} 1 and one.txt line 4")]
    assert list(listed.of("two")) == [("c", ""), ("b", f"{again} 3 and two.txt line 2")]
    assert count_lines(one) == 3


def test_an_empty_list_is_refused(tmp_path):
    (tmp_path / "train.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"train\.txt lists no picture"):
        count_lines(tmp_path / "train.txt")


def test_the_index_finds_what_a_dict_finds():
    rng, index, expected = random.Random(0), Index(), {}
    for position in range(2000):
        number = rng.choice([-1, 0, 7, (1 << 63) - 1, rng.randrange(500)])
        index.add(number, position, 2 * position)
        expected.setdefault(number, []).append(position)
    assert all(index.positions(number) == found for number, found in expected.items())
    assert index.positions(12345) == []
    assert index.first_positions().tolist() == sorted(found[0] for found in expected.values())
    assert index[expected[7][3]] == (7, expected[7][3], 2 * expected[7][3]) and len(index) == 2000
