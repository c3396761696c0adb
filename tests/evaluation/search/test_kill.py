"""Kills at random moments: the old or the new index stands, and a reader sees one of both."""

import random
import subprocess
import sys
import time

import numpy as np

from tfclip.evaluation.search.index import open_index

# Writes indexes of 1, 2, 3, ... hundred pictures, each full of its own number, without an end.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from tfclip.evaluation.search import store
folder, number = Path(sys.argv[1]), int(sys.argv[2])
rest = {"run": "x", "model": "x", "tiles": "1", "synced": 0, "excluded": [], "problems": []}
rest["sources"] = [{"kind": "folder", "path": "/none", "relative": "none"}]
while True:
    number += 1
    count = 100 * (number % 20 + 1)
    with store.writing(folder), store.new_data(folder, 8) as writer:
        rows = np.full((count, 1, 8), number, np.float32)
        writer.add(rows, np.zeros(count, store.PICTURE), [b"%d" % number] * count)
        writer.finish(rest)
    print(number, flush=True)
"""


def number_of(folder) -> int:
    index = open_index(folder)
    number = int(index.embeddings[0, 0])
    assert len(index) == 100 * (number % 20 + 1)
    assert (np.asarray(index.embeddings) == number).all()
    assert {index.name(row) for row in (0, len(index) - 1)} == {str(number)}
    return number


def test_a_kill_leaves_the_old_or_the_new_index(tmp_path):
    rng, number, seen = random.Random(0), 0, set()
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(number)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        number = int(process.stdout.readline())
        end = time.monotonic() + rng.uniform(0.1, 0.4)
        while time.monotonic() < end:
            seen.add(number_of(tmp_path))
        process.kill()
        finished = [number, *map(int, process.communicate()[0].split())]
        number = number_of(tmp_path)
        assert number in (finished[-1], finished[-1] + 1)
    assert len(seen) > 3
