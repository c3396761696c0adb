"""The recipes: named defaults of the flags of `fit`, with options of their towers and heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from tfclip.naming import unknown
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.flat import by_field, nest


@dataclass(frozen=True)
class Recipe:
    """A system to train by name: its description, its source, and its default flags.

    The options are passed to the builders of the recipe's own towers and heads. `vocabulary_size`
    is used to count parameters. `needs_vocabulary` describes the vocabulary file that the recipe
    needs, if it does not use the one of the records.
    """

    summary: str
    source: str
    data: str
    defaults: Mapping = field(default_factory=dict)
    image_options: Mapping = field(default_factory=dict)
    text_options: Mapping = field(default_factory=dict)
    image_head_options: Mapping = field(default_factory=dict)
    text_head_options: Mapping = field(default_factory=dict)
    vocabulary_size: int = 8000
    needs_vocabulary: str | None = None

    def flags(self, **given) -> FitFlags:
        """Return the flags of this recipe in their groups: its defaults, overridden by `given`.

        Raises:
            ValueError: an unknown name or an invalid value.
        """
        return self.length_as_given(self._nested(**{**self.defaults, **by_field(given)}))

    def length_as_given(self, flags: FitFlags) -> FitFlags:
        """Return `flags` without the recipe's epochs if --steps was given and --epochs was not."""
        own = self._nested(**self.defaults)
        if flags.steps != own.steps and flags.epochs == own.epochs:
            return replace(flags, epochs=None)
        return flags

    @staticmethod
    def _nested(**values) -> FitFlags:
        return nest(FitFlags, {"records": (), "run": Path(), **values})

    def defaults_for_command(self) -> FitFlags:
        """Return the flags with `--records` and `--run` as required flags."""
        return replace(self.flags(), records=tyro.MISSING, run=tyro.MISSING)

    def options(self, flags: FitFlags) -> dict[str, Mapping]:
        """Return the options of towers and heads by the names of `ModelConfig`; none for towers and
        heads that the flags replace."""
        own, model = self.flags().model, flags.model
        names = {
            "image_options": "image_tower",
            "text_options": "text_tower",
            "image_head_options": "image_head",
            "text_head_options": "text_head",
        }
        return {
            options: dict(getattr(self, options))
            if getattr(model, part) == getattr(own, part)
            else {}
            for options, part in names.items()
        }


MINILM = "hf://sentence-transformers/all-MiniLM-L6-v2"
CLIP_VOCABULARY = "CLIP's byte pairs, bpe_simple_vocab_16e6.txt.gz of github.com/openai/CLIP"
# Shared by both systems of the Mixer comparison.
CLIP = {
    "embed_dim": 512,
    "context_length": 77,
    "batch_size": 32_768,
    "learning_rate": 5e-4,
    "weight_decay": 0.2,
    "beta_2": 0.98,
    "epsilon": 1e-6,
}

# Frozen towers whose outputs are stored, and small heads.
LAPTOP = {
    "image_weights": "imagenet",
    "text_tower": "minilm",
    "text_weights": MINILM,
    "image_head": "residual",
    "text_head": "residual",
    "embed_dim": 1024,
    "context_length": 40,
    "freeze": "image,text",
    "views": "4",
    "feature_precision": "float16",
    "captions": 5,
    "word_weight": 0.5,
    "logit_scale": 20.0,
    "epochs": 16,
    "batch_size": 500,
    "learning_rate": 2e-3,
    "weight_decay": 1.0,
    "warmup_steps": 50,
    "clip_norm": None,
    "average": 0.995,
    "evaluate_every": 96,
    "patience": 2,
}
LAPTOP_OPTIONS: dict[str, Any] = {
    "image_options": {"pooling": "statistics"},
    # The head standardises its features, so that a unit norm would add nothing.
    "text_options": {"pooling": "mean", "normalize": False},
    "image_head_options": {"members": 2, "input_dropout": 0.65, "dropout": 0.5},
    "text_head_options": {"members": 2, "input_dropout": 0.2, "dropout": 0.3},
    "vocabulary_size": 30_522,
}

SINGLE_HEADS: dict[str, Any] = {
    side: {**LAPTOP_OPTIONS[side], "members": 1}
    for side in ("image_head_options", "text_head_options")
}

