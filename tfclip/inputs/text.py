"""One way for a text into a model: from raw strings to ids and mask, by one of four tokenizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tfclip.inputs.tokenizers.byte_pair import MERGES_FILE, BytePairTokenizer, load_merges
from tfclip.inputs.tokenizers.framing import frame_rows
from tfclip.inputs.tokenizers.learnt_pieces import KIND as LEARNT
from tfclip.inputs.tokenizers.learnt_pieces import LEARNT_FILE, LearntPieceTokenizer
from tfclip.inputs.tokenizers.sentence_pieces import MODEL_FILE, SentencePieceTokenizer
from tfclip.inputs.tokenizers.vocabulary import (
    END,
    PAD,
    START,
    UNKNOWN,
    check_vocabulary,
    is_cased,
    learn_vocabulary,
    load_vocabulary,
    save_vocabulary,
)

__all__ = [
    "BytePairTokenizer",
    "LearntPieceTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "WordPieceTokenizer",
    "choose_context_length",
    "learn_vocabulary",
    "load_tokenizer",
    "load_vocabulary",
    "tokenizer_from_file",
]

VOCABULARY_FILE = "vocab.txt"
FOLDINGS = ("nfkc", "bert")
# Control and format characters that are no white space, private ones, and U+FFFD.
_DROPPED_BY_BERT = r"[\x{0}-\x{8}\x{b}\x{c}\x{e}-\x{1f}\x{7f}-\x{9f}\p{Cf}\p{Co}\x{fffd}]"


class WordPieceTokenizer(tf.Module):
    """BERT's tokenizer (Devlin et al. 2018, arXiv 1810.04805), eagerly or in any graph.

    Text is folded, split at spaces, punctuation and around Chinese characters, and each word into
    the longest pieces of the vocabulary; a word that cannot be spelt is [UNK]. Bytes that are not
    UTF-8 count as U+FFFD.

    Args:
        vocabulary: the tokens, whose index is the id; see `load_vocabulary`.
        context_length: L, the length of every row of ids, [CLS] and [SEP] included.
        lowercase: False keeps case and accents, for cased vocabularies.
        folding: what lower-casing is. Both end in NFD without its marks (accents). "nfkc" begins
            with NFKC case folding, so that "Straße" is "strasse" and full-width letters are plain
            ones: for vocabularies that were learnt so. "bert" only lower-cases, so that "…" and
            "½" stay the tokens that pretrained vocabularies have for them, and drops control
            characters and U+FFFD, as BERT's code does.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        context_length: int,
        lowercase: bool = True,
        folding: str = "nfkc",
    ):
        super().__init__(name="word_piece_tokenizer")
        check_vocabulary(vocabulary)
        if folding not in FOLDINGS:
            raise ValueError(f"folding must be one of {', '.join(FOLDINGS)}. Received: {folding!r}")
        if context_length < 3:
            raise ValueError(
                f"context_length {context_length} is too short; [CLS], a token and [SEP] take 3"
            )
        self.vocabulary = tuple(vocabulary)
        self.context_length = context_length
        self.lowercase = lowercase
        self.folding = folding
        self._pad_id, self._start_id, self._end_id = map(vocabulary.index, (PAD, START, END))
        self._pieces = tf_text.FastBertTokenizer(
            list(vocabulary),
            unknown_token=UNKNOWN,
            token_out_type=tf.int32,
            lower_case_nfd_strip_accents=lowercase and folding == "nfkc",
        )

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are."""
        return len(self.vocabulary)

    @property
    def unknown_id(self) -> int:
        """The id of [UNK]."""
        return self.vocabulary.index(UNKNOWN)

    def __call__(self, texts: tf.Tensor | Sequence[str]) -> dict[str, tf.Tensor]:
        """Turn `texts` (N,) string into token_ids (N,L) int32 and text_mask (N,L) bool.

        A row is [CLS] pieces [SEP] [PAD]..., and the mask is true up to [SEP]. A text with more
        pieces than fit is cut; `token_counts` tells which ones are.
        """
        return frame_rows(
            self._split(texts),
            self.context_length,
            start=self._start_id,
            end=self._end_id,
            pad=self._pad_id,
        )

    def token_counts(self, texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
        """Count the ids each of `texts` (N,) string needs, [CLS] and [SEP] included: (N,) int32.

        A text is cut by the tokenizer when its count is above `context_length`.
        """
        return tf.cast(self._split(texts).row_lengths(), tf.int32) + 2

    def mask_of(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Tell text from padding by ids (N,L) alone: (N,L) bool.

        No text holds [PAD] itself: its brackets are words of their own.
        """
        return tf.not_equal(token_ids, self._pad_id)

    def with_context_length(self, context_length: int) -> WordPieceTokenizer:
        """The same tokenizer for rows of another length."""
        return WordPieceTokenizer(self.vocabulary, context_length, self.lowercase, self.folding)

    def describe(self) -> dict:
        """What a saved model says about its tokenizer, beside the file of `save`."""
        return {"kind": "wordpiece", "lowercase": self.lowercase, "folding": self.folding}

    def save(self, directory: Path) -> None:
        """Write `vocab.txt` into `directory`."""
        save_vocabulary(self.vocabulary, Path(directory) / VOCABULARY_FILE)

    def _split(self, texts: tf.Tensor | Sequence[str]) -> tf.RaggedTensor:
        texts = tf.convert_to_tensor(texts, tf.string)
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")
        if self.folding == "bert":
            texts = tf.strings.regex_replace(texts, _DROPPED_BY_BERT, "")
        if self.folding == "bert" and self.lowercase:
            texts = tf_text.normalize_utf8(tf.strings.lower(texts, encoding="utf-8"), "NFD")
            texts = tf.strings.regex_replace(texts, r"\p{Mn}", "")
        return self._pieces.tokenize(texts)


