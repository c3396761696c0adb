"""`predict` on a run and on its export: the same answers, and mistakes in one line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfclip.predict import main


@pytest.fixture
def picture(tmp_path, picture_bytes):
    path = tmp_path / "picture.jpg"
    path.write_bytes(picture_bytes["turned"])
    return path


def answered(capsys, *words, told=""):
    """The labels of each picture, by label, and the table."""
    assert main([*map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    assert told in err
    (line,) = out.splitlines()
    pictures = [
        {row["label"]: row for row in one["labels"]} for one in json.loads(line)["pictures"]
    ]
    return pictures, err[err.index(f"{words[1]}\n") :].splitlines()


@pytest.fixture
def second(tmp_path, picture):
    path = tmp_path / "second.jpg"
    path.write_bytes(picture.read_bytes())
    return path


@pytest.mark.parametrize(
    "labels", [pytest.param([], marks=pytest.mark.slow), ["--labels", "a dog", "a cat"]]
)
def test_a_run_and_its_export_answer_alike(tiny_run, exported, picture, second, labels, capsys):
    one, table = answered(capsys, tiny_run, picture, second, *labels)
    other, _ = answered(capsys, exported, picture, *labels)
    first, second = one
    assert first.keys() == second.keys()
    for label, row in one[0].items():
        for figure in ("cosine", "softmax"):
            # Rows of a batch may differ in the last bit, by where they stand in it.
            np.testing.assert_allclose(row[figure], second[label][figure], atol=1e-6)
            np.testing.assert_allclose(row[figure], other[0][label][figure], atol=1e-5)
        assert row.get("predicted") == other[0][label].get("predicted")
    # Decisions are for the labels that have thresholds: -2 and 2 are out of a cosine's reach.
    if labels:
        assert all("predicted" not in row for row in one[0].values())
    else:
        assert one[0]["red circle"]["predicted"] and not one[0]["blue square"]["predicted"]
        assert table[1].split() == ["label", "cosine", "threshold", "softmax", "decision"]
        # What is predicted comes first, whatever its cosine is.
        decided = [line.split()[-1] for line in table[2:5]]
        assert decided == sorted(decided, reverse=True)


def refused(capsys, *words):
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert out == "" and len(errors) == 1
    return errors[0]


def test_a_text_file_is_no_picture(tiny_run, picture, tmp_path, capsys):
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    said = refused(capsys, tiny_run, text, "--labels", "a dog")
    assert str(text) in said and str(picture) not in said


def test_mistakes_are_told_in_one_line(tiny_run, picture, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "received no picture" in refused(capsys, tiny_run, "--labels", "a dog")
    assert "no picture at" in refused(capsys, tiny_run, tmp_path / "nowhere.jpg")
    assert "folder without pictures" in refused(capsys, tiny_run, empty)
    assert "no model at" in refused(capsys, tmp_path / "nowhere", picture)
    assert "more than once" in refused(capsys, tiny_run, picture, "--labels", "dog", "dog")
    assert "give --labels" in refused(capsys, tiny_run / "best", picture)
    assert "holds no trained model" in refused(capsys, tmp_path, picture, "--labels", "dog")
    too_long = refused(capsys, tiny_run, picture, "--labels", "x" * 100)
    assert "takes 102 tokens" in too_long


def test_texts_are_scored_in_views_and_fused_as_in_evaluation(
    tiny_run, tiny_model, picture, capsys
):
    from tfclip.evaluation.datasets.views import file_views
    from tfclip.evaluation.decisions.fusion import Fusion, fuse
    from tfclip.evaluation.embedding.embed import embed_pictures, embed_texts
    from tfclip.inputs.tiles import tile_boxes

    labels = ("a dog", "a cat")
    words = ("--labels", *labels, "--tiles", "1+4+9", "--fusion", "logsumexp")
    told = "--fix-text: 0 of 2 texts changed"
    (found,), _ = answered(capsys, tiny_run, picture, *words, "--fix-text", told=told)
    _, views = embed_pictures(tiny_model, file_views([picture], 32, tile_boxes("1+4+9")))
    fusion = Fusion("logsumexp", float(tiny_model.dual_encoder.temperature()))
    scores = fuse(views @ embed_texts(tiny_model, labels).T, fusion, (1, 4, 9))[0]
    np.testing.assert_allclose([found[label]["cosine"] for label in labels], scores, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{run} {picture} --tiles 1+4", "which needs --labels and a run"),
        ("{exported} {picture} --labels a b --fusion max", "which needs --labels and a run"),
        ("{run} {picture} --labels a b --tiles 2", "unknown tile layout '2'"),
        ("{run} {picture} --labels a b --fusion learnt", "allowed: max, logsumexp"),
    ],
)
def test_views_that_cannot_be_chosen_are_refused(tiny_run, exported, picture, capsys, words, told):
    names = {"run": tiny_run, "exported": exported, "picture": picture}
    assert main(words.format(**names).split()) == 2
    assert told in capsys.readouterr().err


def told(capsys, *words):
    """The result under --json, and standard error."""
    assert main([*map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


@pytest.fixture(scope="module")
def folder(tmp_path_factory, picture_bytes):
    """Pictures in every format, in folders, beside what is none."""
    place = tmp_path_factory.mktemp("many")
    (place / "deeper").mkdir()
    endings = {"jpeg": "jpg", "grey": "jpeg", "turned": "JPG", "alpha": "png"}
    for name, content in picture_bytes.items():
        where = place / "deeper" if name in ("gif", "bmp") else place
        (where / f"{name}.{endings.get(name, name)}").write_bytes(content)
    (place / "cut.jpg").write_bytes(picture_bytes["jpeg"][:200])
    (place / "empty.png").write_bytes(b"")
    (place / "notes.txt").write_text("notes")
    return place


def test_folders_globs_and_lists_are_answered_and_broken_files_rejected(
    tiny_run, folder, tmp_path, capsys
):
    listed = tmp_path / "list.txt"
    names = [f"{folder}/jpeg.jpg", f"{folder}/nowhere.jpg", "https://host/a.jpg", str(folder)]
    listed.write_text("\n".join(names) + "\n")
    words = (tiny_run, folder, f"{folder}/deeper/*", "--list", listed, "--labels", "a dog", "a cat")
    csv_file, jsonl, sheet = (tmp_path / f"out/{name}" for name in ("a.csv", "a.jsonl", "a.png"))
    result, err = told(capsys, *words, "--csv", csv_file, "--jsonl", jsonl, "--sheet", sheet)
    assert result["answered"] == 7 and result["rejected"] == 5
    reasons = {Path(one["picture"]).name: one["reason"] for one in result["rejects"]}
    assert "cannot be decoded" in reasons["cut.jpg"] and "empty" in reasons["empty.png"]
    assert "No such file" in reasons["nowhere.jpg"] and "is a URL" in reasons["a.jpg"]
    assert "is a folder" in reasons[folder.name]
    assert ".txt 1" in err and "repeated files" in err
    lines = [json.loads(line) for line in jsonl.read_text().splitlines()]
    assert len(lines) == 12 and sum("reason" in line for line in lines) == 5
    with csv_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 * 2 + 5
    by_jsonl = {line["picture"]: line["labels"][0]["cosine"] for line in lines if "labels" in line}
    first = next(row for row in rows if row["cosine"])
    assert float(first["cosine"]) == by_jsonl[first["picture"]]
    with Image.open(sheet) as drawn:
        assert drawn.width > 1000 and drawn.height > 600  # two rows


def test_a_batch_answers_as_each_picture_alone(tiny_run, folder, capsys):
    together, _ = told(capsys, tiny_run, folder, "--labels", "a dog", "a cat")
    for one in together["pictures"]:
        alone, _ = told(capsys, tiny_run, one["picture"], "--labels", "a dog", "a cat")
        cosines = [
            {row["label"]: row["cosine"] for row in each["labels"]}
            for each in (one, *alone["pictures"])
        ]
        assert cosines[0] == pytest.approx(cosines[1], abs=1e-5)


def test_one_text_alone_has_no_share(tiny_run, picture, capsys):
    result, err = told(capsys, tiny_run, picture, "--labels", "a dog")
    (row,) = result["pictures"][0]["labels"]
    assert row.keys() == {"label", "cosine"} and "1.000" not in err
    result, _ = told(capsys, tiny_run, picture, "--labels", "a dog", "--threshold", "-1")
    (row,) = result["pictures"][0]["labels"]
    assert row["predicted"] and row["threshold"] == -1
    result, _ = told(capsys, tiny_run, picture, "--threshold", "1.5")
    assert not any(row["predicted"] for row in result["pictures"][0]["labels"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--labels", "a, b, c"],
            'give several labels as separate arguments, --labels "a" "b" "c"',
        ),
        (["--labels", "a dog", "{labels}"], "to read its labels"),
        (["--labels", "labels_crlf.txt"], "no labels file at"),
        (["--threshold", "nan"], "a finite cosine"),
        (["--objective", "sensitivity:2"], "at most 1"),
        (["--objective", "f1", "--labels", "a dog"], "needs a run with fitted thresholds"),
        (["--objective", "f1", "--threshold", "0.3"], "give only one"),
        (["--objective", "sensitivity:0.9"], "fitted without labels"),
        (["--templates", "single"], "which needs --labels"),
        (["--class-words", "auto"], "fitted classes have the words"),
        (["--class-words", "auto", "--labels", "a dog"], "allowed: class names"),
        (["--class-words", "none.txt", "--labels", "voc"], "no file of class words at none.txt"),
        (["--class-words", "{words}", "--labels", "{labels}"], "unknown class in the class words"),
        (["--class-words", "auto", "--labels", "voc"], "needs the captions that"),
        (["--sheet", "a.gif"], "allowed: NAME.png"),
        (["https://example.org/a.jpg"], "is a URL"),
        (["nowhere*.jpg"], "no file matches"),
    ],
)
def test_more_mistakes_in_one_line(tiny_run, picture, tmp_path, capsys, words, said):
    labels = tmp_path / "labels_crlf.txt"
    labels.write_bytes(b"a dog\r\na cat\r\n")
    (tmp_path / "words.txt").write_text("horse: pony\n")
    words = [word.format(labels=labels, words=tmp_path / "words.txt") for word in words]
    assert said in refused(capsys, tiny_run, picture, *words)


def test_labels_mean_the_same_in_predict_and_export(tiny_run, picture, tmp_path, capsys):
    from tfclip.export import ExportFlags
    from tfclip.export import main as export

    labels = tmp_path / "labels_crlf.txt"
    labels.write_bytes(b"dog\r\nsofa\r\n")
    of_export = ExportFlags(tiny_run, tmp_path / "a", labels=(str(labels),), thresholds="none")
    assert of_export.classifier().prompts == (("a photo of a dog.",), ("a photo of a couch.",))
    (tmp_path / "words.txt").write_text("dog: dog, puppy, not a couch\n")
    words = ("--labels", labels, "--templates", "short", "--class-words", tmp_path / "words.txt")
    out = tmp_path / "exported"
    assert export([str(tiny_run), "--out", str(out), *map(str, words), "--thresholds=none"]) == 0
    assert "the label with the highest score" in capsys.readouterr().err
    (mine,), _ = answered(capsys, tiny_run, picture, *words)
    (exported,), _ = answered(capsys, out, picture)
    assert mine.keys() == exported.keys() == {"dog", "sofa"}
    for label, row in mine.items():
        assert row["cosine"] == pytest.approx(exported[label]["cosine"], abs=1e-5)
    (typed,), _ = answered(capsys, tiny_run, picture, "--labels", "dog", "couch")
    assert typed["couch"]["cosine"] == pytest.approx(mine["sofa"]["cosine"], abs=1e-5)
    assert typed["dog"]["cosine"] != pytest.approx(mine["dog"]["cosine"], abs=1e-3)


def test_heatmaps_of_runs_and_exports_are_drawn(tiny_run, exported, picture, tmp_path, capsys):
    place = tmp_path / "maps"
    told(capsys, tiny_run, picture, "--heatmap", place)
    (name, *_) = drawn = sorted(path.name for path in place.iterdir())
    assert name.startswith("00001-picture-") and len(drawn) <= 3
    with Image.open(place / name) as opened, Image.open(picture) as original:
        assert opened.size == original.size[::-1]  # turned, as its EXIF says
    told(capsys, exported, picture, "--heatmap", tmp_path / "of export")
    with Image.open(next((tmp_path / "of export").iterdir())) as opened:
        assert opened.size == Image.open(place / name).size
