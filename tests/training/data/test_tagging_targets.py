"""What the tagging loss stores is what it computes, bit for bit, and is computed once."""

import numpy as np
import pytest

from tfclip.evaluation.embedding.features.feature_cache import Storage
from tfclip.inputs import words
from tfclip.training.data import tagging_targets
from tfclip.training.data.tagging_targets import make_tagging_loss


@pytest.fixture
def frozen(tiny_model):
    tiny_model.dual_encoder.freeze(("text",))
    yield tiny_model
    tiny_model.dual_encoder.freeze(())
    tiny_model.dual_encoder.tagging_loss = None


def test_stored_words_and_outputs_are_the_same_and_not_computed_again(
    frozen, training_records, tmp_path, monkeypatch
):
    monkeypatch.setattr(words, "LEAST_PICTURES", 1)
    monkeypatch.setattr(words, "LARGEST_SHARE", 1.0)

    def made(where=None):
        parts = [(training_records, "train")]
        chosen = make_tagging_loss(frozen, parts, weight=0.5, seed=0, where=where)
        return chosen, frozen.dual_encoder.tagging_loss

    first, loss = made()
    stored = made(Storage("float16", tmp_path))
    monkeypatch.setattr(tagging_targets, "split_words", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(
        tagging_targets, "prompt_features", lambda *_: pytest.fail("computed again")
    )
    for again, own in (stored, made(Storage("float16", tmp_path))):
        assert (again.words, again.counts) == (first.words, first.counts)
        assert again.without_blanks == first.without_blanks
        np.testing.assert_array_equal(again.places, first.places)
        np.testing.assert_array_equal(own.features, loss.features)
        np.testing.assert_array_equal(own.token_ids, loss.token_ids)
