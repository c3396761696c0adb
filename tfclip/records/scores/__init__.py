"""Scores of captions: parts of a set for models that have not seen it, and sets with scores."""
