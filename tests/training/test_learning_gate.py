"""Training learns: 300 steps on drawn shapes reach a mAP that no broken part of training reaches.

Measured by `python -m benchmarks.learning_gate` on two x86_64 cores with TensorFlow 2.21, for the
seeds from 0 on; the bound is 0.75. A healthy run takes 12 to 17 s of processor time.

- no fault: 0.953, 0.969, 0.985, 0.980, 0.977, 0.934, 0.952, 0.969, 0.938, 0.978
- loss: texts of the picture before: 0.098, 0.105, 0.077
- schedule: the rate stays that of the first step: 0.499, 0.404, 0.447
- augmentation: boxes read as x, y: 0.424, 0.421, 0.537
- shuffle: in the order of packing: 0.151, 0.172, 0.185
"""

import pytest

from benchmarks.learning_gate import BOUND, FAULTS, broken, make_records, measure


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("gate") / "records")


def test_a_healthy_run_learns(records, tmp_path):
    assert measure(records, tmp_path / "run", seed=0) > BOUND


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_the_part_that_a_fault_replaces_exists(fault):
    with broken(fault):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_run_with_a_broken_part_does_not(fault, records, tmp_path):
    with broken(fault):
        assert measure(records, tmp_path / "run", seed=0) < BOUND
