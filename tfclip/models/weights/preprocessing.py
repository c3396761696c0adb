"""Reads the preprocessing of a pretrained model: size, resize, filter, mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfclip.models.layers import pixel_normalization

FILTERS = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Preprocessing:
    """How pictures are preprocessed; mean and deviation in units of 0..255, red first."""

    resize: str
    interpolation: str
    mean: tuple[float, ...] = pixel_normalization.CLIP[0]
    deviation: tuple[float, ...] = pixel_normalization.CLIP[1]


CLIP = Preprocessing("crop", "bicubic")
SIGLIP = Preprocessing("squash", "bicubic", *pixel_normalization.HALF)


def from_processor(settings: Mapping, image_size: int, origin: str) -> Preprocessing:
    """Read a `preprocessor_config.json`, or the `image_processor` of a `processor_config.json`.

    Raises:
        ValueError: for a step that tfclip does not support; names it.
    """
    settings = settings.get("image_processor", settings)
    if not settings.get("do_resize", True):
        raise ValueError(f"{origin}: do_resize false is not supported; pictures are always resized")
    size = settings.get("size", {"shortest_edge": image_size})
    size = {"shortest_edge": size} if isinstance(size, int) else size
    if "shortest_edge" in size:
        resize, sides = "crop", {size["shortest_edge"]}
        crop = settings.get("crop_size", image_size)
        if settings.get("do_center_crop", True):
            sides |= {crop} if isinstance(crop, int) else set(crop.values())
        else:
            raise ValueError(
                f"{origin}: do_center_crop false is not supported; pictures must become square"
            )
    elif "height" in size and "width" in size:
        resize, sides = "squash", {size["height"], size["width"]}
        crop = settings.get("crop_size")
        if settings.get("do_center_crop", False) and crop not in (None, size, size["height"]):
            raise ValueError(f"{origin}: a crop to {crop} after {size} is not supported")
    else:
        raise ValueError(f"{origin}: size {dict(size)} has neither shortest_edge nor height, width")
    if sides != {image_size}:
        raise ValueError(
            f"{origin}: pictures of {sorted(sides)} pixels, but the tower's are {image_size}"
        )
    resample = settings.get("resample", 3)
    if resample not in FILTERS:
        raise ValueError(f"{origin}: resample {resample} is not supported; allowed: 2 and 3")
    unit = 1 / settings.get("rescale_factor", 1 / 255)
    if not settings.get("do_rescale", True):
        unit = 1.0
    mean: Sequence[float] = (0.0,) * 3
    deviation: Sequence[float] = (1.0,) * 3
    if settings.get("do_normalize", True):
        if settings.get("image_mean") is None or settings.get("image_std") is None:
            return Preprocessing(resize, FILTERS[resample])
        mean, deviation = settings["image_mean"], settings["image_std"]
    return Preprocessing(
        resize,
        FILTERS[resample],
        mean=tuple(unit * value for value in mean),
        deviation=tuple(unit * value for value in deviation),
    )


def from_open_clip(settings: Mapping, origin: str) -> Preprocessing:
    """Read the `preprocess_cfg` of an `open_clip_config.json`.

    Raises:
        ValueError: for a step that tfclip does not support; names it.
    """
    known = {"mean", "std", "interpolation", "resize_mode", "size", "mode", "fill_color"}
    if strange := sorted(set(settings) - known):
        raise ValueError(f"{origin}: the preprocessing option {strange[0]} is not supported")
    modes = {"shortest": "crop", "squash": "squash"}
    mode = settings.get("resize_mode") or "shortest"
    interpolation = settings.get("interpolation") or "bicubic"
    if mode not in modes or interpolation not in FILTERS.values():
        raise ValueError(
            f"{origin}: resize_mode {mode}, interpolation {interpolation} are not supported; "
            f"allowed: {', '.join(modes)}, and {', '.join(FILTERS.values())}"
        )
    mean, deviation = (
        tuple(255 * value for value in settings[key])
        if settings.get(key)
        else tuple(CLIP.mean if key == "mean" else CLIP.deviation)
        for key in ("mean", "std")
    )
    return Preprocessing(modes[mode], interpolation, mean, deviation)
