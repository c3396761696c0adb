"""The Python API: loading, pictures, tokens, logits, zero-shot."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

import tfclip
from tfclip.training.options.recipes import RECIPES


@pytest.fixture(scope="module")
def loaded(tiny_run):
    return tfclip.load(tiny_run)


def test_load_brings_the_trained_weights(loaded, tiny_model):
    for got, expected in zip(
        loaded[0].dual_encoder.weights, tiny_model.dual_encoder.weights, strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_load_never_makes_a_model_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="python -m tfclip.fit"):
        tfclip.load("runs/nothing")
    with pytest.raises(FileNotFoundError, match="shapes is a recipe.*of this recipe here: none"):
        tfclip.load("shapes")
    with pytest.raises(FileNotFoundError, match="python -m tfclip.quickstart"):
        tfclip.ZeroShotPipeline()


def test_available_models_are_the_recipes_and_their_runs(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tfclip.available_models() == {name: [] for name in RECIPES}
    shutil.copytree(tiny_run, tmp_path / "runs" / "quickstart")
    (tmp_path / "runs" / "broken" / "best").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "best" / "model.json").write_text("{")
    assert tfclip.available_models()["shapes"] == ["runs/quickstart"]
    assert tfclip.ZeroShotPipeline().model.trained_on["recipe"] == "shapes"


def test_a_path_its_bytes_and_a_pillow_image_are_one_picture(loaded, picture_bytes, tmp_path):
    preprocess = loaded[1]
    for name, data in picture_bytes.items():
        (tmp_path / name).write_bytes(data)
        from_bytes = preprocess(data)
        assert from_bytes.shape == (32, 32, 3) and from_bytes.dtype == np.uint8
        np.testing.assert_array_equal(preprocess(tmp_path / name), from_bytes)
        np.testing.assert_array_equal(preprocess(str(tmp_path / name)), from_bytes)
        from_pillow = preprocess(Image.open(io.BytesIO(data))).astype(int)
        # Pillow's own JPEG and WebP decoders may differ in the last bit.
        assert np.abs(from_pillow - from_bytes).max() <= 2, name


def test_pillow_images_of_other_modes_are_taken(loaded, picture_bytes):
    picture = Image.open(io.BytesIO(picture_bytes["bmp"]))
    np.testing.assert_array_equal(
        loaded[1](picture.convert("CMYK")), loaded[1](picture.convert("CMYK").convert("RGB"))
    )
    turned = Image.open(io.BytesIO(picture_bytes["turned"]))
    np.testing.assert_array_equal(loaded[1](ImageOps.exif_transpose(turned)), loaded[1](turned))


def test_no_picture_is_refused(loaded, tmp_path):
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(ValueError, match="text.jpg cannot be decoded as a picture"):
        loaded[1](tmp_path / "text.jpg")
    with pytest.raises(FileNotFoundError):
        loaded[1](tmp_path / "nowhere.jpg")


def test_tokenize_pads_cuts_and_refuses(loaded):
    model = loaded[0]
    tokens = tfclip.tokenize(["a dog", "it"], model)
    assert tokens.shape == (2, 32) and tokens.dtype == "int32"
    assert tokens.numpy()[0, :6].tolist() == [
        2,
        *(4 + ord("a") - 97,),
        4 + ord("d") - 97,
        31 + ord("o") - 97,
        31 + ord("g") - 97,
        3,
    ]
    assert tfclip.tokenize("it", model).shape == (1, 32)
    assert tfclip.tokenize([], model).shape == (0, 32)
    with pytest.raises(ValueError, match="takes 6 tokens.*at most 5"):
        tfclip.tokenize(["a dog"], model, context_length=5)
    cut = tfclip.tokenize(["a dog"], model, context_length=5, truncate=True)
    assert cut.shape == (1, 5) and cut.numpy()[0, -1] == 3
    with pytest.raises(ValueError, match="at most 32 tokens.*context_length=33"):
        tfclip.tokenize(["a dog"], model, context_length=33)


def test_padding_does_not_change_a_text(loaded):
    model = loaded[0]
    short = model.encode_text(tfclip.tokenize(["a dog"], model, context_length=8))
    np.testing.assert_allclose(
        short, model.encode_text(tfclip.tokenize(["a dog"], model)), atol=1e-6
    )


def test_logits_are_scale_times_cosine(loaded, picture_bytes):
    model, preprocess = loaded
    images = np.stack([preprocess(picture_bytes[name]) for name in ("jpeg", "gif")])
    tokens = tfclip.tokenize(["a dog", "a cat", "it"], model)
    per_image, per_text = model(images, tokens)
    image, text = model.encode_image(images).numpy(), model.encode_text(tokens).numpy()
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(per_image, image @ text.T / 0.07, rtol=1e-4)
    np.testing.assert_array_equal(np.transpose(per_text), per_image)


def test_other_shapes_are_refused(loaded):
    model = loaded[0]
    for wrong in (
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 16, 16, 3), np.uint8),
        np.zeros((1, 32, 32, 3), np.float32),
    ):
        with pytest.raises(ValueError, match=r"images must be \(N, 32, 32, 3\) uint8"):
            model.encode_image(wrong)
    with pytest.raises(ValueError, match="tokens must be"):
        model.encode_text(np.zeros((1, 33), np.int32))


def test_the_pipeline_ranks_labels(tiny_run, picture_bytes):
    pipeline, labels = tfclip.ZeroShotPipeline(tiny_run), ["a dog", "a cat", "a red circle"]
    ranked = pipeline.predict(picture_bytes["jpeg"], labels)
    assert sorted(label for label, _ in ranked) == sorted(labels)
    probabilities = [probability for _, probability in ranked]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert pipeline.predict(picture_bytes["jpeg"], labels, top_k=2) == ranked[:2]
    for wrong, said in (
        ("a dog", "must be a list"),
        ([], "no labels"),
        (["it", "it"], "more than once"),
        (["x" * 100], "takes 102 tokens"),
    ):
        with pytest.raises(ValueError, match=said):
            pipeline.predict(picture_bytes["jpeg"], wrong)
    with pytest.raises(ValueError, match="top_k"):
        pipeline.predict(picture_bytes["jpeg"], labels, top_k=0)


@pytest.fixture(scope="module")
def byte_pair_run(tmp_path_factory):
    """A run with CLIP's kind of text tower and tokenizer, random weights."""
    import keras

    from tfclip.inputs.text import BytePairTokenizer
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saving import TrainedModel, save_model

    tokenizer = BytePairTokenizer(["d o", "do g</w>", "c a"], 77)
    config = ModelConfig(
        image_tower="small-convolutional",
        image_options={"widths": (8, 16)},
        text_tower="clip-text",
        text_options={"width": 32, "blocks": 1, "heads": 2},
        image_size=32,
        embed_dim=16,
        context_length=77,
        vocabulary_size=tokenizer.vocabulary_size,
    )
    keras.utils.set_random_seed(0)
    run = tmp_path_factory.mktemp("runs") / "byte-pair"
    save_model(run / "best", TrainedModel(DualEncoder(config), tokenizer, {"recipe": "shapes"}))
    return run


