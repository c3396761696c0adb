"""`python -m tfclip.search`: what it indexes, finds, draws and refuses."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfclip import search
from tfclip.evaluation.datasets.views import record_views
from tfclip.evaluation.embedding.embed import embed_pictures, embed_texts
from tfclip.evaluation.search.index import open_index
from tfclip.models.compute import instruction
from tfclip.models.saving import save_model
from tfclip.records.reader import read_split

LONG_AGO = 1_600_000_000


@pytest.fixture(scope="module")
def place(tiny_model, flickr8k_records, tmp_path_factory):
    """A folder with a run, which has an index of records named "drawn"."""
    root = tmp_path_factory.mktemp("search")
    save_model(root / "runs" / "x" / "best", tiny_model)
    words = ["index", str(root / "runs" / "x"), f"{flickr8k_records}:dev", "--name", "drawn"]
    assert search.main(words) == 0
    return root


def draw(path: Path, seed: int) -> None:
    """A picture of its own for each seed, which was changed long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).resize((48, 40), Image.Resampling.NEAREST).save(path)
    os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.fixture(scope="module")
def folder_index(place):
    """A folder of pictures with an index; tests change copies."""
    pictures = place / "all pictures"
    for seed in range(6):
        draw(pictures / f"{seed}.png", seed)
    for seed in range(6, 10):
        draw(pictures / "Ferien ü" / f"bild {seed}.jpg", seed)
    assert search.main(["index", str(place / "runs" / "x"), str(pictures)]) == 0
    return place / "runs" / "x" / "search" / "all pictures"


@pytest.fixture
def own(place, folder_index, tmp_path):
    """A copy of the pictures and of the run with its index, beside each other as they were."""
    shutil.copytree(place, tmp_path / "own", dirs_exist_ok=True)
    return tmp_path / "own"


def run(capsys, *words, told: str = "") -> dict:
    assert search.main([*map(str, words), "--json"]) == 0
    printed = capsys.readouterr()
    assert told in printed.err
    return json.loads(printed.out.splitlines()[-1])


