"""The contrastive losses over the global batch, in chunks of rows, with several positives a row."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfclip.models.objective.row_chunks import chunk_size, over_chunks

Ids = tuple[tf.Tensor, tf.Tensor]


def plain_softmax_loss(
    images: tf.Tensor, texts: tf.Tensor, logit_scale: tf.Tensor, positive: tf.Tensor
) -> tf.Tensor:
    """Return the softmax loss (Radford et al. 2021, figure 3): the mean of both directions.

    This is the definition; the functions below compute it in chunks.

    Args:
        images: (R, D) float32 unit-norm embeddings.
        texts: (G, D) float32 unit-norm embeddings.
        logit_scale: () float32, the factor that multiplies the cosine.
        positive: (R, G) bool, see `positive_pairs`.

    Returns:
        () float32.

    Examples:
        >>> images = texts = tf.eye(2)
        >>> loss = plain_softmax_loss(images, texts, tf.constant(1.0), tf.eye(2, dtype=tf.bool))
        >>> round(float(loss), 4)  # ln(1 + 1 / e)
        0.3133
    """
    logits = logit_scale * tf.matmul(images, texts, transpose_b=True)
    belongs = tf.cast(positive, tf.float32)

    def one_way(logits, belongs):
        target = belongs / tf.reduce_sum(belongs, axis=1, keepdims=True)
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, logits))

    return 0.5 * (one_way(logits, belongs) + one_way(tf.transpose(logits), tf.transpose(belongs)))


def plain_sigmoid_loss(
    images: tf.Tensor,
    texts: tf.Tensor,
    logit_scale: tf.Tensor,
    logit_bias: tf.Tensor,
    positive: tf.Tensor,
) -> tf.Tensor:
    """Return the sigmoid loss (SigLIP; Zhai et al. 2023, arXiv:2303.15343, equation 1).

    Args:
        images, texts, logit_scale, positive: see `plain_softmax_loss`.
        logit_bias: () float32, added to the scaled cosine.

    Returns:
        () float32.

    Examples:
        >>> images = texts = tf.eye(2)
        >>> one, zero = tf.constant(1.0), tf.constant(0.0)
        >>> loss = plain_sigmoid_loss(images, texts, one, zero, tf.eye(2, dtype=tf.bool))
        >>> round(float(loss), 4)  # ln(1 + 1 / e) + ln 2
        1.0064
    """
    logits = logit_scale * tf.matmul(images, texts, transpose_b=True) + logit_bias
    losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(positive, tf.float32), logits)
    return tf.reduce_mean(tf.reduce_sum(losses, axis=1))


def positive_pairs(
    row_image_id: tf.Tensor,
    row_caption_id: tf.Tensor,
    image_id: tf.Tensor,
    caption_id: tf.Tensor,
) -> tf.Tensor:
    """Return which columns are positives of which rows: the same picture, or a shared caption.

    Args:
        row_image_id: (R,) int64, of the rows.
        row_caption_id: (R,) int64, or (R, K) where a row has several captions.
        image_id: (G,) int64, of the columns.
        caption_id: (G,) or (G, K) int64, of the columns.

    Returns:
        (R, G) bool.

    Examples:
        >>> ids = tf.constant([1, 2, 2], tf.int64), tf.constant([7, 8, 7], tf.int64)
        >>> positive_pairs(*ids, *ids).numpy().astype(int)
        array([[1, 0, 1],
               [0, 1, 1],
               [1, 1, 1]])
    """
    rows, columns = (
        tf.reshape(ids, [tf.shape(ids)[0], -1]) for ids in (row_caption_id, caption_id)
    )
    in_common = rows[:, None, :, None] == columns[None, :, None, :]
    same_picture = row_image_id[:, None] == image_id[None, :]
    return same_picture | tf.reduce_any(in_common, axis=[2, 3])


def softmax_contrastive(
    rows: tf.Tensor,
    columns: tf.Tensor,
    logit_scale: tf.Tensor,
    row_ids: Ids,
    column_ids: Ids,
    chunk_rows: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sum the softmax cross-entropy of the rows, with targets uniform over a row's positives.

    One direction of the InfoNCE loss (Radford et al. 2021, figure 3; several positives as in
    Khosla et al. 2020, equation 2, "out").

    Args:
        rows: (R, D) float32 unit-norm embeddings of this replica.
        columns: (G, D) float32 unit-norm embeddings of all replicas, of the other modality.
        logit_scale: () float32, the factor that multiplies the cosine.
        row_ids: image_id and caption_id of the rows, see `positive_pairs`.
        column_ids: image_id and caption_id of the columns.
        chunk_rows: rows whose logits are in memory at once; None chooses by the device.

    Returns:
        The sum of the rows' losses, () float32, differentiable in the first three arguments, and
        the number of rows whose best column is a positive, () float32.
    """

    def terms(logits: tf.Tensor, positive: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        target = tf.cast(positive, tf.float32)
        target /= tf.reduce_sum(target, axis=1, keepdims=True)
        # The kernel also returns softmax - target, the derivative; `tf.nn` returns the loss only.
        return tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=logits, labels=target)

    no_bias = tf.constant(0.0)
    return _over_chunks(terms, rows, columns, logit_scale, no_bias, row_ids, column_ids, chunk_rows)


