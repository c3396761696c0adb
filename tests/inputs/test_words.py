"""Words of captions: chosen by pictures, not by occurrences, and found again in each picture."""

import unicodedata

import numpy as np
import pytest

from tfclip.inputs import words as module
from tfclip.inputs.words import record_words, words_of


def test_words_are_runs_of_letters_folded():
    assert words_of("Two DOGS' straße-42, été") == ["two", "dogs", "strasse", "été"]


@pytest.mark.parametrize(
    "text, words",
    [
        # What a speaker would point at; from the Unicode CLDR and common phrases.
        ("एक हिन्दी किताब", ["एक", "हिन्दी", "किताब"]),
        ("তিনটি বিড়াল।", ["তিনটি", "বিড়াল"]),
        ("ஒரு பூனை", ["ஒரு", "பூனை"]),
        ("סֵפֶר טוֹב", ["סֵפֶר", "טוֹב"]),
        ("كِتَابٌ أَحْمَرُ", ["كِتَابٌ", "أَحْمَرُ"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("một quả dừa", ["một", "quả", "dừa"]),
        ("e\u0301te\u0301 \u0301 x", ["été", "x"]),
        ("빨간 자동차", ["빨간", "자동차"]),
        ("красный йод", ["красный", "йод"]),
        ("หมาสองตัววิ่ง 2 dogs", ["dogs"]),
        ("一只狗。犬がdog走る", ["dog"]),
        ("ឆ្កែពីរ", []),
    ],
)
def test_words_of_other_scripts_keep_their_marks(text, words):
    assert words_of(text) == [unicodedata.normalize("NFC", word) for word in words]


def test_captions_without_blanks_are_counted(monkeypatch):
    monkeypatch.setattr(module, "LEAST_PICTURES", 1)
    monkeypatch.setattr(module, "LARGEST_SHARE", 0.5)
    captions = [["a dog", "หมา"], ["犬", "ใหญ่ big"], ["the cat"]]
    found = record_words(captions, [3])
    assert found.words == ("big", "cat", "dog", "the") and found.without_blanks == 3
    with pytest.raises(
        ValueError, match="2 captions have no spaces between words; train with --word-weight 0"
    ):
        record_words([["หมา"], ["犬"]], [2])


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
