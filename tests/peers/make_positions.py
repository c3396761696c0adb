"""Write tests/models/weights/positions.npz: tables as open_clip resizes them; run by hand.

PYTHON_WITH_TORCH tests/peers/make_positions.py
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

torch.library.Library("torchvision", "DEF").define("nms(Tensor a, Tensor b, float c) -> Tensor")

from open_clip import model as open_clip_model  # noqa: E402

OUT = Path(__file__).parents[1] / "models" / "weights" / "positions.npz"


def _picture(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    table = torch.randn(old * old + 1, 6)
    state = {"visual.positional_embedding": table.clone()}
    visual = SimpleNamespace(grid_size=(new, new))
    open_clip_model.resize_pos_embed(state, SimpleNamespace(visual=visual))
    return table.numpy(), state["visual.positional_embedding"].numpy()


def main() -> None:
    """Write the file."""
    torch.manual_seed(0)
    arrays = {}
    for name, old, new in (("up", 4, 7), ("down", 7, 4)):
        arrays[f"{name}_old"], arrays[f"{name}_new"] = _picture(old, new)
    arrays["without_class_old"] = arrays["up_old"][1:]
    arrays["without_class_new"] = arrays["up_new"][1:]
    table = torch.randn(9, 6)
    state = {"positional_embedding": table.clone()}
    model = SimpleNamespace(positional_embedding=torch.zeros(20, 6))
    open_clip_model.resize_text_pos_embed(state, model)
    arrays["text_old"], arrays["text_new"] = table.numpy(), state["positional_embedding"].numpy()
    np.savez(OUT, **arrays)


if __name__ == "__main__":
    main()