def softmax_both_ways(
    images: tf.Tensor,
    texts: tf.Tensor,
    logit_scale: tf.Tensor,
    image_ids: Ids,
    text_ids: Ids,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the mean of both directions of `softmax_contrastive` on one device.

    The matrix of logits is computed once for both directions, which halves the multiplications. It
    is in memory as a whole: for batches whose matrix is small.

    Args:
        images: (R, D) float32 unit-norm embeddings.
        texts: (G, D) float32 unit-norm embeddings.
        logit_scale: () float32.
        image_ids, text_ids: image_id and caption_id of each modality, see `positive_pairs`.

    Returns:
        The loss, () float32, differentiable in the first three arguments, and the number of images
        whose best text is a positive, () float32.
    """
    positive = positive_pairs(*image_ids, *text_ids)
    belongs = tf.cast(positive, tf.float32)
    targets = [belongs / tf.reduce_sum(belongs, axis=axis, keepdims=True) for axis in (1, 0)]
    rows, columns = (0.5 / tf.cast(tf.shape(belongs)[axis], tf.float32) for axis in (0, 1))

    @tf.custom_gradient
    def loss_and_hits(images, texts, logit_scale):
        cosine = tf.matmul(images, texts, transpose_b=True)
        logits = logit_scale * cosine
        error, loss = tf.zeros_like(logits), tf.constant(0.0)
        for axis, weight, target in ((1, rows, targets[0]), (0, columns, targets[1])):
            log_sum = tf.reduce_logsumexp(logits, axis=axis, keepdims=True)
            # A target sums to one along the axis.
            loss += weight * (tf.reduce_sum(log_sum) - tf.reduce_sum(target * logits))
            error += weight * (tf.exp(logits - log_sum) - target)
        best = tf.argmax(cosine, axis=1)
        hits = tf.reduce_sum(tf.cast(tf.gather(positive, best, batch_dims=1), tf.float32))

        def gradient(d_loss, _):
            scaled = d_loss * logit_scale * error
            return (
                tf.matmul(scaled, texts),
                tf.matmul(scaled, images, transpose_a=True),
                d_loss * tf.reduce_sum(error * cosine),
            )

        return (loss, hits), gradient

    return loss_and_hits(images, texts, logit_scale)


def sigmoid_contrastive(
    rows: tf.Tensor,
    columns: tf.Tensor,
    logit_scale: tf.Tensor,
    logit_bias: tf.Tensor,
    row_ids: Ids,
    column_ids: Ids,
    chunk_rows: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sum the binary cross-entropy over all pairs of rows and columns.

    SigLIP's loss (Zhai et al. 2023, arXiv:2303.15343, equation 1), with several positives a row.
    Each pair is counted once: one direction is the whole loss.

    Args:
        rows, columns, logit_scale, row_ids, column_ids, chunk_rows: see `softmax_contrastive`.
        logit_bias: () float32, added to the scaled cosine.

    Returns:
        The sum of the pairs' losses, () float32, differentiable in the first four arguments, and
        the number of rows whose best column is a positive, () float32.
    """

    def terms(logits: tf.Tensor, positive: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        target = tf.cast(positive, tf.float32)
        loss = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
        return loss, tf.nn.sigmoid(logits) - target

    return _over_chunks(
        terms, rows, columns, logit_scale, logit_bias, row_ids, column_ids, chunk_rows
    )


def _over_chunks(
    terms: Callable,
    rows: tf.Tensor,
    columns: tf.Tensor,
    logit_scale: tf.Tensor,
    logit_bias: tf.Tensor,
    row_ids: Ids,
    column_ids: Ids,
    chunk_rows: int | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sum a loss over the rows chunk by chunk, with the gradient from the same pass.

    The (G, G) matrix never exists: at G = 16,384 it alone would take over 1 GB, and the tape would
    keep several. `terms` takes the logits and positives (R, G) of a chunk and returns losses of any
    shape and their derivative by the logits, (R, G).
    """

    @tf.custom_gradient
    def loss_and_hits(rows, columns, logit_scale, logit_bias):
        def one_chunk(part, sums):
            """Add the rows of a chunk, with their ids, to the sums; return their gradient too."""
            chunk, *ids = part
            loss, hits, column_gradient, d_scale, d_bias = sums
            cosine = tf.matmul(chunk, columns, transpose_b=True)
            positive = positive_pairs(*ids, *column_ids)
            losses, error = terms(logit_scale * cosine + logit_bias, positive)
            loss += tf.reduce_sum(losses)
            best = tf.argmax(cosine, axis=1)
            hits += tf.reduce_sum(tf.cast(tf.gather(positive, best, batch_dims=1), tf.float32))
            d_scale += tf.reduce_sum(error * cosine)
            d_bias += tf.reduce_sum(error)
            error *= logit_scale
            column_gradient += tf.matmul(error, chunk, transpose_a=True)
            return tf.matmul(error, columns), (loss, hits, column_gradient, d_scale, d_bias)

        zero = tf.constant(0.0)
        sums = zero, zero, tf.zeros_like(columns), zero, zero
        row_gradient, sums = over_chunks(
            one_chunk, (rows, *row_ids), sums, chunk_size(columns, chunk_rows)
        )
        loss, hits, column_gradient, d_scale, d_bias = sums

        def gradient(d_loss, _):
            parts = (row_gradient, column_gradient, d_scale, d_bias)
            return tuple(d_loss * part for part in parts)

        return (loss, hits), gradient

    return loss_and_hits(rows, columns, logit_scale, logit_bias)


def word_loss(
    images: tf.Tensor, words: tf.Tensor, present: tf.Tensor, scale: float, bias: float
) -> tf.Tensor:
    """Sum the binary cross-entropy of "the word is in the captions" over pictures and words.

    Args:
        images: (R, D) float32 unit-norm embeddings of pictures.
        words: (W, D) float32 unit-norm embeddings of prompts made from the words.
        present: (R, W) bool, whether a caption of the picture contains the word.
        scale, bias: the logit is scale times cosine plus bias.

    Returns:
        The sum, () float32.
    """
    logits = scale * tf.matmul(images, words, transpose_b=True) + bias
    losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(present, tf.float32), logits)
    return tf.reduce_sum(losses)


def unit_norm(x: tf.Tensor) -> tf.Tensor:
    """Return (..., D) as float32 of unit norm; norms in half precision are off by 1e-3."""
    return tf.math.l2_normalize(tf.cast(x, tf.float32), axis=-1, epsilon=1e-12)
