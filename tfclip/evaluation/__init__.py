"""Measuring: zero-shot, multi-label, retrieval."""