@pytest.mark.slow
def test_a_byte_pair_model_brings_its_merges(byte_pair_run, picture_bytes):
    assert (byte_pair_run / "best" / "merges.txt").read_text().splitlines()[1] == "d o"
    model, preprocess = tfclip.load(byte_pair_run)
    tokens = tfclip.tokenize(["a dog", "a cat!", ""], model, context_length=77).numpy()
    assert tokens.shape == (3, 77)
    assert tokens[0, :5].tolist() == [515, 320, 513, 516, 0]
    # Other libraries pad by the end token, and 0 is the id of "!".
    ended = np.where(np.cumsum(tokens == 516, axis=1) > 0, 516, tokens)
    expected = model.encode_text(tokens)
    np.testing.assert_allclose(model.encode_text(ended), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode_text(tokens[:, :12]), expected, atol=1e-6)
    per_image, per_text = model(preprocess(picture_bytes["jpeg"])[None], tokens)
    assert per_image.shape == (1, 3) and per_text.shape == (3, 1)
    with pytest.raises(ValueError, match="takes 102 tokens.*at most 77"):
        tfclip.tokenize("x" * 100, model)
    cut = tfclip.tokenize("x" * 100, model, truncate=True).numpy()
    assert cut[0, -1] == 516 and (cut[0, 1:-1] != 516).all()
    labels = ["a dog", "a cat"]
    pipeline = tfclip.ZeroShotPipeline(byte_pair_run)
    ((best, share),) = pipeline.predict(picture_bytes["jpeg"], labels, top_k=1)
    logits, _ = model(preprocess(picture_bytes["jpeg"])[None], tfclip.tokenize(labels, model))
    first, second = np.asarray(logits)[0]
    assert best == ("a dog" if first > second else "a cat")
    assert share == pytest.approx(1 / (1 + np.exp(-abs(first - second))), abs=1e-5)


