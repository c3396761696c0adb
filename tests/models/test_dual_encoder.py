"""The dual encoder: shapes, unit norm, the temperature, gradients, its config."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.layers.logit_scale import ClampLogScale, LogitScale
from tfclip.models.objective.cross_replica import reduce_and_clip

CONFIG = ModelConfig(
    image_tower="small-convolutional",
    text_tower="small-transformer",
    image_size=16,
    embed_dim=8,
    context_length=6,
    vocabulary_size=20,
    image_options={"widths": (4, 8), "stem": 2},
    text_options={"width": 8, "blocks": 1, "heads": 2},
)


def batch(rows=4):
    rng = np.random.default_rng(0)
    return {
        "image": tf.constant(rng.integers(0, 255, (rows, 16, 16, 3)), tf.uint8),
        "token_ids": tf.constant(rng.integers(0, 20, (rows, 6)), tf.int32),
        "text_mask": tf.ones((rows, 6), tf.int32),
        "image_id": tf.range(rows, dtype=tf.int64),
        "caption_id": tf.range(rows, dtype=tf.int64),
    }


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_embeddings_are_unit_norm_float32(precision):
    model = DualEncoder(ModelConfig(**{**CONFIG.to_dict(), "precision": precision}))
    for embeddings in model(batch()).values():
        assert embeddings.shape == (4, 8)
        assert embeddings.dtype == tf.float32
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, rtol=1e-5)
    assert keras.config.dtype_policy().name == "float32"


def test_config_round_trip_and_weights(tmp_path):
    model = DualEncoder(CONFIG)
    copy = DualEncoder.from_config(model.get_config())
    assert copy.config == model.config
    model.save_weights(tmp_path / "m.weights.h5")
    copy.load_weights(tmp_path / "m.weights.h5")
    for name, value in model(batch()).items():
        np.testing.assert_array_equal(value, copy(batch())[name])


def test_temperature_is_clamped_where_it_is_used_and_stored():
    scale = LogitScale(initial=50.0)
    scale.build()
    assert float(scale()) == pytest.approx(50.0, rel=1e-5)
    scale.log_scale.assign(9.0)
    assert float(scale()) == pytest.approx(100.0, rel=1e-5)
    assert float(ClampLogScale()(tf.constant(9.0))) == pytest.approx(np.log(100))
    assert float(ClampLogScale()(tf.constant(-1.0))) == 0.0


def test_embedding_gradients_are_made_dense_before_their_norm_is_taken():
    # FACTS of the library: the norm of IndexedSlices with repeated rows is not that of their sum.
    sliced = tf.IndexedSlices(tf.constant([[3.0], [4.0]]), tf.constant([1, 1]), tf.constant([2, 1]))
    clipped, norm, norms = reduce_and_clip([sliced, None], clip_norm=3.5)
    assert float(norm) == pytest.approx(7.0)
    np.testing.assert_allclose(clipped[0], [[0.0], [3.5]])
    assert clipped[1] is None


def test_loss_scale_is_taken_out_of_the_norm_and_left_in_the_gradient():
    clipped, norm, _ = reduce_and_clip([tf.constant([6.0, 8.0])], clip_norm=2.5, loss_scale=2.0)
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_allclose(clipped[0], [3.0, 4.0])


def test_weight_decay_leaves_biases_norms_and_the_temperature_alone():
    from tfclip.training.options.recipes import RECIPES
    from tfclip.training.setup.build_model import compile_for_training

    model = DualEncoder(CONFIG)
    compile_for_training(model, RECIPES["shapes"].flags(learning_rate=1.0, weight_decay=0.5))
    before = {v.path: np.array(v.value) for v in model.trainable_variables}
    zeros = [tf.zeros(v.shape) for v in model.trainable_variables]
    model.optimizer.iterations.assign(300)
    model.optimizer.apply(zeros, model.trainable_variables)
    moved = {
        v.path for v in model.trainable_variables if (np.array(v.value) != before[v.path]).any()
    }
    expected = {
        path
        for path in before
        if path.rsplit("/", 1)[-1] not in ("bias", "gamma", "beta", "log_scale")
    }
    assert moved == {path for path in expected if np.any(before[path])}


@pytest.mark.parametrize(
    ("field", "value"),
    [("precision", "int8"), ("embed_dim", 0), ("context_length", 2), ("initial_logit_scale", 2000)],
)
def test_configurations_that_cannot_be_built_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        ModelConfig(**{field: value})


def test_fields_of_another_version_are_refused():
    with pytest.raises(ValueError, match="colour"):
        ModelConfig.from_dict({"colour": "red"})
