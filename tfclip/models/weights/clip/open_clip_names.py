"""The tensors of open_clip and OpenAI by the names of transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np


class Renamed(Mapping[str, np.ndarray]):
    """Tensors under other names, derived from the original ones when they are accessed."""

    def __init__(self, table: Mapping[str, Callable[[], np.ndarray]]):
        self._table = table

    def __getitem__(self, name: str) -> np.ndarray:
        return self._table[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


# From open_clip to transformers; the inverse is used to export.
NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
}
MODULES = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_STEMS = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}


def open_clip_names(tensors: Mapping[str, np.ndarray]) -> Renamed:
    """Return the tensors of open_clip (and OpenAI, with the same names) by transformers' names."""
    table: dict[str, Callable[[], np.ndarray]] = {}
    for name in tensors:
        # CustomTextCLIP has a separate text tower.
        plain = name.removeprefix("text.")
        take = taker(tensors, name)
        if plain in NAMES:
            table[NAMES[plain]] = take
        elif plain in ("visual.proj", "text_projection"):
            projection = "visual" if plain == "visual.proj" else "text"
            table[f"{projection}_projection.weight"] = taker(tensors, name, np.transpose)
        elif plain == "text_projection.weight":
            table[plain] = take
        else:
            table.update(_open_clip_part(tensors, name, plain))
    return Renamed(table)


def _open_clip_part(tensors, name: str, plain: str) -> dict[str, Callable[[], np.ndarray]]:
    module, _, kind = plain.rpartition(".")
    if module in MODULES:
        return {f"{MODULES[module]}.{kind}": taker(tensors, name)}
    for stem, ours in _STEMS.items():
        if not plain.startswith(stem):
            continue
        block, _, part = plain.removeprefix(stem).partition(".")
        if part in ("attn.in_proj_weight", "attn.in_proj_bias"):
            kind = part.removeprefix("attn.in_proj_")
            return {
                f"{ours}{block}.self_attn.{letter}_proj.{kind}": taker(
                    tensors, name, lambda whole, place=place: np.split(whole, 3)[place]
                )
                for place, letter in enumerate("qkv")
            }
        module, _, kind = part.rpartition(".")
        if module in PARTS:
            return {f"{ours}{block}.{PARTS[module]}.{kind}": taker(tensors, name)}
    return {name: taker(tensors, name)}  # never read, so it is refused by its name


def taker(tensors, name: str, change: Callable | None = None) -> Callable[[], np.ndarray]:
    """Return a function that reads a tensor, and changes it."""
    return (lambda: tensors[name]) if change is None else (lambda: change(tensors[name]))
