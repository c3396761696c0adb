"""SentencePiece models in the graph, whatever happens to TensorFlow's caches meanwhile."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_text as tf_text


def split_into_pieces(model: bytes, texts: tf.Tensor) -> tf.RaggedTensor:
    """The ids of the pieces of `texts` (N,) string: (N,None) int32.

    The op that holds the model stands beside the one that uses it, in every call and every graph.
    A resource that is made once does not last: it is destroyed with its kernel, which every
    `keras.utils.set_random_seed` clears from the cache. A kernel reads the model once.
    """
    return tf_text.SentencepieceTokenizer(model, out_type=tf.int32).tokenize(texts)


def first_tokens(model: bytes, count: int) -> list[str]:
    """The tokens of the first ids, at most `count`; ValueError where it is no model."""
    try:
        tokenizer = tf_text.SentencepieceTokenizer(model)
        size = int(tokenizer.vocab_size())
        tokens = tokenizer.id_to_string(tf.range(min(count, size))).numpy()
    except (tf.errors.OpError, ValueError) as error:
        reason = (str(error).strip() or "unreadable").splitlines()[0]
        raise ValueError(f"the SentencePiece model cannot be read: {reason}") from None
    return [token.decode("utf-8", "replace") for token in tokens]


def vocabulary_size(model: bytes) -> int:
    """How many ids a model has."""
    return int(tf_text.SentencepieceTokenizer(model).vocab_size())


def id_of(model: bytes, token: str) -> int:
    """The id of a token."""
    return int(tf_text.SentencepieceTokenizer(model).string_to_id(token))
