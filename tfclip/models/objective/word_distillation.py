"""Distillation from a teacher's embeddings of prompts of single words, which no caption needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tensorflow as tf

from tfclip.models.objective.tagging_loss import sampled_prompts


@dataclass(frozen=True)
class WordDistillation:
    """The squared distance to the teacher over M prompts, of which each step samples `sample`.

    A text tower that learns from a few thousand captions knows their words alone; a teacher with a
    pretrained one knows the others.

    Attributes:
        token_ids, text_mask: (M, L) int32, the prompts as the student reads them.
        features: (M, F), the output of a frozen text tower for them; None to run the tower.
        embeddings: (M, D), the teacher's, of unit norm.
        weight: the factor of this loss relative to the contrastive one.
        sample: the number of prompts per step.
        seed: seed of the sampling.
    """

    token_ids: tf.Tensor
    text_mask: tf.Tensor
    features: tf.Tensor | None
    embeddings: tf.Tensor
    weight: float
    sample: int = 64
    seed: int = 0

    def __call__(self, embed_text: Callable[[Mapping], tf.Tensor], step: tf.Tensor) -> tf.Tensor:
        """Return the weighted mean over the sample: () float32.

        Args:
            embed_text: takes `text_mask` (S, L), and `token_ids` (S, L) or `text_features`; returns
                (S, D) unit-norm embeddings.
            step: () integer, the number of the update; determines the sample, with the seed.
        """
        sampled = self.sampled(step)
        prompts = sampled_prompts(self.token_ids, self.text_mask, self.features, sampled)
        target = tf.cast(tf.gather(self.embeddings, sampled), tf.float32)
        distances = tf.math.squared_difference(embed_text(prompts), target)
        return self.weight * tf.reduce_mean(tf.reduce_sum(distances, axis=-1))

    def sampled(self, step: tf.Tensor) -> tf.Tensor:
        """Return the numbers of the prompts of an update: all of them once in each pass.

        The last sample of a pass overlaps the one before it.
        """
        count = self.token_ids.shape[0]
        sample = min(self.sample, count)
        passes = -(-count // sample)
        step = tf.cast(step, tf.int32)
        first = tf.minimum(step % passes * sample, count - sample)
        # Places of a permutation that is not written out: a vocabulary takes a millisecond to sort.
        return tf.random.experimental.index_shuffle(
            first + tf.range(sample), tf.stack([self.seed, step // passes]), count - 1
        )
