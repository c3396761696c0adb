"""Token ids against a slow reference, and against the tokenizers library on real captions."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfclip.inputs.text import (
    WordPieceTokenizer,
    choose_context_length,
    load_tokenizer,
    tokenizer_from_file,
)
from tfclip.inputs.tokenizers.byte_pair import BytePairTokenizer
from tfclip.inputs.tokenizers.vocabulary import is_cased, load_vocabulary

PIECES = ["a", "dog", "##s", "run", "##ning", "cafe", "strasse", "i", "中", "文", ",", "!", "##!"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *PIECES]
TEXTS = [
    "a dog",
    "A DOGS, running!",
    "Café CAFÉ cafe\u0301",
    "Straße STRASSE",
    "İ I i",
    "中文 a中dog",
    "a 😀 dog",
    "zzz dogsz",
    "",
    "   ",
    "a\u00a0dog\tdogs\n",
    "a" * 300,
]


def split_slowly(text: str) -> list[str]:
    """BERT's basic tokenizer, by the definition: case folded, without marks, cut at punctuation."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = [c for c in unicodedata.normalize("NFD", folded) if unicodedata.category(c) != "Mn"]
    spaced = ""
    for c in plain:
        is_symbol = ord(c) < 128 and c.isprintable() and not c.isalnum() and c != " "
        alone = is_symbol or unicodedata.category(c)[0] == "P" or 0x4E00 <= ord(c) <= 0x9FFF
        spaced += f" {c} " if alone else c
    return spaced.split()


def pieces_slowly(word: str, vocabulary: list[str]) -> list[str]:
    """Longest match first; a word that cannot be spelt is unknown."""
    pieces, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        stops = range(len(word), start, -1)
        stop = next((s for s in stops if prefix + word[start:s] in vocabulary), None)
        if stop is None or len(word) > 100:
            return ["[UNK]"]
        pieces.append(prefix + word[start:stop])
        start = stop
    return pieces


def ids_slowly(text: str, vocabulary: list[str], length: int) -> list[int]:
    pieces = [p for word in split_slowly(text) for p in pieces_slowly(word, vocabulary)]
    row = ["[CLS]", *pieces[: length - 2], "[SEP]"]
    return [vocabulary.index(piece) for piece in row + ["[PAD]"] * (length - len(row))]


@pytest.mark.parametrize("length", [3, 4, 12])
def test_ids_equal_the_slow_reference(length):
    batch = WordPieceTokenizer(VOCABULARY, length)(TEXTS)
    assert batch["token_ids"].dtype == tf.int32 and batch["text_mask"].dtype == tf.bool
    expected = [ids_slowly(text, VOCABULARY, length) for text in TEXTS]
    np.testing.assert_array_equal(batch["token_ids"], expected)
    np.testing.assert_array_equal(batch["text_mask"], np.array(expected) != 0)


def test_counts_tell_what_was_cut():
    tokenizer = WordPieceTokenizer(VOCABULARY, 6)
    counts = tokenizer.token_counts(["", "a dog", "a a a a", "dogs dogs dogs"])
    np.testing.assert_array_equal(counts, [2, 4, 6, 8])
    assert counts.dtype == tf.int32
    last = tokenizer(["dogs dogs dogs"])["token_ids"][0, -1]
    assert VOCABULARY[int(last)] == "[SEP]"


def test_cased_vocabularies_keep_case_and_accents():
    vocabulary = [*VOCABULARY[:4], "Café", "cafe", "Dog"]
    ids = WordPieceTokenizer(vocabulary, 5, lowercase=False)(["Café cafe Dog"])["token_ids"]
    np.testing.assert_array_equal(ids, [[2, 4, 5, 6, 3]])


