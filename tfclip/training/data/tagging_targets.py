"""Adds the tagging loss over caption words to a model: `models.objective.tagging_loss`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.console import say
from tfclip.inputs.words import PROMPT, RecordWords, split_words
from tfclip.models.objective.tagging_loss import TaggingLoss
from tfclip.models.saving import TrainedModel

PROMPTS_AT_ONCE = 256


def make_tagging_loss(
    trained: TrainedModel, records: Path, split: str, *, weight: float, seed: int
) -> RecordWords:
    """Choose words from the captions of a split, and set the model's tagging loss over them.

    Raises:
        ValueError: no word is frequent enough.
    """
    words = split_words(records, split)
    if words.without_blanks:
        say(
            f"note: {words.without_blanks:,} captions of {records}:{split} are in scripts without "
            "spaces (Chinese, Japanese, Thai, ...) and have no words for the tagging loss, "
            "--word-weight; only the contrastive loss learns from them"
        )
    tokens = trained.tokenizer([PROMPT.format(word) for word in words.words])
    mask = tf.cast(tokens["text_mask"], tf.int32)
    # Prompts are far shorter than the context, and padding would be computed too.
    fixed = trained.dual_encoder.text_tower.input["token_ids"].shape[1]
    longest = fixed or tf.reduce_max(tf.reduce_sum(mask, axis=1))
    ids, mask = tokens["token_ids"][:, :longest], mask[:, :longest]
    frozen = "text" in trained.dual_encoder.frozen
    trained.dual_encoder.tagging_loss = TaggingLoss(
        words.words,
        ids,
        mask,
        tf.constant(_features(trained, ids, mask)) if frozen else None,
        weight,
        seed=seed,
    )
    say(f"tagging loss over {len(words.words)} words: {_listed(words.words)}")
    return words


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) if len(words) < 8 else f"{', '.join(words[:6])} ... {words[-1]}"


def _features(trained: TrainedModel, ids: tf.Tensor, mask: tf.Tensor) -> np.ndarray:
    run = tf.function(trained.dual_encoder.text_features, reduce_retracing=True, autograph=False)
    parts = [
        run(ids[at : at + PROMPTS_AT_ONCE], mask[at : at + PROMPTS_AT_ONCE])
        for at in range(0, len(ids), PROMPTS_AT_ONCE)
    ]
    return np.concatenate([tf.cast(part, tf.float32) for part in parts])
