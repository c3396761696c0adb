"""Vocabularies: what is learnt, what is refused."""

import random
import time
from collections import Counter

import pytest

from tfclip.inputs.text import WordPieceTokenizer
from tfclip.inputs.tokenizers.vocabulary import (
    MASK,
    REQUIRED,
    count_words,
    learn_vocabulary,
    load_vocabulary,
    save_vocabulary,
)

SPECIALS = [*REQUIRED, MASK]


def learn_slowly(words: Counter, size: int, least_count: int = 2) -> list[str]:
    """The definition: count every pair anew, join the most frequent, the first of equals."""
    spelt = {w: [w[0], *("##" + c for c in w[1:])] for w in words}
    letters = sorted({c for w in words for c in w})
    inner = sorted({c for w in words if len(w) > 1 for c in w})
    vocabulary = [*SPECIALS, *letters, *("##" + c for c in inner)]
    while len(vocabulary) < size:
        pairs = Counter()
        for word, pieces in spelt.items():
            for pair in zip(pieces, pieces[1:], strict=False):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < least_count:
            break
        token = best[0] + best[1][2:]
        if token not in vocabulary:
            vocabulary.append(token)
        for word, pieces in spelt.items():
            joined = []
            for piece in pieces:
                if joined and (joined[-1], piece) == best and joined[-1] != token:
                    joined[-1] = token
                else:
                    joined.append(piece)
            spelt[word] = joined
    return vocabulary


def captions(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdeinst", k=rng.randint(1, 7))) for _ in range(60)]
    weights = [1 / (rank + 1) for rank in range(60)]
    return [" ".join(rng.choices(words, weights, k=6)) for _ in range(count)]


@pytest.mark.parametrize("size", [45, 70, 500])
def test_learning_equals_the_definition(size):
    texts = captions(200)
    words = Counter(word for text in texts for word in text.split())
    assert learn_vocabulary(texts, size) == learn_slowly(words, size)


def test_runs_of_one_letter_are_joined_from_the_left():
    texts = ["aaaaa aaaa aaa banana"] * 3
    words = Counter(word for text in texts for word in text.split())
    assert learn_vocabulary(texts, 30) == learn_slowly(words, 30)


def test_words_are_counted_as_the_tokenizer_splits_them():
    texts = ["A dog's  Café,\u3000café!", "", "中文 STRASSE straße", b"x\xffy".decode("latin-1")]
    counted = count_words(texts)
    assert counted == Counter(
        ["a", "dog", "'", "s", "cafe", ",", "cafe", "!", "中", "文", "strasse", "strasse", "xyy"]
    )
    kept = count_words(["Café café"], lowercase=False)
    assert kept == Counter(["Café", "café"])


def test_order_and_size_do_not_depend_on_the_order_of_captions():
    texts = captions(300)
    assert learn_vocabulary(texts, 100) == learn_vocabulary(iter(texts[::-1]), 100)
    assert len(learn_vocabulary(texts, 100)) == 100


def test_frequent_words_are_whole_and_every_letter_is_there():
    texts = ["a zebra crosses the street"] * 50 + ["quick jumps"] * 2 + ["ö 9"] + captions(50)
    vocabulary = learn_vocabulary(texts, 200)
    assert vocabulary[:5] == SPECIALS
    assert {"zebra", "crosses", "the", "street"} <= set(vocabulary)
    assert {"q", "##q", "j", "##j"} <= set(vocabulary)
    assert "9" not in vocabulary  # seen once
    unknown = vocabulary.index("[UNK]")
    ids = WordPieceTokenizer(vocabulary, 64)(texts[:52])["token_ids"].numpy()
    assert unknown not in ids


def test_rare_characters_give_way_to_pieces():
    many = [chr(0x4E00 + n) * 3 for n in range(500)]
    vocabulary = learn_vocabulary(["the dog"] * 900 + many, 100)
    assert len(vocabulary) <= 100 and {"the", "dog"} <= set(vocabulary)


def test_nothing_to_learn_from():
    for texts in ([], ["", "  "]):
        with pytest.raises(ValueError, match="no words to learn a vocabulary from"):
            learn_vocabulary(texts, 100)
    with pytest.raises(ValueError, match="vocabulary size 6 is too small for 3 characters"):
        learn_vocabulary(["abc abc"], 6)


def test_a_file_reads_back(tmp_path):
    vocabulary = [*SPECIALS, "a", "\u2028", "##é", "\x85"]
    save_vocabulary(vocabulary, tmp_path / "vocab.txt")
    assert load_vocabulary(tmp_path / "vocab.txt") == vocabulary
    assert load_vocabulary(str(tmp_path / "vocab.txt")) == vocabulary


def test_whatever_is_learnt_reads_back(tmp_path):
    odd = "".join(chr(c) for c in [*range(0x100), 0x200B, 0x2028, 0x2029, 0xFEFF, 0xFFFD, 0x1F600])
    texts = [f"dog{c}dog {c} x{c}" for c in odd] * 2
    vocabulary = learn_vocabulary(texts, 2000)
    save_vocabulary(vocabulary, tmp_path / "vocab.txt")
    assert load_vocabulary(tmp_path / "vocab.txt") == vocabulary


@pytest.mark.parametrize(
    "text, message",
    [
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\na\n", "'a' is on lines 5 and 7"),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n\na\n", "line 5 is empty"),
        ("[PAD]\n[CLS]\na\n", r"\[UNK\], \[SEP\] missing from 3 tokens"),
        ("", "line 1 is empty"),
    ],
)
def test_unusable_files_are_refused(tmp_path, text, message):
    path = tmp_path / "vocab.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_vocabulary(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary at"):
        load_vocabulary(tmp_path / "none.txt")
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        load_vocabulary(tmp_path / "vocab.txt")


def test_windows_line_ends_are_read(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*SPECIALS, "a", ""]).encode())
    assert load_vocabulary(tmp_path / "vocab.txt") == [*SPECIALS, "a"]


def test_thirty_thousand_captions_take_seconds():
    texts = captions(3000) * 10
    start = time.process_time()
    learn_vocabulary(texts, 8000)
    assert time.process_time() - start < 20
