"""N replicas train what one device trains, in our loop and in Keras' fit."""

import numpy as np
import pytest

# What the quick tests ask of two replicas, all from one process.
QUICK = ("normalize", "drop")


@pytest.mark.slow
def test_twenty_clipped_adamw_steps_give_the_same_weights(train, distance):
    (one,), (two,) = train(1, "softmax"), train(2, "softmax")
    assert one.keys() == two.keys()
    assert distance(one, two) < 1e-5


@pytest.mark.slow
def test_several_steps_of_one_call_give_the_same_weights(train, distance):
    (one,), (together,) = train(1, "softmax"), train(2, "together")
    assert one.keys() == together.keys()
    assert distance(one, together) < 1e-5


@pytest.mark.slow
def test_each_gradient_is_reduced_once(train):
    (found,) = train(2, "bytes")
    # Not twice, by us and by Keras' optimizer. The rest: the gradients of the gathered embeddings
    # of 16 pictures and 16 texts, 16 numbers each, and the loss and the accuracy.
    assert found["reduced"] == found["gradients"] + 4 * (2 * 16 * 16 + 2)


@pytest.mark.slow
def test_fit_gives_the_same_weights_and_clipping_by_the_optimizer_as_well(train, distance):
    one, one_fit = train(1, "softmax", "fit")
    two_fit, by_keras, unclipped, lengths = train(
        2, "fit", "clipped by Keras", "unclipped", "lengths"
    )
    # Keras' own clipping comes before its own sum, which would clip on each replica.
    for other in (one_fit, two_fit, by_keras):
        assert distance(one, other) < 1e-5
    # The distance can tell.
    assert distance(one, unclipped) > 1e-3
    # One graph for texts of all lengths. With several, the one that a shape is traced into depends
    # on the shapes before it: other ones after a kill, and other last bits.
    assert lengths["traces"] == 1


@pytest.mark.slow
def test_micro_batches_on_replicas_train_the_same(train, distance):
    (one,), (two,) = train(1, "whole"), train(2, "micro")
    assert distance(one, two) < 1e-5


@pytest.mark.slow
def test_loss_scaling_leaves_out_what_overflows(train):
    (scaled,) = train(1, "float16")
    # Its factor falls from 32,768 to 4,096 until no gradient overflows.
    assert scaled["updates"] == 2
    assert all(np.isfinite(value).all() for value in scaled.values())


@pytest.mark.slow
def test_two_replicas_in_float16_train_what_one_trains_and_skip_the_same_updates(train, distance):
    (shorter, one), (two,) = train(1, "float16", "float16 long"), train(2, "float16 long")
    assert one["updates"] == two["updates"] == 9  # of 12 steps, the first 3 overflow
    # 11 bits for a product, and Adam makes much of what is near 0: 6e-4 were measured.
    assert distance(one, two) < 2e-3 < distance(one, shorter) / 5
    assert one["validation loss"] == pytest.approx(two["validation loss"], abs=1e-3)


@pytest.mark.parametrize(
    "replicas",
    [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)],
)
def test_batch_normalisation_is_by_the_statistics_of_the_whole_batch(train, replicas):
    found = train(replicas, *(QUICK if replicas == 2 else ("normalize",)))[0]
    # A mean far from 0: the difference of the mean square and the squared mean would be noise.
    pictures = np.random.default_rng(0).normal(30.0, 0.5, (13, 4, 4, 3)).astype("float32")
    mean, variance = pictures.mean((0, 1, 2), "float64"), pictures.var((0, 1, 2), "float64")
    expected = (pictures - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(found["outputs"], expected, atol=2e-5)
    np.testing.assert_allclose(found["mean"], 0.5 * mean, atol=1e-5)
    np.testing.assert_allclose(found["variance"], 0.5 + 0.5 * variance, atol=1e-5)


def test_dropout_differs_by_replica_and_step_and_comes_again_from_the_seed(train):
    found = train(2, *QUICK)[1]
    first, second, again = (found[name] for name in "012")
    assert first.shape[0] == 2
    masks = [*first, *second]
    for at, mask in enumerate(masks):
        assert all(np.abs(mask - other).max() > 1e-3 for other in masks[at + 1 :])
    np.testing.assert_array_equal(first, again)


@pytest.mark.slow
def test_training_with_dropout_comes_again_from_the_seed(train, distance):
    once, again = train(2, "dropout", "dropout again")
    assert distance(once, again) == 0.0
