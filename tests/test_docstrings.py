"""The examples in the docstrings run, and print what they say."""

import doctest
import importlib
import shutil

import pytest

from tests.serving.conftest import serving_here

# Modules whose docstrings hold examples. They run in a folder with `runs/first`, a trained run,
# `records/shapes`, packed records, and `picture.jpg`.
MODULES = [
    "tfclip",
    "tfclip.evaluation.decisions.false_positive_rate",
    "tfclip.evaluation.decisions.fusion",
    "tfclip.evaluation.decisions.thresholds",
    "tfclip.evaluation.embedding.prompts",
    "tfclip.evaluation.metrics.bootstrap",
    "tfclip.evaluation.metrics.calibration_error",
    "tfclip.evaluation.metrics.correlation",
    "tfclip.evaluation.metrics.curves",
    "tfclip.evaluation.metrics.multilabel",
    "tfclip.evaluation.metrics.retrieval",
    "tfclip.evaluation.metrics.top_k",
    "tfclip.models.config",
    "tfclip.models.objective.losses",
]
# Modules whose examples need no files.
WITHOUT_FILES = [
    "tfclip.inputs.batches",
    "tfclip.inputs.examples",
    "tfclip.inputs.images",
    "tfclip.inputs.regions",
    "tfclip.inputs.text",
    "tfclip.inputs.text_lengths",
    "tfclip.inputs.tiles",
    "tfclip.inputs.tokenizers.vocabulary",
    "tfclip.inputs.words",
    "tfclip.records.fingerprint",
    "tfclip.records.manifest",
    "tfclip.records.options",
    "tfclip.records.reader",
    "tfclip.records.schema",
    "tfclip.sources.annotations.caption_json",
    "tfclip.sources.image_folder",
    "tfclip.sources.json_arrays",
    "tfclip.sources.safe_paths",
    "tfclip.sources.sample",
    "tfclip.sources.splits",
    "tfclip.sources.tables.cells",
]
WITH_A_SERVER = ["tfclip.serving.client"]
TRAINING = ["tfclip.training.train_recipe"]
TRACING = ["tfclip.models.dual_encoder", "tfclip.pipeline"]
DEFAULT_SERVER = "http://localhost:8501"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_run, picture_bytes):
    shutil.copytree(tiny_run, tmp_path / "runs" / "first")
    (tmp_path / "picture.jpg").write_bytes(picture_bytes["jpeg"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_examples_hold(name: str, server: str = DEFAULT_SERVER) -> None:
    """Run the examples of a module, with `server` in the place of the default one."""
    module, attempted = importlib.import_module(name), 0
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        for example in test.examples:
            example.source = example.source.replace(DEFAULT_SERVER, server)
        attempted += runner.run(test).attempted
    assert attempted, f"{name} has no example"
    assert not runner.failures, "see the standard output"


@pytest.mark.parametrize("module", MODULES)
def test_examples(module, folder):
    assert_examples_hold(module)


@pytest.mark.slow
@pytest.mark.parametrize("module", TRACING)
def test_examples_that_trace_models(module, folder):
    assert_examples_hold(module)


@pytest.mark.parametrize("module", WITHOUT_FILES)
def test_examples_without_files(module):
    assert_examples_hold(module)


@pytest.mark.parametrize("module", WITH_A_SERVER)
def test_examples_that_ask_a_server(module, folder, exported):
    with serving_here(exported) as server:
        assert_examples_hold(module, server.rest)


@pytest.mark.slow
@pytest.mark.parametrize("module", TRAINING)
def test_examples_that_train(module, folder, training_records):
    shutil.copytree(training_records, folder / "records" / "shapes")
    assert_examples_hold(module)
