"""The diagnostics find each fault that a run was given, and none in a sound one."""

import dataclasses
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize_scalar

from tfclip.inputs.batches import training_batches
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.text import tokenizer_from_file
from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.objective.losses import sigmoid_contrastive, softmax_both_ways
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import read_split
from tfclip.training.callbacks.diagnostics import (
    Chance,
    Diagnostics,
    other_preprocessing,
    wrong_normalization,
)
from tfclip.training.data.training_sets import open_training_sets
from tfclip.training.loop.batch_statistics import batch_health
from tfclip.training.loop.step_timer import StepTimer
from tfclip.training.loop.trainer import Phase, run_steps
from tfclip.training.options.recipes import RECIPES
from tfclip.training.phases import batch_keys
from tfclip.training.setup.build_model import compile_for_training

CONFIG = ModelConfig(
    image_tower="small-convolutional",
    text_tower="small-transformer",
    image_size=16,
    embed_dim=8,
    context_length=8,
    vocabulary_size=20,
    image_options={"widths": (4, 8), "stem": 2},
    text_options={"width": 8, "blocks": 1, "heads": 2},
    initial_logit_scale=100.0,
)
ROWS = 8


def faulty_batches(start: int) -> tf.data.Dataset:
    """Two texts are empty, two fill the context, four are those of another picture; and slowly."""
    lengths = np.array([2, 2, 8, 8, 5, 5, 5, 5])

    def batches():
        rng = np.random.default_rng(0)
        while True:
            time.sleep(0.2)
            yield {
                "image": rng.integers(0, 255, (ROWS, 16, 16, 3)).astype("uint8"),
                "token_ids": rng.integers(5, 20, (ROWS, 8)).astype("int32"),
                "text_mask": (np.arange(8) < lengths[:, None]).astype("int32"),
                "image_id": np.arange(ROWS),
                "caption_id": np.array([1, 2, 3, 4, 9, 9, 9, 9]),
            }

    spec = {
        name: tf.TensorSpec(value.shape, value.dtype) for name, value in next(batches()).items()
    }
    return tf.data.Dataset.from_generator(batches, output_signature=spec)


@pytest.fixture(scope="module")
def patient():
    """The diagnostics of a run with every fault at once."""
    flags = RECIPES["shapes"].flags(batch_size=ROWS, learning_rate=1e-12, warmup_steps=0)
    model = DualEncoder(CONFIG)
    # Embeddings of zero: the loss of chance, and nothing for the text side to learn from.
    model.image_head.dense.kernel.assign(tf.zeros_like(model.image_head.dense.kernel))
    compile_for_training(model, flags)
    step_timer = StepTimer()
    diagnostics = Diagnostics(step_timer, chance=Chance.of(flags), window=3)
    strategy = tf.distribute.get_strategy()
    ended = run_steps(
        model,
        strategy,
        [Phase(6, faulty_batches)],
        epoch_steps=6,
        callbacks=[diagnostics],
        step_timer=step_timer,
    )
    return diagnostics, ended


@pytest.mark.parametrize(
    ("told", "remedy"),
    [
        ("the loss stays at", "--warmup-steps"),
        ("the logit scale has reached its upper limit of 100", "--weight-decay"),
        ("25% of the texts are empty", "vocabulary"),
        ("25% of the texts fill the whole context", "--context-length"),
        ("50% of the texts of a batch belong to other pictures", "--batch-size"),
        ("the text tower hardly learns", "weights"),
        ("training waits for data", "--image-size"),
    ],
)
def test_each_fault_is_found_with_its_remedy(told, remedy, patient):
    diagnostics, _ = patient
    found = [words for words in diagnostics.diagnoses if told in words]
    assert len(found) == 1, diagnostics.diagnoses
    assert remedy in found[0]


def test_the_shares_are_in_the_history(patient):
    _, ended = patient
    history = ended.history.history
    assert history["empty_texts"] == history["full_texts"] == [0.25]
    assert history["repeated_texts"] == [0.5]


def test_a_sound_window_has_no_diagnosis():
    step_timer = StepTimer(steps=100, waiting=1.0, training=99.0)
    diagnostics = Diagnostics(step_timer, chance=Chance(1 / 64, np.log(64)))
    diagnostics.check_window(
        {
            "batch_loss": 2.0,
            "logit_scale": 30.0,
            "gradient_norm_image": 0.5,
            "gradient_norm_text": 0.1,
            "empty_texts": 0.0,
            "full_texts": 0.005,
            "repeated_texts": 0.05,
        }
    )
    assert diagnostics.diagnoses == []


def test_texts_of_a_short_run_are_looked_at_when_it_ends():
    diagnostics = Diagnostics(StepTimer(), cut=0.0)
    for _ in range(5):
        logs = {"batch_loss": 1.0, "repeated_texts": 0.5, "full_texts": 1.0}
        diagnostics.on_train_batch_end(0, logs)
    assert diagnostics.diagnoses == []
    diagnostics.on_train_end()
    # All fill the context, and none is known to be cut.
    assert len(diagnostics.diagnoses) == 1
    assert diagnostics.diagnoses[0].startswith("50% of the texts of a")


