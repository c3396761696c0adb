"""The public Python API: `available_models`, `load`, `tokenize`, `ZeroShotPipeline`."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from tfclip import text_repair
from tfclip.inputs.images import decode_valid
from tfclip.inputs.text import Tokenizer, check_lengths
from tfclip.inputs.tiles import tile_boxes
from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.model_directory import CONFIG_FILE, holds_model
from tfclip.models.saving import TrainedModel, load_model
from tfclip.models.weights.clip.convert import convert_clip
from tfclip.models.weights.fetch import local_source, names_hub
from tfclip.records.check import MAX_PIXELS
from tfclip.serving.classifier import check_labels
from tfclip.training.options.recipes import RECIPES

RUNS = Path("runs")
DEFAULT_RUN = RUNS / "quickstart"
# The Pillow modes that a PNG file stores without conversion.
_PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")


class ClipModel:
    """A trained model that returns embeddings and logits; made by `load`.

    Examples:
        >>> model, _ = load("runs/first")
        >>> model.encode_text(tokenize("a dog", model)).shape
        TensorShape([1, 16])

    Attributes:
        dual_encoder: the Keras model, a `DualEncoder`.
        tokenizer: with the vocabulary and the context length of the training.
        config: the architecture, a `ModelConfig`.
        trained_on: the training data and settings: `recipe`, `records`, `steps`, `seed`, ...
    """

    def __init__(self, trained: TrainedModel):
        self.dual_encoder: DualEncoder = trained.dual_encoder
        self.tokenizer: Tokenizer = trained.tokenizer
        self.config: ModelConfig = trained.config
        self.trained_on = trained.trained_on
        self._embed_pictures = tf.function(
            self.dual_encoder.encode_image, reduce_retracing=True, autograph=False
        )
        self._embed_tokens = tf.function(
            self.dual_encoder.encode_text, reduce_retracing=True, autograph=False
        )

    def encode_image(self, images) -> tf.Tensor:
        """Embed pictures (N,S,S,3) uint8, as `preprocess` returns them: (N,D) float32, unit norm.

        Raises:
            ValueError: for another shape or dtype.
        """
        images, size = tf.convert_to_tensor(images), self.config.image_size
        if images.dtype != tf.uint8 or images.shape[1:] != [size, size, 3]:
            raise ValueError(
                f"images must be (N, {size}, {size}, 3) uint8: stack the results of preprocess. "
                f"Received: {tuple(images.shape)} {images.dtype.name}"
            )
        return self._embed_pictures(images)

    def encode_text(self, tokens) -> tf.Tensor:
        """Embed texts, (M,L) int32 from `tokenize`: (M,D) float32, unit norm.

        Raises:
            ValueError: for another shape, or more tokens than the context length.
        """
        tokens = tf.cast(tokens, tf.int32)
        if tokens.shape.rank != 2 or tokens.shape[1] > self.config.context_length:
            raise ValueError(
                f"tokens must be (M, L) with L at most {self.config.context_length}, as tokenize "
                f"returns them. Received: {tuple(tokens.shape)}"
            )
        return self._embed_tokens(tokens, self.tokenizer.mask_of(tokens))

    def image_encoder(self, images) -> tf.Tensor:
        """Embed one picture (S,S,3) uint8 as (D,), or N pictures like `encode_image`.

        A recipe with a frozen sentence encoder (teensy: 384 numbers) maps pictures into the
        embedding space of that encoder, so its sentence embeddings can be compared directly.
        """
        images = tf.convert_to_tensor(images)
        return self.encode_image(images[None])[0] if images.ndim == 3 else self.encode_image(images)

    def logits(self, images, text_embeddings) -> tf.Tensor:
        """Return the learnt scale times the cosine of pictures and embeddings: (N,M) float32.

        Args:
            images: (N,S,S,3) uint8.
            text_embeddings: (M,D), from `encode_text` or from the sentence encoder whose space the
                model learnt; they need not be of unit norm.

        Raises:
            ValueError: for embeddings of another size.
        """
        texts, size = tf.cast(text_embeddings, tf.float32), self.config.embed_dim
        if texts.shape.rank != 2 or texts.shape[1] != size:
            raise ValueError(f"text_embeddings must be (M, {size}). Received: {tuple(texts.shape)}")
        texts = tf.math.l2_normalize(texts, axis=-1)
        return self.dual_encoder.temperature() * tf.matmul(
            self.encode_image(images), texts, transpose_b=True
        )

    def __call__(self, images, tokens) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the learnt scale times the cosine, per image (N,M) and per text (M,N), float32.

        Args:
            images: (N,S,S,3) uint8, as `preprocess` returns them.
            tokens: (M,L) int32, as `tokenize` returns them.

        Raises:
            ValueError: as `encode_image` and `encode_text`.
        """
        cosines = tf.matmul(self.encode_image(images), self.encode_text(tokens), transpose_b=True)
        logits = self.dual_encoder.temperature() * cosines
        return logits, tf.transpose(logits)


