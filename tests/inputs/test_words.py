"""Words of captions: chosen by pictures, not by occurrences, and found again in each picture."""

import numpy as np
import pytest

from tfclip.inputs import words as module
from tfclip.inputs.words import record_words, words_of


def test_words_are_runs_of_letters_folded():
    assert words_of("Two DOGS' straße-42, été") == ["two", "dogs", "strasse", "été"]


def test_words_are_chosen_by_the_pictures_that_have_them(monkeypatch):
    monkeypatch.setattr(module, "LEAST_PICTURES", 2)
    monkeypatch.setattr(module, "LARGEST_SHARE", 0.5)
    captions = [
        ["a dog and a dog", "the dog runs"],
        ["the cat", "a dog"],
        ["the cat of the house", "an ox ox ox"],
        ["the end of it", "ox"],
    ]
    found = record_words(captions, [3, 1])
    # "the" is in all four, "ox" and "of" are short, the others are in one picture.
    assert found.words == ("cat", "dog")
    np.testing.assert_array_equal(found.places, [[1, -1], [0, 1], [0, -1], [-1, -1]])
    np.testing.assert_array_equal(found.look_up(np.array([1, 3])), [[0, 1], [-1, -1]])


def test_without_a_frequent_word_the_remedy_is_named():
    with pytest.raises(ValueError, match="--word-weight 0"):
        record_words([["a dog"]], [1])