@pytest.mark.parametrize("captions", [1, 3])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_loss_of_chance_is_the_least_of_a_model_whose_embeddings_are_one(loss, captions):
    flags = RECIPES["shapes"].flags(batch_size=ROWS, loss=loss, captions=captions, region_share=0.0)
    one = tf.ones([ROWS * captions, 1])
    images, texts = one[:ROWS], one
    ids = tf.range(ROWS * captions, dtype=tf.int64)
    image_ids = ids[:ROWS], tf.reshape(ids, [ROWS, captions])
    text_ids = tf.repeat(ids[:ROWS], captions), ids
    if loss == "softmax":
        least = float(softmax_both_ways(images, texts, tf.constant(3.0), image_ids, text_ids)[0])
    else:

        def loss_of(bias: float) -> float:
            scale, bias = tf.constant(3.0), tf.constant(float(bias) - 3.0)
            return float(sigmoid_contrastive(images, texts, scale, bias, image_ids, text_ids)[0])

        # It is convex in the bias.
        least = minimize_scalar(loss_of, bounds=(-4, 0), method="bounded").fun / ROWS
    assert Chance.of(flags).loss == pytest.approx(least, rel=1e-4)


def test_collapse_is_found_by_the_hits_where_words_are_in_the_loss():
    flags = RECIPES["laptop"].flags()
    assert flags.objective.word_weight
    chance = Chance.of(flags)
    means = {"batch_loss": 2.0, "logit_scale": 30.0}
    for accuracy, found in ((1.1 * chance.accuracy, 1), (3 * chance.accuracy, 0)):
        diagnostics = Diagnostics(StepTimer(), chance=chance)
        diagnostics.check_window({**means, "accuracy": accuracy})
        assert len(diagnostics.diagnoses) == found


def test_the_lower_limit_of_the_temperature_is_found():
    diagnostics = Diagnostics(StepTimer())
    diagnostics.check_window({"batch_loss": 2.0, "logit_scale": 1.0})
    assert "lower limit of 1.00" in diagnostics.diagnoses[0]


def test_texts_of_the_same_picture_are_no_repetition():
    batch = {
        "image_id": tf.constant([7, 8], tf.int64),
        "caption_id": tf.constant([[1, 1, 2], [2, 3, 4]], tf.int64),
    }
    # Caption 2 is of both pictures: two of six.
    found = batch_health(batch, 8)
    assert float(found["repeated_texts"]) == pytest.approx(1 / 3)
    assert set(found) == {"repeated_texts"}


def test_batch_normalisation_in_the_wrong_mode_is_found():
    model = DualEncoder(
        dataclasses.replace(CONFIG, image_tower="resnet-18", image_size=32, image_options={})
    )
    assert wrong_normalization(model, rows=8, replicas=1) == []
    assert "batches of 4" in wrong_normalization(model, rows=4, replicas=1)[0]
    assert "only one replica's part" in wrong_normalization(model, rows=8, replicas=2)[0]
    layers = [
        layer
        for layer in model.image_tower._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    layers[0].trainable = False
    assert f"1 of {len(layers)}" in wrong_normalization(model, rows=8, replicas=1)[0]
    model.freeze(["image"])
    assert wrong_normalization(model, rows=8, replicas=1) == []
    layers[0].trainable = True
    assert "is frozen" in wrong_normalization(model, rows=8, replicas=1)[0]


def test_records_of_another_preprocessing_are_found(training_records):
    as_found = load_manifest(training_records)
    shrunk = dataclasses.replace(as_found, packing={**as_found.packing, "image_size": 48})
    flags = RECIPES["shapes"].flags(image_size=64)
    assert other_preprocessing(flags, [as_found], as_found) == []
    enlarged, unequal = other_preprocessing(flags, [as_found], shrunk)
    assert "validation pictures were packed with a short side of 48" in enlarged
    assert "training: original size, validation: 48" in unequal
    assert "training pictures" in other_preprocessing(flags, [shrunk], None)[0]


def test_the_keys_of_a_batch_are_those_of_its_records(training_records):
    records = open_training_sets([f"{training_records}:train"])
    tokenizer = tokenizer_from_file(training_records / "vocab.model", 8)
    batches = training_batches(
        records.inputs, tokenizer, 16, SamplingOptions(), batch_size=3, seed=5
    )
    ids = {
        record[schema.KEY].decode(): record[schema.ID]
        for record in read_split(training_records, "train").as_numpy_iterator()
    }
    for update, batch in enumerate(batches.take(6)):
        found = [ids[key] for key in batch_keys(records, update, 3, 5)]
        assert found == batch["image_id"].numpy().tolist()


def test_gradient_norms_of_the_sides_are_those_of_their_variables(tiny_model):
    model = DualEncoder(CONFIG)
    compile_for_training(model, RECIPES["shapes"].flags(batch_size=ROWS))
    batch = next(iter(faulty_batches(0)))
    with tf.GradientTape() as tape:
        loss, _ = model.local_loss(model.embed_batch(batch, True), batch, True)
    variables = [v.value for v in [*model.image_tower.variables, model.image_head.dense.kernel]]
    gradients = [g for g in tape.gradient(loss, variables) if g is not None]
    expected = np.sqrt(sum(float(tf.reduce_sum(tf.convert_to_tensor(g) ** 2)) for g in gradients))
    logs = model.train_step(batch)
    assert float(logs["gradient_norm_image"]) == pytest.approx(expected, rel=1e-5)