RECIPES: dict[str, Recipe] = {
    # The original does not state its picture size: 224 is our choice. It thresholds a softmax;
    # `evaluate voc` prints that variant next to independent decisions.
    "visual-genome": Recipe(
        summary="EfficientNetB5 + small-BERT on Visual Genome, one region phrase per picture",
        source="the Visual Genome dual encoder: AdamW 1e-4, weight decay 1e-4, batch 128",
        data="Visual Genome, 80,000 / 8,000 pictures",
        defaults={"image_weights": "imagenet", "text_weights": "bert_small_en_uncased"},
        vocabulary_size=30_522,
    ),
    # The original reports no metrics, and splits captions of one picture between training and
    # validation; tfclip splits by picture.
    "liteclip": Recipe(
        summary="ConvNeXt-Tiny + bert-mini with residual projections",
        source="liteCLIP: Adam 2e-4, batch 64, 5 epochs, 128 tokens, masked mean pooling",
        data="Flickr8k",
        defaults={
            "image_tower": "convnext-tiny",
            "image_weights": "imagenet",
            "text_tower": "bert-mini",
            "image_head": "projection",
            "text_head": "projection",
            "context_length": 128,
            "batch_size": 64,
            "learning_rate": 2e-4,
            "weight_decay": 0.0,
            "schedule": "constant",
            "warmup_steps": 0,
            "epochs": 5,
        },
        text_options={"pooling": "mean"},
        vocabulary_size=30_522,
    ),
    # The original pools over padding too; here it is masked.
    "simple-clip": Recipe(
        summary="ResNet50 + DistilBERT with bias-free perceptrons; --loss sigmoid as well",
        source="simple-clip: Adam 1e-4 cosine, batch 256, 100 tokens, half precision on GPUs",
        data="COCO; several record sets",
        defaults={
            "image_tower": "resnet-50",
            "image_weights": "imagenet",
            "text_tower": "distilbert",
            "text_weights": "distil_bert_base_en_uncased",
            "image_head": "perceptron",
            "text_head": "perceptron",
            "context_length": 100,
            "batch_size": 256,
            "learning_rate": 1e-4,
            "weight_decay": 0.0,
            "logit_scale": 5.0,
        },
        text_options={"pooling": "mean"},
        vocabulary_size=30_522,
    ),
    **{
        f"teensy-{size}": Recipe(
            summary=f"a {size[0]}M-parameter Mixer, aligned with frozen all-MiniLM-L6-v2",
            source=f"teensy: cosine logits, 384-d embeddings, batch {batch}",
            data=f"COCO 2017, {pictures} pictures",
            defaults={
                "image_tower": f"teensy-mixer-{size}",
                "text_tower": "minilm",
                "text_weights": MINILM,
                "image_head": "linear",
                "text_head": "identity",
                "embed_dim": 384,
                "context_length": 40,
                "freeze": "text",
                "batch_size": batch,
                "learning_rate": 1e-3,
                "weight_decay": 0.05,
            },
            text_options={"pooling": "mean"},
            image_head_options={"use_bias": True},
            vocabulary_size=30_522,
        )
        for size, batch, pictures in (("4m", 512, "51,000"), ("5m", 384, "57,000"))
    },
    # The original mixes padding into the pooled token, has no gradient for gathered negatives, and
    # clamps the temperature wrongly unless there are several GPUs; this recipe does none of that.
    "clip-mixer": Recipe(
        summary="Mixer B/32 + a Mixer over text, byte-pair tokens",
        source="clip-mixer: AdamW (0.9, 0.98, 1e-6) 5e-4, weight decay 0.2, batch 32,768",
        data="LAION-COCO through img2dataset shards",
        defaults={"image_tower": "clip-mixer-b32", "text_tower": "mixer-text", **CLIP},
        vocabulary_size=49_408,
        needs_vocabulary=CLIP_VOCABULARY,
    ),
    "clip-vit-b32": Recipe(
        summary="CLIP's ViT-B/32 + causal transformer, the baseline of clip-mixer",
        source="Radford et al. 2021, tables 19 and 20",
        data="LAION-COCO through img2dataset shards",
        defaults={"image_tower": "clip-vit-b32", "text_tower": "clip-text", **CLIP},
        vocabulary_size=49_408,
        needs_vocabulary=CLIP_VOCABULARY,
    ),
    # docs/figures.md has what each part gains; `python -m benchmarks.laptop_ablation` measures it.
    "laptop": Recipe(
        summary="small heads on stored outputs of frozen EfficientNet-Lite0, -Lite2, and MiniLM",
        source="tfclip's own; frozen towers as in LiT (Zhai et al. 2022, arXiv:2111.07991)",
        data="Flickr8k, COCO, any captioned pictures",
        defaults={
            **LAPTOP,
            "image_tower": "efficientnet-lite0+efficientnet-lite2",
            "image_size": 240,
            "views": "2",
            "feature_precision": "uint8",
            "average": 0.0,
        },
        **LAPTOP_OPTIONS,
    ),
    # What `laptop` was with one tower; its old runs resume under this name.
    "laptop-lite0": Recipe(
        summary="laptop with EfficientNet-Lite0 alone",
        source="tfclip's own; frozen towers as in LiT (Zhai et al. 2022, arXiv:2111.07991)",
        data="Flickr8k, COCO, any captioned pictures",
        defaults={"image_tower": "efficientnet-lite0", **LAPTOP},
        **LAPTOP_OPTIONS,
    ),
    # One tower, one view and one head each: a sixth of the computation for the pictures.
    "laptop-fast": Recipe(
        summary="a smaller laptop: EfficientNet-Lite0 alone, whole pictures, single heads",
        source="tfclip's own; frozen towers as in LiT (Zhai et al. 2022, arXiv:2111.07991)",
        data="Flickr8k, COCO, any captioned pictures",
        defaults={
            **LAPTOP,
            "image_tower": "efficientnet-lite0",
            "views": "1",
            "embed_dim": 512,
        },
        **{**LAPTOP_OPTIONS, **SINGLE_HEADS},
    ),
    # One pair of towers below 10 M parameters; docs/figures.md has its speed and quality.
    "distilled": Recipe(
        summary="a small fast pair with a teacher: EfficientNet-Lite0 at 224 px, a token table",
        source="tfclip's own; feature distillation as in CLIP-KD (Yang et al. 2024, "
        "arXiv:2307.12732), static word vectors as in Model2Vec",
        data="captioned pictures with a teacher that make_records embed --size 256 --words has "
        "stored",
        defaults={
            "image_tower": "efficientnet-lite0",
            "image_weights": "imagenet",
            "image_size": 224,
            "text_tower": "token-table",
            "image_head": "residual",
            "text_head": "residual",
            "embed_dim": 256,
            "context_length": 40,
            "freeze": "image",
            "views": "2",
            "feature_precision": "float16",
            "teacher": ("laptop",),
            # Beside the full contrastive loss it gains little, and takes a tenth of a step.
            "teacher_affinity": 0.0,
            "teacher_feature": 20.0,
            "teacher_words": 20.0,
            "logit_scale": 20.0,
            "epochs": 24,
            "batch_size": 500,
            "learning_rate": 2e-3,
            "weight_decay": 0.1,
            "warmup_steps": 50,
            "evaluate_every": 288,
        },
        image_options={"pooling": "statistics"},
        image_head_options={"hidden": 128, "input_dropout": 0.5, "dropout": 0.2},
        text_head_options={"hidden": 256, "dropout": 0.2},
        vocabulary_size=30_522,
        needs_vocabulary="the vocabulary of its teacher, such as runs/laptop/best/vocab.txt",
    ),
    # What `laptop` was before it had EfficientNet-Lite0; its old runs resume under this name.
    "laptop-squeezenet": Recipe(
        summary="laptop with SqueezeNet 1.1, a smaller and weaker image tower",
        source="tfclip's own; frozen towers as in LiT (Zhai et al. 2022, arXiv:2111.07991)",
        data="Flickr8k, COCO, any captioned pictures",
        defaults={"image_tower": "squeezenet", **LAPTOP},
        **LAPTOP_OPTIONS,
    ),
    "shapes": Recipe(
        summary="a small convolutional tower + a small transformer on drawn shapes",
        source="tfclip's own; minutes on two CPU cores, no download",
        data="drawn shapes",
        defaults={
            "image_tower": "small-convolutional",
            "text_tower": "small-transformer",
            "image_size": 64,
            "embed_dim": 64,
            "steps": 1100,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "weight_decay": 0.05,
            "warmup_steps": 50,
            "regions": "crop",
            "region_share": 0.85,
            "region_margin": 1.0,
            "evaluate_every": 550,
        },
        image_options={"widths": (40, 80, 192), "stem": 4},
        text_options={"width": 96, "blocks": 1},
    ),
}


def recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        ValueError: an unknown name; the message lists the known ones, the most similar first.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
