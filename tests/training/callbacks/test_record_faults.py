"""What a sample of records shows: cut, unknown and confused texts, small pictures."""

import numpy as np

from tfclip.inputs.text import LearntPieceTokenizer, WordPieceTokenizer
from tfclip.inputs.tokenizers.learn_pieces import learn_pieces
from tfclip.inputs.tokenizers.vocabulary import learn_vocabulary
from tfclip.records.reader import split_files
from tfclip.training.callbacks.record_faults import (
    check_texts,
    picture_faults,
    sample_records,
    text_faults,
)

FRUIT = ["một quả dừa", "một quả dưa", "một quả dứa"] * 2
THAI = ["ผู้ชายคนหนึ่งกำลังขี่จักรยานอยู่บนถนนในเมืองใหญ่", "เด็กผู้หญิงสองคนกำลังเล่นฟุตบอลอยู่บนชายหาด"]


def test_a_vocabulary_without_marks_is_found_and_one_with_them_is_sound():
    stripped = WordPieceTokenizer(learn_vocabulary(FRUIT, 100), 12)
    found = check_texts([*FRUIT, "Một  quả DỪA"], stripped)
    assert (found.texts, found.cut, found.unknown) == (7, 0, 0)
    assert found.alike == (("một quả dừa", "một quả dưa", "một quả dứa"),)
    (told,) = text_faults(found, 12)
    assert "3 different texts have the same ids as another, such as 'một quả dừa' and" in told
    assert "Pack the records again" in told
    kept = LearntPieceTokenizer(learn_pieces(FRUIT, 1000), 12)
    assert text_faults(check_texts(FRUIT, kept), 12) == []


def test_unknown_words_are_counted():
    tokenizer = WordPieceTokenizer(learn_vocabulary(["a dog"] * 2, 100), 24)
    found = check_texts([*THAI, "a dog", "a dog"], tokenizer)
    # [CLS] [UNK] [SEP] twice, [CLS] a dog [SEP] twice: 2 of 14.
    assert found.unknown == 2 and found.unknown_tokens == 2 / 14
    assert found.alike == (tuple(THAI),)
    unknown, alike = text_faults(found, 24)
    assert (
        "50% of the texts contain words" in unknown and "14.3% of all tokens are [UNK]" in unknown
    )


def test_what_is_cut_is_told_and_what_just_fits_is_not():
    texts = ["a red dog runs", "a red dog sits"] * 3
    tokenizer = LearntPieceTokenizer(learn_pieces(texts, 1000), 6)
    fits = check_texts(texts, tokenizer)
    assert (fits.cut, fits.longest, fits.cut_fraction) == (0, 6, 0.0)
    assert text_faults(fits, 6) == []
    cut = check_texts(texts, tokenizer.with_context_length(5))
    assert (cut.cut, cut.alike, cut.alike_when_cut) == (6, (), (tuple(texts[:2]),))
    longer, alike = text_faults(cut, 5)
    assert "100% of the texts are longer than the context of 5 tokens" in longer
    assert "(the longest needs 6)" in longer and "differ only after the first 5 tokens" in alike


def test_small_pictures_are_told(training_records):
    sample = sample_records(split_files(training_records, "train"))
    assert len(sample.texts) == 63 and set(sample.short_sides) == {64}
    assert picture_faults(sample.short_sides, 64) == picture_faults(sample.short_sides, 80) == []
    (told,) = picture_faults(sample.short_sides, 96)
    assert "100% of the training pictures" in told and "the median of these is 64" in told
    assert picture_faults(np.array([10] + [100] * 200), 64) == []
