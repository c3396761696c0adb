"""Words of the captions as prompts: a picture is asked for each of them, apart from the others.

Captions in a batch compete for a picture; the words of a multi-label benchmark do not. This loss
asks "is there a dog?" as such a benchmark will (as tagging models do with words parsed from
captions: Huang et al. 2023, RAM, arXiv:2306.03514), and says no for words no caption has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

from tfclip.models.objective.losses import word_loss

if TYPE_CHECKING:
    from tfclip.models.dual_encoder import DualEncoder

# From cosine to logit: at the start of training most words are rightly unlikely.
SCALE = 10.0
BIAS = -4.0


@dataclass(frozen=True)
class WordPrompts:
    """M words as texts, of which each step asks for `sample`.

    Attributes:
        words: what they are, for the log.
        token_ids, text_mask: (M, L) int32 of the prompts.
        features: (M, F) or (M, L, F), the output of a locked text tower; None to run the tower.
        weight: of the loss of a picture.
        sample: how many of the words are asked for in a step.
        seed: of the draws.
    """

    words: tuple[str, ...]
    token_ids: tf.Tensor
    text_mask: tf.Tensor
    features: tf.Tensor | None
    weight: float
    sample: int = 256
    seed: int = 0

    def loss(self, model: DualEncoder, images: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """The weighted loss, summed over R local pictures: () float32.

        Args:
            model: whose text side embeds the words.
            images: (R, D) float32 unit-norm embeddings.
            present: (R, K) int32, the places of the words of each picture, -1 for none.
        """
        step = tf.cast(model.optimizer.iterations, tf.int32)
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(self.words)), tf.stack([self.seed, step])
        )
        asked = order[: self.sample]
        mask = tf.gather(self.text_mask, asked)
        if self.features is not None:
            features = tf.gather(self.features, asked)
        else:
            features = model.text_features(tf.gather(self.token_ids, asked), mask, training=True)
        embeddings = model.embed_text_features(features, mask, training=True)
        # Ten words of a picture stand against all the others: a scale that suits any sample.
        is_present = tf.reduce_any(present[:, :, None] == asked, axis=1)
        return self.weight / 10.0 * word_loss(images, embeddings, is_present, SCALE, BIAS)
