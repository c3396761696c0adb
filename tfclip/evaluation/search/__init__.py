"""Exact nearest-neighbour search over image embeddings."""
