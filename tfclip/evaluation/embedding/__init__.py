"""Embeddings of images, prompts and texts, and the files they are kept in."""
