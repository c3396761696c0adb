"""Keras layers that the towers and heads are built of."""