def test_bytes_that_are_not_utf8_are_unknown_words():
    ids = WordPieceTokenizer(VOCABULARY, 6)([b"a \xff dog", b"dog\xc3"])["token_ids"].numpy()
    a, dog = VOCABULARY.index("a"), VOCABULARY.index("dog")
    assert ids.tolist() == [[2, a, 1, dog, 3, 0], [2, 1, 3, 0, 0, 0]]


def test_padding_need_not_be_id_zero():
    vocabulary = ["a", "[SEP]", "[CLS]", "[UNK]", "[PAD]"]
    batch = WordPieceTokenizer(vocabulary, 5)(["a", "b a a a"])
    assert batch["token_ids"].numpy().tolist() == [[2, 0, 1, 4, 4], [2, 3, 0, 0, 1]]
    assert batch["text_mask"].numpy().sum(1).tolist() == [3, 5]


def test_no_texts_give_no_rows():
    batch = WordPieceTokenizer(VOCABULARY, 7)(tf.constant([], tf.string))
    assert batch["token_ids"].shape == batch["text_mask"].shape == (0, 7)


def test_unusable_arguments_are_refused():
    with pytest.raises(ValueError, match="'a' is on lines 5 and 6"):
        WordPieceTokenizer([*VOCABULARY[:4], "a", "a"], 8)
    with pytest.raises(ValueError, match="context_length 2 is too short"):
        WordPieceTokenizer(VOCABULARY, 2)


@pytest.mark.slow
def test_a_map_and_a_saved_model_give_what_an_eager_call_gives(tmp_path, run_with_tensorflow_alone):
    tokenizer = WordPieceTokenizer(VOCABULARY, 9)
    eager = tokenizer(TEXTS)
    mapped = tf.data.Dataset.from_tensor_slices(TEXTS).batch(len(TEXTS)).map(tokenizer)
    for name, value in next(iter(mapped)).items():
        np.testing.assert_array_equal(value, eager[name])
    module = tf.Module()
    module.tokenizer = tokenizer
    module.encode = tf.function(tokenizer, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    (tmp_path / "in.bin").write_bytes(tf.io.serialize_tensor(tf.constant(TEXTS)).numpy())
    script = """
import sys, numpy as np, tensorflow as tf
folder = sys.argv[1]
texts = tf.io.parse_tensor(tf.io.read_file(folder + "/in.bin"), tf.string)
np.savez(folder + "/out.npz", **tf.saved_model.load(folder + "/saved").encode(texts))
"""
    run_with_tensorflow_alone(script, tmp_path)
    for name, value in np.load(tmp_path / "out.npz").items():
        np.testing.assert_array_equal(value, eager[name])


def test_a_mask_comes_back_from_the_ids():
    tokenizer = WordPieceTokenizer(["a", "[SEP]", "[CLS]", "[UNK]", "[PAD]"], 6)
    batch = tokenizer([*TEXTS, "a a [PAD] a"])
    np.testing.assert_array_equal(tokenizer.mask_of(batch["token_ids"]), batch["text_mask"])


@pytest.mark.parametrize("folding", ["nfkc", "bert"])
def test_a_tokenizer_comes_back_from_its_folder(folding, tmp_path):
    tokenizer = WordPieceTokenizer([*VOCABULARY, "…"], 12, folding=folding)
    tokenizer.save(tmp_path)
    assert tokenizer.describe() == {"kind": "wordpiece", "lowercase": True, "folding": folding}
    texts = ["a dog… Straße", "DOGS"]
    expected = tokenizer(texts)["token_ids"].numpy()
    again = load_tokenizer(tmp_path, tokenizer.describe(), 12)
    np.testing.assert_array_equal(again(texts)["token_ids"], expected)
    shorter = tokenizer.with_context_length(4)
    assert shorter(texts)["token_ids"].shape == (2, 4)
    np.testing.assert_array_equal(shorter.token_counts(texts), tokenizer.token_counts(texts))
    # Before there was a choice, all folded by NFKC.
    before = load_tokenizer(tmp_path, {"kind": "wordpiece", "lowercase": True}, 12)
    assert before.folding == "nfkc" and before.vocabulary_size == len(VOCABULARY) + 1
    with pytest.raises(ValueError, match="kind 'sentencepiece'"):
        load_tokenizer(tmp_path, {"kind": "sentencepiece"}, 12)


def test_a_vocabulary_file_says_by_itself_what_it_is(tmp_path):
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), "utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    (tmp_path / "bare.txt").write_text("a b\n")
    assert isinstance(tokenizer_from_file(tmp_path / "vocab.txt", 8), WordPieceTokenizer)
    assert isinstance(tokenizer_from_file(tmp_path / "merges.txt", 8), BytePairTokenizer)
    assert tokenizer_from_file(tmp_path / "bare.txt", 8).vocabulary_size == 515
    with pytest.raises(FileNotFoundError, match="no vocabulary at"):
        tokenizer_from_file(tmp_path / "none.txt", 8)


