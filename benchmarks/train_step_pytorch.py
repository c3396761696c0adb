"""The same towers in PyTorch, from timm and transformers: in a process without TensorFlow."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from types import ModuleType

import torch
from torch import nn
from torch.nn import functional

from benchmarks.timing import Timing, timed
from benchmarks.train_step_rows import IMAGE_SIZE, System, random_batch
from tfclip.training.options.recipes import recipe

_prepared: Callable[[], int] | None = None
_operators: torch.library.Library | None = None


def prepare(system: System, batch_size: int, threads: int) -> dict[str, int]:
    """Build the system and make a first step; return the parameters of its towers."""
    global _prepared
    _prepared = None
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = TwoTowers(system).train().to(memory_format=torch.channels_last)
    batch = random_batch(system, batch_size, recipe(system.recipe).vocabulary_size)
    pixels = torch.from_numpy(batch.pop("image")).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    texts = {name: torch.from_numpy(value) for name, value in batch.items()}
    if "token_ids" in texts:
        texts["token_ids"] = texts["token_ids"].long()
    flags = recipe(system.recipe).flags(**system.changes)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=flags.optimizer.learning_rate,
        betas=(flags.optimizer.beta_1, flags.optimizer.beta_2),
        eps=flags.optimizer.epsilon,
        weight_decay=flags.optimizer.weight_decay,
        fused=True,
    )
    answers = torch.arange(batch_size)

    def step() -> int:
        optimizer.zero_grad()
        logits = model(pixels, texts)
        loss = functional.cross_entropy(logits, answers)
        loss = (loss + functional.cross_entropy(logits.T, answers)) / 2
        loss.backward()
        optimizer.step()
        loss.item()
        return batch_size

    _prepared = step
    steps(1)
    return parameters(model)


def parameters(model: TwoTowers) -> dict[str, int]:
    """How many numbers train in the towers, heads left out; the text tower only where it runs."""
    towers = {"image": model.image} | ({"text": model.text} if model.text else {})
    return {
        name: sum(p.numel() for p in tower.parameters() if p.requires_grad)
        for name, tower in towers.items()
    }


def steps(count: int) -> Timing:
    """Time so many steps of the prepared system."""
    return timed(lambda: sum(_prepared() for _ in range(count)))


class TwoTowers(nn.Module):
    """timm's image tower, the text tower of transformers unless texts are stored, and heads."""

    def __init__(self, system: System):
        super().__init__()
        flags = recipe(system.recipe).flags(**system.changes)
        self.pooling = recipe(system.recipe).text_options.get("pooling")
        name, options = system.timm
        self.image = _clip_vision() if name == "transformers" else _timm(name, options)
        with torch.no_grad():
            width = self._image_features(torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)).shape[1]
        heads = {"linear": _linear, "projection": Projection, "perceptron": _perceptron}
        bias = recipe(system.recipe).image_head_options.get("use_bias", False)
        extra = {"bias": bias} if flags.model.image_head == "linear" else {}
        self.image_head = heads[flags.model.image_head](width, flags.model.embed_dim, **extra)
        self.text = self.text_head = None
        if system.tokens:
            self.text = _text(*system.transformers, pooler=self.pooling is None)
            size = self.text.config.hidden_size
            self.text_head = heads[flags.model.text_head](size, flags.model.embed_dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(flags.objective.logit_scale)))

    def forward(self, pixels: torch.Tensor, texts: dict[str, torch.Tensor]) -> torch.Tensor:
        """Logits (B,B) of pictures (B,3,S,S) and texts."""
        image = self.image_head(self._image_features(pixels))
        if self.text is None:
            text = texts["text_features"]
        else:
            text = self.text_head(self._text_features(texts["token_ids"], texts["text_mask"]))
        image, text = functional.normalize(image), functional.normalize(text)
        return self.log_scale.exp() * image @ text.T

    def _image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.image(pixels)
        return features if isinstance(features, torch.Tensor) else features.pooler_output

    def _text_features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        output = self.text(input_ids=ids, attention_mask=mask.long())
        if self.pooling != "mean":
            return output.pooler_output
        weight = mask[..., None].float()
        return (output.last_hidden_state * weight).sum(1) / weight.sum(1)


def _linear(width: int, size: int, bias: bool = False) -> nn.Module:
    return nn.Linear(width, size, bias=bias)


def _perceptron(width: int, size: int) -> nn.Module:
    hidden = nn.Linear(width, width, bias=False)
    return nn.Sequential(hidden, nn.GELU(), nn.Linear(width, size, bias=False))


class Projection(nn.Module):
    """liteCLIP's residual head."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.dense = nn.Linear(width, size)
        self.rest = nn.Sequential(nn.GELU(), nn.Dropout(0.1), nn.LayerNorm(size))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B,F) to (B,size)."""
        x = self.dense(features)
        return x + self.rest(x)


def _timm(name: str, options: dict) -> nn.Module:
    models = _library("timm.models")
    if models.is_model(name):
        return models.create_model(name, num_classes=0, **options)
    return getattr(models, name)(num_classes=0, **options)


def _text(kind: str, options: dict, pooler: bool) -> nn.Module:
    network = getattr(_library("transformers"), kind)
    extra = {"add_pooling_layer": pooler} if kind == "BertModel" else {}
    return network(network.config_class(**options), **extra)


def _clip_vision() -> nn.Module:
    transformers = _library("transformers")
    return transformers.CLIPVisionModel(transformers.CLIPVisionConfig())


def _has_torchvision() -> bool:
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError):
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        return False
    return True


def _library(name: str) -> ModuleType:
    """Import timm or transformers.

    Both import torchvision, which then registers shapes for its own box operators. Where its
    compiled part is of another build of PyTorch, they are missing and the import fails. No network
    here calls them: they are declared then, without any code behind.
    """
    global _operators
    if _operators is None and importlib.util.find_spec("torchvision") and not _has_torchvision():
        _operators = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            _operators.define(f"{operator}(Tensor dets, Tensor scores, float at) -> Tensor")
    return importlib.import_module(name)


def release() -> None:
    """Give the memory of the prepared system back."""
    global _prepared
    _prepared = None
