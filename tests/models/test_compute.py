"""--compute: what is chosen, what is refused, and the engine against the tower itself."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.peak_memory import needs_peak, peak_bytes
from tfclip.models import compute
from tfclip.models.compute import MEASURED, chosen_compute, has_engine, instruction

LITE = "efficientnet-lite0+efficientnet-lite2"


def test_auto_takes_bfloat16_only_for_measured_towers_where_it_is_possible():
    fastest = "bfloat16" if instruction() else "float32-openvino"
    assert chosen_compute("auto", LITE) == (fastest if has_engine() else "float32")
    assert chosen_compute("auto", "mixer-s16") == "float32"
    assert chosen_compute("auto", f"{LITE}+mixer-s16") == "float32"
    # Layers that compute in half precision are left as they are.
    assert chosen_compute("auto", LITE, "bfloat16") == "float32"
    assert chosen_compute("float32", LITE) == "float32"
    assert set(LITE.split("+")) <= MEASURED


def test_what_is_missing_is_said_only_where_bfloat16_was_asked_for(monkeypatch):
    monkeypatch.setattr(compute, "instruction", lambda: None)
    with pytest.raises(ValueError, match="this processor does not multiply bfloat16"):
        chosen_compute("bfloat16", LITE)
    monkeypatch.setattr(compute.platform, "machine", lambda: "AMD64")
    monkeypatch.setattr(compute, "has_engine", lambda: True)
    assert chosen_compute("auto", LITE) == "float32-openvino"
    monkeypatch.setattr(compute.platform, "machine", lambda: "arm64")  # not measured
    assert chosen_compute("auto", LITE) == "float32"
    assert chosen_compute("float32-openvino", LITE) == "float32-openvino"
    monkeypatch.setattr(compute, "instruction", lambda: "amx_bf16")
    monkeypatch.setattr(compute, "has_engine", lambda: False)
    for asked in ("bfloat16", "float32-openvino"):
        with pytest.raises(ValueError, match=rf"{asked}, .*pip install 'tfclip\[openvino\]'"):
            chosen_compute(asked, LITE)
    assert chosen_compute("auto", LITE) == "float32"
    with pytest.raises(ValueError, match="bfloat61.*nearest.*bfloat16|bfloat16"):
        chosen_compute("bfloat61", LITE)


@pytest.mark.parametrize(
    ("hint", "lowest"),
    [pytest.param("f32", 0.9999999, marks=pytest.mark.slow), ("bf16", 0.9995)],
)
def test_the_engine_gives_the_features_of_the_tower(tiny_model, hint, lowest):
    pytest.importorskip("openvino")
    from tfclip.models.openvino_tower import PICTURES_AT_ONCE, openvino_tower

    count = PICTURES_AT_ONCE + 3  # a whole batch and a part of one
    pictures = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    expected = tiny_model.dual_encoder.image_features(pictures).numpy().astype(np.float64)
    run = openvino_tower(tiny_model.dual_encoder.image_tower, hint)
    features = run(pictures)
    assert features.dtype == np.float32 and features.shape == expected.shape
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(expected, axis=1)
    assert (np.sum(features * expected, axis=1) / lengths).min() > lowest
    assert run(pictures[:0]).shape == (0, expected.shape[1])
    with ThreadPoolExecutor(4) as pool:  # as search calls it, from several threads
        for start, part in enumerate(pool.map(lambda at: run(pictures[at:]), range(8))):
            np.testing.assert_array_equal(part, features[start:])


def test_constant_weights_give_the_features_of_the_tower(tiny_model):
    from tfclip.models.image_features import feature_function

    encoder = tiny_model.dual_encoder
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    expected = encoder.image_features(pictures).numpy()
    features_of = feature_function(encoder, "float32")
    np.testing.assert_allclose(features_of(pictures), expected, rtol=1e-4, atol=1e-5)
    weight = encoder.image_tower.trainable_variables[0]
    before = weight.numpy()
    try:
        weight.assign(before + 1)
        np.testing.assert_allclose(features_of(pictures), expected, rtol=1e-4, atol=1e-5)
    finally:
        weight.assign(before)


@pytest.mark.slow
@needs_peak
def test_the_weights_of_a_large_tower_are_not_copied_into_a_graph():
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.image_features import feature_function
    from tfclip.models.initial_values import without_random_weights

    options = {"patch_size": 8, "blocks": 1, "width": 2048, "heads": 8}
    config = ModelConfig(
        image_tower="clip-vit",
        text_tower="small-transformer",
        image_size=16,
        image_options=options,
        text_options={"width": 32, "blocks": 1},
        context_length=8,
        vocabulary_size=100,
    )
    with without_random_weights():
        encoder = DualEncoder(config)
    size = 4 * encoder.image_tower.count_params()
    assert size > 190e6
    peak_bytes(), peak_bytes()
    before = peak_bytes()
    feature_function(encoder, "float32")(np.zeros((1, 16, 16, 3), np.uint8))
    assert peak_bytes() - before < size
