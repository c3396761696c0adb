"""`python -m tfclip.search`: what it indexes, finds, draws and refuses."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tfclip import search
from tfclip.evaluation.datasets.views import record_views
from tfclip.evaluation.embedding.embed import embed_pictures, embed_texts
from tfclip.evaluation.search.index import open_index
from tfclip.models.saving import save_model
from tfclip.records.reader import read_split


@pytest.fixture(scope="module")
def place(tiny_model, flickr8k_records, tmp_path_factory):
    root = tmp_path_factory.mktemp("search")
    save_model(root / "runs" / "x" / "best", tiny_model)
    assert search.main(["index", str(root / "runs" / "x"), f"{flickr8k_records}:dev"]) == 0
    return root


def asked(capsys, *words) -> dict:
    assert search.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_text_finds_what_brute_force_finds(place, capsys, tiny_model, flickr8k_records, tmp_path):
    index, out = place / "runs" / "x" / "search.npy", tmp_path / "hits.png"
    words = ("query", "a red circle", "--index", index, "--top", "3", "--out", out)
    found = asked(capsys, *words, "--chunk", "5")
    _, pictures = embed_pictures(tiny_model, record_views(flickr8k_records, "dev", 32))
    similar = pictures[:, 0] @ embed_texts(tiny_model, ["a red circle"])[0]
    order = np.argsort(-similar)[:3]
    records = list(read_split(flickr8k_records, "dev").as_numpy_iterator())
    expected = [records[row] for row in order]
    assert [hit["key"] for hit in found["hits"]] == [r["image/key"].decode() for r in expected]
    cosines = [hit["cosine"] for hit in found["hits"]]
    np.testing.assert_allclose(cosines, similar[order], atol=1e-6)
    captions = [text.decode() for text in expected[0]["image/caption"]]
    assert found["hits"][0]["captions"] == captions
    assert Image.open(out).size[0] > 1000
    assert asked(capsys, *words)["hits"] == found["hits"]


def test_a_picture_finds_itself(place, capsys, flickr8k_records, tmp_path, monkeypatch):
    record = next(iter(read_split(flickr8k_records, "dev").skip(4).as_numpy_iterator()))
    (tmp_path / "asked.jpg").write_bytes(record["image/encoded"])
    monkeypatch.chdir(place)
    found = asked(capsys, "query", tmp_path / "asked.jpg", "--out", tmp_path / "hits.png")
    assert found["index"] == "runs/x/search.npy"
    assert found["hits"][0]["key"] == record["image/key"].decode()
    assert found["hits"][0]["cosine"] == pytest.approx(1, abs=1e-5)
    assert len(open_index(place / "runs" / "x" / "search.npy").rows) == 12


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("query dog", "no runs/*/search.npy; make one with"),
        ("query dog --index none.npy", "no index at none.npy"),
        ("query none.jpg", "no picture at none.jpg"),
        ("query dog --top 0", "received --top 0"),
        ("index none records", "no run at none"),
        ("index {run} none", "no records at none"),
        ("index {run} {records}:tset", "'tset'; known, nearest first: test"),
        ("index {run} {records} --out a.bin", "allowed: NAME.npy"),
        ("query {long} --index {run}/search.npy", "this model reads at most 32"),
        ("qurey dog", "unknown action 'qurey'; known, nearest first: query"),
    ],
)
def test_a_mistake_is_one_line(place, capsys, flickr8k_records, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    names = {"run": place / "runs" / "x", "records": flickr8k_records, "long": "a" * 60}
    assert search.main(words.format(**names).split()) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error:")]
    assert told in line


def test_an_index_of_another_model_is_refused(place, capsys, tiny_model, tmp_path):
    index = place / "runs" / "x" / "search.npy"
    described = index.with_suffix(".json")
    kept = described.read_text()
    try:
        described.write_text(json.dumps(json.loads(kept) | {"model": "of before"}))
        assert search.main(["query", "dog", "--index", str(index)]) == 2
        assert "was made with another model" in capsys.readouterr().err
    finally:
        described.write_text(kept)


def test_an_index_whose_two_files_are_of_different_writings_is_refused(place, capsys, tmp_path):
    # A kill between the renames of the two files; both hold the same number of rows.
    index = tmp_path / "search.npy"
    shutil.copy(place / "runs" / "x" / "search.npy", index)
    described = json.loads((place / "runs" / "x" / "search.json").read_text())
    for change, told in (
        ({"first_rows": described["first_rows"] ^ 1}, "are not those of search.json"),
        ({}, None),
    ):
        index.with_suffix(".json").write_text(json.dumps(described | change))
        if told:
            with pytest.raises(ValueError, match=told):
                open_index(index)
        else:
            assert len(open_index(index).rows) == 12
    del described["first_rows"]  # as earlier versions wrote it
    index.with_suffix(".json").write_text(json.dumps(described))
    assert len(open_index(index).rows) == 12
