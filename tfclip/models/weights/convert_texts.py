"""Converts text encoders of PyTorch and keras_hub to the names and shapes of the text towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import keras
import numpy as np

from tfclip.models.towers.vision_transformer import EncoderBlock

BERT = "tfclip.models.towers.bert:bert"
CLIP = "tfclip.models.towers.text_transformer:clip_text"
POSITIONS = ("position_embedding/embeddings", "embeddings/position_embeddings")
TOKENS = ("token_embedding/embeddings", "embeddings/token_embeddings")
_BLOCK_PARTS = ("attention_norm", "attention", "mlp_norm", "mlp_in", "mlp_out")


@dataclass(frozen=True)
class Layout:
    """How an architecture's options and arrays are named in a Hugging Face folder.

    Attributes:
        builder: the tower that the architecture fits.
        sizes: options of the builder, each with its key in `config.json`.
        activation: the key of the activation.
        tokens: the name of the token table, from which a prefix of all names is derived.
        tables, norms: variables and layers of the tower outside the blocks, each with its name in
            the folder.
        stem: the prefix of the folder's blocks; `block` is that of the tower's.
        parts: layers of a block, each with its name in the folder.
        fixed: options with the same value in every folder.
        defaults: values of keys that `config.json` may omit.
        positions_after_padding: whether the first position is the one after the padding id, as in
            fairseq's models; the rows before it are not used.
    """

    builder: str
    sizes: Mapping[str, str]
    activation: str
    tokens: str
    tables: Mapping[str, str]
    norms: Mapping[str, str]
    stem: str
    block: str
    parts: Mapping[str, str]
    fixed: Mapping = field(default_factory=dict)
    defaults: Mapping = field(default_factory=dict)
    positions_after_padding: bool = False


_BERT = Layout(
    builder=BERT,
    sizes={
        "num_layers": "num_hidden_layers",
        "hidden_dim": "hidden_size",
        "num_heads": "num_attention_heads",
        "intermediate_dim": "intermediate_size",
        "max_sequence_length": "max_position_embeddings",
        "num_segments": "type_vocab_size",
    },
    activation="hidden_act",
    tokens="embeddings.word_embeddings.weight",
    tables={
        "token_embedding/embeddings": "embeddings.word_embeddings.weight",
        "position_embedding/embeddings": "embeddings.position_embeddings.weight",
        "segment_embedding/embeddings": "embeddings.token_type_embeddings.weight",
    },
    norms={"embeddings_layer_norm": "embeddings.LayerNorm"},
    stem="encoder.layer",
    block="transformer_layer",
    parts={
        "self_attention_layer/query": "attention.self.query",
        "self_attention_layer/key": "attention.self.key",
        "self_attention_layer/value": "attention.self.value",
        "self_attention_layer/attention_output": "attention.output.dense",
        "self_attention_layer_norm": "attention.output.LayerNorm",
        "feedforward_intermediate_dense": "intermediate.dense",
        "feedforward_output_dense": "output.dense",
        "feedforward_layer_norm": "output.LayerNorm",
    },
)
_DISTILBERT = Layout(
    builder=BERT,
    sizes={
        "num_layers": "n_layers",
        "hidden_dim": "dim",
        "num_heads": "n_heads",
        "intermediate_dim": "hidden_dim",
        "max_sequence_length": "max_position_embeddings",
    },
    activation="activation",
    tokens=_BERT.tokens,
    tables={ours: _BERT.tables[ours] for ours in list(_BERT.tables)[:2]},
    norms=_BERT.norms,
    stem="transformer.layer",
    block=_BERT.block,
    parts={
        "self_attention_layer/query": "attention.q_lin",
        "self_attention_layer/key": "attention.k_lin",
        "self_attention_layer/value": "attention.v_lin",
        "self_attention_layer/attention_output": "attention.out_lin",
        "self_attention_layer_norm": "sa_layer_norm",
        "feedforward_intermediate_dense": "ffn.lin1",
        "feedforward_output_dense": "ffn.lin2",
        "feedforward_layer_norm": "output_layer_norm",
    },
    fixed={"num_segments": 0, "pooler": False},
)
_CLIP = Layout(
    builder=CLIP,
    sizes={"blocks": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads"},
    activation="hidden_act",
    tokens="text_model.embeddings.token_embedding.weight",
    tables={
        "embeddings/token_embeddings": "text_model.embeddings.token_embedding.weight",
        "embeddings/position_embeddings": "text_model.embeddings.position_embedding.weight",
    },
    norms={"norm": "text_model.final_layer_norm"},
    stem="text_model.encoder.layers",
    block="block",
    parts={
        "attention_norm": "layer_norm1",
        "attention/query": "self_attn.q_proj",
        "attention/key": "self_attn.k_proj",
        "attention/value": "self_attn.v_proj",
        "attention/attention_output": "self_attn.out_proj",
        "mlp_norm": "layer_norm2",
        "mlp_in": "mlp.fc1",
        "mlp_out": "mlp.fc2",
    },
    # Keys that transformers' CLIPTextConfig omits from a file.
    defaults={
        "num_hidden_layers": 12,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "hidden_act": "quick_gelu",
    },
)
# By the model_type of config.json.
LAYOUTS = {
    "bert": _BERT,
    "distilbert": _DISTILBERT,
    "xlm-roberta": replace(_BERT, positions_after_padding=True),
    "clip": _CLIP,
    "clip_text_model": _CLIP,
}

# The parts of keras_hub's variable names that differ from the tower's.
_HUB_RENAMED = {
    BERT: {"token_and_position_embedding/": ""},
    CLIP: {
        "embedding/token_embedding/embeddings": "embeddings/token_embeddings",
        "embedding/position_embedding/embeddings": "embeddings/position_embeddings",
        "encoder_block_": "block_",
        "layer_norm_1/": "attention_norm/",
        "layer_norm_2/": "mlp_norm/",
        "dense_1/": "mlp_in/",
        "dense_2/": "mlp_out/",
        "layer_norm/": "norm/",
    },
}


def variables_by_name(tower: keras.Model) -> dict[str, keras.Variable]:
    """Return the variables of a text tower by names that do not depend on Keras' counters."""
    named: dict[str, keras.Variable] = {}
    for layer in tower.layers:
        if not isinstance(layer, EncoderBlock):
            named |= {variable.path: variable for variable in layer.weights}
            continue
        for part in _BLOCK_PARTS:
            for variable in getattr(layer, part).weights:
                # block_3/multi_head_attention_17/query/kernel
                inside = "/".join(variable.path.split("/")[2:])
                named[f"{layer.name}/{part}/{inside}"] = variable
    return named


