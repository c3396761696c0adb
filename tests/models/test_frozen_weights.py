"""Models of a run share the files of frozen towers, and each is complete without the others."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.frozen_weights import tower_file
from tfclip.models.layers.dropout_seeds import seed_dropout
from tfclip.models.model_directory import model_fingerprint
from tfclip.models.saving import TrainedModel, load_model, load_weights, save_model


@pytest.fixture
def frozen(tiny_model):
    """A model whose text tower is frozen."""
    options = {**tiny_model.config.text_options, "dropout": 0.1}
    model = DualEncoder(replace(tiny_model.config, text_options=options))
    model.freeze(("text",))
    return TrainedModel(model, tiny_model.tokenizer, {})


def assert_loads(folder, trained):
    expected, found = trained.dual_encoder.weights, load_model(folder).dual_encoder.weights
    for weight, read in zip(expected, found, strict=True):
        np.testing.assert_array_equal(weight.numpy(), read.numpy())


def test_frozen_towers_are_on_the_disk_once(frozen, tmp_path):
    best, last = tmp_path / "run" / "best", tmp_path / "run" / "checkpoints" / "last"
    tower = tower_file(frozen.dual_encoder, "text")
    save_model(best, frozen)
    # Nothing has changed: both files are shared. Then the head has: only the tower is.
    seed_dropout(frozen.dual_encoder, 7)
    for change, shared in ((0.0, {tower, "model.weights.h5"}), (1.0, {tower})):
        kernel = frozen.dual_encoder.text_head.trainable_variables[0]
        kernel.assign(kernel + change)
        save_model(last, frozen)
        same = {path.name for path in best.iterdir() if os.path.samefile(path, last / path.name)}
        assert same == shared
        assert_loads(last, frozen)
    # Replacing a model links to the one that it replaces.
    before = (last / tower).stat().st_ino
    shutil.rmtree(best)
    save_model(last, frozen)
    assert (last / tower).stat().st_ino == before


def test_weights_are_read_into_a_model_that_exists(frozen, tmp_path):
    """As `fit --extend` does; frozen towers are files of their own."""
    save_model(tmp_path / "last", frozen)
    wanted = frozen.dual_encoder.get_weights()
    for weight in frozen.dual_encoder.weights:
        weight.assign(weight + 1)
    load_weights(tmp_path / "last", frozen.dual_encoder)
    for expected, found in zip(wanted, frozen.dual_encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("is_frozen", [True, False])
def test_the_image_side_alone_embeds_as_the_whole_model(tiny_model, frozen, tmp_path, is_frozen):
    trained = frozen if is_frozen else tiny_model
    save_model(tmp_path, trained)
    side = trained.config.image_size
    pictures = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    alone = load_model(tmp_path, ("image",)).dual_encoder
    np.testing.assert_array_equal(
        alone.encode_image(pictures), trained.dual_encoder.encode_image(pictures)
    )
    assert not hasattr(alone, "text_tower") and not hasattr(alone, "text_head")


def test_a_model_that_is_copied_alone_loads_or_names_the_missing_file(frozen, tmp_path):
    save_model(tmp_path / "run" / "best", frozen)
    alone = shutil.copytree(tmp_path / "run" / "best", tmp_path / "elsewhere" / "best")
    shutil.rmtree(tmp_path / "run")
    assert_loads(alone, frozen)
    whole = model_fingerprint(alone)
    tower = alone / tower_file(frozen.dual_encoder, "text")
    content = bytearray(tower.read_bytes())
    content[-1] ^= 1
    tower.write_bytes(content)
    assert model_fingerprint(alone) != whole
    tower.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{tower.name} is missing.* text tower"):
        load_model(alone)
