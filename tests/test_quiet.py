"""Standard error holds tfclip's lines only, and loses no error."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tfclip.quiet import without_harmless

ROOT = Path(__file__).parents[1]
NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
    "I0000 00:00:1795833130.953040   11824 port.cc:153] oneDNN custom operations are on.\n",
    "I0000 00:00:1795833130.953366   11824 cudart_stub.cc:31] Could not find cuda drivers\n",
    "I0000 00:00:1795833130.996933   11824 cpu_feature_guard.cc:227] This TensorFlow binary\n",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow\n",
    "E0000 00:00:1795833136.015519   11824 cuda_platform.cc:52] failed call to cuInit: INTERNAL: "
    "CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)\n",
    "E0000 00:00:1733333333.000000    1 cuda_dnn.cc:8579] Unable to register cuDNN factory: one\n",
    "W0000 00:00:1733333333.000000    1 computation_placer.cc:177] computation placer already "
    "registered. Please check linkage.\n",
    "E0000 00:00:1795961826.067740   17307 util.cc:131] oneDNN supports DT_HALF only on platforms "
    "with AVX-512. Falling back to the default Eigen-based implementation if present.\n",
]
ERRORS = [
    "E0000 00:00:1795833136.0   1 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA "
    "error: Failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)\n",
    "ImportError: libcudnn.so.9: cannot open shared object file\n",
    "Traceback (most recent call last):\n",
    "\n",
]


def stderr_of(*words: str, code: int = 0, module: str = "tfclip", **variables: str) -> list[str]:
    """Run a command in a process of its own, as a user does; return the lines of its stderr."""
    hidden = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
    )
    assert done.returncode == code, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize("line", NOISE)
def test_known_lines_are_left_out(line):
    assert without_harmless([line]) == []


@pytest.mark.parametrize("line", ERRORS)
def test_errors_and_unknown_lines_stay(line):
    assert without_harmless([line]) == [line]


def test_what_is_written_while_tensorflow_starts_is_told_and_so_is_what_comes_later(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os, sys\n"
        f"os.write(2, {''.join(NOISE)!r}.encode())\n"
        "os.write(2, b'a real error of a library\\n')\n"
        "print('a warning in Python', file=sys.stderr)\n"
        "class config:\n"
        f"    list_physical_devices = staticmethod(lambda: os.write(2, {NOISE[5]!r}.encode()))\n"
    )
    code = (
        "import os, sys; from tfclip.quiet import quiet_tensorflow; quiet_tensorflow();"
        "print('before', file=sys.stderr); import tensorflow;"
        f"os.write(2, {NOISE[1]!r}.encode()); print('after', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert done.stderr.splitlines(keepends=True) == [
        "before\n",
        "a real error of a library\n",
        "a warning in Python\n",
        NOISE[1],  # behind the import nothing is held back
        "after\n",
    ]


def test_an_import_that_fails_says_why(tmp_path):
    (tmp_path / "tensorflow.py").write_text("import no_such_module_at_all\n")
    code = "from tfclip.quiet import quiet_tensorflow; quiet_tensorflow(); import tensorflow"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert "No module named 'no_such_module_at_all'" in done.stderr


@pytest.mark.slow
def test_prediction_writes_its_own_lines_only(tiny_run, tmp_path, picture_bytes):
    (tmp_path / "a.jpg").write_bytes(picture_bytes["jpeg"])
    lines = stderr_of("predict", tiny_run, tmp_path / "a.jpg", "--labels", "a dog", "a cat")
    assert [line.split(":")[0] for line in lines] == [
        "labels are scored as typed",
        "cosine",  # what the columns mean
    ]


@pytest.mark.slow
def test_packing_with_workers_writes_its_own_lines_only(drawn_sets, tmp_path):
    lines = stderr_of(
        *("make_records", "flickr8k", "--data", drawn_sets / "flickr8k"),
        *("--out", tmp_path / "r", "--workers", "2"),
    )
    assert [line.split(":")[0] for line in lines] == ["train", "dev", "test", str(tmp_path / "r")]


def fit_words(records: Path, run: Path, *more: str) -> tuple:
    return (
        *("fit", "shapes", "--records", records, "--run", run, "--steps", "2"),
        *("--batch-size", "8", "--evaluate-every", "1", *more),
    )


def assert_lines_of_training(lines: list[str]) -> None:
    beginnings = [line.split(" ")[0] for line in lines]
    known = {"context", "shapes:", "note:", "step", "training:", "trained", "starting", "waiting"}
    assert set(beginnings) <= known, "\n".join(lines)
    assert beginnings.count("step") == 2 and beginnings[-1] == "trained"


@pytest.mark.slow
def test_training_writes_its_own_lines_only(training_records, tmp_path):
    assert_lines_of_training(stderr_of(*fit_words(training_records, tmp_path / "r")))


@pytest.mark.slow
def test_training_on_stored_features_writes_its_own_lines_only(training_records, tmp_path):
    records = shutil.copytree(training_records, tmp_path / "records")
    frozen = ("--region-share", "0", "--freeze", "image", "--feature-precision", "float16")
    lines = stderr_of(*fit_words(records, tmp_path / "r", *frozen))
    assert any("stored in" in line for line in lines)
    assert_lines_of_training([line for line in lines if not line.startswith("image features")])


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["--replicas", "--workers"])
def test_training_on_two_devices_writes_its_own_lines_only(devices, training_records, tmp_path):
    words = fit_words(training_records, tmp_path / "r", devices, "2")
    assert_lines_of_training(stderr_of(*words))
