"""Implements --init: starts a run from the whole model of another run, or from a converted one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfclip.console import say
from tfclip.inputs.text import Tokenizer
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.model_directory import model_fingerprint
from tfclip.models.saving import TrainedModel, load_model
from tfclip.models.weights.positions import interpolate_grid, stretch_text
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.recipes import Recipe

# Flags whose values come from the initial model: those that cannot be changed, those that can, and
# those that conflict with it. A flag was given if it differs from the recipe's default.
_OF_THE_MODEL = ("image_tower", "text_tower", "embed_dim", "image_head", "text_head")
_CHANGEABLE = ("image_size", "context_length", "resize", "interpolation")
_OTHER_WEIGHTS = ("image_weights", "text_weights", "vocabulary")


@dataclass(frozen=True)
class Start:
    """The initial model of a run, and how it is adapted to the flags."""

    path: Path
    trained: TrainedModel

    def options(self) -> dict[str, Mapping]:
        """Return the options of towers and heads by the names of `ModelConfig`."""
        names = ("image_options", "text_options", "image_head_options", "text_head_options")
        return {name: dict(getattr(self.trained.config, name)) for name in names}

    def tokenizer(self, context_length: int | None) -> Tokenizer:
        """Return the tokenizer of the model, with another context length if given."""
        own = self.trained.tokenizer
        if context_length in (None, own.context_length):
            return own
        return own.with_context_length(context_length)

    def described(self) -> dict:
        """Return a description of the initial model, saved with the new model."""
        card = self.trained.trained_on
        origin = {key: card[key] for key in ("source", "licence") if key in card}
        return {"init": str(self.path), "init_fingerprint": model_fingerprint(self.path), **origin}

    def copy_into(self, model: DualEncoder) -> None:
        """Set all weights of `model`; position embeddings are interpolated to its sizes.

        Raises:
            ValueError: a part does not fit; the message names it.
        """
        initial = self.trained.dual_encoder
        changed = []
        for part in ("image_tower", "text_tower", "image_head", "text_head", "logit_scale"):
            old, new = getattr(initial, part).weights, getattr(model, part).weights
            if len(old) != len(new):
                raise ValueError(f"--init {self.path}: its {part} has another structure")
            for source, target in zip(old, new, strict=True):
                value = np.asarray(source)
                if value.shape != tuple(target.shape):
                    value = _fitted(value, target, part, self.path)
                    changed.append(f"{part}'s {target.path.split('/')[-1]}")
                target.assign(value)
        if initial.logit_bias is not None and model.logit_bias is not None:
            model.logit_bias.bias.assign(np.asarray(initial.logit_bias.bias))
        if changed:
            say(f"interpolated to the new size: {', '.join(changed)}")
        if (initial.logit_bias is None) != (model.logit_bias is None):
            change = (
                "is newly initialised" if initial.logit_bias is None else "is not used by this loss"
            )
            say(f"the logit bias {change}")


def _fitted(value: np.ndarray, target, part: str, path: Path) -> np.ndarray:
    if "position_embeddings" in target.path:
        if part == "image_tower":
            return interpolate_grid(value, target.shape[0])
        return stretch_text(value, target.shape[0])
    raise ValueError(
        f"--init {path}: {part}'s {target.path} has shape {value.shape}, which cannot be changed "
        f"to {tuple(target.shape)}; use the --image-size and --context-length of that model"
    )


def open_start(flags: FitFlags, recipe: Recipe) -> tuple[Start | None, FitFlags]:
    """Open `--init`, and set the flags that were not given to the values of its model.

    Args:
        flags: the flags of the run.
        recipe: its defaults show which flags were given.

    Raises:
        FileNotFoundError, ValueError: there is no model, or a flag does not fit it; the message
            names the flag.
    """
    if flags.model.init is None:
        return None, flags
    trained, model = load_model(flags.model.init), flags.model
    config, usual = trained.config, recipe.flags()
    given = {n for n in (*_OF_THE_MODEL, *_CHANGEABLE, *_OTHER_WEIGHTS)} - {
        name
        for name in (*_OF_THE_MODEL, *_CHANGEABLE, *_OTHER_WEIGHTS)
        if getattr(model, name) == getattr(usual.model, name)
    }
    for name in _OF_THE_MODEL:
        if name in given and getattr(model, name) != getattr(config, name):
            raise ValueError(
                f"received --{name.replace('_', '-')} {getattr(model, name)}, but the model of "
                f"--init {model.init} has {getattr(config, name)}, which cannot be changed; omit "
                "the flag, or omit --init"
            )
    if other := [name for name in _OTHER_WEIGHTS if name in given]:
        raise ValueError(
            f"received --{other[0].replace('_', '-')} and --init, whose model has its own; give "
            "only one of them"
        )
    same = [n for n in _CHANGEABLE if n not in given or getattr(model, n) == getattr(config, n)]
    changed = [name for name in _CHANGEABLE if name not in same]
    for name in changed:
        say(
            f"--{name.replace('_', '-')} {getattr(model, name)} replaces the initial model's "
            f"{getattr(config, name)}"
        )
    if "context_length" in changed and (model.context_length or 0) > config.context_length:
        say("a longer context stretches the text positions, which changes all text embeddings")
    values: dict[str, Any] = {name: getattr(config, name) for name in (*_OF_THE_MODEL, *same)}
    values |= {"image_weights": "none", "text_weights": "none", "vocabulary": None}
    say(
        f"--init {flags.model.init}: starting from its {config.image_tower} of "
        f"{config.image_size} px, {config.text_tower}, heads, temperature "
        f"{float(trained.dual_encoder.temperature()):.1f} and tokenizer, with a new optimizer"
    )
    start = Start(flags.model.init, trained)
    scale = min(config.initial_logit_scale, 100.0)
    return start, replace(
        flags,
        model=replace(model, **values),
        objective=replace(flags.objective, logit_scale=scale),
    )
