"""`fit --init`: a run that begins with a whole model, and positions for another size."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tfclip.fit import main
from tfclip.models.saving import load_model, save_model
from tfclip.models.weights.clip.convert import convert_clip
from tfclip.models.weights.positions import interpolate_grid, stretch_text

CLIPS = Path(__file__).parents[2] / "models" / "weights" / "clips"
# Written by tests/peers/make_positions.py with open_clip's resize_pos_embed.
POSITIONS = np.load(Path(__file__).parents[2] / "models" / "weights" / "positions.npz")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    run = tmp_path_factory.mktemp("converted") / "run"
    save_model(run / "best", convert_clip(CLIPS / "hugging_face_quick_gelu")[0])
    return run


def _fit(records, run, converted, *words) -> int:
    small = ["--steps", "2", "--batch-size", "4", "--evaluate-every", "2", "--warmup-steps", "0"]
    begin = ["shapes", "--records", str(records), "--run", str(run), "--init", str(converted)]
    return main([*begin, *small, *words])


@pytest.mark.slow
def test_the_first_step_begins_where_the_model_is(training_records, converted, tmp_path, capsys):
    """With another size: positions are interpolated, and all else is that of the start."""
    run = tmp_path / "run"
    words = ["--image-size", "48", "--learning-rate", "1e-12"]
    assert _fit(training_records, run, converted, *words) == 0
    told = capsys.readouterr().err
    assert "clip-vit of 32 px" in told and "temperature 100.0" in told
    assert "image_tower's position_embeddings" in told
    before, after = load_model(converted), load_model(run)
    assert replace(after.config, initial_logit_scale=1.0) == replace(
        before.config, initial_logit_scale=1.0, image_size=48
    )
    interpolated = 0
    for old, new in zip(before.dual_encoder.weights, after.dual_encoder.weights, strict=True):
        wanted = np.asarray(old)
        if wanted.shape != new.shape:
            wanted, interpolated = interpolate_grid(wanted, 37), interpolated + 1
        np.testing.assert_allclose(new, wanted, atol=1e-6)
    assert interpolated == 1
    assert after.tokenizer.merges == before.tokenizer.merges
    assert after.trained_on["init"] == str(converted)
    assert json.loads((run / "config.json").read_text())["flags"]["init"] == str(converted)
    # The same command goes on with the run, which has ended.
    assert _fit(training_records, run, converted, *words) == 0


@pytest.mark.slow
def test_layers_have_rates_by_depth(training_records, converted, tmp_path, capsys):
    """In one step of Adam each weight moves by its learning rate, apart from weight decay."""
    words = ["--learning-rate", "1e-3", "--steps", "1", "--evaluate-every", "1"]
    words += ["--weight-decay", "0", "--clip-norm", "1e9", "--layer-decay", "0.5"]
    assert _fit(training_records, tmp_path / "run", converted, *words) == 0
    assert "--layer-decay 0.5" in capsys.readouterr().err
    before, after = load_model(converted).dual_encoder, load_model(tmp_path / "run").dual_encoder

    def moved(layer, tower="image_tower") -> float:
        pairs = [getattr(model, tower).get_layer(layer).weights for model in (before, after)]
        return max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(*pairs, strict=True))

    assert moved("norm") == pytest.approx(1e-3, rel=0.05)
    assert moved("patches") == pytest.approx(1e-3 * 0.5**11, rel=0.05)
    assert moved("patches") < moved("block_0") < moved("block_1") <= moved("norm") * 1.001
    heads = [np.asarray(model.image_head.weights[0]) for model in (before, after)]
    assert np.abs(heads[0] - heads[1]).max() == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--image-tower", "vit-b16"], "clip-vit"),
        (["--embed-dim", "7"], "has 24"),
        (["--vocabulary", str(CLIPS / "open_clip_gelu" / "merges.txt")], "give only one of them"),
    ],
)
def test_what_weights_cannot_follow_is_refused(
    training_records, converted, tmp_path, capsys, words, told
):
    assert _fit(training_records, tmp_path / "run", converted, *words) == 2
    assert told in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_start_that_is_not_there(training_records, tmp_path, capsys):
    assert _fit(training_records, tmp_path / "run", tmp_path / "none") == 2
    assert "--init" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["up", "down", "without_class"])
def test_picture_positions_are_open_clips(name):
    made = interpolate_grid(POSITIONS[f"{name}_old"], len(POSITIONS[f"{name}_new"]))
    np.testing.assert_allclose(made, POSITIONS[f"{name}_new"], atol=2e-6)


def test_text_positions_are_open_clips():
    made = stretch_text(POSITIONS["text_old"], len(POSITIONS["text_new"]))
    np.testing.assert_allclose(made, POSITIONS["text_new"], atol=1e-6)
    np.testing.assert_array_equal(stretch_text(made, 5), made[:5])
