"""Converts a pretrained CLIP or SigLIP: towers, projections, logit scale and tokenizer."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from tfclip.inputs.text import Tokenizer
from tfclip.inputs.tokenizers.byte_pair import MERGES_FILE, BytePairTokenizer, load_merges
from tfclip.inputs.tokenizers.sentence_pieces import MODEL_FILE, SentencePieceTokenizer
from tfclip.memory import return_memory
from tfclip.models.config import LARGEST_INITIAL_SCALE, ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.saving import TrainedModel
from tfclip.models.weights.clip import presets
from tfclip.models.weights.clip.sources import HUGGING_FACE_WEIGHTS, ClipSource, find_clip
from tfclip.models.weights.safetensors_files import weights_in
from tfclip.models.weights.texts.tokenizer_files import find_merges

# Arrays of this many bytes, such as token tables, are assigned in parts of so many rows.
LARGE, ROWS = 16 * 2**20, 2048
# Buffers whose values follow from the sizes.
_BUFFERS = ("position_ids", "attn_mask", "input_resolution", "context_length", "vocab_size")


def convert_clip(
    path: Path,
    vocabulary: Path | None = None,
    activation: str | None = None,
    text_path: Path | None = None,
) -> tuple[TrainedModel, ClipSource]:
    """Convert a pretrained CLIP or SigLIP; embeddings and logits are unchanged.

    Args:
        path: see `clip.sources.find_clip`.
        vocabulary: CLIP's merges, if the source has none.
        activation: "gelu" or "quick_gelu", for a bare file, which does not state it.
        text_path: the folder of the text tower, see `clip.sources.find_clip`.

    Returns:
        The model, with the source in its `trained_on`, and the source.

    Raises:
        FileNotFoundError: files are missing; names them.
        ValueError: a tensor is missing, left over or of another shape, or an option of the source
            is not supported.
    """
    source = find_clip(Path(path), activation, text_path)
    tokenizer = _tokenizer(source, vocabulary)
    tensors = _Reader(source.tensors, str(source.weights))
    dual_encoder = DualEncoder(_config(source, tensors))
    _copy(source, tensors, dual_encoder)
    tensors.check_all_used()
    return TrainedModel(dual_encoder, tokenizer, _card(source)), source


class _Reader:
    """Reads tensors by name and records which were used; a missing one is an error."""

    def __init__(self, tensors: Mapping[str, np.ndarray], origin: str):
        self.tensors, self.origin = tensors, origin
        self.used: set[str] = set()

    def __call__(self, name: str) -> np.ndarray:
        if name not in self.tensors:
            raise ValueError(f"{self.origin} lacks {name}; it does not fit its configuration.")
        self.used.add(name)
        return np.asarray(self.tensors[name], "float32")

    def pair(self, name: str) -> list[np.ndarray]:
        """Weight and bias of a norm."""
        return [self(f"{name}.weight"), self(f"{name}.bias")]

    def dense(self, name: str) -> list[np.ndarray]:
        """(out, in) to (in, out), and the bias."""
        return [self(f"{name}.weight").T, self(f"{name}.bias")]

    def scalar(self, name: str) -> float:
        """Return the one number of a () or (1,) tensor."""
        return float(self(name).reshape(()))

    def assign(self, layer: keras.layers.Layer, arrays: list[np.ndarray], what: str) -> None:
        """Set the weights of a layer; another shape is an error that names `what`."""
        for variable, array in zip(layer.weights, arrays, strict=True):
            if tuple(variable.shape) != array.shape:
                raise ValueError(
                    f"{self.origin}: {what} is {array.shape}, its configuration expects "
                    f"{tuple(variable.shape)}."
                )
            if array.nbytes < LARGE:
                variable.assign(array)
                continue
            # In place: assigning the whole table would need room for it once more.
            for start in range(0, len(array), ROWS):
                variable.value[start : start + ROWS].assign(array[start : start + ROWS])
        arrays.clear()
        return_memory()

    def check_all_used(self) -> None:
        """Refuse a source with tensors that are not part of the model."""
        left = [
            name
            for name in self.tensors
            if name not in self.used and name.rsplit(".", 1)[-1] not in _BUFFERS
        ]
        if left:
            raise ValueError(
                f"{self.origin}: {len(left)} tensors are not part of a model of its "
                f"configuration: {', '.join(sorted(left)[:3])}."
            )


def _config(source: ClipSource, tensors: _Reader) -> ModelConfig:
    sizes, seen = source.sizes, source.preprocessing
    scale = math.exp(tensors.scalar("logit_scale"))
    if not 1 <= scale <= LARGEST_INITIAL_SCALE:
        raise ValueError(
            f"{source.weights}: logit_scale {scale} is not 1..{LARGEST_INITIAL_SCALE}."
        )
    has_bias = "logit_bias" in tensors.tensors
    image = {**asdict(sizes.image), "patch_size": sizes.patch_size}
    siglip = sizes.is_siglip
    return ModelConfig(
        image_tower="siglip-vit" if siglip else "clip-vit",
        text_tower="siglip-text" if siglip else "clip-text",
        image_size=sizes.image_size,
        resize=seen.resize,
        interpolation=seen.interpolation,
        embed_dim=sizes.embed_dim,
        context_length=sizes.context_length,
        vocabulary_size=sizes.vocabulary_size,
        image_head="identity" if siglip else "linear",
        initial_logit_scale=scale,
        initial_logit_bias=tensors.scalar("logit_bias") if has_bias else None,
        image_options={**image, "mean": list(seen.mean), "deviation": list(seen.deviation)},
        text_options=asdict(sizes.text),
        text_head_options={"use_bias": True} if siglip else {},
    )


def _copy(source: ClipSource, read: _Reader, model: DualEncoder) -> None:
    siglip = source.sizes.is_siglip
    image, text = model.image_tower, model.text_tower
    name = "vision_model.embeddings"
    patches = read(f"{name}.patch_embedding.weight").transpose(2, 3, 1, 0)
    bias = [read(f"{name}.patch_embedding.bias")] if siglip else []
    read.assign(image.get_layer("patches"), [patches, *bias], f"{name}.patch_embedding")
    tokens = [] if siglip else [read(f"{name}.class_embedding").reshape(-1)]
    tokens.append(read(f"{name}.position_embedding.weight"))
    read.assign(image.get_layer("tokens"), tokens, f"{name}.position_embedding")
    if not siglip:
        read.assign(
            image.get_layer("pre_norm"), read.pair("vision_model.pre_layrnorm"), "pre_layrnorm"
        )
    _copy_blocks(read, image, "vision_model.encoder.layers", source.sizes.image.heads)
    norm = "vision_model.post_layernorm"
    read.assign(image.get_layer("norm"), read.pair(norm), norm)
    name = "text_model.embeddings"
    tables = [read(f"{name}.{kind}_embedding.weight") for kind in ("token", "position")]
    read.assign(text.get_layer("embeddings"), tables, name)
    _copy_blocks(read, text, "text_model.encoder.layers", source.sizes.text.heads)
    norm = "text_model.final_layer_norm"
    read.assign(text.get_layer("norm"), read.pair(norm), norm)
    if siglip:
        _copy_pool(read, image.get_layer("pool"), source.sizes.image.heads)
        read.assign(model.text_head, read.dense("text_model.head"), "text_model.head")
        return
    for head, name in ((model.image_head, "visual"), (model.text_head, "text")):
        kernel = read(f"{name}_projection.weight").T
        read.assign(head, [kernel], f"{name}_projection.weight")


def _copy_blocks(read: _Reader, tower: keras.Model, stem: str, heads: int) -> None:
    index = 0
    while True:
        try:
            layer = tower.get_layer(f"block_{index}")
        except ValueError:
            return
        name = f"{stem}.{index}"
        arrays = read.pair(f"{name}.layer_norm1")
        for part in ("q_proj", "k_proj", "v_proj"):
            kernel, bias = read.dense(f"{name}.self_attn.{part}")
            arrays += [kernel.reshape(len(kernel), heads, -1), bias.reshape(heads, -1)]
        kernel, bias = read.dense(f"{name}.self_attn.out_proj")
        arrays += [kernel.reshape(heads, -1, kernel.shape[-1]), bias]
        arrays += read.pair(f"{name}.layer_norm2")
        arrays += read.dense(f"{name}.mlp.fc1") + read.dense(f"{name}.mlp.fc2")
        read.assign(layer, arrays, name)
        index += 1


def _copy_pool(read: _Reader, layer: keras.layers.Layer, heads: int) -> None:
    name = "vision_model.head"
    probe = read(f"{name}.probe").reshape(-1)
    arrays = []
    kernels = np.split(read(f"{name}.attention.in_proj_weight"), 3)
    biases = np.split(read(f"{name}.attention.in_proj_bias"), 3)
    for kernel, bias in zip(kernels, biases, strict=True):
        arrays += [kernel.T.reshape(kernel.shape[1], heads, -1), bias.reshape(heads, -1)]
    kernel, bias = read.dense(f"{name}.attention.out_proj")
    arrays += [kernel.reshape(heads, -1, kernel.shape[-1]), bias]
    arrays += read.pair(f"{name}.layernorm")
    arrays += read.dense(f"{name}.mlp.fc1") + read.dense(f"{name}.mlp.fc2")
    read.assign(layer, [probe, *arrays], name)


def _tokenizer(source: ClipSource, vocabulary: Path | None) -> Tokenizer:
    sizes, folder = source.sizes, source.path if source.path.is_dir() else source.path.parent
    folder = source.text_path or folder
    assets = folder / presets.ASSETS
    if sizes.is_siglip:
        inside = assets / "vocabulary.spm" if assets.is_dir() else folder / MODEL_FILE
        model = vocabulary or inside
        if not model.is_file():
            raise FileNotFoundError(
                f"{folder} has no {MODEL_FILE}, SigLIP's SentencePiece model; download it from the "
                "model's page, or pass --vocabulary PATH."
            )
        tokenizer = SentencePieceTokenizer(model.read_bytes(), sizes.context_length)
    else:
        merges = _merges(
            assets if assets.is_dir() else folder, vocabulary, is_folder=source.path.is_dir()
        )
        tokenizer = BytePairTokenizer(merges, sizes.context_length)
    if tokenizer.vocabulary_size != sizes.vocabulary_size:
        raise ValueError(
            f"{vocabulary or folder}: the vocabulary has {tokenizer.vocabulary_size} tokens and "
            f"the token table {sizes.vocabulary_size} rows; take both from the same model."
        )
    # Configurations from before transformers 4.31 have 2, which also means the last token.
    if sizes.end_id not in (None, 2, tokenizer.vocabulary_size - 1):
        raise ValueError(
            f"{source.path}: eos_token_id {sizes.end_id} is not the vocabulary's last token."
        )
    return tokenizer


def _merges(folder: Path, vocabulary: Path | None, is_folder: bool) -> list[str]:
    if vocabulary is not None:
        return load_merges(vocabulary)
    if is_folder and (merges := find_merges(folder)) is not None:
        return merges
    raise FileNotFoundError(
        f"{folder} has no {MERGES_FILE} and no tokenizer.json; give CLIP's byte pairs with "
        "--vocabulary bpe_simple_vocab_16e6.txt.gz (https://github.com/openai/CLIP/tree/main/clip)."
    )


def _card(source: ClipSource) -> dict:
    """Return the origin of the model: kept with it, and written into exports."""
    card = {
        "source": str(source.path),
        "source_kind": source.kind,
        "source_file": source.weights.name,
        "source_sha256": _sha256(source.weights),
        "notes": list(source.notes),
        "never_trained": [],
    }
    if source.text_path is not None:
        weights = weights_in(source.text_path, HUGGING_FACE_WEIGHTS)
        card |= {"text_source": str(source.text_path), "text_source_sha256": _sha256(weights)}
    licence = _licence(source.path if source.path.is_dir() else source.path.parent)
    if not source.sizes.is_siglip:
        card["text_repair"] = "ftfy"
    return {**card, "licence": licence} if licence else card


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _licence(folder: Path) -> str | None:
    """Return the `license` field of the front matter of a model card."""
    path = folder / "README.md"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:200]:
        if line.strip() == "---":
            return None
        key, _, value = line.partition(":")
        if key.strip() == "license" and value.strip():
            return value.strip().strip("\"'")
    return None
