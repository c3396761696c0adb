"""Out: the served graph."""