class Preprocess:
    """Turns a picture into the pixels that the model takes, with the code of the served graph.

    Examples:
        >>> _, preprocess = load("runs/first")
        >>> preprocess("picture.jpg").shape
        (32, 32, 3)
    """

    def __init__(self, image_size: int):
        self.image_size = image_size
        self._views = tf.function(
            lambda data: decode_valid(data, tile_boxes("1"), image_size),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )

    def __call__(self, picture: str | Path | bytes | Image.Image) -> np.ndarray:
        """Return the pixels (S,S,3) uint8 of a path, the bytes of a file, or a Pillow image.

        In all three cases EXIF rotation is applied and transparent pictures are laid over white.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file cannot be decoded as a picture.
        """
        views, valid = self._views([_file_bytes(picture)])
        if not valid[0]:
            name = picture if isinstance(picture, str | Path) else type(picture).__name__
            raise ValueError(
                f"{name} cannot be decoded as a picture; allowed: JPEG, PNG, GIF, BMP, WebP of at "
                f"most {MAX_PIXELS:,} pixels"
            )
        return views[0, 0].numpy()


def _file_bytes(picture: str | Path | bytes | Image.Image) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, Image.Image):
        if picture.mode not in _PNG_MODES:
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        file, exif = io.BytesIO(), picture.info.get("exif")
        picture.save(file, "PNG", compress_level=1, **({"exif": exif} if exif else {}))
        return file.getvalue()
    return Path(picture).read_bytes()


