"""CLIP's byte pairs against a slow reference, and against keras_hub and transformers."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfclip.inputs.text import load_tokenizer
from tfclip.inputs.tokenizers.byte_pair import LONGEST_WORD, BytePairTokenizer, load_merges

CLIP_FILE = "text/bpe_simple_vocab_16e6.txt.gz"
# By hand: 256 bytes from "!" (0), 256 that end a word, the merges from 512, start and end.
MERGES = ["d o", "do g</w>", "a a", "aa a", "' s</w>"]
START, END = 517, 518


def letter(character: str, ends: bool = False) -> int:
    return ord(character) - ord("!") + 256 * ends


def rows(batch) -> list[list[int]]:
    pairs = zip(batch["token_ids"].numpy(), batch["text_mask"].numpy(), strict=True)
    return [ids[mask].tolist() for ids, mask in pairs]


def test_ids_worked_by_hand():
    tokenizer = BytePairTokenizer(MERGES, 10)
    assert tokenizer.vocabulary_size == 519
    texts = ["dog", "DOG's  do", "", "aaaaaa", "aaaaa b", "a 12", "é"]
    # "aaaaaa" has five a and one that ends the word: aa aa a a, then aa aaa a.
    expected = [
        [513],
        [513, 516, letter("d"), letter("o", True)],
        [],
        [514, 515, letter("a", True)],
        [514, 514, letter("a", True), letter("b", True)],
        [letter("a", True), letter("1", True), letter("2", True)],
        [127, 358],  # bytes C3 and A9: 94 + 12 + (C3 - AE), 256 + 94 + (A9 - A1)
    ]
    assert rows(tokenizer(texts)) == [[START, *ids, END] for ids in expected]
    np.testing.assert_array_equal(tokenizer.token_counts(texts), [len(e) + 2 for e in expected])
    batch = tokenizer(texts)
    assert batch["token_ids"].dtype == tf.int32 and batch["text_mask"].dtype == tf.bool
    assert not batch["token_ids"].numpy()[~batch["text_mask"].numpy()].any()


def test_a_long_text_keeps_its_end_token():
    tokenizer = BytePairTokenizer(MERGES, 5)
    batch = tokenizer(["dog dog dog dog", "dog dog dog"])
    assert batch["token_ids"].numpy().tolist() == [[START, 513, 513, 513, END]] * 2
    np.testing.assert_array_equal(tokenizer.token_counts(["dog dog dog dog"]), [6])


def test_masks_end_at_the_first_end_token():
    tokenizer = BytePairTokenizer(MERGES, 6)
    ids = np.array([[START, 0, END, 0, 0, 0], [START, 0, 0, END, END, END], [1, 2, 3, 4, 5, 6]])
    mask = tokenizer.mask_of(ids).numpy()
    assert mask.sum(axis=1).tolist() == [3, 4, 6]
    # The id of padding is that of "!", and the marks can be written out.
    written = tokenizer(["! ! <|endoftext|> !"])
    assert written["token_ids"].numpy().tolist() == [[START, 256, 256, END, 256, END]]
    assert written["text_mask"].numpy().sum() == 4


def test_a_tokenizer_comes_back_from_its_folder(tmp_path):
    tokenizer = BytePairTokenizer(MERGES, 8)
    tokenizer.save(tmp_path)
    assert tokenizer.describe() == {"kind": "byte-pair"}
    again = load_tokenizer(tmp_path, tokenizer.describe(), 8)
    assert again.merges == tuple(MERGES)
    assert rows(again(["dog's"])) == rows(tokenizer(["dog's"]))
    assert tokenizer.with_context_length(4)(["a b c d"])["token_ids"].shape == (1, 4)
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress((tmp_path / "merges.txt").read_bytes()))
    assert load_merges(packed) == MERGES


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a b\na b\n", "merge 2, 'a b'"),
        (b"#version: 0.2\na b\nab cd\n", "merge 2, 'ab cd'"),
        (b"[PAD]\n[UNK]\n", "merge 1, '\\[PAD\\]'"),
        (b"\x1f\x8b\x08broken", "damaged or not a list of merges"),
        (b"\xff\xfe", "damaged or not a list of merges"),
    ],
)
def test_files_that_are_no_merges_are_refused(tmp_path, content, told):
    path = tmp_path / "merges.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        load_merges(path)


def test_a_missing_file_says_what_to_fetch(tmp_path):
    with pytest.raises(FileNotFoundError, match="fetch bpe_simple_vocab_16e6.txt.gz"):
        load_merges(tmp_path / "none")
    with pytest.raises(ValueError, match="context_length 2 is too short"):
        BytePairTokenizer(MERGES, 2)


def test_no_texts_give_no_rows():
    batch = BytePairTokenizer(MERGES, 7)(tf.constant([], tf.string))
    assert batch["token_ids"].shape == batch["text_mask"].shape == (0, 7)


@pytest.mark.parametrize(
    "text",
    [b"a" * 1_000_000, b"a b " * 250_000, b" " * 1_000_000 + b"dog", bytes(range(256)) * 4000],
)
def test_a_megabyte_takes_no_time_to_speak_of(text):
    tokenizer = BytePairTokenizer(MERGES, 77)
    (ids,) = rows(tokenizer([text]))
    assert ids[0] == START and ids[-1] == END
    if text.endswith(b"dog"):
        assert ids == [START, 513, END]
    else:
        assert len(ids) == 77 and tokenizer.token_counts([text]).numpy()[0] > 100_000


def test_a_word_is_cut_where_it_is_too_long():
    tokenizer = BytePairTokenizer(MERGES, 2000)
    counts = tokenizer.token_counts(["b" * LONGEST_WORD, "b" * (LONGEST_WORD + 5)]).numpy()
    assert counts.tolist() == [LONGEST_WORD + 2, LONGEST_WORD + 7]
    assert len(rows(tokenizer(["b" * (LONGEST_WORD + 5)]))[0]) == LONGEST_WORD + 2


@pytest.fixture(scope="module")
def clip() -> BytePairTokenizer:
    path = Path(os.environ.get("TFCLIP_DATA", "none"), CLIP_FILE)
    if not path.is_file():
        pytest.skip(f"TFCLIP_DATA holds no {CLIP_FILE}")
    return BytePairTokenizer(load_merges(path), 77)


HARD = [
    "don't WON'T it's I'LL we're 'tis rock'n'roll",
    "½ ² ① 2024 ٣ 1,000.50",
    "naïve école ÉCOLE e\u0301 Straße İstanbul",
    "中文字 日本語 한국어 हिन्दी ไทย",
    "💥🔥👩‍👩‍👧 flag 🇩🇪 ☂️",
    "a\u00a0b\u3000c\u2003d\u200be\u0085f",
    "!!!??? ...... " + "=" * 300,
    "a_b-c/d@e.com http://x.y?z=1 #tag",
    "",
    "   ",
    "\ufeffbom",
    "a" * 1000,
]


def captions(at_least: int) -> list[str]:
    data = Path(os.environ["TFCLIP_DATA"])
    lines = (data / "flickr8k/Flickr8k.token.txt").read_text("utf-8").splitlines()[::29]
    coco = json.loads((data / "coco/annotations/captions_val2017.json").read_text("utf-8"))
    found = [line.split("\t")[1] for line in lines] + [a["caption"] for a in coco["annotations"]]
    assert len(found) >= at_least
    return found


def symbols(merges) -> dict[str, int]:
    """CLIP's vocabulary by the rules of OpenAI's `simple_tokenizer`."""
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printing += range(ord("®"), ord("ÿ") + 1)
    letters = [chr(byte) for byte in printing] + [chr(256 + n) for n in range(68)]
    words = letters + [f"{c}</w>" for c in letters] + [merge.replace(" ", "") for merge in merges]
    return {word: n for n, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}


def test_ids_equal_those_of_keras_hub_and_transformers(clip):
    keras_hub = pytest.importorskip("keras_hub")
    assert clip.vocabulary_size == 49_408
    texts = captions(1000) + HARD
    found = rows(clip(texts))
    vocabulary = symbols(clip.merges)
    hub = keras_hub.models.CLIPTokenizer(vocabulary, list(clip.merges))
    expected = [[49_406, *list(np.asarray(ids))[:75], 49_407] for ids in hub(texts)]
    assert found == expected
    transformers = pytest.importorskip("transformers")
    pairs = [tuple(merge.split(" ")) for merge in clip.merges]
    theirs = transformers.CLIPTokenizer(vocab=vocabulary, merges=pairs)
    assert found == theirs(texts, truncation=True, max_length=77)["input_ids"]


def test_lower_case_is_pythons_where_libraries_differ(clip):
    # OpenAI's code lower-cases by str.lower, which knows the final sigma.
    assert rows(clip(["ΟΔΟΣ"])) == rows(clip(["ΟΔΟΣ".lower()]))


def test_bytes_that_are_not_utf8_count_as_the_replacement_character(clip):
    assert rows(clip([b"a \xff dog\xc3"])) == rows(clip(["a \ufffd dog\ufffd"]))
    assert rows(clip([b"a\0b"])) == rows(clip(["ab"]))


@pytest.mark.slow
def test_a_map_and_a_saved_model_give_what_an_eager_call_gives(
    clip, tmp_path, run_with_tensorflow_alone
):
    texts = [*HARD, "A Dog, TWO dogs"]
    eager = clip(texts)
    mapped = tf.data.Dataset.from_tensor_slices(texts).batch(len(texts)).map(clip)
    for name, value in next(iter(mapped)).items():
        np.testing.assert_array_equal(value, eager[name])
    module = tf.Module()
    module.tokenizer = clip
    module.encode = tf.function(clip, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    (tmp_path / "in.bin").write_bytes(tf.io.serialize_tensor(tf.constant(texts)).numpy())
    script = """
import sys, numpy as np, tensorflow as tf
folder = sys.argv[1]
texts = tf.io.parse_tensor(tf.io.read_file(folder + "/in.bin"), tf.string)
np.savez(folder + "/out.npz", **tf.saved_model.load(folder + "/saved").encode(texts))
"""
    run_with_tensorflow_alone(script, tmp_path)
    for name, value in np.load(tmp_path / "out.npz").items():
        np.testing.assert_array_equal(value, eager[name])
