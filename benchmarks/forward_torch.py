"""PyTorch's side of benchmarks.forward: a process that needs torch, timm and torchvision alone."""

from __future__ import annotations

import json
import os
import sys
import time

import torch

SIZE = 224


def main(engine: str, tower: str, batch: int, threads: int, answers: int) -> None:
    """Answer the questions on standard input."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = _model(tower).eval().to(memory_format=torch.channels_last)
    pictures = torch.rand(batch, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    half = engine.endswith("bf16")
    with os.fdopen(answers, "w") as out, torch.inference_mode():
        for line in sys.stdin:
            _, number = line.split()
            started = time.perf_counter()
            for _ in range(int(number)):
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    model(pictures)
            out.write(json.dumps({"seconds": time.perf_counter() - started}) + "\n")
            out.flush()


def _model(tower: str) -> torch.nn.Module:
    if tower.startswith("squeezenet"):
        import torchvision

        return getattr(torchvision.models, tower)(weights=None).features
    import timm

    return timm.create_model(tower, pretrained=False, num_classes=0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
