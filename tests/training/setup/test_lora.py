"""`fit --lora`: adapters alone train, are merged where a model is saved, and resume exactly."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from benchmarks.compared_runs import differences, result_of
from tfclip.fit import main
from tfclip.models import registry
from tfclip.models.layers.low_rank import adapted_layers, add_adapters
from tfclip.models.saving import load_model
from tfclip.training.loop.variables import changing_variables
from tfclip.training.options.recipes import RECIPES
from tfclip.training.run import train

SIZES = {
    "clip-vit-b32": {"image_size": 16, "patch_size": 8, "blocks": 1, "width": 16, "heads": 2},
    "clip-text": {"width": 16, "blocks": 1, "heads": 2},
    "small-transformer": {"width": 16, "blocks": 1, "heads": 2},
    "bert-tiny": {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "pooling": "mean"},
}
# Queries, keys, values, outputs, and the two layers of the perceptron, of one block.
PROJECTIONS = 6


def build(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    if name in registry.IMAGE_TOWERS:
        return registry.image_tower(name).build(**SIZES[name])
    sizes = {"vocabulary_size": 30, "context_length": 8}
    return registry.text_tower(name).build(**sizes, **SIZES[name])


def inputs(name: str):
    rng = np.random.default_rng(0)
    if name in registry.IMAGE_TOWERS:
        return keras.ops.convert_to_tensor(rng.integers(0, 256, (3, 16, 16, 3)).astype("float32"))
    ids = rng.integers(4, 30, (3, 8)).astype("int32")
    mask = np.arange(8)[None] < np.array([[3], [8], [5]])
    return {
        "token_ids": keras.ops.convert_to_tensor(ids),
        "text_mask": keras.ops.convert_to_tensor(mask),
    }


@pytest.mark.parametrize("name", SIZES)
def test_a_merged_tower_equals_the_one_with_adapters(tmp_path, name):
    tower, plain, x = build(name), build(name), inputs(name)
    before = np.asarray(tower(x))
    added = add_adapters(tower, rank=3)
    # B begins with zeros: nothing changes yet.
    np.testing.assert_allclose(tower(x), before, atol=1e-6)
    layers = adapted_layers(tower)
    assert added.layers == len(layers) == PROJECTIONS
    assert added.parameters == sum(np.prod(v.shape) for v in tower.trainable_variables)
    assert {v.name for v in tower.trainable_variables} == {"low_rank_a", "low_rank_b"}
    rng = np.random.default_rng(1)
    for layer in layers:
        layer.low_rank_b.assign(rng.normal(0, 0.3, layer.low_rank_b.shape))
    changed = np.asarray(tower(x))
    assert np.abs(changed - before).max() > 0.01
    tower.save_weights(tmp_path / "tower.weights.h5")
    plain.load_weights(tmp_path / "tower.weights.h5")
    np.testing.assert_allclose(plain(x), changed, atol=1e-5)
    # Independently: W + A B by einsum, for the layers of another copy.
    other = build(name)
    for mine, layer in zip(
        [
            part
            for part in other._flatten_layers()
            if hasattr(part, "kernel")
            and isinstance(part, (keras.layers.Dense, keras.layers.EinsumDense))
        ],
        layers,
        strict=True,
    ):
        a, b = np.asarray(layer.low_rank_a), np.asarray(layer.low_rank_b)
        mine.kernel.assign(np.asarray(mine.kernel) + np.tensordot(a, b, 1))
    np.testing.assert_allclose(other(x), changed, atol=1e-5)


SMALL = replace(
    RECIPES["shapes"],
    image_options={k: v for k, v in SIZES["clip-vit-b32"].items() if k != "image_size"},
    text_options=SIZES["small-transformer"],
)
SMALL = replace(SMALL, defaults={**SMALL.defaults, "image_tower": "clip-vit-b32"})
TINY = {
    "image_size": 16,
    "batch_size": 4,
    "steps": 6,
    "evaluate_every": 3,
    "warmup_steps": 0,
    "region_share": 0.0,
    "learning_rate": 1e-2,
    "checkpoint_every": "2",
    "lora": "image=2,text=0",
}


class Keep(keras.callbacks.Callback):
    """Keeps the live embeddings of the end; or ends the run after a step."""

    def __init__(self, x=None, stop_after=None):
        super().__init__()
        self.x, self.stop_after, self.seen, self.kept = x, stop_after, 0, None

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.stop_after:
            raise InterruptedError

    def on_train_end(self, logs=None):
        self.kept = np.asarray(self.model.encode_image(self.x))
        self.names = [variable.path for variable in changing_variables(self.model)]


def fit(run, records, keep, **given):
    return train(
        "shapes", SMALL.flags(records=str(records), run=run, **TINY, **given), [keep], SMALL
    )


@pytest.mark.slow
def test_a_run_saves_an_ordinary_model_and_resumes_exactly(training_records, tmp_path, capsys):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    keep = Keep(pictures)
    fit(tmp_path / "whole", training_records, keep)
    said = capsys.readouterr().err
    assert "6 projections of clip-vit-b32 have adapters" in said
    assert "text tower small-transformer is frozen" in said
    last = load_model(tmp_path / "whole" / "checkpoints" / "last")
    assert not adapted_layers(last.dual_encoder.image_tower)
    np.testing.assert_allclose(last.dual_encoder.encode_image(pictures), keep.kept, atol=1e-5)
    # Neither the fixed weights nor moments of them are in a checkpoint.
    assert not [name for name in keep.names if "kernel" in name and "head" not in name]
    assert sum("low_rank" in name for name in keep.names) == 3 * 2 * PROJECTIONS

    with pytest.raises(InterruptedError):
        fit(tmp_path / "broken", training_records, Keep(stop_after=5))
    fit(tmp_path / "broken", training_records, Keep(pictures))
    assert "resuming after step 4" in capsys.readouterr().err
    assert not differences(result_of(tmp_path / "whole"), result_of(tmp_path / "broken"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lora", "image=8"], "image tower small-convolutional is no transformer"),
        (["--lora", "picture=8"], "allowed: image=RANK"),
        (["--lora", "image=0,text=0"], "without an adapter"),
        (["--lora", "text=8", "--freeze", "image"], "omit --freeze"),
    ],
)
def test_what_cannot_be_adapted_is_refused(training_records, tmp_path, capsys, words, said):
    begin = ["shapes", "--records", str(training_records), "--run", str(tmp_path / "run")]
    assert main([*begin, *words]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
