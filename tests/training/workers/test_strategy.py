"""Which GPUs a run takes."""

import os
import subprocess
import sys

from tfclip.training.workers.strategy import asked_gpus


def test_a_run_takes_the_gpus_that_it_is_asked_to_take():
    gpus = ["GPU:0", "GPU:1"]
    assert [list(asked_gpus(replicas, gpus)) for replicas in (0, 1, 2)] == [gpus, gpus[:1], []]
    assert list(asked_gpus(1, [])) == []


def test_memory_of_gpus_is_taken_as_needed_unless_the_user_says_otherwise():
    code = "import os, tfclip; print(os.environ['TF_FORCE_GPU_ALLOW_GROWTH'])"
    for given, expected in (({}, "true"), ({"TF_FORCE_GPU_ALLOW_GROWTH": "false"}, "false")):
        env = {n: v for n, v in os.environ.items() if n != "TF_FORCE_GPU_ALLOW_GROWTH"} | given
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.stdout.strip() == expected
