"""SentencePiece ops that survive the clearing of TensorFlow's kernel cache."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_text as tf_text


def split_into_pieces(model: bytes, texts: tf.Tensor) -> tf.RaggedTensor:
    """Return the ids of the pieces of `texts` (N,) string: (N,None) int32.

    Each call creates the op that holds the model next to the op that uses it. A resource created
    once would not last: it is destroyed with its kernel, which `keras.utils.set_random_seed` clears
    from the cache. A kernel reads the model only once.
    """
    return tf_text.SentencepieceTokenizer(model, out_type=tf.int32).tokenize(texts)


def first_tokens(model: bytes, count: int) -> list[str]:
    """Return the first `count` tokens or fewer; ValueError if the bytes are not a model."""
    try:
        tokenizer = tf_text.SentencepieceTokenizer(model)
        size = int(tokenizer.vocab_size())
        tokens = tokenizer.id_to_string(tf.range(min(count, size))).numpy()
    except (tf.errors.OpError, ValueError) as error:
        reason = (str(error).strip() or "unreadable").splitlines()[0]
        raise ValueError(f"the SentencePiece model cannot be read: {reason}") from None
    return [token.decode("utf-8", "replace") for token in tokens]


def vocabulary_size(model: bytes) -> int:
    """Return the number of ids of a model."""
    return int(tf_text.SentencepieceTokenizer(model).vocab_size())


def id_of(model: bytes, token: str) -> int:
    """Return the id of a token."""
    return int(tf_text.SentencepieceTokenizer(model).string_to_id(token))
