"""`python -m tfclip.evaluate`: the files it leaves, their keys, and its one-line errors."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

import tfclip
from tfclip import evaluate
from tfclip.sources.shapes import CLASS_NAMES, draw_shapes

SHARES = {"accuracy", "sensitivity", "specificity", "precision", "f1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with drawn/, records/voc, records/flickr8k, classes/ and run/ (random weights)."""
    import keras

    from tfclip.inputs.text import WordPieceTokenizer
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saving import TrainedModel, save_model
    from tfclip.records.options import PackOptions
    from tfclip.records.packing.writer import pack
    from tfclip.sources.registry import open_source

    root = tmp_path_factory.mktemp("evaluate")
    counts = {"visual_genome": 1, "flickr8k": (1, 8, 1), "coco": (1, 1), "voc": (20, 20, 30)}
    draw_shapes(root / "drawn", **counts, image_size=64)
    for name in ("voc", "flickr8k"):
        source = open_source(name, root / "drawn" / name)
        pack(source, root / "records" / name, PackOptions(workers=1))
    for folder, colour in (("red_thing", "red"), ("blue thing", "blue")):
        (root / "classes" / folder).mkdir(parents=True)
        for at in range(3):
            Image.new("RGB", (40 + at, 30), colour).save(root / "classes" / folder / f"{at}.PNG")
    (root / "classes" / "red_thing" / "broken.jpg").write_bytes(b"no picture")
    (root / "classes" / "read me.txt").write_text("no class")

    letters = "abcdefghijklmnopqrstuvwxyz."
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters)]
    keras.utils.set_random_seed(0)
    dual_encoder = DualEncoder(
        ModelConfig(
            image_tower="small-convolutional",
            image_options={"widths": (8, 16)},
            text_tower="small-transformer",
            text_options={"width": 32, "blocks": 1, "heads": 2},
            image_size=32,
            embed_dim=16,
            context_length=32,
            vocabulary_size=len(vocabulary),
        )
    )
    tokenizer = WordPieceTokenizer(vocabulary, 32)
    trained_on = {"never_trained": ["red star", "green circle"]}
    save_model(root / "run" / "best", TrainedModel(dual_encoder, tokenizer, trained_on))
    return root


def result(capsys, *words) -> dict:
    assert evaluate.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_voc_leaves_figures_thresholds_scores_and_a_page(place, capsys):
    run = place / "run"
    words = ("--records", place / "records" / "voc", "--calibrate", "trainval", "--tiles", "1+4")
    printed = result(capsys, run, "voc", *words)
    figures = json.loads((run / "metrics" / "voc.json").read_text())
    assert figures == printed
    for name in ("map", "map_voc07", "map_one_view", "map_seen", "map_unseen"):
        assert 0 < figures[name] < 1
    assert figures["never_trained"] == ["green circle", "red star"]
    assert set(figures["macro"]) == set(figures["micro"]) == SHARES
    assert list(figures["per_class"]) == list(CLASS_NAMES)
    columns = {"ap", "ap_voc07", "positives", "threshold"} | SHARES
    assert columns <= set(figures["per_class"]["red star"])
    asked = {"split": "test", "calibrate": "trainval", "templates": "single", "seed": 0}
    assert asked.items() <= figures.items()

    scores = np.load(run / "metrics" / "voc_scores.npz")
    assert scores["test_scores"].shape == (30, 20) and scores["calibration_scores"].shape[0] == 40
    ap = average_precision_score(scores["test_present"], scores["test_scores"], average=None)
    assert figures["map"] == pytest.approx(ap[scores["test_present"].any(axis=0)].mean(), abs=1e-9)

    thresholds = json.loads((run / "thresholds.json").read_text())
    assert thresholds["class_names"] == list(CLASS_NAMES)
    for name, row in figures["per_class"].items():
        assert thresholds["per_class"][name] == row["threshold"]
    assert thresholds["global"] == figures["global"]["threshold"]
    asked = {"tiles": "1+4", "templates": ["a photo of a {}."], "calibrate": "trainval"}
    assert asked.items() <= thresholds.items()
    assert thresholds["prompts"]["red star"] == ["a photo of a red star."]
    page = (run / "report.html").read_text()
    assert page.count("<svg") == 2 + len(
        [row for row in figures["per_class"].values() if row["positives"]]
    )
    assert not (run / "plots").exists()