def refused(capsys, *words) -> str:
    assert search.main([*map(str, words)]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error:")]
    return line


def numbers(change: dict) -> tuple:
    kinds = ("pictures", "embedded", "recognised", "unchanged", "removed")
    return tuple(change[kind] for kind in kinds)


def test_a_text_finds_what_brute_force_finds(place, capsys, tiny_model, flickr8k_records, tmp_path):
    index, out = place / "runs" / "x" / "search" / "drawn", tmp_path / "hits.png"
    words = ("query", "a red circle", "--index", index, "--top", "3", "--out", out)
    found = run(capsys, *words, "--chunk", "5")
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
    assert run(capsys, *words)["hits"] == found["hits"]


def test_several_queries_have_an_answer_each(place, folder_index, capsys, tmp_path):
    picture = place / "all pictures" / "3.png"
    out = tmp_path / "hits.png"
    words = ("query", picture, "a red circle", "--index", folder_index, "--top", "2", "--out", out)
    told = "--fix-text: 0 of 1 texts changed"  # the picture is no text
    first, second = run(capsys, *words, "--fix-text", told=told)["answers"]
    assert first["query"] == str(picture) and second["query"] == "a red circle"
    assert first["hits"][0]["path"] == str(picture)
    assert first["hits"][0]["cosine"] == pytest.approx(1, abs=1e-5)
    assert Image.open(out).size[1] > 500  # two rows of pictures, a title above each
    words = ("query", "a red circle", "--index", folder_index, "--top", "2", "--out", out)
    one = run(capsys, *words, told="score: cosine of the picture and the query")
    assert one["hits"] == second["hits"]


def test_terms_are_added_and_taken_away_as_standard_scores(place, folder_index, capsys, tmp_path):
    picture = place / "all pictures" / "3.png"
    words = ("query", "a dog", "--plus", picture, "--minus", "snow", "--minus-weight", "0.25")
    words += ("--index", folder_index, "--top", "10", "--out", tmp_path / "o.png")
    found = run(capsys, *words, told="how many standard deviations the cosine of the picture is")
    assert found["query"] == f"a dog + {picture} - snow"
    index = open_index(folder_index)
    from tfclip.evaluation.search.contents import open_model
    from tfclip.evaluation.search.search import embed_terms

    terms = embed_terms(open_model(index.run, index.compute), ["a dog", str(picture), "snow"])
    cosines = index.embeddings @ terms.T
    scores = ((cosines - cosines.mean(0)) / cosines.std(0)) @ [1, 1, -0.25]
    order = np.argsort(-scores)
    assert [hit["key"] for hit in found["hits"]] == [index.name(row) for row in order]
    np.testing.assert_allclose([hit["score"] for hit in found["hits"]], scores[order], atol=1e-4)


def test_the_newest_index_is_searched(place, folder_index, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    os.utime(folder_index / "index.json")
    found = run(capsys, "query", "dog", "--out", tmp_path / "hits.png")
    assert found["index"] == "runs/x/search/all pictures"
    named = run(capsys, "query", "dog", "--index", "drawn", "--out", tmp_path / "hits.png")
    assert named["index"] == "runs/x/search/drawn"


def test_only_new_and_changed_files_are_embedded(own, capsys):
    pictures, index = own / "all pictures", own / "runs" / "x" / "search" / "all pictures"
    assert numbers(run(capsys, "sync", index)) == (10, 0, 0, 10, 0)
    state = (index / "index.json").read_text()
    assert numbers(run(capsys, "index", own / "runs" / "x", pictures)) == (10, 0, 0, 10, 0)
    assert (index / "index.json").read_text() == state
    (pictures / "0.png").rename(pictures / "renamed.png")
    os.utime(pictures / "1.png")  # another time, the same bytes
    draw(pictures / "2.png", 102)  # another picture of the same time
    (pictures / "3.png").unlink()
    draw(pictures / "deep" / "er" / "new.bmp", 103)
    (pictures / "notes.txt").write_text("no picture")
    (pictures / "zero.jpg").touch()
    (pictures / "text.jpg").write_text("no picture")
    (pictures / "loop").symlink_to(pictures)
    (pictures / "circle.jpg").symlink_to("circle.jpg")
    change = run(capsys, "sync", index)
    assert numbers(change) == (10, 2, 2, 6, 2)
    problems = {each["picture"]: each["reason"] for each in change["problems"]}
    assert problems.keys() == {"zero.jpg", "text.jpg", "loop", "circle.jpg"}
    assert problems["zero.jpg"] == "is empty"
    assert numbers(run(capsys, "sync", index)) == (10, 0, 0, 10, 0)
    opened = open_index(index)
    names = {opened.name(row): row for row in range(10)}
    anew = own / "anew"
    assert search.main(["index", str(opened.run), str(pictures), "--out", str(anew)]) == 0
    fresh = open_index(anew)
    assert {fresh.name(row) for row in range(10)} == names.keys()
    for row in range(10):
        np.testing.assert_allclose(
            fresh.embeddings[row], opened.embeddings[names[fresh.name(row)]], atol=1e-6
        )


def test_a_moved_collection_is_found_again(own, capsys, tmp_path):
    index = own / "runs" / "x" / "search" / "all pictures"
    # The copy of the fixture was moved together with the run.
    assert open_index(index).sources[0].path == own / "all pictures"
    (own / "all pictures").rename(tmp_path / "elsewhere")
    shutil.rmtree(own.parent / "none", ignore_errors=True)
    description = index / "index.json"
    content = json.loads(description.read_text())
    content["sources"][0] |= {"path": "/none/x", "relative": "none"}
    description.write_text(json.dumps(content))
    assert "--moved-to DIR" in refused(capsys, "query", "dog", "--index", index)
    assert "--moved-to DIR" in refused(capsys, "sync", index)
    other = own / "other"
    draw(other / "unknown.png", 5)
    line = refused(capsys, "sync", index, "--moved-to", other)
    assert "has none of the pictures" in line
    moved = run(capsys, "sync", index, "--moved-to", tmp_path / "elsewhere")
    assert numbers(moved) == (10, 0, 0, 10, 0)
    found = run(capsys, "query", "dog", "--index", index, "--out", tmp_path / "hits.png")
    assert all(Path(hit["path"]).is_file() for hit in found["hits"])


def test_pictures_are_added_and_removed(own, flickr8k_records, capsys, tmp_path):
    index = own / "runs" / "x" / "search" / "all pictures"
    draw(tmp_path / "single.png", 50)
    added = run(capsys, "add", index, f"{flickr8k_records}:dev", tmp_path / "single.png")
    assert numbers(added) == (23, 13, 0, 10, 0)
    found = run(capsys, "query", tmp_path / "single.png", "--index", index, "--out", own / "h.png")
    assert found["hits"][0]["path"] == str(tmp_path / "single.png")
    removed = run(capsys, "remove", index, "Ferien ü", own / "all pictures" / "0.png", "single.png")
    assert numbers(removed) == (17, 0, 0, 17, 6)
    assert numbers(run(capsys, "sync", index)) == (17, 0, 0, 17, 0)
    back = run(capsys, "add", index, own / "all pictures" / "0.png")
    assert numbers(back) == (18, 1, 0, 17, 0)
    gone = run(capsys, "remove", index, own / "all pictures")
    assert numbers(gone) == (12, 0, 0, 12, 6)
    line = refused(capsys, "remove", index, "*")
    assert "would remove all 12 pictures" in line
    assert "no picture of" in refused(capsys, "remove", index, "zebra.jpg")


def test_parts_of_pictures_are_found_and_framed(place, capsys, tmp_path, tiny_model):
    small = Image.new("RGB", (40, 40), "red")
    large = Image.new("RGB", (100, 100), "blue")
    large.paste(small.resize((60, 60)), (40, 40))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    large.save(pictures / "large.png")
    draw(pictures / "other.png", 1)
    small.save(tmp_path / "red.png")
    words = ("index", place / "runs" / "x", pictures, "--out", tmp_path / "parts")
    run(capsys, *words, "--tiles", "1+4")
    assert len(open_index(tmp_path / "parts").embeddings) == 10
    words = ("query", tmp_path / "red.png", "--index", tmp_path / "parts")
    (hit, _) = run(capsys, *words, "--out", tmp_path / "hits.png")["hits"]
    assert (hit["key"], hit["view"]) == ("large.png", 4)
    assert hit["cosine"] == pytest.approx(1, abs=1e-5)
    # Other tiles: everything is embedded anew.
    one = run(capsys, "index", place / "runs" / "x", pictures, "--out", tmp_path / "parts")
    assert numbers(one) == (2, 2, 0, 0, 0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("query dog", "no index in runs/; make one with"),
        ("query dog --index none", "no index at none"),
        ("query none.jpg", "no picture at none.jpg"),
        ("query dog --top 0", "received --top 0"),
        ("query", "no query was given"),
        ("query --minus snow", "no query was given"),
        ("query dog --minus-weight -1", "received --minus-weight -1.0"),
        ("query text.jpg --index {index}", "text.jpg"),
        ("index none records", "no run at none"),
        ("index {run} none", "nothing at none"),
        ("index {run} {records}:tset", "'tset'; known, nearest first: test"),
        ("index {run} {records} --out a.npy", "allowed: a folder"),
        ("index {run} {records} --name ../a", "allowed: the name of a folder"),
        ("index {run} {records} --name drawn", "is the index of"),
        ("index {run} {records} --tiles 2", "unknown tile layout"),
        ("index {run} empty", "no picture in empty, and 1 files"),
        ("index {run} {records} --out empty", "empty holds other files"),
        ("index {run} text.jpg", "text.jpg is a file"),
        ("index {run} broken", "none of the 1 pictures of broken can be indexed: text.jpg"),
        ("add {index} none", "nothing at none"),
        ("sync none", "no index at none"),
        ("query {long} --index {index}", "this model reads at most 32"),
        ("qurey dog", "unknown action 'qurey'; known, nearest first: query"),
    ],
)
def test_a_mistake_is_one_line(place, capsys, flickr8k_records, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    for name in ("empty/notes.txt", "broken/text.jpg", "text.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("no picture")
    run_directory = place / "runs" / "x"
    names = {"run": run_directory, "records": flickr8k_records, "long": "a" * 60}
    names["index"] = run_directory / "search" / "drawn"
    assert told in refused(capsys, *words.format(**names).split())
    assert not (run_directory / "search" / "empty").exists()
    assert not (run_directory / "search" / "broken").exists()


def test_an_empty_query_is_refused(capsys):
    assert "the query is empty" in refused(capsys, "query", " ")


def test_an_index_of_another_model_is_refused(own, capsys):
    index = own / "runs" / "x" / "search" / "all pictures"
    described = index / "index.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"model": "of before"}))
    for words in (("query", "dog", "--index", index), ("sync", index), ("add", index, own)):
        assert "was made with another model" in refused(capsys, *words)
    again = run(capsys, "index", own / "runs" / "x", own / "all pictures")
    assert numbers(again) == (10, 10, 0, 0, 0)


def test_records_that_are_packed_anew_need_a_sync(place, capsys, drawn_sets, tmp_path):
    from tfclip.make_records import main as make_records

    records = tmp_path / "packed"
    words = ["flickr8k", "--data", str(drawn_sets / "flickr8k"), "--out", str(records)]
    assert make_records([*words, "--workers", "1"]) == 0
    index = tmp_path / "index"
    run(capsys, "index", place / "runs" / "x", f"{records}:dev", "--out", index)
    again = [*words, "--workers", "1", "--overwrite", "--seed", "5", "--splits", "dev"]
    assert make_records(again) == 0
    assert "were packed again" in refused(capsys, "query", "dog", "--index", index)
    # The pictures are the same: no one is embedded, and each is read at its new place.
    total, embedded, recognised, unchanged, removed = numbers(run(capsys, "sync", index))
    assert (total, embedded, recognised + unchanged, removed) == (12, 0, 12, 0)
    opened = open_index(index)
    from tfclip.evaluation.search.pictures import read_picture

    assert all(read_picture(opened, row).key == opened.name(row) for row in range(12))


def test_a_text_that_nothing_looks_like_is_named(place, folder_index, capsys, tmp_path):
    words = ("query", "a dog", "--index", folder_index, "--out", tmp_path / "hits.png")
    found = run(capsys, *words)
    assert found["nothing"] is (found["hits"][0]["score"] < found["cut_off"])
    assert open_index(folder_index).description["cut_off"] == found["cut_off"]
    assert search.main([*map(str, words), "--cut-off", "0.99"]) == 0
    assert "nothing here looks like a dog: the best cosine" in capsys.readouterr().err
    picture = str(place / "all pictures" / "3.png")
    assert run(capsys, "query", picture, *words[2:])["cut_off"] is None


def test_copies_are_grouped(own, capsys, tmp_path):
    pictures, index = own / "all pictures", own / "runs" / "x" / "search" / "all pictures"
    with Image.open(pictures / "3.png") as opened:
        opened.convert("RGB").save(pictures / "3 again.bmp")
    shutil.copy(pictures / "5.png", pictures / "5 again.png")
    run(capsys, "sync", index)
    words = ("duplicates", index, "--out", tmp_path / "groups.png")
    groups = run(capsys, *words)["groups"]
    names = {frozenset(Path(path).name for path in group) for group in groups}
    assert names == {frozenset({"3.png", "3 again.bmp"}), frozenset({"5.png", "5 again.png"})}
    assert Image.open(tmp_path / "groups.png").size[1] > 500


def test_an_index_of_another_format_is_embedded_anew(own, capsys):
    pytest.importorskip("openvino")
    engine = "bfloat16" if instruction() else "float32-openvino"
    words = ("index", own / "runs" / "x", own / "all pictures", "--compute")
    place = own / "runs" / "x" / "search" / "all pictures"
    exact = open_index(place)
    assert exact.compute == "float32" and "compute" not in exact.description
    whole = np.array(exact.embeddings)
    assert numbers(run(capsys, *words, engine)) == (10, 10, 0, 0, 0)
    half = open_index(place)
    assert half.compute == engine
    assert 0 < np.abs(np.sort(half.embeddings, 0) - np.sort(whole, 0)).max() < 0.02
    draw(own / "all pictures" / "new.png", 77)
    assert numbers(run(capsys, "sync", place))[:4] == (11, 1, 0, 10)
    assert open_index(place).compute == engine
    # No measured tower: auto is float32.
    assert numbers(run(capsys, *words, "auto"))[:2] == (11, 11)
    assert open_index(place).compute == "float32"
