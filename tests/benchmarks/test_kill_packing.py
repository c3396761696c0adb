"""The benchmark of killed packing: it kills, compares, and says so."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.kill_packing import KillFlags


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="--kills 0"):
        KillFlags(kills=0)


@pytest.mark.slow
@pytest.mark.skipif("TFCLIP_DATA" not in os.environ, reason="needs TFCLIP_DATA")
def test_killed_sets_are_those_of_an_undisturbed_run():
    command = [sys.executable, "-m", "benchmarks.kill_packing", "--kills=4", "--pictures=200"]
    ended = subprocess.run([*command, "--shards=6", "--json"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["kills"] == 4 and result["sets"] >= 1
