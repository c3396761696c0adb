"""Class words: the file, the combined embedding, and the words that are found."""

import numpy as np
import pytest

from tfclip.evaluation.embedding.class_words import (
    ClassWords,
    combined_embeddings,
    other_classes,
    read_class_words,
)
from tfclip.evaluation.embedding.own_words import nearest_words

VECTORS = {
    "a cat": (1.0, 0.0, 0.0),
    "a kitten": (0.0, 1.0, 0.0),
    "a cartoon": (0.6, 0.0, 0.8),
    "a drawing": (0.0, 0.6, 0.8),
}


def embed(texts):
    return np.array([VECTORS[text] for text in texts])


def test_words_after_not_are_negatives(tmp_path):
    (tmp_path / "w.txt").write_text(
        "# mine\ncat: cat, kitten, Not a cartoon, not drawing\n\n"
        "dog: not a toy, knot\nox: not an elk\n"
    )
    words = read_class_words(tmp_path / "w.txt")
    assert words.synonyms == {"cat": ("cat", "kitten"), "dog": ("knot",)}
    assert words.negatives == {"cat": ("cartoon", "drawing"), "dog": ("toy",), "ox": ("elk",)}
    assert words.prompts(["ox", "cat"], "region") == [("the ox",), ("the cat", "the kitten")]
    assert words.negative_prompts(["cow", "ox"], "region") == [(), ("the elk",)]
    with pytest.raises(ValueError, match="unknown class in the class words 'ox'; known, nearest"):
        words.check(["cat", "dog", "cow"])


@pytest.mark.parametrize(
    "text", ["dog", "dog:", ": cat", "dog: a\ndog: b", "dog: not", "dog: a\ndog: not b"]
)
def test_a_line_that_names_no_word_is_refused(tmp_path, text):
    (tmp_path / "s.txt").write_text(f"# mine\n{text}\n")
    with pytest.raises(ValueError, match="allowed: CLASS: word, word, not word; each class once"):
        read_class_words(tmp_path / "s.txt")


def test_negatives_are_subtracted_by_a_quarter_and_only_where_there_are_some():
    texts = [("a cat", "a kitten"), ("a kitten",)]
    found = combined_embeddings(embed, texts, [("a cartoon", "a drawing"), ()])
    positive = np.array([0.5, 0.5, 0.0]) / np.linalg.norm([0.5, 0.5])
    negative = np.array([0.3, 0.3, 0.8]) / np.linalg.norm([0.3, 0.3, 0.8])
    expected = positive - 0.25 * negative
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=1e-12)
    np.testing.assert_array_equal(found[1], (0, 1, 0))
    np.testing.assert_array_equal(
        combined_embeddings(embed, texts, [(), ()]), combined_embeddings(embed, texts)
    )


def test_the_class_of_a_word_is_the_nearest_one():
    classes = np.eye(3)[:2]
    words = np.array([(0.8, 0.6, 0), (0.6, 0.8, 0), (0.96, 0, 0.28), (0.3, 0.1, 0.95)])
    first, second = nearest_words(classes, words)
    assert first.tolist() == [2, 0] and second.tolist() == [1]


def test_words_are_printed_by_class():
    words = ClassWords({"cat": ("cat", "kitten")}, {"cat": ("cartoon",), "ox": ("elk",)})
    assert words.described() == "words of classes: cat: cat, kitten, not cartoon; ox: not elk"
    others = other_classes(["cat", "ox", "aeroplane"])
    assert others.negatives["ox"] == ("cat", "airplane") and not others.synonyms
    assert others.described() == "negatives of each class: all others"
    assert other_classes(["cat"]) == ClassWords()
    assert ClassWords().described() == "words of classes: none"
