"""Learnt pieces: what tells words apart is kept in every script, and nothing is unknown."""

import unicodedata

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from tfclip.inputs.text import LearntPieceTokenizer, load_tokenizer, tokenizer_from_file
from tfclip.inputs.tokenizers.learn_pieces import learn_pieces
from tfclip.inputs.tokenizers.learnt_pieces import SPECIALS
from tfclip.inputs.tokenizers.text_rules import character_rules

# Words that differ by marks alone.
MARKS = {
    "Vietnamese": ["ma", "má", "mà", "mả", "mã", "mạ", "dừa", "dưa", "dứa"],
    "Hindi": ["कि", "कु", "के", "दिन", "दीन", "दान"],
    "Bengali": ["কি", "কে", "কু", "ক"],
    "Tamil": ["கி", "கீ", "க"],
    "Thai": ["ที่นี่", "ทนน", "ปา", "ป่า", "ป้า"],
    "Khmer": ["កា", "កី", "កុ", "ក"],
    "Arabic": ["كَتَبَ", "كُتِبَ", "كتب"],
    "Hebrew": ["סֵפֶר", "סָפַר", "ספר"],
    "kana": ["かぎ", "かき", "パンダ", "ハンダ"],
    "Korean": ["개", "게"],
    "Russian": ["мой", "мои", "все", "всё"],
    "Latin": ["schon", "schön", "año", "ano", "łaska", "laska", "Masse", "Maße", "kır", "kir"],
    "Turkish": ["KİR", "KIR"],
    "Persian": ["می\u200cخواهم", "میخواهم"],
    "emoji": ["👍🏻", "👍🏿", "👨\u200d👩\u200d👧", "👨👩👧"],
}
WITHOUT_BLANKS = [
    "ผู้ชายคนหนึ่งกำลังขี่จักรยานอยู่บนถนนในเมือง",
    "ผู้หญิงคนหนึ่งกำลังขี่จักรยานอยู่บนถนนในเมือง",
    "おとこのこがこうえんであかいじてんしゃにのってたのしそうにあそんでいますよ",
    "おんなのこがこうえんであおいじてんしゃにのってたのしそうにあそんでいますよ",
    "男の子が赤い自転車に乗っている",
    "女の子が青い自転車に乗っている",
    "បុរសម្នាក់កំពុងជិះកង់នៅលើផ្លូវក្នុងទីក្រុង",
    "ស្ត្រីម្នាក់កំពុងជិះកង់នៅលើផ្លូវក្នុងទីក្រុង",
    "x" * 101,
    "x" * 99,
]
ENGLISH = ["a black dog runs", "two dogs run", "the red ball", "a t-shirt"] * 9


@pytest.fixture(scope="module")
def model():
    words = [word for group in MARKS.values() for word in group]
    return learn_pieces([*words, *WITHOUT_BLANKS, *ENGLISH] * 2, 8000)


@pytest.fixture(scope="module")
def tokenizer(model):
    return LearntPieceTokenizer(model, 64)


def rows(tokenizer, texts) -> list[tuple]:
    return [tuple(row) for row in tokenizer(texts)["token_ids"].numpy().tolist()]


@pytest.mark.parametrize("script", MARKS)
def test_words_that_differ_by_marks_have_different_ids(tokenizer, script):
    words = MARKS[script]
    assert len(set(rows(tokenizer, words))) == len(words)


def test_texts_without_blanks_are_split_and_not_unknown(tokenizer):
    found = rows(tokenizer, WITHOUT_BLANKS)
    assert len(set(found)) == len(WITHOUT_BLANKS)
    assert SPECIALS.index("[UNK]") not in np.array(found)
    unseen = rows(tokenizer, ["ผู้หญิงสองคนขี่จักรยาน", "青い自転車の女の子", "ផ្លូវក្នុងកង់"])
    assert all(3 < sum(1 for token in row if token) < 20 for row in unseen)


