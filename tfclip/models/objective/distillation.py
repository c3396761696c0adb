"""Distillation losses: a student learns from stored embeddings of teachers.

The teachers do not run in training: `training.data.teachers` looks up their embeddings of the views
and captions of the batch (dataset reinforcement: Vasu et al. 2024, MobileCLIP, arXiv:2311.17049).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import tensorflow as tf

from tfclip.models.objective import cross_replica
from tfclip.models.objective.global_loss import text_ids
from tfclip.models.objective.losses import softmax_contrastive

IMAGE, TEXT = "teacher_image", "teacher_text"


@dataclass(frozen=True)
class Distillation:
    """The weighted sum of three losses against T teachers.

    Attributes:
        sizes: the size of the embedding of each teacher; a batch holds them side by side.
        scales: the logit scale of each teacher.
        affinity: weight of the affinity loss, the mean over the teachers.
        feature: weight of the feature loss; one teacher, of the size of the student's embedding.
        interactive: weight of the interactive contrastive loss; likewise.
        contrastive: the factor of the student's own contrastive loss.
    """

    sizes: tuple[int, ...]
    scales: tuple[float, ...]
    affinity: float = 1.0
    feature: float = 0.0
    interactive: float = 0.0
    contrastive: float = 1.0

    def __call__(self, embeddings: Mapping, batch: Mapping, scale: tf.Tensor) -> tf.Tensor:
        """Return this replica's part of the loss of the global batch: () float32.

        Args:
            embeddings: `image_embeddings` (R, D), `text_embeddings` (R * K, D), float32, unit norm.
            batch: `teacher_image` (R, sum of the sizes) and `teacher_text`, (R, ...) or (R, K,
                ...), of unit norm for each teacher; and the ids of `global_loss`.
            scale: () float32, the logit scale of the student.
        """
        images, texts = embeddings["image_embeddings"], embeddings["text_embeddings"]
        width = sum(self.sizes)
        teacher_images, teacher_texts = (
            tf.split(tf.cast(tf.reshape(batch[name], [-1, width]), tf.float32), self.sizes, axis=1)
            for name in (IMAGE, TEXT)
        )
        loss = tf.constant(0.0)
        if self.affinity:
            parts = [
                affinity_loss(images, texts, scale, image, text, own)
                for image, text, own in zip(teacher_images, teacher_texts, self.scales, strict=True)
            ]
            loss += self.affinity / len(parts) * tf.add_n(parts)
        if self.feature:
            loss += self.feature * feature_loss(images, texts, teacher_images[0], teacher_texts[0])
        if self.interactive:
            loss += self.interactive * interactive_loss(
                images,
                texts,
                scale,
                teacher_images[0],
                teacher_texts[0],
                (batch["image_id"], batch["caption_id"]),
                text_ids(batch),
            )
        return loss

    def get_config(self) -> dict:
        """Return the fields as JSON types."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_config(cls, config: Mapping) -> Distillation:
        """Build from the result of `get_config`."""
        lists = {name: tuple(config[name]) for name in ("sizes", "scales")}
        return cls(**{**config, **lists})


def affinity_loss(
    images: tf.Tensor,
    texts: tf.Tensor,
    scale: tf.Tensor,
    teacher_images: tf.Tensor,
    teacher_texts: tf.Tensor,
    teacher_scale: float,
) -> tf.Tensor:
    """Return the cross-entropy of the student's similarities under the teacher's, both ways.

    The softmax over the texts of a picture, and over the pictures of a text, imitates the teacher's
    (affinity mimicking: Wu et al. 2023, TinyCLIP, arXiv:2309.12314, equations 1 to 3). The logits
    of the local rows against all columns are in memory at once.

    Args:
        images, texts: (R, D) and (M, D), the student's embeddings of this replica.
        scale: () float32, the student's logit scale.
        teacher_images, teacher_texts: (R, F) and (M, F), the teacher's.
        teacher_scale: the teacher's logit scale.

    Returns:
        This replica's part of the mean of both directions, () float32.

    Examples:
        >>> one = tf.eye(2)
        >>> loss = affinity_loss(one, one, tf.constant(1.0), one, one, 1.0)
        >>> round(float(loss), 4)  # the entropy of softmax(1, 0)
        0.5823
    """

    def cross_entropy(logits, target):
        losses = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(target), logits)
        return tf.reduce_sum(losses)

    def similarities(rows, columns, factor):
        return factor * tf.matmul(rows, cross_replica.gather_rows(columns), transpose_b=True)

    logits = similarities(images, texts, scale)
    target = similarities(teacher_images, teacher_texts, teacher_scale)
    to_text = cross_entropy(logits, target) / cross_replica.global_rows(images)
    if cross_replica.replica_count() == 1:
        # The other direction has the same products.
        logits, target = tf.transpose(logits), tf.transpose(target)
    else:
        logits = similarities(texts, images, scale)
        target = similarities(teacher_texts, teacher_images, teacher_scale)
    to_image = cross_entropy(logits, target) / cross_replica.global_rows(texts)
    return 0.5 * (to_text + to_image)


def feature_loss(
    images: tf.Tensor, texts: tf.Tensor, teacher_images: tf.Tensor, teacher_texts: tf.Tensor
) -> tf.Tensor:
    """Return the squared distance to the teacher's embeddings, a mean per modality, summed.

    Feature distillation (Yang et al. 2024, CLIP-KD, arXiv:2307.12732, equation 4).

    Args:
        images, texts: (R, D) and (M, D), the student's embeddings of this replica.
        teacher_images, teacher_texts: likewise, the teacher's.

    Returns:
        This replica's part, () float32.

    Examples:
        >>> one, other = tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 1.0]])
        >>> float(feature_loss(one, one, other, one))
        2.0
    """
    pairs = (images, teacher_images), (texts, teacher_texts)
    return tf.add_n(
        [
            tf.reduce_sum(tf.math.squared_difference(own, other)) / cross_replica.global_rows(own)
            for own, other in pairs
        ]
    )


def interactive_loss(
    images: tf.Tensor,
    texts: tf.Tensor,
    scale: tf.Tensor,
    teacher_images: tf.Tensor,
    teacher_texts: tf.Tensor,
    image_ids: tuple[tf.Tensor, tf.Tensor],
    of_texts: tuple[tf.Tensor, tf.Tensor],
) -> tf.Tensor:
    """Return the softmax loss of the student's pictures against the teacher's texts and vice versa.

    Interactive contrastive learning (CLIP-KD, equations 9 to 11), with the positives of the
    contrastive loss.

    Args:
        images, texts, scale, teacher_images, teacher_texts: see `feature_loss` and `affinity_loss`.
        image_ids, of_texts: `image_id` and `caption_id` of the pictures and of the texts.

    Returns:
        This replica's part of the mean of both directions, () float32.
    """

    def one_way(rows, columns, row_ids, column_ids):
        gathered = tuple(cross_replica.gather_rows(ids) for ids in column_ids)
        total, _ = softmax_contrastive(
            rows, cross_replica.gather_rows(columns), scale, row_ids, gathered
        )
        return total / cross_replica.global_rows(rows)

    to_text = one_way(images, teacher_texts, image_ids, of_texts)
    return 0.5 * (to_text + one_way(texts, teacher_images, of_texts, image_ids))
