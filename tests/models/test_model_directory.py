"""The model folder of a run, also where a kill came while it was replaced."""

import shutil

import pytest

from tfclip import files
from tfclip.models.model_directory import holds_model, model_directory, model_fingerprint


def put_model(folder, text):
    with files.new_folder(folder, replace=True) as beside:
        for name in ("model.json", "model.weights.h5", "vocab.txt"):
            (beside / name).write_text(text)


def test_a_model_is_found_after_a_kill_between_the_two_renames(tmp_path):
    put_model(tmp_path / "best", "old")
    whole = model_fingerprint(tmp_path)
    (tmp_path / "best").rename(tmp_path / "best.before")
    for path in (tmp_path, tmp_path / "best"):
        assert holds_model(path)
        assert model_directory(path) == tmp_path / "best.before"
        assert model_fingerprint(path) == whole
    put_model(tmp_path / "best", "new")
    assert model_directory(tmp_path) == tmp_path / "best"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    shutil.rmtree(tmp_path / "best")
    with pytest.raises(FileNotFoundError, match=r"expected a run directory with best/model.json"):
        model_directory(tmp_path)