def test_scripts_that_were_never_seen_are_spelt_in_bytes():
    tokenizer = LearntPieceTokenizer(learn_pieces(ENGLISH, 400), 128)
    texts = [word for group in MARKS.values() for word in group] + WITHOUT_BLANKS[:8]
    folded = {unicodedata.normalize("NFKC", text).lower() for text in texts}
    found = rows(tokenizer, sorted(folded))
    assert len(set(found)) == len(folded)
    assert SPECIALS.index("[UNK]") not in np.array(found)


def test_a_sign_does_not_change_the_word_it_is_glued_to(tokenizer):
    (dog,) = rows(tokenizer, ["dog"])
    for text in ("dog!", "(dog)", "“dog”", "#dog", "dog…", "black-dog", "dog।", "🐕dog"):
        (row,) = rows(tokenizer, [text])
        assert dog[1] in row, text


def test_ids_are_those_of_the_sentencepiece_library(model, tokenizer):
    """The vocabulary holds its rules: the library needs NFKC alone beside it."""
    library = sentencepiece.SentencePieceProcessor(model_proto=model)
    texts = [word for group in MARKS.values() for word in group] + WITHOUT_BLANKS
    texts += ["A DOG's ball… \t“Red”", "ＡＢＣ ｶﾞ", "e\u0301 a\u00adb c\u200bd ½", "", "  "]
    for text, row in zip(texts, rows(tokenizer, texts), strict=True):
        expected = library.encode(unicodedata.normalize("NFKC", text))
        assert list(row[: len(expected) + 2]) == [2, *expected, 3]
        assert not any(row[len(expected) + 2 :])


def test_spellings_of_one_text_are_one(tokenizer):
    for one, other in (
        ("Café", "cafe\u0301"),
        ("ガ", "ｶﾞ"),
        ("ＤＯＧ", "dog"),
        ("a dog", " a\u00a0\tDOG\u200b\r\n"),
        ("שָּׁ", "ש\u05c1\u05b8\u05bc"),
        ("ΟΔΟΣ", "οδος"),
        ("dog", "\u200fd\u00adog\ufeff\0"[:-1]),
    ):
        assert rows(tokenizer, [one]) == rows(tokenizer, [other]), one


def test_a_cased_vocabulary_keeps_case(tmp_path):
    texts = ["Polish polish POLISH"] * 3
    tokenizer = LearntPieceTokenizer(learn_pieces(texts, 600, lowercase=False), 8)
    assert tokenizer.describe() == {"kind": "learnt-pieces", "rules": 1, "lowercase": False}
    assert len(set(rows(tokenizer, texts[0].split()))) == 3
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path, tokenizer.describe(), 8).lowercase is False


def test_padding_mask_counts_and_cut(tokenizer):
    batch = tokenizer.with_context_length(5)(["", "dog", "a red ball runs"])
    assert batch["token_ids"].dtype == tf.int32 and batch["text_mask"].dtype == tf.bool
    assert batch["text_mask"].numpy().sum(1).tolist() == [2, 3, 5]
    assert batch["token_ids"].numpy()[:, 0].tolist() == [2, 2, 2]
    assert batch["token_ids"].numpy()[2, -1] == 3
    np.testing.assert_array_equal(tokenizer.mask_of(batch["token_ids"]), batch["text_mask"])
    np.testing.assert_array_equal(tokenizer.token_counts(["", "dog", "a red ball runs"]), [2, 3, 6])


def test_bytes_that_are_not_utf8_are_no_error(tokenizer):
    found = tokenizer([b"a \xff dog", b"dog\xc3", b"a\0dog"])["token_ids"].numpy()
    assert len({tuple(row) for row in found}) == 3


def test_a_cleared_cache_does_no_harm(tokenizer):
    """`set_random_seed` destroys kernels, and what they own."""
    before = rows(tokenizer, ENGLISH)
    run = tf.function(tokenizer)
    assert [tuple(row) for row in run(ENGLISH)["token_ids"].numpy().tolist()] == before
    batches = tf.data.Dataset.from_tensors(ENGLISH).repeat(2).map(tokenizer)
    iterator = iter(batches)
    next(iterator)
    tf.keras.utils.set_random_seed(1)
    for found in (run(ENGLISH), next(iterator), tokenizer(ENGLISH)):
        assert [tuple(row) for row in found["token_ids"].numpy().tolist()] == before


