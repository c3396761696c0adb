"""`predict` on a run and on its export: the same answers, and mistakes in one line."""

import json

import numpy as np
import pytest

from tfclip.predict import main


@pytest.fixture
def picture(tmp_path, picture_bytes):
    path = tmp_path / "picture.jpg"
    path.write_bytes(picture_bytes["turned"])
    return path


def answered(capsys, *words):
    """The labels of each picture, by label, and the table."""
    assert main([*map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    pictures = [
        {row["label"]: row for row in one["labels"]} for one in json.loads(line)["pictures"]
    ]
    return pictures, err[err.index(f"{words[1]}\n") :].splitlines()


@pytest.mark.parametrize("labels", [[], ["--labels", "a dog", "a cat"]])
def test_a_run_and_its_export_answer_alike(tiny_run, exported, picture, labels, capsys):
    one, table = answered(capsys, tiny_run, picture, picture, *labels)
    other, _ = answered(capsys, exported, picture, *labels)
    first, second = one
    assert first.keys() == second.keys()
    for label, row in one[0].items():
        for figure in ("cosine", "probability"):
            # Rows of a batch may differ in the last bit, by where they stand in it.
            np.testing.assert_allclose(row[figure], second[label][figure], atol=1e-6)
            np.testing.assert_allclose(row[figure], other[0][label][figure], atol=1e-5)
        assert row.get("predicted") == other[0][label].get("predicted")
    # Decisions are for the labels that have thresholds: -2 and 2 are out of a cosine's reach.
    if labels:
        assert all("predicted" not in row for row in one[0].values())
    else:
        assert one[0]["red circle"]["predicted"] and not one[0]["blue square"]["predicted"]
        cosines = [float(line.split()[-3]) for line in table[2:5]]
        assert table[1].split() == ["label", "cosine", "probability", "decision"]
        assert cosines == sorted(cosines, reverse=True)


def refused(capsys, *words):
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert out == "" and len(errors) == 1
    return errors[0]


def test_a_text_file_is_no_picture(tiny_run, picture, tmp_path, capsys):
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    said = refused(capsys, tiny_run, picture, text, "--labels", "a dog")
    assert str(text) in said and str(picture) not in said


def test_mistakes_are_told_in_one_line(tiny_run, picture, tmp_path, capsys):
    assert "no picture was given" in refused(capsys, tiny_run, "--labels", "a dog")
    assert "no picture at" in refused(capsys, tiny_run, tmp_path / "nowhere.jpg")
    assert "no picture at" in refused(capsys, tiny_run, tmp_path)
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
    (found,), _ = answered(capsys, tiny_run, picture, *words)
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
