"""The flags of `export`: what is refused before anything is loaded, and what becomes of labels."""

import json
import shutil

import pytest

from tfclip.evaluation.embedding.prompts import TEMPLATES
from tfclip.export import ExportFlags, main


@pytest.fixture
def labels_file(tmp_path):
    def write(text):
        path = tmp_path / "labels.txt"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def refused(capsys, *words):
    """The one line that the command says, after checking that it is one, and exit code 2."""
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_fitted_labels_bring_prompts_thresholds_and_tiles(tiny_run, tmp_path):
    classifier = ExportFlags(tiny_run, tmp_path).classifier()
    assert classifier.labels == ("red circle", "blue square", "green star")
    assert classifier.thresholds == (-2.0, 2.0, 0.0)
    assert classifier.prompts[2] == ("a photo of a green star.", "the green star")
    assert classifier.tiles == "1+4"


def test_a_labels_file_chooses_and_orders(tiny_run, tmp_path, labels_file):
    path = labels_file("green star\n\n red circle \n")
    classifier = ExportFlags(tiny_run, tmp_path, labels=path).classifier()
    assert classifier.labels == ("green star", "red circle")
    assert classifier.thresholds == (0.0, -2.0)


def test_labels_without_thresholds_need_to_be_asked_for(tiny_run, tmp_path, labels_file, capsys):
    path = labels_file("green star\npurple cow\n")
    out = tmp_path / "out"
    said = refused(capsys, tiny_run, "--out", out, "--labels", path)
    assert "no threshold for purple cow" in said and "red circle, blue square" in said
    assert not out.exists()
    classifier = ExportFlags(
        tiny_run, out, labels=path, thresholds="none", templates="short", tiles="1+4"
    ).classifier()
    assert classifier.prompts == (("green star",), ("purple cow",))
    assert (classifier.thresholds, classifier.tiles) == (None, "1+4")


def test_voc_is_the_20_classes_with_readable_prompts(tiny_run, tmp_path, capsys):
    flags = ExportFlags(tiny_run, tmp_path, labels="voc", thresholds="none")
    classifier = flags.classifier()
    assert len(classifier.labels) == 20
    of_class = dict(zip(classifier.labels, classifier.prompts, strict=True))
    assert of_class["tvmonitor"] == ("a photo of a television.",)
    assert "no threshold for aeroplane" in refused(
        capsys, tiny_run, "--out", tmp_path, "--labels", "voc"
    )


@pytest.mark.parametrize("templates", TEMPLATES)
def test_templates_ask_what_evaluation_asks(tiny_run, tmp_path, templates):
    flags = ExportFlags(tiny_run, tmp_path, labels="voc", thresholds="none", templates=templates)
    name = "aeroplane" if templates == "voc" else "airplane"
    expected = tuple(template.replace("{}", name) for template in TEMPLATES[templates])
    assert flags.classifier().prompts[0] == expected


def test_thresholds_may_come_from_another_file(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "best", tmp_path / "model")
    thresholds = str(tiny_run / "thresholds.json")
    flags = ExportFlags(tmp_path / "model", tmp_path / "out", thresholds=thresholds)
    assert flags.classifier().thresholds == (-2.0, 2.0, 0.0)


def test_none_makes_no_classifier(tiny_run, tmp_path):
    assert ExportFlags(tiny_run, tmp_path, labels="none").classifier() is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "nowhere.txt"], "no labels file at nowhere.txt"),
        (["--thresholds", "nowhere.json"], "no fitted thresholds at nowhere.json"),
        (["--tiles", "1+4"], "or add --thresholds none"),
        (["--class-words", "auto"], "received --class-words auto, but fitted thresholds use"),
        (["--templates", "singel", "--thresholds", "none"], "nearest first: single"),
        (["--labels", "none", "--thresholds", "none"], "write no classifier"),
    ],
)
def test_mistakes_are_told_in_one_line(tiny_run, tmp_path, capsys, words, said):
    assert said in refused(capsys, tiny_run, "--out", tmp_path, *words)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no labels"),
        ("a dog\na cat\na dog\n", "a dog given more than once"),
    ],
)
def test_labels_files_are_checked(tiny_run, tmp_path, labels_file, capsys, text, said):
    path = labels_file(text)
    assert said in refused(capsys, tiny_run, "--out", tmp_path, "--labels", path)


def test_a_run_without_thresholds_says_what_to_run(tiny_run, tmp_path, capsys):
    said = refused(capsys, tiny_run / "best", "--out", tmp_path / "out")
    assert "no fitted thresholds" in said and "python -m tfclip.evaluate" in said
    assert "no run at" in refused(capsys, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_thresholds_of_another_format_are_refused(tiny_run, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(tiny_run, run)
    path = run / "thresholds.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "compute": "bfloat16"}))
    said = refused(capsys, run, "--out", out)
    assert "computed in bfloat16" in said and "evaluate --compute float32" in said
    assert ExportFlags(run, out, compute="bfloat16").classifier() is not None
    said = refused(capsys, tiny_run, "--out", out, "--compute", "bfloat16")
    assert "computed in float32" in said and not out.exists()
    said = refused(capsys, tiny_run, "--out", out, "--compute", "float16")
    assert "bfloat16" in said
    said = refused(capsys, run, "--onnx", out, "--compute", "bfloat16")
    assert "in their own formats" in said


def test_damaged_thresholds_are_refused(tiny_run, tmp_path, capsys):
    content = json.loads((tiny_run / "thresholds.json").read_text())
    path = tmp_path / "thresholds.json"
    for damage in ("[]", "{", json.dumps(content | {"per_class": {"red circle": None}})):
        path.write_text(damage)
        said = refused(capsys, tiny_run, "--out", tmp_path / "out", "--thresholds", path)
        assert "is not a thresholds file" in said and "Error(" not in said
    path.write_text('{"red circle": 0.2}')
    said = refused(capsys, tiny_run, "--out", tmp_path / "out", "--thresholds", path)
    assert "it has no 'class_names'" in said


def test_an_unknown_tile_layout_leaves_nothing(tiny_run, tmp_path, capsys):
    words = ["--thresholds", "none", "--out", str(tmp_path / "out"), "--tiles", "2x2"]
    assert main([str(tiny_run), *words]) == 2
    assert "unknown tile layout '2x2'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_stays(tiny_run, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert "is a file" in refused(capsys, tiny_run, "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"
