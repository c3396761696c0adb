"""The contrastive loss over the global batch, in row chunks, with several positives to a row."""

from __future__ import annotations

import tensorflow as tf


def positive_pairs(
    row_image_id: tf.Tensor,
    row_caption_id: tf.Tensor,
    image_id: tf.Tensor,
    caption_id: tf.Tensor,
) -> tf.Tensor:
    """Which columns belong to which rows: the same picture or the same caption.

    Args:
        row_image_id, row_caption_id: (R,) int64, of the rows.
        image_id, caption_id: (G,) int64, of the columns.

    Returns:
        (R, G) bool.
    """
    return (row_image_id[:, None] == image_id[None, :]) | (
        row_caption_id[:, None] == caption_id[None, :]
    )


def softmax_contrastive(
    rows: tf.Tensor,
    columns: tf.Tensor,
    logit_scale: tf.Tensor,
    row_ids: tuple[tf.Tensor, tf.Tensor],
    column_ids: tuple[tf.Tensor, tf.Tensor],
    chunk_rows: int = 1024,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sum over the rows of the softmax cross-entropy against uniform targets on the positives.

    One direction of the InfoNCE loss (Radford et al. 2021, figure 3; several positives as in
    Khosla et al. 2020, equation 2, "out"). Logits are built `chunk_rows` rows at a time and the
    gradient is computed in the same pass, so the (G, G) matrix never exists: at G = 16,384 it alone
    would take over 1 GB, and the tape would keep several.

    Args:
        rows: (R, D) float32 unit-norm embeddings of this replica.
        columns: (G, D) float32 unit-norm embeddings of all replicas, the other modality.
        logit_scale: () float32, the factor on the cosine.
        row_ids: image_id and caption_id of the rows, each (R,) int64.
        column_ids: image_id and caption_id of the columns, each (G,) int64.
        chunk_rows: rows whose logits stand in memory at once.

    Returns:
        The sum of the rows' losses, () float32, differentiable in the first three arguments, and
        the number of rows whose best column is a positive, () float32.
    """

    @tf.custom_gradient
    def loss_and_hits(rows, columns, logit_scale):
        count = tf.shape(rows)[0]

        def one_chunk(start, loss, hits, row_gradient, column_gradient, scale_gradient):
            part = slice(start, start + chunk_rows)
            cosine = tf.matmul(rows[part], columns, transpose_b=True)
            positive = positive_pairs(row_ids[0][part], row_ids[1][part], *column_ids)
            target = tf.cast(positive, tf.float32)
            target /= tf.reduce_sum(target, axis=1, keepdims=True)
            logits = logit_scale * cosine
            loss += tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(target, logits))
            best = tf.argmax(cosine, axis=1)
            hits += tf.reduce_sum(tf.cast(tf.gather(positive, best, batch_dims=1), tf.float32))
            error = tf.nn.softmax(logits) - target
            scale_gradient += tf.reduce_sum(error * cosine)
            error *= logit_scale
            row_gradient = row_gradient.write(start // chunk_rows, tf.matmul(error, columns))
            column_gradient += tf.matmul(error, rows[part], transpose_a=True)
            return start + chunk_rows, loss, hits, row_gradient, column_gradient, scale_gradient

        zero = tf.constant(0.0)
        chunks = tf.TensorArray(
            tf.float32,
            size=0,
            dynamic_size=True,
            infer_shape=False,
            element_shape=tf.TensorShape([None, rows.shape[1]]),
        )
        _, loss, hits, chunks, column_gradient, scale_gradient = tf.while_loop(
            lambda start, *_: start < count,
            one_chunk,
            (tf.constant(0), zero, zero, chunks, tf.zeros_like(columns), zero),
            parallel_iterations=1,
        )
        row_gradient = tf.ensure_shape(chunks.concat(), rows.shape)

        def gradient(d_loss, _):
            return d_loss * row_gradient, d_loss * column_gradient, d_loss * scale_gradient

        return (loss, hits), gradient

    return loss_and_hits(rows, columns, logit_scale)