Tokenizer = WordPieceTokenizer | BytePairTokenizer | SentencePieceTokenizer | LearntPieceTokenizer


def load_tokenizer(directory: str | Path, description: Mapping, context_length: int) -> Tokenizer:
    """Load what `tokenizer.save(directory)` and `tokenizer.describe()` left.

    Raises:
        FileNotFoundError: its file is missing.
        ValueError: a damaged file, or a kind that this version does not know.
    """
    kind = description.get("kind")
    if kind == "wordpiece":
        return WordPieceTokenizer(
            load_vocabulary(Path(directory) / VOCABULARY_FILE),
            context_length,
            description.get("lowercase", True),
            description.get("folding", "nfkc"),
        )
    if kind == "byte-pair":
        return BytePairTokenizer(load_merges(Path(directory) / MERGES_FILE), context_length)
    if kind == "sentence-piece":
        return SentencePieceTokenizer(_model(Path(directory) / MODEL_FILE), context_length)
    if kind == LEARNT:
        return LearntPieceTokenizer(_model(Path(directory) / LEARNT_FILE), context_length)
    raise ValueError(
        f"{directory} has a tokenizer of kind {kind!r}; this tfclip reads wordpiece, byte-pair, "
        f"sentence-piece and {LEARNT}"
    )


def _model(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not complete: {path.name} is missing.")
    return path.read_bytes()


def tokenizer_from_file(
    path: str | Path, context_length: int, lowercase: bool | None = None
) -> Tokenizer:
    """The tokenizer of a `--vocabulary` file: learnt pieces, WordPiece, or byte-pair merges.

    A list of merges is known by its gzip packing, its `#version:` or the space in its first line,
    which no WordPiece token has; learnt pieces by the NUL bytes, which no text has.

    Args:
        path: `vocab.model`, `vocab.txt`, `merges.txt` or CLIP's `bpe_simple_vocab_16e6.txt.gz`.
        context_length: L.
        lowercase: of a WordPiece vocabulary; None keeps case and accents where tokens have upper
            case. Byte pairs are CLIP's, which lower-cases; learnt pieces say it themselves.

    Raises:
        FileNotFoundError, ValueError: see `load_vocabulary` and `load_merges`.
    """
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(1024)
        first = start.partition(b"\n")[0]
        if start.startswith(b"\x1f\x8b") or b" " in first.strip():
            return BytePairTokenizer(load_merges(path), context_length)
        if b"\0" in start:
            return LearntPieceTokenizer(path.read_bytes(), context_length)
    vocabulary = load_vocabulary(path)
    if lowercase is None and is_cased(vocabulary):
        return WordPieceTokenizer(vocabulary, context_length, lowercase=False, folding="bert")
    return WordPieceTokenizer(vocabulary, context_length, lowercase is not False)


def choose_context_length(
    token_counts: Sequence[int] | np.ndarray,
    *,
    share: float = 0.995,
    multiple_of: int = 8,
    maximum: int = 512,
) -> int:
    """Return the least multiple of `multiple_of` in which `share` of the texts fit uncut.

    Args:
        token_counts: (N,) ids that each text needs, as a tokenizer's `token_counts` counts.
        share: in 0..1.
        multiple_of: lengths that suit the hardware.
        maximum: upper bound, whatever the texts need.

    Raises:
        ValueError: there are no texts.
    """
    if not len(token_counts):
        raise ValueError("no token counts to choose a context length from: there are no captions")
    needed = int(np.quantile(np.asarray(token_counts), share, method="inverted_cdf"))
    return min(-(-needed // multiple_of) * multiple_of, maximum)


def check_lengths(texts: Sequence[str], tokenizer: Tokenizer) -> None:
    """Raise ValueError, naming the first of `texts` that the tokenizer would cut."""
    counts = tokenizer.token_counts(texts).numpy()
    for text, count in zip(texts, counts, strict=True):
        if count > tokenizer.context_length:
            raise ValueError(
                f"the text {text[:60]!r} takes {count} tokens; this model reads at most "
                f"{tokenizer.context_length}. Shorten it"
            )