def test_a_byte_pair_model_is_served_as_it_is_loaded(byte_pair_run):
    from tfclip.models.saving import load_model
    from tfclip.serving.served_model import ServedModel

    trained = load_model(byte_pair_run)
    encode = ServedModel(trained).signatures()["encode_text"]
    texts = ["a dog", "A DOG, É 😀", "", "x" * 200]
    model = tfclip.load(byte_pair_run)[0]
    expected = model.encode_text(tfclip.tokenize(texts, model, truncate=True))
    np.testing.assert_allclose(encode(text=texts)["embedding"], expected, atol=1e-6)


def test_a_folder_without_its_tokenizer_is_refused(byte_pair_run, tmp_path):
    shutil.copytree(byte_pair_run, tmp_path / "run")
    (tmp_path / "run" / "best" / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match="no byte-pair merges at"):
        tfclip.load(tmp_path / "run")


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )


def test_importing_the_package_starts_nothing():
    code = "import sys, tfclip, os; print('tensorflow' in sys.modules, 'keras' in sys.modules, "
    code += "os.environ['KERAS_BACKEND'], tfclip.__all__ == [n for n in dir(tfclip) if n in "
    code += "tfclip.__all__])"
    environment = {"KERAS_BACKEND": "tensorflow"}
    assert python(code, **environment).stdout.split() == ["False", "False", "tensorflow", "True"]


@pytest.mark.parametrize(
    "code",
    [
        "import tfclip; tfclip.load",
        "import sys, types; sys.modules['keras'] = k = types.ModuleType('keras');"
        "k.config = types.SimpleNamespace(backend=lambda: 'jax'); import tfclip.models.layers",
        "import types, sys; k = types.ModuleType('keras'); sys.modules['keras'] = k;"
        "k.config = types.SimpleNamespace(backend=lambda: 'jax'); import tfclip; tfclip.train",
    ],
)
def test_other_backends_are_refused(code):
    refused = python(code, KERAS_BACKEND="jax")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "ImportError: tfclip needs Keras' TensorFlow backend. Received: KERAS_BACKEND=jax. Run: "
        "unset KERAS_BACKEND; in Python, import tfclip before keras"
    )


@pytest.mark.parametrize("words", [["tfclip", "fit", "list"], ["tfclip.predict"]])
def test_a_command_refuses_other_backends_in_one_line(words):
    command = subprocess.run(
        [sys.executable, "-m", *words],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert command.returncode == 2
    assert command.stderr == (
        "error: tfclip needs Keras' TensorFlow backend. Received: KERAS_BACKEND=torch. Run: "
        "unset KERAS_BACKEND; in Python, import tfclip before keras\n"
    )


def test_pictures_beside_sentence_embeddings(loaded, tiny_model):
    model = loaded[0]
    pictures = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3)).astype("uint8")
    sentences = np.random.default_rng(1).normal(size=(4, 16)).astype("float32")
    one = model.image_encoder(pictures[0])
    assert one.shape == (16,)
    embedded = np.asarray(model.image_encoder(pictures))
    np.testing.assert_allclose(one, embedded[0], atol=1e-5)
    unit = sentences / np.linalg.norm(sentences, axis=1, keepdims=True)
    expected = float(tiny_model.dual_encoder.temperature()) * embedded @ unit.T
    np.testing.assert_allclose(model.logits(pictures, sentences), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"\(M, 16\).*\(4, 15\)"):
        model.logits(pictures, sentences[:, :15])