def available_models() -> dict[str, list[str]]:
    """Return every recipe with the runs under `runs/` that hold trained weights of it.

    Runs of a recipe that this version does not have are listed under that recipe's name.

    Examples:
        >>> available_models()["shapes"]
        ['runs/first']
    """
    runs: dict[str, list[str]] = {name: [] for name in RECIPES}
    for path in sorted(RUNS.glob(f"*/best/{CONFIG_FILE}")):
        try:
            trained_on = json.loads(path.read_text(encoding="utf-8"))["trained_on"]
            runs.setdefault(str(trained_on.get("recipe")), []).append(str(path.parents[1]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # `load` could not load it either
    return runs


def load(path: str | Path) -> tuple[ClipModel, Preprocess]:
    """Load a trained model; never random weights.

    Args:
        path: a run directory, a model folder, or a pretrained CLIP or SigLIP: a folder of
            transformers or open_clip, a file of weights, or `hf://OWNER/NAME`.

    Returns:
        The model, and the function that turns pictures into its input.

    Raises:
        FileNotFoundError: there is no trained model at `path`.
        ValueError: its files are damaged, or of an architecture that is not supported.

    Examples:
        >>> model, preprocess = load("runs/first")
        >>> model.config.embed_dim
        16
        >>> load("shapes")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        FileNotFoundError: shapes is a recipe; load takes a run. ...
    """
    if str(path) in RECIPES and not Path(path).exists():
        runs = ", ".join(available_models()[str(path)]) or "none"
        raise FileNotFoundError(
            f"{path} is a recipe; load takes a run. Runs of this recipe here: {runs}. "
            f"Train one with: python -m tfclip.fit {path} --records DIR --run RUN"
        )
    source = Path(path)
    if holds_model(source):
        trained = load_model(source)
    elif source.is_file() or (source / "config.json").is_file() or names_hub(str(path)):
        trained, _ = convert_clip(local_source(str(path)))
    elif (source / "open_clip_config.json").is_file():
        trained, _ = convert_clip(source)
    else:
        trained = load_model(source)
    return ClipModel(trained), Preprocess(trained.config.picture_size)


def tokenize(
    texts: str | Sequence[str],
    model: ClipModel | TrainedModel,
    context_length: int | None = None,
    truncate: bool = False,
    fix_text: bool = False,
) -> tf.Tensor:
    """Turn one text or M texts into token ids of a model: (M,L) int32.

    Args:
        texts: one text or several.
        model: the model that defines the vocabulary and the longest context.
        context_length: L; by default, and at most, that of the model.
        truncate: cut texts that are too long instead of raising.
        fix_text: repair wrongly decoded text and HTML entities first, as the tokenizers of OpenAI
            and open_clip do; see `text_repair`.

    Raises:
        ValueError: a text is too long, or `context_length` is longer than the model's.

    Examples:
        >>> model, _ = load("runs/first")
        >>> tokenize(["a photo of a dog", "a cat"], model).shape
        TensorShape([2, 32])
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if fix_text:
        texts = [text_repair.fix_text(text) for text in texts]
    tokenizer = model.tokenizer
    if context_length not in (None, tokenizer.context_length):
        if context_length > tokenizer.context_length:
            raise ValueError(
                f"this model reads at most {tokenizer.context_length} tokens. Received: "
                f"context_length={context_length}"
            )
        tokenizer = tokenizer.with_context_length(context_length)
    if not truncate:
        check_lengths(texts, tokenizer)
    return tokenizer(tf.constant(texts, tf.string, shape=[len(texts)]))["token_ids"]


class ZeroShotPipeline:
    """Zero-shot classification: ranks texts by how well they describe a picture.

    Args:
        path: a run directory, or anything that `load` takes; `runs/quickstart` by default.

    Raises:
        FileNotFoundError: there is no trained model.

    Examples:
        >>> pipeline = ZeroShotPipeline("runs/first")
        >>> answer = pipeline.predict("picture.jpg", ["a photo of a dog", "a photo of a cat"])
        >>> sorted(label for label, probability in answer)
        ['a photo of a cat', 'a photo of a dog']
        >>> round(sum(probability for label, probability in answer), 4)
        1.0
    """

    def __init__(self, path: str | Path | None = None):
        if path is None and not DEFAULT_RUN.exists():
            raise FileNotFoundError(
                f"{DEFAULT_RUN} does not exist. Train it with: python -m tfclip.quickstart, or "
                "name a run: ZeroShotPipeline(RUN)"
            )
        self.model, self.preprocess = load(DEFAULT_RUN if path is None else path)

    def predict(
        self,
        image: str | Path | bytes | Image.Image,
        labels: Sequence[str],
        top_k: int | None = None,
    ) -> list[tuple[str, float]]:
        """Return (label, probability) pairs, the most probable first; probabilities sum to 1.

        Args:
            image: a path, the bytes of a file, or a Pillow image.
            labels: texts phrased like captions: "a photo of a dog".
            top_k: the number of pairs to return; None returns all of them.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is not a picture, there are no labels, a label is repeated or too
                long, or top_k is below 1.
        """
        if isinstance(labels, str):
            raise ValueError(f"labels must be a list of texts. Received: the text {labels!r}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be 1 or more, or None. Received: {top_k}")
        labels = check_labels(list(labels), "labels")
        logits, _ = self.model(self.preprocess(image)[None], tokenize(labels, self.model))
        probabilities = tf.nn.softmax(logits[0]).numpy()
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        return [(labels[index], float(probabilities[index])) for index in order]
