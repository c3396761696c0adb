"""--fix-text: equal to open_clip's basic_clean, while packing, in tokenize, search and predict."""

import csv

import numpy as np
import pytest
from PIL import Image

import tfclip
from tfclip import make_records
from tfclip.evaluation.search.queries import Query
from tfclip.predict import PredictFlags
from tfclip.records import schema
from tfclip.records.reader import read_shards
from tfclip.text_repair import fix_text

# What open_clip.tokenizer.basic_clean (open_clip 3.3.0, ftfy 6.3.1) returns.
CLEANED = {
    "a caf\xc3\xa9 on the corner": "a caf\xe9 on the corner",
    "fish &amp;amp; chips &lt;3": "fish & chips <3",
    "\xe2\u20ac\u0153a dog\xe2\u20ac\x9d": '"a dog"',
    "  \ufb01ne \uff21\uff22 ": "fine AB",
    "plain, clean text.": "plain, clean text.",
    "l&#39;ete": "l'ete",
}


@pytest.mark.parametrize("text", CLEANED)
def test_texts_are_cleaned_as_by_open_clip(text):
    assert fix_text(text) == CLEANED[text]


def test_captions_are_stored_repaired_and_the_records_say_so(tmp_path, capsys):
    texts = list(CLEANED)
    (tmp_path / "data").mkdir()
    for number in range(len(texts)):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / f"data/{number}.jpg")
    with (tmp_path / "data" / "all.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(f"{number}.jpg", text) for number, text in enumerate(texts)]
        csv.writer(file).writerows([("image", "caption"), *rows])
    words = ["caption_table", "--data", str(tmp_path / "data" / "all.csv"), "--order", "source"]
    for name, flags in (("plain", []), ("fixed", ["--fix-text"])):
        out = tmp_path / name
        assert make_records.main([*words, "--out", str(out), *flags, "--workers", "1"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "--fix-text" in line] == [
        "--fix-text: 5 of 6 captions and phrases of train changed"
    ]
    stored = {}
    for name in ("plain", "fixed"):
        files = [str(path) for path in (tmp_path / name).glob("*.tfrecord")]
        records = read_shards(files, features=(schema.CAPTION,))
        stored[name] = [
            caption.decode()
            for one in records.as_numpy_iterator()
            for caption in one[schema.CAPTION]
        ]
    assert stored["fixed"] == list(CLEANED.values()) and stored["plain"] != stored["fixed"]
    assert '"fix_text": true' in (tmp_path / "fixed" / "manifest.json").read_text()
    assert "fix_text" not in (tmp_path / "plain" / "manifest.json").read_text()


def test_tokens_labels_and_queries_are_repaired_only_if_asked(
    tiny_model, tiny_run, tmp_path, capsys
):
    broken, clean = "a caf\xc3\xa9 &amp; a dog", "a caf\xe9 & a dog"
    repaired = tfclip.tokenize(broken, tiny_model, fix_text=True, truncate=True)
    expected = tfclip.tokenize(clean, tiny_model, truncate=True)
    np.testing.assert_array_equal(repaired, expected)
    assert (tfclip.tokenize(broken, tiny_model, truncate=True).numpy() != expected.numpy()).any()
    picture = tmp_path / "caf\xc3\xa9.jpg"
    Image.new("RGB", (20, 20)).save(picture)
    flags = {"model": tiny_run, "pictures": (str(picture),), "labels": (broken, "a cat")}
    assert PredictFlags(**flags).texts().names == (broken, "a cat")
    assert PredictFlags(**flags, fix_text=True).texts().names == (clean, "a cat")
    with pytest.raises(ValueError, match="--fix-text without --labels"):
        PredictFlags(tiny_run, (str(picture),), fix_text=True)
    query = Query(broken, plus=(str(picture),), minus=(broken,))
    assert query.repaired().terms == (clean, str(picture), clean)
