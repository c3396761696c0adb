"""Auxiliary tagging loss: binary cross-entropy over the words of the captions.

Captions in a batch compete for a picture; the words of a multi-label benchmark do not. This loss
asks "is there a dog?" as such a benchmark will (as tagging models do with words parsed from
captions: Huang et al. 2023, RAM, arXiv:2306.03514), and says no for words no caption has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfclip.models.objective.losses import word_loss

# From cosine to logit: at the start of training most words are rightly unlikely.
SCALE = 10.0
BIAS = -4.0


@dataclass(frozen=True)
class TaggingLoss:
    """M words as texts, of which each step takes `sample`.

    Attributes:
        words: what they are, for the log.
        token_ids, text_mask: (M, L) int32 of the prompts.
        features: (M, F) or (M, L, F), the output of a frozen text tower; None to run the tower.
        weight: of the loss of a picture.
        sample: how many of the words a step takes.
        seed: of the sampling.
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
        """The weighted loss, summed over R local pictures: () float32.

        Args:
            embed_text: from `text_mask` (S, L) and `token_ids` (S, L) or, where they are stored,
                `text_features` to (S, D) unit-norm embeddings.
            step: () integer, the number of the update, which with the seed decides the sample.
            images: (R, D) float32 unit-norm embeddings.
            present: (R, K) int32, the places of the words of each picture, -1 for none.
        """
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(self.words)), tf.stack([self.seed, tf.cast(step, tf.int32)])
        )
        sampled = order[: self.sample]
        prompts = {"text_mask": tf.gather(self.text_mask, sampled)}
        if self.features is not None:
            prompts["text_features"] = tf.gather(self.features, sampled)
        else:
            prompts["token_ids"] = tf.gather(self.token_ids, sampled)
        is_present = tf.reduce_any(present[:, :, None] == sampled, axis=1)
        # Ten words of a picture stand against all the others: a scale that suits any sample.
        loss = word_loss(images, embed_text(prompts), is_present, SCALE, BIAS)
        return self.weight / 10.0 * loss

    def get_config(self) -> dict:
        """Everything but the stored features, which the frozen tower computes again."""
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
        """The inverse of `get_config`."""
        tensors = {name: tf.constant(config[name], tf.int32) for name in ("token_ids", "text_mask")}
        words = tuple(config["words"])
        return cls(**{**config, **tensors, "words": words, "features": None})
