"""The benchmark of evaluation times three sides over the same pictures."""

from argparse import Namespace

import pytest

from benchmarks.evaluate import sides


@pytest.mark.slow
def test_all_sides_see_the_same_number_of_pictures(voc_records):
    flags = Namespace(records=voc_records, split="val", pictures=1)
    assert len({side() for side in sides("small-convolutional", flags)}) == 1