def test_learning_does_not_depend_on_the_order_of_captions(model):
    texts = [*ENGLISH, *WITHOUT_BLANKS * 2]
    assert learn_pieces(texts, 500) == learn_pieces(iter(texts[::-1]), 500)
    assert LearntPieceTokenizer(learn_pieces(texts, 500), 8).vocabulary_size <= 500


def test_what_occurs_once_gets_no_piece():
    model = learn_pieces(["zebra zebra quagga", "ö"], 8000)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    known = {pieces.id_to_piece(at) for at in range(pieces.get_piece_size())}
    assert "\u2581zebra" in known and "a" in known
    assert not known & {"\u2581quagga", "quagga", "ö", "q"}


def test_rare_characters_give_way_to_pieces():
    many = [chr(0x4E00 + n) * 3 for n in range(500)]
    tokenizer = LearntPieceTokenizer(learn_pieces(["the dog"] * 900 + many, 360), 16)
    assert tokenizer.vocabulary_size <= 360
    assert tokenizer.token_counts(["the dog"]).numpy().tolist() == [4]
    assert len(set(rows(tokenizer, many))) == 500


def test_nothing_to_learn_from():
    for texts in ([], ["", "  ", "\u200b"]):
        with pytest.raises(ValueError, match="no words to learn a vocabulary from"):
            learn_pieces(texts, 1000)
    with pytest.raises(ValueError, match="vocabulary size 262 is too small"):
        learn_pieces(["abc"], 262)
    # Nothing occurs twice: all is spelt in bytes.
    tokenizer = LearntPieceTokenizer(learn_pieces(["x", "y"], 1000), 8)
    assert len(set(rows(tokenizer, ["x", "y", "z"]))) == 3


def test_other_models_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="the SentencePiece model cannot be read"):
        LearntPieceTokenizer(b"\n\0garbage", 8)
    later = model.replace(b"[RULES-1-LOWER]", b"[RULES-2-LOWER]")
    with pytest.raises(ValueError, match="learnt with version 2 of the text rules"):
        LearntPieceTokenizer(later, 8)
    with pytest.raises(ValueError, match="made by another program"):
        LearntPieceTokenizer(model.replace(b"[RULES-1-LOWER]", b"[RULES-X-LOWER]"), 8)
    (tmp_path / "vocab.model").write_bytes(model)
    assert isinstance(tokenizer_from_file(tmp_path / "vocab.model", 8), LearntPieceTokenizer)
    with pytest.raises(FileNotFoundError, match="vocab.model is missing"):
        load_tokenizer(tmp_path / "none", {"kind": "learnt-pieces"}, 8)


def test_the_table_of_characters_keeps_letters_and_their_marks():
    table = dict(character_rules(True))
    for word in (word for group in MARKS.values() for word in group):
        for character in unicodedata.normalize("NFKC", word).lower():
            if unicodedata.category(character)[0] in "LM":
                assert character not in table, (word, character)
    assert table["A"] == "a" and "A" not in dict(character_rules(False))


def test_a_map_and_a_saved_model_give_what_an_eager_call_gives(tokenizer, tmp_path):
    texts = [word for group in MARKS.values() for word in group] + WITHOUT_BLANKS
    eager = tokenizer(texts)
    mapped = tf.data.Dataset.from_tensor_slices(texts).batch(len(texts)).map(tokenizer)
    for name, value in next(iter(mapped)).items():
        np.testing.assert_array_equal(value, eager[name])
    module = tf.Module()
    module.tokenizer = tokenizer
    module.encode = tf.function(tokenizer, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    for name, value in saved.encode(tf.constant(texts)).items():
        np.testing.assert_array_equal(value, eager[name])
