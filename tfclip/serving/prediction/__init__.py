"""Many picture files through a classifier: which files, in batches, answers, sheets."""
