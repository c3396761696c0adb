"""Annotations in other formats than the data set's first ones."""
