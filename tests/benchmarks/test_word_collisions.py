"""The count of words with equal ids: none by the rules of today, the known ones by those before."""

from benchmarks.word_collisions import BLOCKS, collisions, compare, marked_letters
from tfclip.inputs.text import WordPieceTokenizer


def test_letters_with_marks_are_told_apart():
    found = compare(marked_letters(*BLOCKS["marks of Tamil"]))
    assert found["now"]["words"] > 500
    assert found["now"]["alike"] == found["now"]["with [UNK]"] == 0
    assert found["before"]["alike"] > 100


def test_equal_ids_are_counted():
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ma", "ba"], 8)
    found = collisions(tokenizer, ["ma", "má", "mà", "ba", "x", "y"])
    assert (found["words"], found["alike"], found["with [UNK]"]) == (6, 5, 2)
