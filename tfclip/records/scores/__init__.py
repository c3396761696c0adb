"""Caption scores: folds of a set for cross-validation, and record sets with scores."""
