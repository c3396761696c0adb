"""The one text pipeline of all models: raw strings to token ids and mask, by one of five
tokenizers.

Training, evaluation, the Python API and the served graph use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
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
from tfclip.inputs.tokenizers.xlm_roberta import KIND as XLM_ROBERTA
from tfclip.inputs.tokenizers.xlm_roberta import XLM_ROBERTA_FILE, XlmRobertaTokenizer

__all__ = [
    "BytePairTokenizer",
    "LearntPieceTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "WordPieceTokenizer",
    "XlmRobertaTokenizer",
    "choose_context_length",
    "learn_vocabulary",
    "load_tokenizer",
    "load_vocabulary",
    "tokenizer_from_file",
]

VOCABULARY_FILE = "vocab.txt"
FOLDINGS = ("nfkc", "bert")
# Control and format characters other than white space, private-use characters, and U+FFFD.
_DROPPED_BY_BERT = r"[\x{0}-\x{8}\x{b}\x{c}\x{e}-\x{1f}\x{7f}-\x{9f}\p{Cf}\p{Co}\x{fffd}]"


class WordPieceTokenizer(tf.Module):
    """BERT's tokenizer (Devlin et al. 2018, arXiv 1810.04805), eagerly or in any graph.

    Text is normalised, split at spaces, punctuation and around Chinese characters, and each word
    into the longest pieces of the vocabulary; a word that cannot be split is [UNK]. Invalid UTF-8
    becomes U+FFFD.

    Args:
        vocabulary: the tokens; the index of a token is its id. See `load_vocabulary`.
        context_length: L, the length of every row of ids, [CLS] and [SEP] included.
        lowercase: False keeps case and accents, for cased vocabularies.
        folding: the normalisation when lower-casing. Both end with NFD and drop the combining marks
            (accents). "nfkc" starts with NFKC case folding, so that "Straße" becomes "strasse" and
            full-width letters become ASCII; for vocabularies learnt in this way. "bert" only
            lower-cases, which keeps tokens of pretrained vocabularies such as "…" and "½", and
            drops control characters and U+FFFD, as BERT's code does.
        strip_accents: whether the folding "bert" drops accents; None does so when lower-casing.

    >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "##s"]
    >>> tokenizer = WordPieceTokenizer(vocabulary, context_length=6)
    >>> tokenizer(["A dog", "dogs"])["token_ids"].numpy().tolist()
    [[2, 4, 5, 3, 0, 0], [2, 5, 6, 3, 0, 0]]
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        context_length: int,
        lowercase: bool = True,
        folding: str = "nfkc",
        strip_accents: bool | None = None,
    ):
        super().__init__(name="word_piece_tokenizer")
        check_vocabulary(vocabulary)
        if folding not in FOLDINGS:
            raise ValueError(f"folding must be one of {', '.join(FOLDINGS)}. Received: {folding!r}")
        if strip_accents is not None and folding != "bert":
            raise ValueError(f"strip_accents needs folding='bert'. Received: {folding!r}")
        if context_length < 3:
            raise ValueError(
                f"context_length {context_length} is too short; [CLS], a token and [SEP] take 3"
            )
        self.vocabulary = tuple(vocabulary)
        self.context_length = context_length
        self.lowercase = lowercase
        self.folding = folding
        self.strip_accents = strip_accents
        self._pad_id, self._start_id, self._end_id = map(vocabulary.index, (PAD, START, END))

    @cached_property
    def _pieces(self) -> tf_text.FastBertTokenizer:
        # Made with the first text, because it takes longer than to embed a picture.
        with tf.init_scope():
            return tf_text.FastBertTokenizer(
                list(self.vocabulary),
                unknown_token=UNKNOWN,
                token_out_type=tf.int32,
                lower_case_nfd_strip_accents=self.lowercase and self.folding == "nfkc",
            )

    @property
    def vocabulary_size(self) -> int:
        """The number of token ids."""
        return len(self.vocabulary)

    @property
    def unknown_id(self) -> int:
        """The id of [UNK]."""
        return self.vocabulary.index(UNKNOWN)

    def __call__(self, texts: tf.Tensor | Sequence[str]) -> dict[str, tf.Tensor]:
        """Return token_ids (N,L) int32 and text_mask (N,L) bool of `texts` (N,) string.

        A row is [CLS] pieces [SEP] [PAD]..., and the mask is true up to [SEP]. Longer texts are
        truncated; `token_counts` finds them.
        """
        return frame_rows(
            self._split(texts),
            self.context_length,
            start=self._start_id,
            end=self._end_id,
            pad=self._pad_id,
        )

    def token_counts(self, texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
        """Return the number of ids of each of `texts` (N,) string, with [CLS] and [SEP]: (N,)
        int32.

        The tokenizer truncates a text whose count is above `context_length`.
        """
        return tf.cast(self._split(texts).row_lengths(), tf.int32) + 2

    def mask_of(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Return the text mask of ids (N,L): (N,L) bool.

        No text contains the token [PAD], because brackets are separate words.
        """
        return tf.not_equal(token_ids, self._pad_id)

    def with_context_length(self, context_length: int) -> WordPieceTokenizer:
        """Return the same tokenizer with another context length."""
        return WordPieceTokenizer(
            self.vocabulary, context_length, self.lowercase, self.folding, self.strip_accents
        )

    def describe(self) -> dict:
        """Return the description in a saved model, which `load_tokenizer` reads with the file of
        `save`."""
        described = {"kind": "wordpiece", "lowercase": self.lowercase, "folding": self.folding}
        if self.strip_accents is not None:
            described["strip_accents"] = self.strip_accents
        return described

    def save(self, directory: Path) -> None:
        """Write `vocab.txt` into `directory`."""
        save_vocabulary(self.vocabulary, Path(directory) / VOCABULARY_FILE)

    def _split(self, texts: tf.Tensor | Sequence[str]) -> tf.RaggedTensor:
        texts = tf.convert_to_tensor(texts, tf.string)
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")
        if self.folding == "bert":
            texts = tf.strings.regex_replace(texts, _DROPPED_BY_BERT, "")
        if self.folding == "bert":
            if self.lowercase:
                texts = tf.strings.lower(texts, encoding="utf-8")
            if self.lowercase if self.strip_accents is None else self.strip_accents:
                texts = tf_text.normalize_utf8(texts, "NFD")
                texts = tf.strings.regex_replace(texts, r"\p{Mn}", "")
        return self._pieces.tokenize(texts)


Tokenizer = (
    WordPieceTokenizer
    | BytePairTokenizer
    | SentencePieceTokenizer
    | XlmRobertaTokenizer
    | LearntPieceTokenizer
)


def load_tokenizer(directory: str | Path, description: Mapping, context_length: int) -> Tokenizer:
    """Load a tokenizer from the file of `tokenizer.save(directory)` and its `describe()`.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a damaged file, or an unknown kind of tokenizer.
    """
    kind = description.get("kind")
    if kind == "wordpiece":
        return WordPieceTokenizer(
            load_vocabulary(Path(directory) / VOCABULARY_FILE),
            context_length,
            description.get("lowercase", True),
            description.get("folding", "nfkc"),
            description.get("strip_accents"),
        )
    if kind == "byte-pair":
        return BytePairTokenizer(load_merges(Path(directory) / MERGES_FILE), context_length)
    if kind == "sentence-piece":
        return SentencePieceTokenizer(_model(Path(directory) / MODEL_FILE), context_length)
    if kind == XLM_ROBERTA:
        return XlmRobertaTokenizer(_model(Path(directory) / XLM_ROBERTA_FILE), context_length)
    if kind == LEARNT:
        return LearntPieceTokenizer(_model(Path(directory) / LEARNT_FILE), context_length)
    raise ValueError(
        f"{directory} has a tokenizer of kind {kind!r}; this tfclip reads wordpiece, byte-pair, "
        f"sentence-piece, {XLM_ROBERTA} and {LEARNT}"
    )


def _model(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is incomplete: {path.name} is missing")
    return path.read_bytes()


def tokenizer_from_file(
    path: str | Path, context_length: int, lowercase: bool | None = None
) -> Tokenizer:
    """Return the tokenizer of a `--vocabulary` file: learnt pieces, WordPiece, or byte-pair merges.

    A list of merges is recognised by gzip compression or by the space in its first line, which no
    WordPiece token has; learnt pieces by NUL bytes, which no text file has.

    Args:
        path: `vocab.model`, `vocab.txt`, `merges.txt` or CLIP's `bpe_simple_vocab_16e6.txt.gz`.
        context_length: L.
        lowercase: for WordPiece, whether to lower-case; None keeps case and accents if tokens have
            upper case. Byte pairs always lower-case, as CLIP does; learnt pieces record it.

    Raises:
        FileNotFoundError: see `load_vocabulary` and `load_merges`.
        ValueError: see `load_vocabulary` and `load_merges`.
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
    fraction: float = 0.995,
    multiple_of: int = 8,
    maximum: int = 512,
) -> int:
    """Return the smallest multiple of `multiple_of` that fits `fraction` of the texts.

    Args:
        token_counts: (N,) the number of ids of each text, from `token_counts` of a tokenizer.
        fraction: the fraction of the texts that must not be truncated, 0 to 1.
        multiple_of: the step of lengths, which suits the hardware.
        maximum: the upper bound.

    Raises:
        ValueError: there are no texts.

    >>> choose_context_length([5, 7, 9, 31], fraction=0.75)
    16
    """
    if not len(token_counts):
        raise ValueError("cannot choose a context length: there are no captions")
    needed = int(np.quantile(np.asarray(token_counts), fraction, method="inverted_cdf"))
    return min(-(-needed // multiple_of) * multiple_of, maximum)


def check_lengths(texts: Sequence[str], tokenizer: Tokenizer) -> None:
    """Raise ValueError for the first of `texts` that the tokenizer would truncate."""
    counts = tokenizer.token_counts(texts).numpy()
    for text, count in zip(texts, counts, strict=True):
        if count > tokenizer.context_length:
            raise ValueError(
                f"the text {text[:60]!r} takes {count} tokens; this model reads at most "
                f"{tokenizer.context_length}. Shorten it"
            )
