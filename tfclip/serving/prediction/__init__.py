"""Classifies many picture files: finds them, runs them in batches, writes answers and sheets."""
