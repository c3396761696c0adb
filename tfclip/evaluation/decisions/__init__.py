"""Thresholds, calibration and fusion: from scores to decisions, without TensorFlow."""
