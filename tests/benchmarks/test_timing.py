"""Timings: what is counted, and how two series of them relate."""

import subprocess
import sys

import pytest

from benchmarks.timing import Timing, compared, timed


def test_ratios_are_taken_pair_by_pair():
    """The machine was three times as slow in the second pair: the ratio does not see it."""
    ours = [Timing(100, 1.0, 2.0), Timing(100, 3.0, 6.0), Timing(100, 1.0, 2.0)]
    theirs = [Timing(50, 1.0, 1.0), Timing(50, 3.0, 3.0), Timing(50, 2.0, 2.0)]
    result = compared(ours, theirs)
    assert result["ratios"] == [2.0, 2.0, 4.0]
    assert result["ratio"] == 2.0
    assert result["ours"] == {"images_per_second": 100, "images_per_cpu_second": 50, "seconds": 1}
    assert result["theirs"] == {"images_per_second": 25, "images_per_cpu_second": 25, "seconds": 2}


def test_unequal_series_are_refused():
    with pytest.raises(ValueError):
        compared([Timing(1, 1.0, 1.0)], [])


def test_processor_time_includes_processes_that_have_ended():
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    timing = timed(lambda: subprocess.run([sys.executable, "-c", busy], check=True).returncode + 7)
    assert timing.items == 7
    assert timing.cpu_seconds > 0.4
    assert timing.seconds > 0.4
