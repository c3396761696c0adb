"""Text towers: parameter counts, blocks against other computations, padding, pooling."""

import keras
import keras_hub
import numpy as np
import pytest
from keras_hub.src.models.clip.clip_text_encoder import CLIPTextEncoder

from tfclip.models import registry
from tfclip.models.towers.text_mixer import PadTokens, TextMixerBlock
from tfclip.models.towers.text_transformer import CausalBlock, LastToken

SMALL = {
    "bert": {"num_layers": 2, "hidden_dim": 16, "num_heads": 2, "max_sequence_length": 20},
    "minilm": {"num_layers": 1, "hidden_dim": 12, "num_heads": 2},
    "distilbert": {"num_layers": 1, "hidden_dim": 12, "num_heads": 2},
    "clip-text": {"blocks": 2, "width": 16, "heads": 2},
    "mixer-text": {"blocks": 2, "width": 16},
    "small-transformer": {"blocks": 1, "width": 16, "heads": 2},
}


def small(name: str, vocabulary_size: int = 50, context_length: int = 20, **options):
    options = {**SMALL[name], **options}
    return registry.text_tower(name).build(
        vocabulary_size=vocabulary_size, context_length=context_length, **options
    )


def batch(seed: int = 0, lengths=(3, 8, 1, 12), length: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = np.arange(length)[None] < np.array(lengths)[:, None]
    return {"token_ids": np.where(mask, rng.integers(1, 50, mask.shape), 0), "text_mask": mask}


@pytest.mark.parametrize(
    ("name", "vocabulary", "context", "options", "count"),
    [
        ("bert-mini", 30_522, 128, {}, 11_170_560),
        ("minilm", 30_522, 128, {"pooling": "cls"}, 22_713_216),
        ("distilbert", 30_522, 100, {}, 66_362_880),
        # With a projection to 512 without bias: 63,428,096 and 51,354,988 = 51.35 M.
        ("clip-text", 49_408, 77, {}, 63_428_096 - 512 * 512),
        ("mixer-text", 49_408, 77, {}, 51_354_988 - 512 * 512),
    ],
)
def test_towers_have_the_published_sizes(name, vocabulary, context, options, count):
    tower = registry.text_tower(name).build(
        vocabulary_size=vocabulary, context_length=context, **options
    )
    assert tower.count_params() == count


@pytest.mark.slow
def test_the_text_half_of_clip_is_that_of_keras_hub():
    theirs = CLIPTextEncoder(49_408, 512, 512, 12, 8, 2048, max_sequence_length=77)
    ours = registry.text_tower("clip-text").build(vocabulary_size=49_408, context_length=77)
    assert ours.count_params() == theirs.count_params()


def test_clips_transformer_equals_keras_hubs():
    keras.utils.set_random_seed(0)
    theirs = CLIPTextEncoder(50, 16, 16, 2, 2, 64, max_sequence_length=20)
    ours = small("clip-text", pooling="none")
    ours.set_weights([np.asarray(w.value) for w in theirs.weights])
    tokens = batch()
    expected = np.asarray(theirs({"token_ids": tokens["token_ids"]}))
    np.testing.assert_allclose(ours(tokens), expected, atol=1e-4)
    # CLIP reads the place of the highest id.
    pooled = small("clip-text")
    pooled.set_weights(ours.get_weights())
    rows, last = np.arange(4), tokens["text_mask"].sum(axis=1) - 1
    np.testing.assert_allclose(pooled(tokens), expected[rows, last], atol=1e-4)


@pytest.mark.parametrize(
    ("pooling", "key"), [("none", "sequence_output"), ("cls", "pooled_output")]
)
def test_bert_equals_keras_hubs(pooling, key):
    keras.utils.set_random_seed(0)
    theirs = keras_hub.models.BertBackbone(
        vocabulary_size=50,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=64,
        max_sequence_length=20,
    )
    weights = {w.path: np.asarray(w.value) for w in theirs.weights}
    ours = small("bert", activation="gelu_tanh", pooling=pooling)
    for variable in ours.weights:
        variable.assign(weights[variable.path])
    tokens = batch()
    expected = theirs(
        {
            "token_ids": tokens["token_ids"],
            "segment_ids": np.zeros_like(tokens["token_ids"]),
            "padding_mask": tokens["text_mask"],
        }
    )[key]
    found, expected = np.asarray(ours(tokens)), np.asarray(expected)
    if pooling == "none":
        found, expected = found[tokens["text_mask"]], expected[tokens["text_mask"]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def mixer_slowly(block: TextMixerBlock, x: np.ndarray, count: int) -> np.ndarray:
    """Equation 1 of the Mixer paper for one text (count, C), its padding cut off before."""
    named = {w.path.split("/", 1)[1]: np.asarray(w.value, "float64") for w in block.weights}
    token_norm, token_in, token_out, channel_norm, channel_in, channel_out = (
        layer.name for layer in block._layers
    )

    def norm(name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * named[f"{name}/gamma"] + named[f"{name}/beta"]

    def hidden(x):
        return x / (1 + np.exp(-1.702 * x))

    w1, b1 = named[f"{token_in}/kernel"][:count], named[f"{token_in}/bias"]
    w2, b2 = named[f"{token_out}/kernel"][:, :count], named[f"{token_out}/bias"][:count]
    u = x + (hidden(norm(token_norm, x).T @ w1 + b1) @ w2 + b2).T
    y = norm(channel_norm, u) @ named[f"{channel_in}/kernel"] + named[f"{channel_in}/bias"]
    return u + hidden(y) @ named[f"{channel_out}/kernel"] + named[f"{channel_out}/bias"]


def test_the_text_mixer_block_equals_the_equations_in_numpy():
    rng = np.random.default_rng(0)
    block = TextMixerBlock(9, 5, 7, "quick_gelu", 1e-5)
    x, counts = rng.normal(size=(3, 8, 6)).astype("float32"), (8, 3, 1)
    mask = np.arange(8)[None] < np.array(counts)[:, None]
    block(x, text_mask=mask)
    block.set_weights([rng.normal(size=w.shape).astype("float32") for w in block.get_weights()])
    found = np.asarray(block(x, text_mask=mask))
    for row, count in enumerate(counts):
        expected = mixer_slowly(block, x[row, :count].astype("float64"), count)
        np.testing.assert_allclose(found[row, :count], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("pooling", ["mean", "end", "none"])
def test_padding_does_not_change_a_text(name, pooling):
    keras.utils.set_random_seed(0)
    tower = small(name, pooling=pooling)
    tokens = batch()
    mask = tokens["text_mask"]
    longer = {key: np.pad(value, [[0, 0], [0, 8]]) for key, value in tokens.items()}
    # What stands in the padding does not matter either.
    longer["token_ids"] = np.where(longer["text_mask"], longer["token_ids"], 7)
    short, padded = np.asarray(tower(tokens)), np.asarray(tower(longer))
    if pooling == "none":
        assert padded.shape[1] == 20
        short, padded = short[mask], padded[:, :12][mask]
    np.testing.assert_allclose(short, padded, atol=1e-5)
    assert np.std(short, axis=0).min() > 1e-4


def test_the_original_mixer_mixes_padding_in():
    keras.utils.set_random_seed(0)
    masked, original = small("mixer-text"), small("mixer-text", mask_padding=False)
    original.set_weights(masked.get_weights())
    tokens = batch()
    full = {key: np.pad(value, [[0, 0], [0, 8]]) for key, value in tokens.items()}
    np.testing.assert_allclose(original(tokens), original(full), atol=1e-6)
    assert np.abs(np.asarray(original(full)) - np.asarray(masked(full))).max() > 1e-3
    whole = {"token_ids": full["token_ids"], "text_mask": np.ones_like(full["text_mask"])}
    np.testing.assert_allclose(original(whole), masked(whole), atol=1e-5)


def test_pooling_reads_what_it_says():
    tokens, mask = batch(), batch()["text_mask"]
    states = {p: np.asarray(_same(p)(tokens)) for p in ("none", "mean", "end", "cls")}
    rows = np.arange(4)
    np.testing.assert_allclose(states["cls"], states["none"][:, 0], atol=1e-6)
    np.testing.assert_allclose(states["end"], states["none"][rows, mask.sum(1) - 1], atol=1e-6)
    means = [row[m].mean(axis=0) for row, m in zip(states["none"], mask, strict=True)]
    np.testing.assert_allclose(states["mean"], means, atol=1e-6)
    with pytest.raises(ValueError, match="unknown pooling 'first'.*mean"):
        small("bert", pooling="first")


def _same(pooling: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    return small("clip-text", pooling=pooling)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="20 positions.*Received: 21"):
        small("bert", context_length=21)
    with pytest.raises(ValueError, match="gelu, gelu_tanh, relu. Received: 'swish'"):
        small("bert", activation="swish")


@pytest.mark.parametrize(
    "layer",
    [LastToken(), CausalBlock(2, 8, "quick_gelu"), TextMixerBlock(9, 3, 5), PadTokens(7)],
)
def test_layers_round_trip_through_their_config(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
