"""The number format in which image towers compute outside training: asked for, chosen, checked.

TensorFlow computes in float32. The optional engine, OpenVINO, computes in float32 too, or in
bfloat16 on processors that multiply it. Needs neither TensorFlow nor OpenVINO.
"""

from __future__ import annotations

import importlib.util
import json
import platform
from functools import cache
from pathlib import Path

from tfclip.models.model_directory import CONFIG_FILE, model_directory
from tfclip.naming import unknown

AUTO, FLOAT32, BFLOAT16 = "auto", "float32", "bfloat16"
# float32 by the engine: as exact, but other in the last digits, so it is never mixed with float32.
ENGINE_FLOAT32 = "float32-openvino"
COMPUTE = (AUTO, FLOAT32, ENGINE_FLOAT32, BFLOAT16)
# What the exported graph computes in, without an engine.
EXPORTED = (FLOAT32, BFLOAT16)
# Processor flags of Linux, any of which means that bfloat16 is multiplied in hardware.
INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
# Image towers for which `auto` takes the engine: faster, and both mean average precision and recall
# at 10 in bfloat16 within 0.2 points of float32; docs/performance.md has the figures.
MEASURED = frozenset({"efficientnet-lite0", "efficientnet-lite2"})
# Processors on which the engine was measured.
MACHINES = ("x86_64", "amd64")
INSTALL = "pip install 'tfclip[openvino]'"


def check_compute(compute: str) -> None:
    """Raise ValueError for a value of --compute that is not allowed."""
    if compute not in COMPUTE:
        raise unknown("--compute", compute, COMPUTE)


def chosen_compute(asked: str, image_tower: str, precision: str = FLOAT32) -> str:
    """Return one of `COMPUTE` other than auto.

    Args:
        asked: a value of --compute.
        image_tower: the name of the tower.
        precision: that of the model's own layers; `auto` changes float32 alone.

    Raises:
        ValueError: the engine was asked for, and it or the instructions are missing; or the value
            is not allowed.
    """
    check_compute(asked)
    if asked != AUTO:
        _require_engine(asked)
        return asked
    is_measured = MEASURED.issuperset(image_tower.split("+")) and precision == FLOAT32
    if is_measured and platform.machine().lower() in MACHINES and has_engine():
        return BFLOAT16 if instruction() else ENGINE_FLOAT32
    return FLOAT32


def run_compute(run: Path, asked: str) -> str:
    """Return `chosen_compute` of the model of a run directory or a model folder.

    Raises:
        FileNotFoundError: it holds no model.
        ValueError: as `chosen_compute`.
    """
    check_compute(asked)
    if asked != AUTO:
        return chosen_compute(asked, "")
    config = json.loads((model_directory(run) / CONFIG_FILE).read_text(encoding="utf-8"))["config"]
    return chosen_compute(asked, config["image_tower"], config.get("precision", FLOAT32))


def described(compute: str) -> str:
    """Say in which format the image tower computes, and by what."""
    if compute == BFLOAT16:
        return f"the image tower computes in bfloat16, by OpenVINO ({instruction()})"
    if compute == ENGINE_FLOAT32:
        return "the image tower computes in float32, by OpenVINO"
    return "the image tower computes in float32, by TensorFlow"


def has_engine() -> bool:
    """Return whether OpenVINO is installed; it is not imported."""
    return importlib.util.find_spec("openvino") is not None


@cache
def instruction() -> str | None:
    """Return the processor's flag for products of bfloat16, or None."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return next((one for one in INSTRUCTIONS if one in flags), None)


def _require_engine(compute: str) -> None:
    if compute == BFLOAT16 and instruction() is None:
        raise ValueError(
            "received --compute bfloat16, but this processor does not multiply bfloat16 "
            f"({' or '.join(INSTRUCTIONS)}); use --compute float32"
        )
    if compute != FLOAT32 and not has_engine():
        raise ValueError(
            f"received --compute {compute}, which needs OpenVINO; install the extra with: "
            f"{INSTALL}, or use --compute float32"
        )
