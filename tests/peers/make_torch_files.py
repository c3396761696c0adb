"""Write the small files of tests/models/weights/torch_files with PyTorch; run by hand.

    PYTHON_WITH_TORCH tests/peers/make_torch_files.py

Each file comes with what torch.load read from it, as expected.npz.
"""

from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "models" / "weights" / "torch_files"


def tensors() -> dict[str, torch.Tensor]:
    """One tensor of each type, views with strides, tied ones, an empty one and a scalar."""
    torch.manual_seed(0)
    base = torch.randn(6, 8)
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    found = {str(kind).split(".")[1]: torch.randn(3, 5).to(kind) for kind in kinds}
    for kind in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
        found[str(kind).split(".")[1]] = (torch.arange(7) % 3).to(kind)
    return found | {
        "transposed": base.t(),
        "columns": base[1:5, ::3],
        "tied": base,
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "bfloat16_view": torch.randn(4, 6).bfloat16().t()[1:],
        "scalar": torch.tensor(4.6052),
        "empty": torch.zeros(0, 3),
    }


class Block(torch.nn.Module):
    """A module with a parameter, a buffer and a part."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 2)
        self.register_buffer("mask", torch.tensor([1.0, 2.0]))
        self.sizes = [1, 2]

    def forward(self, x):
        """Anything."""
        return self.inner(x) * self.mask


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    state = tensors()
    torch.save(state, FOLDER / "zip.pt")
    torch.save(state, FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.manual_seed(1)
    model = Block()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    checkpoint = {"epoch": 3, "name": "block", "state_dict": wrapped}
    torch.save(checkpoint | {"optimizer": optimizer.state_dict()}, FOLDER / "training.pt")
    torch.save(dict(model.named_parameters()), FOLDER / "parameters.pt")
    torch.save(model, FOLDER / "whole_module.pt")
    torch.jit.save(torch.jit.script(model), FOLDER / "script.pt")
    torch.save({"weight": torch.zeros(1).expand(10**6)}, FOLDER / "expanded.pt")
    read = torch.load(FOLDER / "zip.pt", weights_only=True)
    arrays = {name: value.float() if "bfloat16" in name else value for name, value in read.items()}
    arrays |= {f"block/{name}": value for name, value in model.state_dict().items()}
    np.savez(FOLDER / "expected.npz", **{k: v.numpy() for k, v in arrays.items()})


if __name__ == "__main__":
    main()
