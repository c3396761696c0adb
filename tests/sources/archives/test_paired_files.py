import json

import pytest

from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, SourceOptions


def test_the_layout_files_of_img2dataset(tmp_path, draw, capsys):
    folder = tmp_path / "train/00000"
    texts = {0: "a dog", 1: "a cat\n", 2: None, 3: "", 4: b"\xff"}
    for n, text in texts.items():
        draw(folder / f"00000000{n}.jpg")
        if text is not None:
            content = text if isinstance(text, bytes) else text.encode()
            (folder / f"00000000{n}.txt").write_bytes(content)
    (folder / "000000000.json").write_text(json.dumps({"caption": "ignored", "alt": ["b", "c"]}))
    (folder / "000000001.json").write_text("[" * 100_000)
    (tmp_path / "train/00000.parquet").write_bytes(b"x")
    draw(tmp_path / "val/1.jpg")
    (tmp_path / "val/1.json").write_text(json.dumps({"caption": ["x", "y"]}))
    source = open_source("image_text", tmp_path)
    assert source.counts == {"train": 5, "val": 1}
    found = list(source.read("train"))
    assert [item.captions for item in found[:2]] == [("a dog",), ("a cat",)]
    reasons = [item.reason for item in found[2:] if isinstance(item, Rejected)]
    for reason, told in zip(reasons, ("neither NAME.txt", "empty", "invalid Unicode"), strict=True):
        assert told in reason
    assert list(source.read("val"))[0].captions == ("x", "y")
    assert "1 .parquet" in capsys.readouterr().err
    asked = open_source("image_text", tmp_path, SourceOptions(caption_fields=("alt",)))
    first, second, *_ = asked.read("train")
    assert first.captions == ("b", "c") and "nested too deeply" in second.reason


def test_pictures_without_any_text_are_refused(tmp_path, draw):
    draw(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match="expected: DIR/NAME.jpg"):
        open_source("image_text", tmp_path)
