import os
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def draw():
    """Write a small JPEG, and the folders above it."""

    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), "teal").save(path, "JPEG")
        return path

    return write


@pytest.fixture
def real_data() -> Path:
    """The folder of real data; skips where there is none."""
    folder = os.environ.get("TFCLIP_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TFCLIP_DATA names no folder of real data")
    return Path(folder)
