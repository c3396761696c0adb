"""What `compile` and `freeze` say is saved by Keras, and comes back; XLA is refused in one line."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.objective.tagging_loss import TaggingLoss
from tfclip.training.options.recipes import RECIPES
from tfclip.training.setup.build_model import compile_for_training


def encoder(bias=-5.0):
    keras.utils.set_random_seed(1)
    return DualEncoder(
        ModelConfig(
            image_tower="small-convolutional",
            text_tower="small-transformer",
            image_size=16,
            embed_dim=8,
            context_length=6,
            vocabulary_size=20,
            image_options={"widths": (4,), "stem": 2},
            text_options={"width": 8, "blocks": 1, "heads": 2, "dropout": 0.3},
            initial_logit_bias=bias,
        )
    )


def batches(rows=16, seed=0):
    rng = np.random.default_rng(seed)
    columns = {
        "image": rng.integers(0, 255, (rows, 16, 16, 3)).astype("uint8"),
        "token_ids": rng.integers(0, 20, (rows, 6)).astype("int32"),
        "text_mask": np.ones((rows, 6), "int32"),
        "image_id": np.arange(rows),
        "caption_id": np.arange(rows),
        "words": rng.integers(-1, 4, (rows, 3)).astype("int32"),
    }
    return tf.data.Dataset.from_tensor_slices(columns).batch(8)


def trained(model):
    """The losses of the steps, with the weights after them.

    Without a graph: each of the models would be traced anew, which takes more time than its steps.
    """
    losses = [float(model.train_step(batch)["batch_loss"]) for batch in batches()]
    return losses, [np.array(v.value) for v in model.trainable_variables]


def sigmoid_model():
    model = encoder()
    model.freeze(["image"])
    model.compile(keras.optimizers.AdamW(1e-2), "sigmoid", clip_norm=0.1, micro_batch=4)
    return model


def tagging_model():
    model = encoder(bias=None)
    model.compile(keras.optimizers.AdamW(1e-2))
    model.tagging_loss = TaggingLoss(
        words=tuple("abcde"),
        token_ids=tf.constant(np.arange(30).reshape(5, 6) % 20, tf.int32),
        text_mask=tf.ones((5, 6), tf.int32),
        features=None,
        weight=0.5,
        sample=4,
    )
    return model


def fit_model():
    model = encoder()
    flags = RECIPES["shapes"].flags(
        loss="sigmoid",
        steps=100,
        warmup_steps=0,
        learning_rate=1e-2,
        weight_decay=5.0,
        average=0.9,
        precision="float16",
    )
    compile_for_training(model, flags)
    for variable in model.trainable_variables:  # a bias of zero would hide its decay
        variable.assign(variable + 0.1)
    return model


@pytest.mark.parametrize(
    ("make", "by"), [(sigmoid_model, "checkpoint"), (tagging_model, "save"), (fit_model, "save")]
)
def test_a_loaded_model_trains_on_as_the_saved_one(make, by, tmp_path):
    model, path = make(), tmp_path / "model.keras"
    if by == "save":
        trained(model)
        model.save(path)
    else:
        checkpoint = keras.callbacks.ModelCheckpoint(path)
        model.run_eagerly = True
        model.fit(batches(), shuffle=False, verbose=0, callbacks=[checkpoint])
    loaded = keras.models.load_model(path)
    for name in ("loss", "clip_norm", "micro_batch", "frozen"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.optimizer.iterations.numpy() == 2
    before = [np.array(v.value) for v in loaded.image_tower.weights]
    losses, weights = trained(loaded)
    expected_losses, expected = trained(model)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert len(weights) == len(expected)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    after = loaded.image_tower.weights
    moved = any((a != v.numpy()).any() for a, v in zip(before, after, strict=True))
    assert moved == ("image" not in model.frozen)


@pytest.mark.slow
def test_what_is_saved_changes_the_training():
    """Without any one of them the test above would have to fail."""
    _, expected = trained(sigmoid_model())
    for changes in ({"loss": "softmax"}, {"clip_norm": None}, {"micro_batch": None}):
        model = sigmoid_model()
        options = {"loss": "sigmoid", "clip_norm": 0.1, "micro_batch": 4, **changes}
        model.compile(keras.optimizers.AdamW(1e-2), **options)
        _, weights = trained(model)
        # Micro-batches change the dropout alone.
        assert max(np.abs(a - b).max() for a, b in zip(weights, expected, strict=True)) > 1e-4


def test_files_of_earlier_versions_load():
    model = sigmoid_model()
    config, compiled = model.get_config(), model.get_compile_config()
    del config["frozen"]
    for name in ("clip_norm", "micro_batch", "tagging_loss", "dropout_seeds"):
        del compiled[name]
    compiled |= {"loss": None, "metrics": None, "jit_compile": True}
    earlier = DualEncoder.from_config(config)
    earlier.compile_from_config(compiled)
    assert (earlier.loss, earlier.clip_norm, earlier.frozen) == ("softmax", None, ())
    assert len(earlier.optimizer.variables) > len(earlier.trainable_variables)


def test_xla_is_refused_and_auto_is_no_xla(monkeypatch):
    model = encoder()
    with pytest.raises(ValueError, match="jit_compile=False") as error:
        model.compile("adam", jit_compile=True)
    assert "\n" not in str(error.value)
    # As on a machine with one GPU, where Keras' own choice is XLA.
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
    assert keras.Sequential([keras.layers.Dense(1)])._resolve_auto_jit_compile()
    assert encoder().jit_compile is False
    model.compile("adam")
    assert model.jit_compile is False
    assert np.isfinite(trained(model)[0]).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"loss": "softmaks"}, "softmax"),
        ({"loss": "mse"}, "sigmoid"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0"),
        ({"clip_norm": float("nan")}, "clip_norm must be above 0"),
        ({"micro_batch": 0}, "micro_batch must be 1 or more"),
        ({"micro_batch": 2.5}, "micro_batch must be 1 or more"),
        ({"metrics": ["accuracy"]}, "does not use metrics"),
    ],
)
def test_what_compile_cannot_do_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        encoder().compile("adam", **options)


def test_sigmoid_without_a_bias_is_refused():
    with pytest.raises(ValueError, match="initial_logit_bias"):
        encoder(bias=None).compile("adam", "sigmoid")


def test_what_compile_says_is_not_set_by_hand():
    with pytest.raises(AttributeError):
        encoder().clip_norm = 0.1
