"""Locked towers: stored outputs train as the towers themselves would, and are never stale."""

import csv
import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from tfclip.inputs import words
from tfclip.models.saving import load_model
from tfclip.training.options.recipes import RECIPES
from tfclip.training.run import train

SMALL = replace(
    RECIPES["shapes"],
    image_options={"widths": (8,), "stem": 2},
    text_options={"width": 16, "blocks": 1, "heads": 2},
)
TINY = {
    "image_size": 32,
    "batch_size": 4,
    "steps": 8,
    "evaluate_every": 8,
    "warmup_steps": 0,
    "region_share": 0.0,
    "learning_rate": 1e-3,
}
# One step is enough to store features and to find them again.
STORED = {"lock": "image", "val": None, "steps": 1, "evaluate_every": 1}


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(logs["batch_loss"])


@pytest.fixture
def records(flickr8k_records, training_records, tmp_path):
    """Captioned pictures (12), with a vocabulary, in a folder that may be written to."""
    copy = tmp_path / "records"
    shutil.copytree(flickr8k_records, copy)
    shutil.copy(training_records / "vocab.model", copy)
    return copy


def losses(run, records, splits=("dev",), **flags):
    seen = Losses()
    trained_on = tuple(f"{records}:{split}" for split in splits)
    given = {"records": trained_on, "run": run, "val": f"{records}:dev", **TINY, **flags}
    given = {"val_in_training": True, **given}
    train("shapes", SMALL.flags(**given), [seen], SMALL)
    return seen.seen


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["image", "text", "image,text"])
def test_stored_features_give_the_loss_curve_of_the_locked_towers(lock, records, tmp_path):
    common = {"lock": lock, "views": "4", "captions": 1 if lock == "image" else 3, "val_images": 6}
    stored = losses(tmp_path / "stored", records, **common)
    run = losses(tmp_path / "run", records, cache_features=False, **common)
    assert len(stored) == 8
    assert stored[0] != stored[-1]
    np.testing.assert_allclose(stored, run, atol=1e-5)
    # The models of the run share the files of the frozen towers.
    models = [tmp_path / "stored" / name for name in ("best", "checkpoints/last")]
    for modality in lock.split(","):
        (tower,) = models[0].glob(f"{modality}-tower-*.weights.h5")
        assert tower.samefile(models[1] / tower.name)
    # Validation is on the same six pictures, from stored features where both towers are frozen.
    first, second = (
        list(csv.DictReader((tmp_path / name / "log.csv").open())) for name in ("stored", "run")
    )
    for row, other in zip(first, second, strict=True):
        for name in (name for name in row if name.startswith("val_")):
            assert float(row[name]) == pytest.approx(float(other[name]), abs=1e-5)
    assert {round(6 * float(row["val_i2t_r1"]), 6) for row in first} <= set(range(7))


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["image", "text", "image,text"])
def test_stored_features_of_several_sets_give_the_loss_curve_of_the_towers(
    lock, records, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(words, "LEAST_PICTURES", 2)
    common = {"lock": lock, "captions": 1 if lock == "image" else 3, "word_weight": 0.5}
    common |= {"splits": ("dev", "train"), "val": None, "views": "2"}
    stored = losses(tmp_path / "stored", records, **common)
    told = capfd.readouterr().err
    assert "image features of dev: stored" in told or "image" not in lock
    assert "text features of train: stored" in told or "text" not in lock
    run = losses(tmp_path / "run", records, cache_features=False, **common)
    assert stored[0] != stored[-1]
    np.testing.assert_allclose(stored, run, atol=1e-5)


@pytest.mark.slow
def test_float16_and_uint8_round_and_are_stored_apart(records, tmp_path):
    common = {"lock": "image,text"}
    exact = losses(tmp_path / "exact", records, **common)
    rounded = losses(tmp_path / "rounded", records, feature_precision="float16", **common)
    assert exact != rounded
    np.testing.assert_allclose(exact, rounded, atol=2e-3)
    eight_bits = losses(tmp_path / "eight", records, feature_precision="uint8", **common)
    assert eight_bits != rounded
    np.testing.assert_allclose(exact, eight_bits, atol=2e-2)
    # Texts are those of float16.
    assert len(list((records / "features").iterdir())) == 5


def folders(records):
    return {path.name for path in (records / "features").iterdir()}


@pytest.mark.slow
def test_features_are_reused_where_they_are_sound_and_of_the_same_weights(records, tmp_path, capfd):
    losses(tmp_path / "a", records, **STORED)
    first = folders(records)
    assert len(first) == 1
    losses(tmp_path / "b", records, **STORED)
    assert folders(records) == first
    assert "reused" in capfd.readouterr().err

    # What is damaged or says that it is of other weights is refused with what to delete.
    (folder,) = (records / "features").iterdir()
    stored, described = folder / "features.npy", folder / "features.json"
    sound = stored.read_bytes()
    damaged = bytearray(sound)
    damaged[-3] ^= 1
    stored.write_bytes(damaged)
    with pytest.raises(ValueError, match=f"damaged.*delete .*{folder.name}"):
        losses(tmp_path / "c", records, **STORED)
    assert stored.read_bytes() == bytes(damaged)

    stored.write_bytes(sound)
    description = json.loads(described.read_text())
    description["what"]["weights"] = "0" * 64
    described.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="weights differ"):
        losses(tmp_path / "d", records, **STORED)

    # Another seed, other weights of the towers: they are stored beside those.
    losses(tmp_path / "e", records, seed=1, **STORED)
    assert len(folders(records)) == 2


class SeeTowers(keras.callbacks.Callback):
    """Keeps the weights of the towers, and the words that are asked for, of every step."""

    def __init__(self):
        super().__init__()
        self.towers, self.prompts = [], []

    def on_train_begin(self, logs=None):
        self.towers.append(weights_of_towers(self.model))

    def on_train_batch_end(self, batch, logs=None):
        self.towers.append(weights_of_towers(self.model))
        self.prompts.append(self.model.tagging_loss)


def weights_of_towers(model):
    return [tower.get_weights() for tower in (model.image_tower, model.text_tower)]


@pytest.mark.slow
def test_freed_towers_train_after_the_heads_and_words_are_asked_of_the_text_tower_itself(
    records, tmp_path, monkeypatch
):
    monkeypatch.setattr(words, "LEAST_PICTURES", 2)
    run, seen = tmp_path / "run", SeeTowers()
    given = {"records": f"{records}:dev", "run": run, "val": f"{records}:dev", **TINY, "steps": 4}
    given |= {"lock": "image,text", "unlock_after": 2, "evaluate_every": 2, "word_weight": 0.5}
    given |= {"val_in_training": True, "unlocked_learning_rate": 1e-3}
    train("shapes", SMALL.flags(**given), [seen], SMALL)
    begin, *steps = seen.towers
    assert len(steps) == 4
    steps.append(weights_of_towers(load_model(run / "checkpoints" / "last").dual_encoder))
    for number, towers in enumerate(steps):
        for after, before in zip(towers, begin, strict=True):
            changed = any((a != b).any() for a, b in zip(after, before, strict=True))
            assert changed == (number >= 2)
    prompts = seen.prompts
    assert len(prompts[0].words) > 3
    # The stored outputs are those of the tower as it was; a tower that trains is run.
    assert prompts[0].features.shape[0] == prompts[1].features.shape[0] == len(prompts[0].words)
    assert prompts[2].features is None
    assert prompts[3].features is None
