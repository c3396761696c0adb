"""One way for a text into a model: WordPiece in the graph, from raw strings to ids and mask."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tfclip.inputs.vocabulary import (
    END,
    PAD,
    START,
    UNKNOWN,
    check_vocabulary,
    learn_vocabulary,
    load_vocabulary,
)

__all__ = [
    "WordPieceTokenizer",
    "choose_context_length",
    "learn_vocabulary",
    "load_vocabulary",
]


class WordPieceTokenizer(tf.Module):
    """BERT's tokenizer (Devlin et al. 2018, arXiv 1810.04805), eagerly or in any graph.

    Text is case folded and stripped of accents (Unicode NFKC case folding, so "Straße" is
    "strasse" and full-width letters are plain ones; then NFD without its marks), split at spaces,
    punctuation and around Chinese characters, and each word into the longest pieces of the
    vocabulary; a word that cannot be spelt is [UNK]. Bytes that are not UTF-8 count as U+FFFD.

    Args:
        vocabulary: the tokens, whose index is the id; see `load_vocabulary`.
        context_length: L, the length of every row of ids, [CLS] and [SEP] included.
        lowercase: False keeps case and accents, for cased vocabularies.
    """

    def __init__(self, vocabulary: Sequence[str], context_length: int, lowercase: bool = True):
        super().__init__(name="word_piece_tokenizer")
        check_vocabulary(vocabulary)
        if context_length < 3:
            raise ValueError(
                f"context_length {context_length} is too short; [CLS], a token and [SEP] take 3"
            )
        self.vocabulary = tuple(vocabulary)
        self.context_length = context_length
        self.lowercase = lowercase
        self._pad_id, self._start_id, self._end_id = map(vocabulary.index, (PAD, START, END))
        self._pieces = tf_text.FastBertTokenizer(
            list(vocabulary),
            unknown_token=UNKNOWN,
            token_out_type=tf.int32,
            lower_case_nfd_strip_accents=lowercase,
        )

    def __call__(self, texts: tf.Tensor | Sequence[str]) -> dict[str, tf.Tensor]:
        """Turn `texts` (N,) string into token_ids (N,L) int32 and text_mask (N,L) bool.

        A row is [CLS] pieces [SEP] [PAD]..., and the mask is true up to [SEP]. A text with more
        pieces than fit is cut; `token_counts` tells which ones are.
        """
        pieces = self._split(texts)
        room = self.context_length - 2
        counts = tf.minimum(tf.cast(pieces.row_lengths(), tf.int32), room)[:, None]
        # Padded first and framed after: joining ragged rows takes twice as long.
        padded = pieces.to_tensor(self._pad_id, shape=[None, room])
        padded = tf.pad(padded, [[0, 0], [1, 1]], constant_values=self._pad_id)
        place = tf.range(self.context_length)[None]
        token_ids = tf.where(place == counts + 1, self._end_id, padded)
        return {
            "token_ids": tf.where(place == 0, self._start_id, token_ids),
            "text_mask": place <= counts + 1,
        }

    def token_counts(self, texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
        """Count the ids each of `texts` (N,) string needs, [CLS] and [SEP] included: (N,) int32.

        A text is cut by the tokenizer when its count is above `context_length`.
        """
        return tf.cast(self._split(texts).row_lengths(), tf.int32) + 2

    def _split(self, texts: tf.Tensor | Sequence[str]) -> tf.RaggedTensor:
        texts = tf.convert_to_tensor(texts, tf.string)
        return self._pieces.tokenize(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8"))


def choose_context_length(
    token_counts: Sequence[int] | np.ndarray,
    *,
    share: float = 0.995,
    multiple_of: int = 8,
    maximum: int = 512,
) -> int:
    """Return the least multiple of `multiple_of` in which `share` of the texts fit uncut.

    Args:
        token_counts: (N,) ids that each text needs, as `WordPieceTokenizer.token_counts` counts.
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
