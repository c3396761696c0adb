"""Which GPUs a run takes."""

import os
import platform
import subprocess
import sys

import pytest

from tfclip.training.workers.strategy import asked_gpus


def test_a_run_takes_the_gpus_that_it_is_asked_to_take():
    gpus = ["GPU:0", "GPU:1"]
    assert [list(asked_gpus(replicas, gpus)) for replicas in (0, 1, 2)] == [gpus, gpus[:1], []]
    assert list(asked_gpus(1, [])) == []


X86_64 = platform.machine().lower() in ("x86_64", "amd64")


@pytest.mark.parametrize(
    ("name", "default", "other"),
    [
        ("TF_FORCE_GPU_ALLOW_GROWTH", "true", "false"),
        pytest.param(
            "TF_ENABLE_ONEDNN_OPTS",
            "1",
            "0",
            marks=pytest.mark.skipif(not X86_64, reason="not x86-64"),
        ),
    ],
)
def test_what_tensorflow_reads_once_is_set_unless_the_user_has_set_it(name, default, other):
    code = f"import os, tfclip; print(os.environ[{name!r}])"
    for given, expected in (({}, default), ({name: other}, other)):
        env = {n: v for n, v in os.environ.items() if n != name} | given
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.stdout.strip() == expected
