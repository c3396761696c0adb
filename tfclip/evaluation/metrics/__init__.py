"""Metrics from arrays, in NumPy and SciPy, without TensorFlow."""