@pytest.fixture(scope="module")
def bert():
    """BERT's uncased vocabulary, and the tokenizers library's tokenizer of it."""
    data = os.environ.get("TFCLIP_DATA")
    if not data or not Path(data, "text/bert_uncased_vocab.txt").is_file():
        pytest.skip("TFCLIP_DATA holds no text/bert_uncased_vocab.txt")
    library = pytest.importorskip("tokenizers")
    path = Path(data, "text/bert_uncased_vocab.txt")
    return load_vocabulary(path), library.BertWordPieceTokenizer(str(path), lowercase=True)


@pytest.mark.parametrize("folding", ["nfkc", "bert"])
def test_ids_equal_the_tokenizers_library_on_real_captions(bert, folding):
    vocabulary, reference = bert
    path = Path(os.environ["TFCLIP_DATA"], "flickr8k/Flickr8k.token.txt")
    captions = [line.split("\t")[1] for line in path.read_text("utf-8").splitlines()[::7]]
    assert len(captions) >= 1000
    expected = [reference.encode(caption).ids for caption in captions]
    batch = WordPieceTokenizer(vocabulary, 64, folding=folding)(captions)
    rows = zip(batch["token_ids"].numpy(), batch["text_mask"].numpy(), strict=True)
    assert [ids[mask].tolist() for ids, mask in rows] == expected


def test_berts_uncased_vocabulary_is_found_to_be_uncased(bert):
    vocabulary, _ = bert
    assert not is_cased(vocabulary)


def test_berts_folding_equals_the_tokenizers_library_on_odd_texts(bert):
    vocabulary, reference = bert
    texts = [
        "½ cup … ™ ² ﬁne",
        "Straße naïve CAFÉ e\u0301 Ａ",
        "①a\u200bb a\u00adb a\0b",
        "ÅÄÖ ǅ 中a",
    ]
    texts += ["don't U.S.A. $5 `a` ^ ~", "x" * 101 + " a", "", "😀 a", "İstanbul"]
    expected = [reference.encode(text).ids for text in texts]
    batch = WordPieceTokenizer(vocabulary, 64, folding="bert")(texts)
    rows = zip(batch["token_ids"].numpy(), batch["text_mask"].numpy(), strict=True)
    assert [ids[mask].tolist() for ids, mask in rows] == expected


def test_context_length_holds_the_wanted_share():
    counts = np.repeat([5, 12, 17, 40], [50, 40, 9, 1])
    assert choose_context_length(counts, fraction=0.5) == 8
    assert choose_context_length(counts, fraction=0.9) == 16
    assert choose_context_length(counts, fraction=0.98) == 24
    assert choose_context_length(counts, fraction=1.0) == 40
    assert choose_context_length(counts, fraction=1.0, multiple_of=1) == 40
    assert choose_context_length(counts, fraction=1.0, maximum=32) == 32
    assert choose_context_length([7], multiple_of=16) == 16
    with pytest.raises(ValueError, match="no captions"):
        choose_context_length([])
