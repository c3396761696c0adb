"""Converts a pretrained CLIP or SigLIP: towers, projections, logit scale and tokenizer."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tfclip.inputs.text import Tokenizer
from tfclip.inputs.tokenizers.byte_pair import MERGES_FILE, BytePairTokenizer, load_merges
from tfclip.inputs.tokenizers.sentence_pieces import MODEL_FILE, SentencePieceTokenizer
from tfclip.models.config import LARGEST_INITIAL_SCALE, ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.initial_values import without_random_weights
from tfclip.models.saving import TrainedModel, save_model
from tfclip.models.weights.clip import presets
from tfclip.models.weights.clip.layer_weights import LayerWeights, TensorReader, layer_weights
from tfclip.models.weights.clip.sources import HUGGING_FACE_WEIGHTS, ClipSource, find_clip
from tfclip.models.weights.clip.streaming import saved_from
from tfclip.models.weights.safetensors_files import weights_in
from tfclip.models.weights.texts.tokenizer_files import WHOLE_FILE, find_merges


@dataclass(frozen=True)
class OpenedClip:
    """A pretrained model that is built, but whose weights are not read yet.

    Attributes:
        model: the model, with the source in its `trained_on`; its large weights are zeros.
        source: the source.
        tensors: reads the tensors of the source.
    """

    model: TrainedModel
    source: ClipSource
    tensors: TensorReader

    def read(self) -> TrainedModel:
        """Read the weights into the model and return it.

        Raises:
            ValueError: a tensor is missing, left over or of another shape.
        """
        for weights in self._layers():
            weights.assign()
        self.tensors.check_all_used()
        return self.model

    def save(self, directory: Path) -> None:
        """Write the model folder; each layer's weights are read when they are written.

        So the memory holds one layer at a time. Whether tensors are left over is known at the end:
        after an error the folder must not be used.

        Raises:
            ValueError: as `read`.
            OSError: as `save_model`.
        """
        with saved_from(self._layers()):
            save_model(directory, self.model)
        self.tensors.check_all_used()

    def _layers(self) -> Iterator[LayerWeights]:
        return layer_weights(self.source, self.tensors, self.model.dual_encoder)


def open_clip(
    path: Path,
    vocabulary: Path | None = None,
    activation: str | None = None,
    text_path: Path | None = None,
) -> OpenedClip:
    """Open a pretrained CLIP or SigLIP, and build the model for it.

    Args:
        path: see `clip.sources.find_clip`.
        vocabulary: CLIP's merges, if the source has none.
        activation: "gelu" or "quick_gelu", for a bare file, which does not state it.
        text_path: the folder of the text tower, see `clip.sources.find_clip`.

    Raises:
        FileNotFoundError: files are missing; names them.
        ValueError: an option of the source is not supported.
    """
    source = find_clip(Path(path), activation, text_path)
    tokenizer = _tokenizer(source, vocabulary)
    tensors = TensorReader(source.tensors, str(source.weights))
    config = _config(source, tensors)
    with without_random_weights():
        dual_encoder = DualEncoder(config)
    return OpenedClip(TrainedModel(dual_encoder, tokenizer, _card(source)), source, tensors)


def convert_clip(
    path: Path,
    vocabulary: Path | None = None,
    activation: str | None = None,
    text_path: Path | None = None,
) -> tuple[TrainedModel, ClipSource]:
    """Convert a pretrained CLIP or SigLIP in memory; embeddings and logits are unchanged.

    Args:
        path, vocabulary, activation, text_path: as of `open_clip`.

    Returns:
        The model, with the source in its `trained_on`, and the source.

    Raises:
        FileNotFoundError, ValueError: as `open_clip` and `OpenedClip.read`.
    """
    opened = open_clip(path, vocabulary, activation, text_path)
    return opened.read(), opened.source


def _config(source: ClipSource, tensors: TensorReader) -> ModelConfig:
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


def _tokenizer(source: ClipSource, vocabulary: Path | None) -> Tokenizer:
    sizes, folder = source.sizes, source.path if source.path.is_dir() else source.path.parent
    folder = source.text_path or folder
    assets = folder / presets.ASSETS
    if sizes.is_siglip:
        inside = assets / "vocabulary.spm" if assets.is_dir() else folder / MODEL_FILE
        model = vocabulary or inside
        if not model.is_file():
            other = f"; its {WHOLE_FILE} is not read" if (folder / WHOLE_FILE).is_file() else ""
            raise FileNotFoundError(
                f"{folder} has no {MODEL_FILE}, SigLIP's SentencePiece model{other}; download "
                f"{MODEL_FILE} from the model's page into the folder, or pass --vocabulary PATH."
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
