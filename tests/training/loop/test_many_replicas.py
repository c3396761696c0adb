"""2, 4 and 8 replicas train what one device trains; a file of its own, since it takes minutes."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replicas", "names"),
    [
        (2, ("sigmoid", "bfloat16")),
        (4, ("uneven",)),
        (8, ("softmax", "sigmoid")),
    ],
)
def test_any_number_of_replicas_trains_the_same(train, distance, replicas, names):
    for name, one, several in zip(names, train(1, *names), train(replicas, *names), strict=True):
        # Half precision rounds each product to 8 bits.
        assert distance(one, several) < (2e-2 if name == "bfloat16" else 1e-5), name
