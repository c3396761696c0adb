"""CLIP's byte-pair tokenizer, which runs eagerly and in a graph."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

MERGES_FILE = "merges.txt"
START, END = "<|startoftext|>", "<|endoftext|>"
# With 2 x 256 bytes and two special tokens, CLIP's 49,408 tokens; its file has more merges.
CLIP_MERGES = 48_894
HEADER = "#version: 0.2"
# Longer words, in bytes, are cut: the time to merge their pairs is more than linear in the length.
LONGEST_WORD = 1024
_BYTES = 256
_WORD_END = "</w>"
_NO_RANK = np.iinfo(np.int64).max
# RE2's \s is ASCII only; this is Unicode's White_Space.
_SPACES = r"[\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+"
# OpenAI's pattern without spaces, because texts are split at them first.
_PIECES = r"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{L}\p{N}]+)"


class BytePairTokenizer(tf.Module):
    """CLIP's tokenizer (Radford et al. 2021; byte-pair encoding: Sennrich et al. 2016).

    Text is normalised to NFC, lower-cased in full Unicode, and split at white space and by
    OpenAI's pattern (contractions, runs of letters, single digits, runs of anything else). Each
    piece becomes bytes, the last one marked as the end of a word, and pairs are merged in the order
    of the merges list. Invalid UTF-8 becomes U+FFFD. The names of the start and end tokens in a
    text become those tokens. OpenAI's code first repairs wrongly decoded text (ftfy) and HTML
    entities; this tokenizer does not, like those of keras_hub and transformers.

    Ids: 256 bytes, 256 bytes that end a word, one id per merge, start, end.

    Args:
        merges: pairs of symbols "a b", the most frequent first; see `load_merges`.
        context_length: L, the length of each row of ids, start and end included.

    Raises:
        ValueError: the context length is below 3, or a merge is invalid.
    """

    def __init__(self, merges: Sequence[str], context_length: int):
        super().__init__(name="byte_pair_tokenizer")
        if context_length < 3:
            raise ValueError(
                f"context_length {context_length} is too short; start, a token and end take 3"
            )
        self.merges = tuple(merges)
        self.context_length = context_length
        pairs, joined, self._longest_token = _number(self.merges)
        self.vocabulary_size = 2 * _BYTES + len(self.merges) + 2
        self._start_id, self._end_id = self.vocabulary_size - 2, self.vocabulary_size - 1
        self._ids_of_bytes = np.argsort(_byte_order()).astype(np.int32)
        self._joined = joined
        self._ranks = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(pairs[:, 0] * self.vocabulary_size + pairs[:, 1], tf.int64),
                tf.range(len(pairs), dtype=tf.int64),
            ),
            default_value=_NO_RANK,
        )

    def __call__(self, texts: tf.Tensor | Sequence[str]) -> dict[str, tf.Tensor]:
        """Turn `texts` (N,) string into token_ids (N,L) int32 and text_mask (N,L) bool.

        A row is start, tokens, end and zeros; the mask is true up to the first end. Longer texts
        are cut to their first tokens and the end; see `token_counts`.
        """
        room = self.context_length - 2
        # Each token is at most the longest one, plus a space before it.
        room_in_bytes = room * (self._longest_token + 1) + LONGEST_WORD
        words = self._words(texts, room_in_bytes)
        tokens = self._tokens(words[:, :room])[:, :room]
        counts = tf.cast(tokens.row_lengths(), tf.int32)[:, None]
        padded = tf.pad(tokens.to_tensor(0, shape=[None, room]), [[0, 0], [1, 1]])
        place = tf.range(self.context_length)[None]
        token_ids = tf.where(place == counts + 1, self._end_id, padded)
        token_ids = tf.where(place == 0, self._start_id, token_ids)
        return {"token_ids": token_ids, "text_mask": self.mask_of(token_ids)}

    def mask_of(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Return the mask of ids (N,L) with any padding: (N,L) bool.

        It is true up to the first end, where CLIP reads the text embedding.
        """
        ended = tf.cast(tf.equal(token_ids, self._end_id), tf.int32)
        return tf.equal(tf.cumsum(ended, axis=1, exclusive=True), 0)

    def token_counts(self, texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
        """Return the number of ids of each text, (N,) int32, start and end included.

        The tokenizer cuts texts with more than `context_length`. Bytes of a word beyond
        `LONGEST_WORD` count as one id each.
        """
        words = self._words(texts)
        beyond = tf.ragged.map_flat_values(_beyond_longest, words)
        counts = tf.cast(self._tokens(words).row_lengths(), tf.int32)
        return counts + tf.reduce_sum(beyond, axis=1) + 2

    def with_context_length(self, context_length: int) -> BytePairTokenizer:
        """Return a copy with another context length."""
        return BytePairTokenizer(self.merges, context_length)

    def describe(self) -> dict:
        """Return what a saved model stores about the tokenizer besides the file of `save`."""
        return {"kind": "byte-pair"}

    def save(self, directory: Path) -> None:
        """Write `merges.txt` into `directory`, in the format of `load_merges`."""
        lines = "".join(f"{line}\n" for line in (HEADER, *self.merges))
        (Path(directory) / MERGES_FILE).write_text(lines, "utf-8", newline="\n")

    def _words(self, texts, bytes_at_most: int | None = None) -> tf.RaggedTensor:
        """Normalise texts (N,) and split them at spaces: (N,None) string."""
        texts = tf.convert_to_tensor(texts, tf.string)
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")
        # OpenAI's code drops NUL too; the ops below would end the text there.
        texts = tf.strings.regex_replace(texts, r"\x{0}", "")
        texts = tf.strings.regex_replace(tf_text.normalize_utf8(texts, "NFC"), _SPACES, " ")
        texts = tf.strings.lower(texts, encoding="utf-8")
        if bytes_at_most is not None:
            texts = tf.strings.substr(tf.strings.strip(texts), 0, bytes_at_most)
        return tf.strings.split(texts)

    def _tokens(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """Return the token ids of words (N,None) string: (N,None) int32.

        Each distinct word is tokenized once.
        """
        distinct, indices = tf.unique(words.flat_values)
        pieces = tf.strings.split(tf.strings.regex_replace(distinct, _PIECES, r"\1 "))
        tokens = self._join_pairs(pieces.flat_values)
        of_word = tf.RaggedTensor.from_row_splits(
            tokens.flat_values, tf.gather(tokens.row_splits, pieces.row_splits)
        )
        of_words = tf.gather(of_word, indices)
        return tf.RaggedTensor.from_row_splits(
            of_words.flat_values, tf.gather(of_words.row_splits, words.row_splits)
        )

    def _join_pairs(self, pieces: tf.Tensor) -> tf.RaggedTensor:
        """Return the token ids of pieces (P,) string: (P,None) int32.

        All pieces are concatenated. Each pass merges, in every piece, all pairs of the lowest rank,
        from left to right, until no piece has a pair with a rank.
        """
        count = tf.size(pieces)
        starts, ends = tf.equal(pieces, START), tf.equal(pieces, END)
        # A special token becomes one byte, thus one token, which is replaced at the end.
        pieces = tf.where(starts | ends, "!", tf.strings.substr(pieces, 0, LONGEST_WORD))
        piece = tf.repeat(tf.range(count), tf.strings.length(pieces))
        stream = tf.io.decode_raw(tf.strings.reduce_join(pieces)[None], tf.uint8)[0]
        is_last = tf.concat([tf.not_equal(piece[1:], piece[:-1]), [True]], 0)[: tf.size(piece)]
        ids = tf.gather(self._ids_of_bytes, tf.cast(stream, tf.int32))
        ids += _BYTES * tf.cast(is_last, tf.int32)
        _, ids, piece = tf.while_loop(
            lambda more, ids, piece: more,
            lambda more, ids, piece: self._join_once(ids, piece, count),
            (tf.constant(True), ids, piece),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([None])),
        )
        ids = tf.where(tf.gather(starts, piece), self._start_id, ids)
        ids = tf.where(tf.gather(ends, piece), self._end_id, ids)
        return tf.RaggedTensor.from_value_rowids(
            ids, tf.cast(piece, tf.int64), tf.cast(count, tf.int64)
        )

    def _join_once(self, ids, piece, count):
        """Merge once in the symbols `ids` (S,) of `count` pieces; `piece` (S,) is their index."""
        wide = tf.cast(ids, tf.int64)
        ranks = self._ranks.lookup(wide[:-1] * self.vocabulary_size + wide[1:])
        ranks = tf.where(tf.equal(piece[:-1], piece[1:]), ranks, _NO_RANK)
        ranks = tf.concat([ranks, [_NO_RANK]], 0)[: tf.size(ids)]
        least = tf.gather(tf.math.unsorted_segment_min(ranks, piece, count), piece)
        joins = tf.equal(ranks, least) & tf.not_equal(ranks, _NO_RANK)
        # "aaa" has the pair "aa" twice: of overlapping pairs, every second one is merged.
        places = tf.range(tf.size(ids))
        others = tf.concat([[-1], tf.boolean_mask(places, ~joins)], 0)
        before = tf.gather(others, tf.cumsum(tf.cast(~joins, tf.int32)))
        joins &= tf.equal((places - before) % 2, 1)
        joined = tf.gather(self._joined, tf.where(joins, ranks, 0))
        kept = ~tf.concat([[False], joins[:-1]], 0)[: tf.size(ids)]
        ids = tf.boolean_mask(tf.where(joins, joined, ids), kept)
        return tf.reduce_any(joins), ids, tf.boolean_mask(piece, kept)


def load_merges(path: str | Path) -> list[str]:
    """Read a list of merges, plain or gzip: CLIP's `bpe_simple_vocab_16e6.txt.gz`, `merges.txt`.

    A first line with "#version:" is skipped. Like CLIP, only the first `CLIP_MERGES` of the others
    are read.

    Raises:
        FileNotFoundError: the file is missing; the message names the file to fetch.
        ValueError: the file is damaged, not text, or has a line that is not a pair.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no byte-pair merges at {path}; fetch bpe_simple_vocab_16e6.txt.gz from "
            "https://github.com/openai/CLIP/tree/main/clip and give its path"
        )
    data = path.read_bytes()
    try:
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged or not a list of merges: {error}") from None
    if "#version:" in lines[0]:
        del lines[0]
    lines = [line.removesuffix("\r") for line in lines[:CLIP_MERGES]]
    _number(lines, str(path))
    return lines


def _byte_order() -> list[int]:
    """Return the bytes in the order of their ids, printable first (GPT-2's `bytes_to_unicode`)."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printing + [byte for byte in range(_BYTES) if byte not in printing]


def byte_letters() -> list[str]:
    """Return the letters that stand for the 256 bytes in merges, in the order of their ids."""
    printing = _byte_order()[: _BYTES - 68]
    return [chr(byte) for byte in printing] + [chr(_BYTES + n) for n in range(68)]


def _number(
    merges: Sequence[str], origin: str = "the merges"
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the ids of the merges: pairs (M,2), their results (M,), and the longest in bytes.

    Raises:
        ValueError: a merge has an unknown symbol or is a duplicate; the message has its number.
    """
    letters = byte_letters()
    ids = {symbol: n for n, symbol in enumerate(letters)}
    ids |= {symbol + _WORD_END: _BYTES + n for n, symbol in enumerate(letters)}
    size = dict.fromkeys(ids, 1)
    pairs = {}
    for number, merge in enumerate(merges):
        pair = tuple(merge.split(" "))
        if len(pair) != 2 or not all(symbol in ids for symbol in pair) or pair in pairs:
            raise ValueError(
                f"{origin}: merge {number + 1}, {merge[:40]!r}, must be a new pair of two symbols "
                "that are bytes or results of earlier merges"
            )
        pairs[pair] = "".join(pair)
        size[pairs[pair]] = size[pair[0]] + size[pair[1]]
        ids[pairs[pair]] = 2 * _BYTES + number
    numbered = np.array([[ids[a], ids[b]] for a, b in pairs], np.int64).reshape(-1, 2)
    results = np.array([ids[symbol] for symbol in pairs.values()], np.int32)
    return numbered, results, max(size.values())


def _beyond_longest(words: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.strings.length(words) - LONGEST_WORD, 0)