def test_voc_from_the_devkit_says_on_standard_error_what_it_did(place, capsys):
    data = place / "drawn" / "voc" / "VOCdevkit" / "VOC2007"
    words = ("voc", "--data", data, "--split", "val", "--calibrate", "train")
    words = [place / "run" / "best", *words, "--objective", "specificity>=0.9"]
    assert evaluate.main([str(word) for word in words]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "fitted for specificity>=0.9 on split train, 20 other pictures" in captured.err
    assert "never-trained classes occur there" in captured.err
    assert (place / "run" / "best" / "metrics" / "voc.json").is_file()


def test_retrieval(place, capsys, monkeypatch):
    reference = f"{place}/records/flickr8k:dev"
    figures = result(capsys, place / "run", "retrieval", "--records", reference, "--chunk", 3)
    assert figures == json.loads((place / "run" / "metrics" / "retrieval.json").read_text())
    assert (figures["images"], figures["captions"]) == (8, 40)
    for side in ("image_to_text", "text_to_image"):
        assert set(figures[side]) == {"r1", "r5", "r10", "median_rank"}
    assert figures["text_to_image"]["r10"] == 1.0  # of 8 pictures
    # The second time the model is not asked, TensorFlow not imported, and no chart drawn.
    examples = place / "run" / "metrics" / "retrieval_examples.json"
    first = examples.read_bytes()
    examples.unlink()
    code = (
        "import sys\nfrom tfclip import evaluate\nevaluate.main(sys.argv[1:])\n"
        "sys.exit(bool({'tensorflow', 'matplotlib'} & sys.modules.keys()))"
    )
    words = (place / "run", "retrieval", "--records", reference, "--json")
    words = [sys.executable, "-c", code, *map(str, words)]
    again = subprocess.run(words, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    printed = json.loads(again.stdout.splitlines()[-1])
    assert printed["image_to_text"] == figures["image_to_text"]
    assert examples.read_bytes() == first


def test_classification(place, capsys):
    words = (place / "run", "classification", "--data", place / "classes")
    figures = result(capsys, *words)
    assert figures == json.loads((place / "run" / "metrics" / "classification.json").read_text())
    assert (figures["classes"], figures["images"], figures["skipped"]) == (2, 6, 1)
    # One colour, one embedding: a class is right for all of its pictures or for none.
    model, preprocess = tfclip.load(place / "run")
    colours = [preprocess(Image.new("RGB", (40, 30), colour)) for colour in ("blue", "red")]
    prompts = ["a photo of a blue thing.", "a photo of a red thing."]
    logits, _ = model(np.stack(colours), tfclip.tokenize(prompts, model))
    right = np.argmax(logits, axis=1) == [0, 1]
    assert figures["top1"] == right.mean()
    assert figures["top5"] == figures["top10"] == 1  # of two classes


def test_classification_of_a_tfds_data_set(place, capsys):
    tfds = pytest.importorskip("tensorflow_datasets")
    names = place / "names.txt"
    names.write_text("a horse\na person\n")
    words = (place / "run", "classification", "--tfds", "horses_or_humans:train")
    with tfds.testing.mock_data(num_examples=5):
        figures = result(capsys, *words, "--templates", "short", "--class-names", names)
    asked = {"data": "horses_or_humans:train", "templates": "short"}
    assert asked.items() <= figures.items()
    assert (figures["classes"], figures["images"], figures["skipped"]) == (2, 5, 0)
    assert figures["top1"] * 5 in range(6) and figures["top5"] == figures["top10"] == 1


@pytest.mark.skipif("TFCLIP_DATA" not in os.environ, reason="needs TFCLIP_DATA")
def test_classification_of_cifar10(place, capsys):
    data = Path(os.environ["TFCLIP_DATA"]) / "cls" / "cifar10_test_jpg"
    if not data.is_dir():
        pytest.skip(f"TFCLIP_DATA holds no {data.name}")
    figures = result(capsys, place / "run", "classification", "--data", data)
    assert (figures["classes"], figures["images"], figures["skipped"]) == (10, 2000, 0)
    # Random weights: chance, but all ten classes are among the first ten.
    assert 0.02 < figures["top1"] < 0.3 and 0.3 < figures["top5"] < 0.8 and figures["top10"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{run} cvo --records {voc}", "unknown benchmark 'cvo'; known, nearest first: voc"),
        ("{root}/none voc --records {voc}", "no run at"),
        ("{root} voc --records {voc}", "holds no trained model"),
        ("{run} voc", "give one of --data VOCdevkit/VOC2007 and --records DIR"),
        ("{run} voc --records {voc} --data {voc}", "give one of --data"),
        (
            "{run} voc --records {voc} --split val --calibrate val",
            "--calibrate val, which share",
        ),
        ("{run} voc --records {voc} --split tset", "'tset'; known, nearest first: test"),
        ("{run} voc --records {voc} --split train", "20 pictures of split train are in split"),
        ("{run} voc --records {voc} --split val --calibrate train+val", "which share pictures"),
        ("{run} voc --records {voc} --fusion median", "unknown fusion 'median'"),
        ("{run} voc --records {voc} --probabilities beta", "unknown probabilities 'beta'"),
        ("{run} voc --records {voc} --synonyms {root}/none", "no file of class words at"),
        ("{run} voc --records {voc} --format csv", "unknown format 'csv'; known, nearest first: "),
        ("{run} voc --records {voc} --negatives {flickr8k}:dev", "it needs --calibrate none"),
        ("{run} voc --records {voc} --calibrate none", "needs pictures: give --negatives DIR"),
        (
            "{run} voc --records {voc} --calibrate none --negatives {voc}:train",
            "has no captions, which are needed to find pictures",
        ),
        ("{run} voc --records {voc} --fusion learnt", "allowed: max, logsumexp"),
        (
            "{run} voc --records {voc} --calibrate none --negatives {flickr8k}:dev "
            "--false-positives 2",
            "received a false-positive rate of 2.0",
        ),
        ("{run} voc --records {root}/none", "no records at"),
        ("{run} voc --records {voc} --tiles 2x2", "unknown tile layout '2x2'"),
        ("{run} voc --records {voc} --objective f2", "unknown objective 'f2'"),
        ("{run} voc --records {voc} --templates many", "unknown templates 'many'"),
        ("{run} voc --records {voc} --seed -1", "received seed -1"),
        ("{run} voc --records {flickr8k} --split test --calibrate dev", "no class names"),
        ("{run} voc --data {root}/none", "expected"),
        ("{run} retrieval --records {flickr8k}", "several splits; give one of"),
        ("{run} retrieval --records {flickr8k}:den", "'den'; known, nearest first: dev"),
        ("{run} retrieval --records {voc}:test", "has no captions"),
        ("{run} retrieval --records {flickr8k}:dev --chunk 0", "received --chunk 0"),
        ("{run} classification --data {root}/none", "no folder at"),
        ("{run} classification --data {root}/classes/red_thing", "0 class folders"),
        ("{run} classification", "give one of --data DIR and --tfds NAME[:SPLIT]"),
        ("{run} classification --tfds a --data {root}", "give one of --data DIR and --tfds"),
        ("{run} classification --tfds a: ", "allowed: NAME or NAME:SPLIT"),
        ("{run} classification --tfds a --class-names {root}/none", "no file of class names at"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(place, capsys, words, told):
    names = {"run": place / "run", "root": place}
    names |= {name: place / "records" / name for name in ("voc", "flickr8k")}
    assert evaluate.main(words.format(**names).split()) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert told in line
    assert captured.out == ""


def test_an_unannotated_split_of_the_devkit_is_refused(place, capsys, tmp_path):
    devkit = tmp_path / "VOC2007"
    shutil.copytree(place / "drawn" / "voc" / "VOCdevkit" / "VOC2007", devkit)
    for name in (devkit / "ImageSets" / "Main" / "test.txt").read_text().split():
        (devkit / "Annotations" / f"{name}.xml").unlink(missing_ok=True)
    assert evaluate.main([str(place / "run"), "voc", "--data", str(devkit)]) == 2
    assert "the split test has no annotations" in capsys.readouterr().err


def test_help_and_mistakes_need_no_tensorflow(place):
    code = (
        "import sys; from tfclip.evaluate import main; "
        f"main(['{place}/run', 'voc', '--help']); main(['{place}/run', 'voc']); "
        f"main(['{place}/run', 'voc', '--records', '{place}/records/voc', '--split', 'tset']); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--calibrate" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fusion", "probabilities", "tiles"),
    [("logsumexp", "isotonic", "1+4"), ("max", "platt", "1+4+9"), ("max", "platt", "dense")],
)
def test_evaluate_predict_and_the_export_give_one_answer(
    place, capsys, tmp_path, fusion, probabilities, tiles
):
    from tfclip import export
    from tfclip.evaluation.decisions.calibration import calibration_from_dict
    from tfclip.records.reader import read_split
    from tfclip.serving.open_classifier import open_classifier

    run = tmp_path / "run"
    shutil.copytree(place / "run" / "best", run / "best")
    words = ("--records", place / "records" / "voc", "--tiles", tiles, "--fusion", fusion)
    result(capsys, run, "voc", *words, "--probabilities", probabilities)
    scores = np.load(run / "metrics" / "voc_scores.npz")
    fitted = json.loads((run / "thresholds.json").read_text())
    thresholds = [fitted["per_class"][name] for name in CLASS_NAMES]
    calibration = calibration_from_dict(fitted["calibration"], CLASS_NAMES)
    records = read_split(place / "records" / "voc", "test", features=("image/encoded",)).take(12)
    pictures = [record["image/encoded"] for record in records.as_numpy_iterator()]
    assert export.main([str(run), "--out", str(tmp_path / "exported")]) == 0
    for opened in (run, tmp_path / "exported"):
        answer = open_classifier(opened)(pictures)
        expected = scores["test_scores"][:12]
        np.testing.assert_allclose(answer["scores"], expected, atol=1e-5)
        np.testing.assert_allclose(
            answer["probabilities"], calibration.probabilities(answer["scores"]), atol=2e-5
        )
        far = np.abs(expected - thresholds) > 1e-5
        assert far.mean() > 0.9
        np.testing.assert_array_equal(answer["predicted"][far], (expected >= thresholds)[far])


def test_thresholds_of_another_model_are_refused(place, capsys, tmp_path):
    from tfclip import export, predict

    words = ("voc", "--records", str(place / "records" / "voc"))
    run = tmp_path / "run"
    shutil.copytree(place / "run" / "best", run / "best")
    result(capsys, run, *words)
    other = json.loads((run / "best" / "model.json").read_text())
    (run / "best" / "model.json").write_text(json.dumps(other | {"trained_on": {"seed": 1}}))
    picture = str(next((place / "drawn").rglob("*.jpg")))
    for command, asked in (
        (export, (str(run), "--out", str(tmp_path / "out"))),
        (predict, (str(run), picture)),
    ):
        assert command.main([*asked]) == 2
        assert "was fitted for another model than that of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_calibration_data_a_false_positive_rate_is_promised(place, capsys, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(place / "run" / "best", run / "best")
    words = ("--calibrate", "none", "--negatives", f"{place}/records/flickr8k:dev")
    words += ("--records", place / "records" / "voc", "--false-positives", "0.4")
    assert evaluate.main([str(word) for word in (run, "voc", *words)]) == 0
    told = capsys.readouterr().err
    assert "thresholds from negatives alone, 8 pictures of" in told
    assert "Recall is not guaranteed" in told
    figures = json.loads((run / "metrics" / "voc.json").read_text())
    assert figures["negatives"]["promised_false_positive_rate"] == 0.4
    specificity = [row["specificity"] for row in figures["per_class"].values()]
    found = figures["negatives"]["measured_false_positive_rate"]
    assert found == pytest.approx(1 - np.mean(specificity))
    low, high = figures["negatives"]["measured_interval"]
    assert low < found < high and f"{found:.3f}  [{low:.3f}, {high:.3f}] in the mean" in told
    assert "oracle" not in figures and figures["objective"] is None
    assert json.loads((run / "thresholds.json").read_text())["calibration"] is None


def test_synonyms_take_the_place_of_a_name_and_are_averaged(place, capsys, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(place / "run" / "best", run / "best")
    (tmp_path / "words.txt").write_text("# mine\nred star: a star, a red star\n\nblue circle: o\n")
    words = (run, "voc", "--records", place / "records" / "voc", "--templates", "short")
    result(capsys, *words, "--synonyms", tmp_path / "words.txt")
    fitted = json.loads((run / "thresholds.json").read_text())
    assert fitted["prompts"]["red star"] == ["a star", "a red star"]
    assert fitted["prompts"]["red circle"] == ["red circle"]
    (tmp_path / "words.txt").write_text("red stra: a star\n")
    words = [str(word) for word in (*words, "--synonyms", tmp_path / "words.txt")]
    assert evaluate.main(words) == 2
    told = capsys.readouterr().err
    assert "unknown class in the class words 'red stra'; known, nearest first: red star" in told


def test_negatives_of_a_class_are_kept_with_its_thresholds(place, capsys, tmp_path):
    from tfclip.evaluation.embedding.cache import RunEmbeddings
    from tfclip.serving.classifier import Classifier
    from tfclip.serving.served_model import ServedModel

    run = tmp_path / "run"
    shutil.copytree(place / "run" / "best", run / "best")
    (tmp_path / "words.txt").write_text("red star: not a red circle\n")
    words = (run, "voc", "--records", place / "records" / "voc", "--templates", "short")
    before = result(capsys, *words)["per_class"]["red circle"]
    figures = result(capsys, *words, "--class-words", tmp_path / "words.txt")
    assert figures["negatives_of_classes"] == {"red star": ["red circle"]}
    assert figures["per_class"]["red circle"] == before
    fitted = json.loads((run / "thresholds.json").read_text())
    assert fitted["prompts"]["red star"] == ["red star"]
    assert fitted["negative_prompts"]["red star"] == ["red circle"]
    classifier = Classifier.from_thresholds(run / "thresholds.json", run)
    assert classifier.negatives[classifier.labels.index("red star")] == ("red circle",)
    assert classifier.negatives[classifier.labels.index("red circle")] == ()
    embeddings = RunEmbeddings(run)
    star, circle = embeddings.texts(["red star", "red circle"])
    expected = star - 0.25 * circle
    model = ServedModel(embeddings.model.whole, classifier)
    served = np.asarray(model._class_embeddings)[classifier.labels.index("red star")]
    np.testing.assert_allclose(served, expected / np.linalg.norm(expected), atol=1e-5)


def test_figures_in_the_form_of_clip_benchmark(place, capsys, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(place / "run" / "best", run / "best")
    words = ("voc", "--records", place / "records" / "voc", "--format", "clip-benchmark")
    figures = result(capsys, run, *words)
    written = json.loads((run / "metrics" / "voc.clip_benchmark.json").read_text())
    assert set(written) == {"dataset", "model", "pretrained", "task", "metrics", "language"}
    assert written["task"] == "zeroshot_classification"
    assert written["metrics"] == {"mean_average_precision": figures["map"]}


def test_own_classes_from_a_table_with_own_prompts_and_order(place, capsys, tmp_path):
    from tfclip import make_records

    rng, colours = (
        np.random.default_rng(0),
        {"red": (0, 1, 0), "blue": (1, 0, 0), "dark": (1, 1, 1)},
    )
    lines = ["image,labels"]
    for n in range(24):
        shown = [name for at, name in enumerate(colours) if rng.random() < 0.5 or n % 3 == at]
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / f"{n}.png")
        lines.append(f"{n}.png,{'|'.join(shown)}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    words = ["caption_table", "--data", tmp_path / "t.csv", "--labels-column", "labels"]
    words += ["--test-fraction", "0.5", "--out", tmp_path / "mine", "--workers", "1"]
    assert make_records.main([*map(str, words)]) == 0
    (tmp_path / "prompts.txt").write_text("a {} thing.\nsomething {}\n")
    (tmp_path / "classes.txt").write_text("red\ndark\n")
    run = tmp_path / "run"
    shutil.copytree(place / "run" / "best", run / "best")
    figures = result(
        capsys,
        *(run, "multilabel", "--records", tmp_path / "mine", "--calibrate", "train"),
        *("--templates", tmp_path / "prompts.txt", "--class-names", tmp_path / "classes.txt"),
    )
    assert figures == json.loads((run / "metrics/multilabel-mine.json").read_text())
    assert not (run / "metrics/voc.json").exists()
    assert list(figures["per_class"]) == ["red", "dark"]
    with np.load(run / "metrics/multilabel-mine_scores.npz") as scores:
        for column, name in enumerate(("red", "dark")):
            ap = average_precision_score(
                scores["test_present"][:, column], scores["test_scores"][:, column]
            )
            assert figures["per_class"][name]["ap"] == pytest.approx(ap, abs=1e-6)
    thresholds = json.loads((run / "thresholds.json").read_text())
    assert thresholds["prompts"]["dark"] == ["a dark thing.", "something dark"]
    assert "several labels to a picture: mine" in (run / "report.html").read_text()
    (tmp_path / "prompts.txt").write_text("a thing\n")
    wrong = (run, "multilabel", "--records", tmp_path / "mine", "--calibrate", "train")
    assert evaluate.main([*map(str, wrong), "--templates", str(tmp_path / "prompts.txt")]) == 2
    assert "one {}, received 'a thing'" in capsys.readouterr().err
