"""Where a named source of weights lies on this machine, fetched from the hub if need be."""

from __future__ import annotations

import re
from pathlib import Path

from tfclip.models.weights.torch_files import first_line

HUB = "hf://"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What a model of any kind read here may consist of; no code and no other framework's weights.
PATTERNS = ("*.json", "*.safetensors", "merges.txt", "vocab.txt", "*.model", "README.md")
PYTORCH = ("pytorch_model*.bin", "open_clip_pytorch_model.bin")


def names_hub(source: str) -> bool:
    """Whether `source` is on the hub: `hf://OWNER/NAME`, or OWNER/NAME without a folder OWNER.

    `runs/NAME` never is: it is where runs lie, and a misspelt one is not to be fetched.
    """
    if source.startswith(HUB):
        return True
    owner = Path(source).parent
    return bool(_NAME.fullmatch(source)) and not owner.exists() and str(owner) != "runs"


def local_source(source: str) -> Path:
    """The folder or file that `source` means; an existing path wins over a name on the hub.

    Raises:
        FileNotFoundError: nothing is there, and it could not be fetched; says what to do.
    """
    path = Path(source).expanduser()
    if path.exists() or not names_hub(source):
        return path
    import huggingface_hub  # comes with keras_hub's tokenizers; nothing else here needs it

    name = source.removeprefix(HUB)
    try:
        folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=list(PATTERNS)))
        if not [*folder.glob("*.safetensors")]:
            patterns = [*PATTERNS, *PYTORCH]
            folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
        return folder
    except Exception as error:  # no network, no such repository, no space
        raise FileNotFoundError(
            f"{source}: no such path here, and {name} could not be fetched from the Hugging Face "
            f"hub ({first_line(error)}). Fetch its files from "
            f"https://huggingface.co/{name}/tree/main where there is a network, into one folder, "
            "and give the folder."
        ) from error
