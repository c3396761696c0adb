"""Auxiliary tagging loss: binary cross-entropy over the words of the captions.

Captions in a batch compete for a picture; the labels of a multi-label benchmark do not. Like
tagging models with words parsed from captions (Huang et al. 2023, RAM, arXiv:2306.03514), this loss
decides for each word whether it describes the picture; words that are in no caption are negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfclip.models.objective.losses import word_loss

# The logit is SCALE * cosine + BIAS: at the start of training every word is improbable.
SCALE = 10.0
BIAS = -4.0


def sampled_prompts(
    token_ids: tf.Tensor, text_mask: tf.Tensor, features: tf.Tensor | None, sampled: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Return some of the M prompts, as the text side takes them: `text_mask`, and `text_features`
    where they are stored, or `token_ids`."""
    inputs = ("token_ids", token_ids) if features is None else ("text_features", features)
    return {name: tf.gather(rows, sampled) for name, rows in (("text_mask", text_mask), inputs)}


@dataclass(frozen=True)
class TaggingLoss:
    """The loss over M words, of which each step samples `sample`.

    Attributes:
        words: the words, for the log.
        token_ids, text_mask: (M, L) int32, prompts made from the words.
        features: (M, F) or (M, L, F), the output of a frozen text tower; None to run the tower.
        weight: the factor of this loss relative to the contrastive one.
        sample: the number of words per step.
        seed: seed of the sampling.
    """

    words: tuple[str, ...]
    token_ids: tf.Tensor
    text_mask: tf.Tensor
    features: tf.Tensor | None
    weight: float
    sample: int = 256
    seed: int = 0

    def __call__(
        self,
        embed_text: Callable[[Mapping], tf.Tensor],
        step: tf.Tensor,
        images: tf.Tensor,
        present: tf.Tensor,
    ) -> tf.Tensor:
        """Return the weighted loss, summed over R local pictures: () float32.

        Args:
            embed_text: takes `text_mask` (S, L) and `token_ids` (S, L), or stored
                `text_features`; returns (S, D) unit-norm embeddings.
            step: () integer, the number of the update; determines the sample, with the seed.
            images: (R, D) float32 unit-norm embeddings.
            present: (R, K) int32, the indices of the words of each picture, padded with -1.
        """
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(self.words)), tf.stack([self.seed, tf.cast(step, tf.int32)])
        )
        sampled = order[: self.sample]
        prompts = sampled_prompts(self.token_ids, self.text_mask, self.features, sampled)
        is_present = tf.reduce_any(present[:, :, None] == sampled, axis=1)
        # Divided by ten, a typical number of words per picture, whatever the sample size.
        loss = word_loss(images, embed_text(prompts), is_present, SCALE, BIAS)
        return self.weight / 10.0 * loss

    def get_config(self) -> dict:
        """Return all fields but the stored features, which the frozen tower computes again."""
        return {
            "words": list(self.words),
            "token_ids": np.asarray(self.token_ids).tolist(),
            "text_mask": np.asarray(self.text_mask).tolist(),
            "weight": self.weight,
            "sample": self.sample,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Mapping) -> TaggingLoss:
        """Build from the result of `get_config`."""
        tensors = {name: tf.constant(config[name], tf.int32) for name in ("token_ids", "text_mask")}
        words = tuple(config["words"])
        return cls(**{**config, **tensors, "words": words, "features": None})
