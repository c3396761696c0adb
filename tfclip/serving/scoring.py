"""Fusion of view scores, and probabilities, in the served graph.

Equal to `evaluation.decisions` (fusion, calibration), which uses NumPy, up to float32 rounding.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfclip.evaluation.decisions.calibration import Isotonic, Platt
from tfclip.evaluation.decisions.fusion import Fusion
from tfclip.inputs.tiles import tile_groups
from tfclip.serving.classifier import Classifier


def fuse_views(view_scores: tf.Tensor, classifier: Classifier) -> tf.Tensor:
    """Fuse the cosines (N,T,C) of the views of each picture to (N,C) float32."""
    fusion: Fusion = classifier.fusion
    if fusion.name == "max":
        return tf.reduce_max(view_scores, axis=1)
    if fusion.name == "mean":
        return tf.reduce_mean(view_scores, axis=1)
    if fusion.name == "logsumexp":
        views = tf.cast(tf.shape(view_scores)[1], tf.float32)
        summed = tf.reduce_logsumexp(fusion.sharpness * view_scores, axis=1)
        return (summed - tf.math.log(views)) / fusion.sharpness
    groups = tf.split(view_scores, list(tile_groups(classifier.tiles)), axis=1)
    return tf.add_n(
        [
            weight * tf.reduce_max(group, axis=1)
            for weight, group in zip(fusion.weights, groups, strict=True)
        ]
    )


def label_probabilities(
    scores: tf.Tensor, classifier: Classifier, logit_scale: tf.Tensor
) -> tf.Tensor:
    """Return the probability of each label (N,C) float32, calibrated if a calibration was fitted.

    Without a calibration it is a softmax over the labels of the temperature times the score.
    """
    calibration = classifier.calibration
    if calibration is None:
        return tf.nn.softmax(logit_scale * scores)
    if isinstance(calibration, Platt):
        # A class's slope may be thousands: the difference from the middle is exact in float32.
        slope = calibration.slope
        middle = np.divide(-calibration.intercept, slope, out=np.zeros_like(slope), where=slope > 0)
        rest = calibration.intercept + slope * middle
        middle, slope, rest = (tf.constant(part, tf.float32) for part in (middle, slope, rest))
        return tf.sigmoid(slope * (scores - middle) + rest)
    return _interpolated(scores, calibration)


def _interpolated(scores: tf.Tensor, calibration: Isotonic) -> tf.Tensor:
    knots = tf.constant(calibration.scores, tf.float32)
    values = tf.constant(calibration.values, tf.float32)
    columns = tf.transpose(scores)
    last = knots.shape[1] - 1
    right = tf.clip_by_value(tf.searchsorted(knots, columns, side="right"), 1, max(last, 1))
    if not last:
        return tf.transpose(tf.broadcast_to(values, tf.shape(columns)))
    x0, x1, y0, y1 = (
        tf.gather(table, place, batch_dims=1)
        for table in (knots, values)
        for place in (right - 1, right)
    )
    fraction = tf.math.divide_no_nan(columns - x0, x1 - x0)
    # Beyond the last knot, and between knots that repeat it, the last value is used.
    fraction = tf.where(columns >= x1, 1.0, tf.clip_by_value(fraction, 0.0, 1.0))
    return tf.transpose(y0 + fraction * (y1 - y0))
