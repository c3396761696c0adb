"""Damaged files of every input format: an error of one line, rejects, or a reading that other
readers agree with. python -m benchmarks.fuzz_inputs damages 2,000 of each."""

from pathlib import Path

import pytest

from benchmarks.fuzz_inputs import fuzz
from benchmarks.fuzzing import references
from benchmarks.fuzzing.formats import FORMATS, Format
from benchmarks.fuzzing.outcomes import Slow, Wrong, outcomes_of, read_source
from tfclip.sources.registry import SOURCES
from tfclip.sources.sample import SourceOptions


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_an_error_a_reject_or_read_as_others_read_it(name, count, tmp_path):
    result = fuzz(name, tmp_path, count)
    assert result["findings"] == []


@pytest.mark.parametrize(
    "name, number",
    [("parquet", 208), ("arrow", 896), ("csv", 828), ("instances", 85)]
    + [("manifest.json", 69), ("manifest.json", 283)],
)
def test_what_2000_mutations_found(name, number, tmp_path):
    # Fewer items than counted, a mark within a text that was lost, names without an end, nesting.
    assert fuzz(name, tmp_path, 1, first=number)["findings"] == []


def test_every_source_has_a_format():
    assert {made.source for made in FORMATS.values()} - {""} == set(SOURCES)


def test_a_wrong_reading_is_a_finding(tmp_path):
    path = FORMATS["csv"].make(tmp_path)
    path.write_bytes(b"path,caption,more\na.jpg,one,x\nb.jpg,two,y\n")
    read = {"a.jpg": ["one"], "b.jpg": ["two"]}
    given = ("caption_table", tmp_path, SourceOptions())
    assert read_source(*given, read) == {"read"}
    with pytest.raises(Wrong, match="expected"):
        read_source(*given, read | {"a.jpg": ["another"]})
    with pytest.raises(Wrong, match="nothing is said"):
        read_source(*given, read | {"c.jpg": ["lost"]})
    with pytest.raises(Wrong, match="nothing was rejected"):
        read_source(*given, None)


def test_slow_readers_and_unclear_errors_are_findings(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.fuzzing.outcomes.SECONDS", 0.05)

    def endless():
        while True:
            pass

    def raising(error):
        raise error

    with pytest.raises(Slow):
        outcomes_of(endless)
    for message in ("", "two\nlines", "x" * 5000):
        with pytest.raises(Wrong):
            outcomes_of(lambda message=message: raising(ValueError(message)))
    with pytest.raises(Wrong, match="names no file"):
        outcomes_of(lambda: b"\xff".decode())
    assert outcomes_of(lambda: raising(OSError("no such file"))) == {"error"}
    monkeypatch.setitem(FORMATS, "crash", Format(_made, lambda *_: {"read"}))
    assert fuzz("crash", tmp_path, 3)["findings"] == []
    crash = Format(_made, lambda folder, path, content: {"read"} if content == b"x" else 1 / 0)
    monkeypatch.setitem(FORMATS, "crash", crash)
    assert "ZeroDivisionError" in fuzz("crash", tmp_path, 3)["findings"][0]


def _made(folder: Path) -> Path:
    (folder / "file").write_bytes(b"x")
    return folder / "file"


def test_the_readers_to_compare_with():
    assert references.table(",")(b'path,caption\na,"b ""c"""\na,d\n') == {"a": ['b "c"', "d"]}
    assert references.table(",")(b"other\n") is None
    assert references.coco(b'{"images": [1') is None
    assert references.json_lines(b'{"path": "a", "captions": "b"}\n{\n') == {"a": ["b"]}
