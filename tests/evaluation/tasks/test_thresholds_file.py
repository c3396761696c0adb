"""Thresholds of one measured set do not silently replace those of another; commands as typed."""

import json
from pathlib import Path

import pytest

from tfclip.evaluation.tasks.command_line import command_line
from tfclip.evaluation.tasks.multilabel_flags import VocFlags
from tfclip.evaluation.tasks.thresholds_file import write_thresholds


def read(path):
    return json.loads(path.read_text())


def test_thresholds_that_are_replaced_are_kept_and_a_line_says_so(tmp_path, capsys):
    path = write_thresholds(tmp_path, "voc", {"per_class": {"cat": 0.1}})
    assert path == tmp_path / "thresholds.json"
    write_thresholds(tmp_path, "voc", {"per_class": {"cat": 0.2}})
    assert capsys.readouterr().err == ""
    write_thresholds(tmp_path, "multilabel-mine", {"per_class": {"bolt": 0.3}})
    (line,) = capsys.readouterr().err.splitlines()
    assert "contained the thresholds of voc and now contains those of multilabel-mine" in line
    assert str(tmp_path / "thresholds" / "voc.json") in line
    assert read(path) == {"set": "multilabel-mine", "per_class": {"bolt": 0.3}}
    assert read(tmp_path / "thresholds/voc.json") == {"set": "voc", "per_class": {"cat": 0.2}}


@pytest.mark.parametrize("old", ['{"per_class": {"cat": 0.1}}', "{damaged"])
def test_thresholds_of_an_earlier_version_are_kept_too(tmp_path, capsys, old):
    (tmp_path / "thresholds.json").write_text(old)
    write_thresholds(tmp_path, "voc", {"per_class": {"cat": 0.2}})
    is_whole = old != "{damaged"
    assert ("now contains those of voc" in capsys.readouterr().err) == is_whole
    kept = tmp_path / "thresholds" / "earlier.json"
    assert kept.is_file() == is_whole and (not is_whole or read(kept)["per_class"] == {"cat": 0.1})


def test_the_command_is_written_as_one_types_it(voc_records, tiny_run):
    flags = VocFlags(
        tiny_run, records=voc_records, objective="sensitivity>=0.9", shrink=False, seed=3
    )
    words = command_line("voc", flags)
    assert words == (
        f"tfclip evaluate {tiny_run} voc --records {voc_records} "
        "--objective 'sensitivity>=0.9' --no-shrink --seed 3"
    )
    assert Path(words.split()[2]) == tiny_run
