"""`--init RUN`: begin a run with the whole model of another one, or of a converted one."""

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

# What the model that a run begins with decides. A flag of these that is given differs from the
# recipe's, and is obeyed where the weights can follow.
_OF_THE_MODEL = ("image_tower", "text_tower", "embed_dim", "image_head", "text_head")
_CHANGEABLE = ("image_size", "context_length", "resize", "interpolation")
_OTHER_WEIGHTS = ("image_weights", "text_weights", "vocabulary")


@dataclass(frozen=True)
class Start:
    """The model that a run begins with, and what the flags change of it."""

    path: Path
    trained: TrainedModel

    def options(self) -> dict[str, Mapping]:
        """The options of towers and heads, by the names of `ModelConfig`."""
        names = ("image_options", "text_options", "image_head_options", "text_head_options")
        return {name: dict(getattr(self.trained.config, name)) for name in names}

    def tokenizer(self, context_length: int | None) -> Tokenizer:
        """The tokenizer it was trained with, for another length where one is given."""
        own = self.trained.tokenizer
        if context_length in (None, own.context_length):
            return own
        return own.with_context_length(context_length)

    def described(self) -> dict:
        """Kept with the new model."""
        card = self.trained.trained_on
        kept = {key: card[key] for key in ("source", "licence") if key in card}
        return {"init": str(self.path), "init_fingerprint": model_fingerprint(self.path), **kept}

    def copy_into(self, model: DualEncoder) -> None:
        """Set all weights of `model`; position tables are interpolated to its sizes.

        Raises:
            ValueError: for a part that cannot follow; names it.
        """
        begun = self.trained.dual_encoder
        changed = []
        for part in ("image_tower", "text_tower", "image_head", "text_head", "logit_scale"):
            old, new = getattr(begun, part).weights, getattr(model, part).weights
            if len(old) != len(new):
                raise ValueError(f"--init {self.path}: its {part} has another structure")
            for source, target in zip(old, new, strict=True):
                value = np.asarray(source)
                if value.shape != tuple(target.shape):
                    value = _fitted(value, target, part, self.path)
                    changed.append(f"{part}'s {target.path.split('/')[-1]}")
                target.assign(value)
        if begun.logit_bias is not None and model.logit_bias is not None:
            model.logit_bias.bias.assign(np.asarray(begun.logit_bias.bias))
        if changed:
            say(f"interpolated to the new size: {', '.join(changed)}")
        if (begun.logit_bias is None) != (model.logit_bias is None):
            begins = "begins anew" if begun.logit_bias is None else "is not used by this loss"
            say(f"the logit bias {begins}")


def _fitted(value: np.ndarray, target, part: str, path: Path) -> np.ndarray:
    if "position_embeddings" in target.path:
        if part == "image_tower":
            return interpolate_grid(value, target.shape[0])
        return stretch_text(value, target.shape[0])
    raise ValueError(
        f"--init {path}: {part}'s {target.path} is {value.shape} and cannot become "
        f"{tuple(target.shape)}; keep the start's --image-size and --context-length"
    )


def open_start(flags: FitFlags, recipe: Recipe) -> tuple[Start | None, FitFlags]:
    """Open `--init`, and give the flags the values of its model where they do not ask for others.

    Args:
        flags: as given.
        recipe: whose defaults tell what was given.

    Raises:
        FileNotFoundError, ValueError: no model, or a flag that it cannot follow; names it.
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
                f"--{name.replace('_', '-')} {getattr(model, name)}: the model of --init "
                f"{model.init} has {getattr(config, name)}, which weights cannot leave; leave "
                "the flag out, or begin without --init"
            )
    if other := [name for name in _OTHER_WEIGHTS if name in given]:
        raise ValueError(
            f"--{other[0].replace('_', '-')} and --init exclude each other: the model of --init "
            "brings its own"
        )
    kept = [n for n in _CHANGEABLE if n not in given or getattr(model, n) == getattr(config, n)]
    anew = [name for name in _CHANGEABLE if name not in kept]
    for name in anew:
        say(
            f"--{name.replace('_', '-')} {getattr(model, name)} in the place of the start's "
            f"{getattr(config, name)}"
        )
    if "context_length" in anew and (model.context_length or 0) > config.context_length:
        say("a longer context stretches the text positions: all texts are embedded differently")
    values: dict[str, Any] = {name: getattr(config, name) for name in (*_OF_THE_MODEL, *kept)}
    values |= {"image_weights": "none", "text_weights": "none", "vocabulary": None}
    say(
        f"--init {flags.model.init}: {config.image_tower} of {config.image_size} px, "
        f"{config.text_tower}, heads, temperature "
        f"{float(trained.dual_encoder.temperature()):.1f} and tokenizer are its own; the optimizer "
        "begins anew"
    )
    start = Start(flags.model.init, trained)
    scale = min(config.initial_logit_scale, 100.0)
    return start, replace(
        flags,
        model=replace(model, **values),
        objective=replace(flags.objective, logit_scale=scale),
    )
