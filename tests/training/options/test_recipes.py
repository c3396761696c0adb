"""Recipes: exact sizes, and each one trained, saved, loaded, exported and asked at a small size."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfclip.export import main as export
from tfclip.fit import describe
from tfclip.inputs.images import decode_valid
from tfclip.inputs.tiles import tile_boxes
from tfclip.models.saving import load_model
from tfclip.records.manifest import vocabulary_file
from tfclip.serving.check import check_ops
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.recipes import RECIPES
from tfclip.training.run import train

# What is left out trains at its own size. Word pieces and the shapes' 32 pixels everywhere.
BERT = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
CLIP = {"context_length": 32, "embed_dim": 8}
SMALL = {
    "visual-genome": {
        "flags": {"image_tower": "efficientnet-b0", "text_tower": "bert"},
        "text_options": BERT,
    },
    "liteclip": {"flags": {"text_tower": "bert"}, "text_options": {**BERT, "pooling": "mean"}},
    "simple-clip": {
        "flags": {"image_tower": "resnet-18", "loss": "sigmoid", "logit_scale": 10.0},
        "text_options": {**BERT, "pooling": "mean"},
    },
    "teensy-4m": {
        "flags": {"text_tower": "bert", "embed_dim": 16},
        "image_options": {"blocks": 1, "width": 16},
        "text_options": {**BERT, "pooling": "mean"},
    },
    "teensy-5m": {
        "flags": {"text_tower": "bert", "embed_dim": 16},
        "image_options": {"blocks": 2, "width": 16},
        "text_options": {**BERT, "pooling": "mean"},
    },
    "clip-mixer": {
        "flags": CLIP,
        "image_options": {"blocks": 1, "width": 16, "patch_size": 8},
        "text_options": {"blocks": 1, "width": 16},
    },
    "clip-vit-b32": {
        "flags": CLIP,
        "image_options": {"blocks": 1, "width": 16, "heads": 2, "patch_size": 8},
        "text_options": {"blocks": 1, "width": 16, "heads": 2},
    },
    # No word is in as many of a dozen pictures as the recipe asks for.
    "laptop": {
        "flags": {"text_tower": "bert", "word_weight": 0.0, "captions": 2, "embed_dim": 16},
        "image_options": {"pooling": "statistics", "width": 0.25, "depth": 0.3},
        "text_options": {**BERT, "pooling": "mean"},
    },
    "shapes": {"flags": {}},
    "distilled": {
        "flags": {
            "embed_dim": 16,
            "teacher": (),
            "teacher_feature": 0.0,
            "teacher_words": 0.0,
            "teacher_affinity": 1.0,
        },
        "image_options": {"pooling": "statistics", "width": 0.25, "depth": 0.3},
        "text_options": {"width": 8},
    },
}
EVERYWHERE = {
    "image_size": 32,
    "image_weights": "none",
    "text_weights": "none",
    "steps": 5,
    "epochs": None,
    "batch_size": 4,
    "evaluate_every": 5,
    "warmup_steps": 0,
    "schedule": "constant",
}


@pytest.fixture(scope="module")
def merges(tmp_path_factory):
    """A byte-pair file of a few merges, in the form of CLIP's."""
    path = tmp_path_factory.mktemp("vocabulary") / "merges.txt"
    path.write_text("#version: 0.2\nr e\nre d</w>\nb l\nbl u\nblu e</w>\no f</w>\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_recipe_trains_is_loaded_exported_and_answers(
    name, training_records, merges, tmp_path, picture_bytes, ask_in_fresh_process
):
    small = dict(SMALL[name])
    recipe = dataclasses.replace(RECIPES[name], **{k: v for k, v in small.items() if k != "flags"})
    # The options of a recipe go to its own tower; the small one takes its place.
    recipe = dataclasses.replace(recipe, defaults={**recipe.defaults, **small["flags"]})
    given = dict(EVERYWHERE, records=(f"{training_records}:train",), run=tmp_path / "run")
    given["feature_cache"] = tmp_path / "features"
    if name.startswith("clip"):
        given["vocabulary"] = merges
    elif name == "distilled":
        given["vocabulary"] = vocabulary_file(training_records)
    result = train(name, recipe.flags(**given), variant=recipe)
    assert result["steps"] == 5
    assert np.isfinite(result["logs"]["loss"])
    model = load_model(tmp_path / "run")
    assert model.trained_on["recipe"] == name
    words = [str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--labels", "voc"]
    assert export([*words, "--thresholds", "none"]) == 0
    check_ops(tmp_path / "out" / "1")
    pictures, texts = list(picture_bytes.values()), ["a red circle", "Größe, 12 ½ …", ""]
    images, embeddings = ask_in_fresh_process(tmp_path / "out" / "1", pictures, texts)
    pixels, valid = decode_valid(tf.constant(pictures), tile_boxes("1"), model.config.image_size)
    assert valid.numpy().all()
    expected = model.dual_encoder.encode_image(pixels[:, 0])
    np.testing.assert_allclose(images, expected, atol=1e-5)
    expected = model.dual_encoder.encode_text(**model.tokenizer(texts))
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


@pytest.mark.slow
def test_recipes_have_the_published_numbers_of_parameters():
    found = {name: describe(recipe) for name, recipe in RECIPES.items()}

    def side(name, which):
        return sum(found[name][which][f"{part}_parameters"] for part in ("tower", "head"))

    # RECIPES.md of the design: 59.71 M + 51.35 M = 111.06 M; one more for the temperature.
    assert side("clip-mixer", "image") == 59_705_400
    assert side("clip-mixer", "text") == 51_354_988
    assert found["clip-mixer"]["parameters"] == 111_060_389
    # OpenAI's ViT-B/32; keras_hub counts 50 position ids as weights, which makes 151,277,363.
    assert found["clip-vit-b32"]["parameters"] == 151_277_313
    assert side("teensy-4m", "image") == 4_031_352
    assert side("teensy-5m", "image") == 5_177_888
    towers = {
        "visual-genome": (28_513_527, 28_763_648),
        # bert-mini is 11,170,560 with BERT's pooler, which mean pooling has no use for.
        "liteclip": (27_820_128, 11_170_560 - (256 * 256 + 256)),
        "simple-clip": (23_587_712, 66_362_880),
    }
    for name, expected in towers.items():
        parts = found[name]["image"], found[name]["text"]
        assert tuple(part["tower_parameters"] for part in parts) == expected


def test_every_recipe_has_valid_defaults_and_is_trained_here():
    for recipe in RECIPES.values():
        assert isinstance(recipe.flags(), FitFlags)
    # They differ from `laptop` by their towers, views, heads, averages and storage alone.
    others = {"laptop-squeezenet", "laptop-lite0", "laptop-fast"}
    assert set(RECIPES) - set(SMALL) == others
    whole = dict.fromkeys(("image_tower", "image_size", "views", "embed_dim", "average"))
    whole |= {"feature_precision": None}
    for name in others:
        assert {**RECIPES[name].defaults, **whole} == {**RECIPES["laptop"].defaults, **whole}


def test_the_former_laptops_are_unchanged():
    """Their runs of earlier versions resume under these names."""
    for name, tower in (("squeezenet", "squeezenet"), ("lite0", "efficientnet-lite0")):
        recipe = RECIPES[f"laptop-{name}"]
        flags = recipe.flags()
        assert (flags.model.image_tower, flags.model.image_size) == (tower, 224)
        assert (flags.sampling.views, flags.epochs, flags.model.embed_dim) == ("4", 16, 1024)
        assert (flags.optimizer.average, flags.freeze.feature_precision) == (0.995, "float16")
        assert recipe.image_options == {"pooling": "statistics"}
        heads = {"members": 2, "input_dropout": 0.65, "dropout": 0.5}
        assert recipe.image_head_options == heads


def test_options_go_to_the_recipes_own_parts_only():
    recipe = RECIPES["shapes"]
    assert recipe.options(recipe.flags())["text_options"] == recipe.text_options
    other = recipe.options(recipe.flags(text_tower="bert-tiny"))
    assert other["text_options"] == {}
    assert other["image_options"] == recipe.image_options