def hub_arrays(backbone: keras.Model, builder: str) -> dict[str, np.ndarray]:
    """Return the arrays of a keras_hub encoder by the names of the tower's variables."""
    arrays = {}
    for variable in backbone.weights:
        # CLIP's encoders prefix their name to those of their layers.
        name = variable.path.removeprefix(f"{backbone.name}_")
        for theirs, ours in _HUB_RENAMED[builder].items():
            name = name.replace(theirs, ours)
        arrays[name] = keras.ops.convert_to_numpy(variable.value)
    return arrays


def torch_arrays(
    layout: Layout,
    options: Mapping,
    get: Callable[..., np.ndarray],
    has: Callable[[str], bool],
) -> dict[str, np.ndarray]:
    """Return the arrays of a PyTorch encoder by the names and in the layouts of the tower.

    Args:
        layout, options: the architecture, and its sizes.
        get: takes one or more names and returns the first array that exists; raises if none does.
        has: whether an array of that name exists.
    """
    heads = options.get("num_heads", options.get("heads"))

    def norm(ours: str, theirs: str) -> dict[str, np.ndarray]:
        # TensorFlow's first BERT files have the second names.
        scale = get(f"{theirs}.weight", f"{theirs}.gamma")
        return {f"{ours}/gamma": scale, f"{ours}/beta": get(f"{theirs}.bias", f"{theirs}.beta")}

    def dense(ours: str, theirs: str) -> dict[str, np.ndarray]:
        kernel, bias = get(f"{theirs}.weight").T, get(f"{theirs}.bias")
        if ours.endswith("attention_output"):
            kernel = kernel.reshape(heads, -1, kernel.shape[1])
        elif "attention" in ours:
            kernel, bias = kernel.reshape(len(kernel), heads, -1), bias.reshape(heads, -1)
        return {f"{ours}/kernel": kernel, f"{ours}/bias": bias}

    arrays = {ours: get(theirs) for ours, theirs in layout.tables.items()}
    for ours, theirs in layout.norms.items():
        arrays |= norm(ours, theirs)
    for index in range(options.get("num_layers", options.get("blocks"))):
        for ours, theirs in layout.parts.items():
            read = norm if ours.endswith("norm") else dense
            arrays |= read(f"{layout.block}_{index}/{ours}", f"{layout.stem}.{index}.{theirs}")
    if has("pooler.dense.weight"):
        arrays |= dense("pooled_dense", "pooler.dense")
    return arrays
