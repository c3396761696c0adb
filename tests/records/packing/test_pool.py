"""The worker processes: Pillow alone, a bounded number of pictures, no hanging."""

import os
import subprocess
import sys

import pytest

from tfclip.records.packing.pool import PictureCheckers


def test_workers_know_no_tensorflow():
    code = "import sys, tfclip.records.packing.worker; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_pool_reads_no_further_than_it_must():
    """Memory stays flat: items are drawn a few chunks ahead of what is taken."""
    drawn = 0

    def items():
        nonlocal drawn
        for drawn in range(1, 10_001):  # noqa: UP028
            yield drawn

    with PictureCheckers(2, None) as checkers:
        answers = checkers.in_order(items(), lambda item: None)
        for _ in range(100):
            next(answers)
        assert drawn < 300
        answers.close()


def test_a_worker_that_dies_is_an_error_and_not_a_hang(made, tmp_path):
    """A picture that cannot even be sent: the worker cannot read what it is asked."""
    items = [tmp_path / "a.jpg"]

    class Poison:
        def __reduce__(self):
            return (os._exit, (9,))

    with (
        pytest.raises(ChildProcessError, match="exit code 9"),
        PictureCheckers(1, None) as checkers,
    ):
        list(checkers.in_order(items, lambda item: Poison()))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(made, tmp_path):
    """Peak memory of the packing process, in kB: ten times the pictures, within 5 %."""
    (tmp_path / "a.jpg").write_bytes(made.encoded(made.pixels(64, 48)))
    code = """
import resource, sys
from pathlib import Path
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.sources.sample import Sample, Source
folder, count = Path(sys.argv[1]), int(sys.argv[2])
samples = lambda split: (Sample(f"m/{at}", folder / "a.jpg", (f"{at}",)) for at in range(count))
pack(Source("m", {"train": count}, samples), folder / f"out{count}", PackOptions())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", code, str(tmp_path), str(count)]))
        for count in (2_000, 20_000)
    )
    assert many < 1.05 * few
